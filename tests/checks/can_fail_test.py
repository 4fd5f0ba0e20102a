#!/usr/bin/env python3
# A check that cannot fail is no check. Builds a small tree that passes layers, style and docs, then
# breaks one rule at a time and expects the check to name the place and the rule.
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

CLEAN = {
    "src/core/a.h": '// A.\n#pragma once\n#include <fmt/core.h>\n#include <vector>\n',
    "src/io/b.h": '// B.\n#pragma once\n#include "core/a.h"\n',
    "src/io/b.cpp": '// B.\n#include "io/b.h"\n#include <hdf5.h>\n#include <nlohmann/json.hpp>\n',
    "src/data/c.h": "// C.\n#pragma once\n",
    "src/data/c.cpp": '// C.\nextern "C" int f(int a) { return a; }\nextern "C" {\nint g() {\n'
                      '  return f(1);\n}\n}  // extern "C" int h();\n',
    "src/comm/communicator.h": "// The interface.\n#pragma once\n",
    "src/comm/mpi.h": "// Inside comm.\n#pragma once\n#include <mpi.h>\n",
    "src/eval/e.cpp": '// E.\n#include "comm/communicator.h"\n#include "data/c.h"\n',
    "src/app/train_command.cpp":
        '// T.\nvoid f() { flags.add_switch("--json", x); add("run.dir", y); }\n',
    "kernels/table.h": "// Table.\n#pragma once\n",
    "kernels/step_rules.h": "// Both backends.\n#pragma once\n#ifdef __CUDACC__\n#endif\n",
    "kernels/cpu/k.h": "// K.\n#pragma once\n",
    "kernels/cpu/k.cpp": '// K.\n#include "kernels/cpu/k.h"\n#include <cblas.h>\n',
    "kernels/cuda/k.cu": '// K.\n#include "kernels/table.h"\n#if WIDE\n#endif\n',
    "scripts/x.sh": '#!/bin/sh\n# X.\necho "--out"\n',
    "docs/page.md": "# Page one\n\nSee `src/core/a.h`, `src/*/b.h`, [here](#page-one).\n\n"
                    "```\nlockstep train a.toml --json --run.dir=x \\\n  --help\n"
                    "scripts/x.sh --out y\n```\n",
}

# check, file, appended or new text, what the report must say
BREAKS = [
    ("check_layers", "src/core/a.h", '#include "io/b.h"\n', "src/core/a.h:5: core may not include"),
    ("check_layers", "src/io/b.h", '#include "data/c.h"\n', "io may not include data/c.h"),
    ("check_layers", "src/comm/mpi.h", '#include "eval/e.h"\n', "not found under src/"),
    ("check_layers", "src/eval/e.cpp", '#include "comm/mpi.h"\n', "eval may not include comm/mpi"),
    ("check_layers", "src/data/c.h", "#include <hdf5.h>\n", "<hdf5.h> belongs to io only"),
    ("check_layers", "src/eval/e.cpp", "#include <mpi.h>\n", "<mpi.h> belongs to comm, app only"),
    ("check_layers", "src/app/x.cpp", "// X.\n#include <CLI/CLI.hpp>\n", "belongs to src/app/fl"),
    ("check_layers", "src/io/b.h", "#include <nlohmann/json.hpp>\n", "in .cpp files only"),
    ("check_layers", "src/core/x.cpp", "// X.\n#include <nlohmann/json.hpp>\n", "belongs to"),
    ("check_layers", "src/io/b.cpp", "#include <boost/any.hpp>\n", "not a header this project"),
    ("check_layers", "src/io/b.cpp", "#ifdef LOCKSTEP_WITH_CUDA\n#endif\n", "#if on LOCKSTEP_WITH"),
    ("check_layers", "src/io/b.cpp", "#if defined(__CUDACC__)\n#endif\n", "#if on __CUDACC__"),
    ("check_layers", "kernels/cpu/k.cpp", '#include "kernels/cuda/k.cuh"\n', "not found"),
    ("check_layers", "kernels/cuda/k.cu", '#include "kernels/cpu/k.h"\n', "may not look into"),
    ("check_layers", "kernels/table.h", '#include "kernels/cpu/k.h"\n', "may not look into"),
    ("check_layers", "src/attic/z.h", '// Z.\n#pragma once\n#include "core/a.h"\n', "not in the"),
    ("check_layers", "src/data/d.h", "// D.\n", "#pragma once"),
    ("check_layers", "src/io/b.cpp", "#include <fcntl.h>\n", "<fcntl.h> belongs to files only"),
    ("check_layers", "src/io/b.cpp", "int a = ::fsync(3);\n", "only src/files makes them"),
    ("check_layers", "src/io/b.cpp", "void f() { std::rename(a, b); }\n", "only src/files"),
    ("check_layers", "src/io/b.cpp", "void f() { fs::create_directories(a); }\n", "only src/files"),
    ("check_layers", "src/core/x.cpp", "// X.\nauto* f = std::fopen(a, b);\n", "only src/files"),
    ("check_layers", "src/io/b.cpp", "std::ofstream f(a);\n", "only src/files makes them"),
    ("check_layers", "src/io/b.cpp", 'extern "C" int f(int a);\n', "b.cpp:5: extern \"C\" decla"),
    ("check_layers", "src/io/b.cpp", 'extern "C" int f(int a,\n  int b);\n', "b.cpp:5: extern"),
    ("check_layers", "src/io/b.cpp", 'extern "C" {\nint g() { return 1; }\nint f();\n}\n',
     "b.cpp:7: extern"),
    ("style_report", "src/core/a.h", "// " + "x" * 98 + "\n", "a.h:5: line of 101 characters"),
    ("style_report", "src/core/a.h", "// caf\u00e9\n", "not ASCII"),
    ("style_report", "src/core/a.h", "\tint x;\n", "a tab"),
    ("style_report", "src/core/a.h", "int x; \n", "blanks at the end"),
    ("style_report", "src/core/a.h", "// TO" + "DO: x\n", "a to-do mark"),
    ("style_report", "src/core/x.cpp", "int x;\n", "does not open with a comment"),
    ("style_report", "scripts/y.sh", "#!/bin/sh\necho\n", "does not open with a comment"),
    ("style_report", "src/core/x.cpp", "// X.\n" + "int x;\n" * 500, "file of 501 lines"),
    ("style_report", "src/core/x.cpp",
     "// X.\nnamespace n {\nclass C {\n int f(int a) const {\n" + "  g();\n" * 59 + " }\n};\n}\n",
     "x.cpp:4: function of 61 lines"),
    ("style_report", "src/core/x.cpp",
     "// X.\nC::C(int a)\n    : a_(a) {\n" + "  g(\"}\"); // }\n" * 58 + "}\n",
     "x.cpp:2: function of 61 lines"),
    ("style_report", "tests/core/x.cpp", "// X.\nTEST(A, B) {\n" + "  g();\n" * 119 + "}\n",
     "function of 121 lines"),
    ("check_docs", "docs/page.md", "Read `src/core/gone.h`.\n", "src/core/gone.h: no such file"),
    ("check_docs", "docs/page.md", "`scripts/*.gone`\n", "no such file"),
    ("check_docs", "docs/page.md", "[x](gone.md)\n", "gone.md: no such file"),
    ("check_docs", "docs/page.md", "[x](page.md#nowhere)\n", "no such heading"),
    ("check_docs", "docs/page.md", "`lockstep fly`\n", "no command fly"),
    ("check_docs", "docs/page.md", "`lockstep train a --quiet`\n", "has no --quiet"),
    ("check_docs", "docs/page.md", "```\nlockstep train a --run.dri=x\n```\n", "key run.dri"),
    ("check_docs", "docs/page.md", "`--run.dri`\n", "key run.dri"),
    ("check_docs", "docs/page.md", "`scripts/x.sh --in y`\n", "scripts/x.sh has no --in"),
    ("check_docs", "docs/page.md", "`--nowhere`\n", "nothing here knows --nowhere"),
]


def run(check, tree):
    done = subprocess.run([sys.executable, ROOT / "scripts" / f"{check}.py", tree],
                          capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def plant(tree, files):
    for name, text in files.items():
        path = pathlib.Path(tree) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main():
    wrong = 0
    for check in sorted({entry[0] for entry in BREAKS}):
        with tempfile.TemporaryDirectory() as tree:
            plant(tree, CLEAN)
            code, output = run(check, tree)
            if code != 0:
                print(f"{check}: fails on the clean tree:\n{output}")
                wrong += 1
    for check, name, text, expected in BREAKS:
        with tempfile.TemporaryDirectory() as tree:
            plant(tree, {**CLEAN, name: CLEAN.get(name, "") + text})
            code, output = run(check, tree)
            if code != 1 or expected not in output:
                print(f"{check}: {name} + {text[:60]!r}: exit {code}, not '{expected}':\n{output}")
                wrong += 1
    with tempfile.TemporaryDirectory() as tree:
        for check in ("check_layers", "style_report", "check_docs"):
            if run(check, tree)[0] != 1:
                print(f"{check}: passes on an empty tree")
                wrong += 1
    print(f"{len(BREAKS)} broken trees, {wrong} unexpected results")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
