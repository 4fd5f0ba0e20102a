#!/usr/bin/env python3
# Enforces the architecture: reads every #include under src/ and kernels/ and fails on an upward or
# sideways edge between rooms, on a third-party header outside its room, on a library's function
# declared by hand, on a call that opens, syncs or renames files outside src/files, and on an #if
# that picks a build variant (variants are chosen by file). The tables below are the design's.
"""Usage: check_layers.py [ROOT]   exit 0: clean, 1: violations (one line each, file:line)"""

import pathlib
import re
import sys

# room -> rooms, or single headers, that it may include (itself always).
MAY_INCLUDE = {
    "core": [],
    "device": ["core"],
    "kernels": ["core", "device"],
    "ops": ["core", "device", "kernels/table.h", "kernels/step_rules.h"],
    "comm": ["core", "device", "files/descriptor.h"],
    "files": ["core"],
    "data": ["core", "files"],
    "io": ["core", "files"],
    "nn": ["core", "device", "kernels/table.h", "ops"],
    "eval": ["core", "device", "kernels/table.h", "ops", "nn", "data", "comm/agree.h",
             "comm/communicator.h", "comm/ordered_sum.h"],
    "formats": ["core", "files", "nn", "data"],
    "trainer": ["core", "files", "device", "kernels/table.h", "kernels/step_rules.h",
                "kernels/backend.h", "ops", "nn", "data", "comm", "eval", "io"],
    "compress": ["core", "device", "kernels/table.h", "ops", "nn", "data", "comm", "eval"],
    "app": ["core", "files", "device", "kernels/table.h", "kernels/backend.h", "ops", "nn", "data",
            "comm", "eval", "io", "formats", "trainer", "compress"],
}

# Third-party header (by prefix) -> rooms or files that may include it; kernels' folders count as
# rooms.
THIRD_PARTY = [
    (("fmt/",), None),  # core's library; its format strings reach everyone through error.h
    (("cuda_runtime", "cuda_bf16", "cuda_fp16", "cuda_fp8", "cuda.h"),
     ["kernels/cuda", "comm"]),
    (("cublas", "cudnn", "cub/", "cooperative_groups", "mma.h"), ["kernels/cuda"]),
    (("cblas.h", "omp.h"), ["kernels/cpu"]),
    (("immintrin.h", "nmmintrin.h", "cpuid.h"), ["kernels/cpu", "io"]),
    (("mpi.h",), ["comm", "app"]),
    (("nccl.h",), ["comm"]),
    (("pcre2.h", "utf8proc.h", "zlib.h", "zstd.h"), ["data"]),
    (("hdf5", "H5"), ["io"]),
    (("openssl/",), ["files"]),
    (("CLI/",), ["src/app/flags.cpp"]),  # slow to compile, as the next
    (("toml++/",), ["src/app/config_file.cpp"]),
    (("nlohmann/",), ["comm", "ops", "data", "io", "nn", "eval", "formats", "trainer", "compress",
                      "app"]),
    (("lockstep_version.h",), ["app"]),  # made by CMake
]
# POSIX and Linux headers count as the standard library: they need no package.
SYSTEM = re.compile(r"^(sys/|linux/|netinet/|arpa/|net/)|^(fcntl|unistd|signal|sched|poll|dirent|"
                    r"pthread|dlfcn|errno|time|termios|netdb|ifaddrs|execinfo|spawn|pwd|grp|glob|"
                    r"fnmatch|stdint|stddef|stdlib|string|stdio|math|limits)\.h$")
# Of those, the ones without which a file is not opened, mapped, locked or measured.
FILE_HEADERS = ("fcntl.h", "sys/mman.h", "sys/file.h", "sys/statvfs.h")
# Calls on files that need no header of their own; only src/files makes them.
FILE_CALL = re.compile(r"(?<![\w.>:])(?:(?:::|std::|(?:std::)?filesystem::|fs::)"
                       r"(?:open|openat|creat|rename|link|mkdir|truncate|ftruncate|pwrite|"
                       r"create_director(?:y|ies)|copy_file|resize_file)|(?:::)?"
                       r"(?:fsync|fdatasync|mmap|flock|mkstemp|mkostemp|mkdtemp)|"
                       r"(?:std::|::)?(?:fopen|freopen|fdopen))\s*\(|\bstd::o?fstream\b")
STANDARD = re.compile(r"^[a-z_0-9]+$")  # <vector>, <cstdint>

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b\s*(.*)")
NAME = re.compile(r"[A-Za-z_]\w*")
# Names a condition may ask for; any other would be an option of the build. The first set is what
# the compiler says of the processor and the headers, the others are a place's own.
ANYWHERE = {"defined", "__has_include", "__x86_64__", "__aarch64__", "__F16C__", "__AVX2__",
            "__FMA__", "__SSE4_2__"}
ONLY_IN = {"kernels/step_rules.h": {"__CUDACC__", "__CUDA_ARCH__"},  # shared by both backends
           "src/io/sticky_driver.cpp": {"H5FD_CLASS_VERSION"}}       # HDF5 1.10 and 1.14 differ


def room_of(path):
    """The room of a file below the root: "io", "kernels", "kernels/cpu", "kernels/cuda"."""
    parts = path.parts
    if parts[0] == "src":
        return parts[1] if len(parts) > 2 else ""
    return "/".join(parts[:2]) if len(parts) > 2 else "kernels"


def own_edge_error(room, target):
    """Why `room` may not include our header `target`, or None."""
    base = room.split("/")[0]
    top = target.split("/")[0]
    if top == base:
        folder = "/".join(target.split("/")[:2])
        closed = folder in ("kernels/cpu", "kernels/cuda") and folder != room
        return f"{room} may not look into {folder}" if closed else None
    if base not in MAY_INCLUDE:
        return f"room {base or '(none)'} is not in the table of scripts/check_layers.py"
    if top in MAY_INCLUDE[base] or target in MAY_INCLUDE[base]:
        return None
    return f"{base} may not include {target}: an upward or sideways edge"


def third_party_error(path, room, header):
    """Why a third-party header is out of place in this file of `room`, or None."""
    for prefixes, places in THIRD_PARTY:
        if not header.startswith(prefixes):
            continue
        if prefixes == ("nlohmann/",) and path.suffix not in (".cpp", ".cu"):
            return "nlohmann-json may be used in .cpp files only"
        if places is None or {room, room.split("/")[0], path.as_posix()} & set(places):
            return None
        return f"<{header}> belongs to {', '.join(places)} only"
    if header in FILE_HEADERS and room != "files":
        return f"<{header}> belongs to files only"
    if STANDARD.match(header) or SYSTEM.match(header):
        return None
    return f"<{header}> is not a header this project knows"


def condition_error(path, room, condition):
    """Why this #if is not allowed, or None."""
    if room == "kernels/cuda":
        return None
    asked = re.sub(r"//.*|/\*.*?\*/|<[^>]*>|\"[^\"]*\"", "", condition)
    foreign = set(NAME.findall(asked)) - ANYWHERE - ONLY_IN.get(path.as_posix(), set())
    if not foreign:
        return None
    return f"#if on {', '.join(sorted(foreign))}: variants are chosen by file"


def declared_by_hand(text):
    """Line numbers of functions declared extern "C" without a body: another library's, whose own
    header would say the same and stay true."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text,
                  flags=re.DOTALL)
    for start in re.finditer(r'\bextern\s+"C(?:\+\+)?"\s*', text):
        at, depth, begin = start.end(), 0, start.end()
        block = text[at:at + 1] == "{"
        if block:
            at = begin = at + 1
        while at < len(text):
            char = text[at]
            if char == "{":
                depth += 1
            elif char == "}":
                depth -= 1
                begin = at + 1
                if depth < 0 or (depth == 0 and not block):
                    break
            elif char == ";" and depth == 0:
                if "(" in text[begin:at] and not text[begin:at].lstrip().startswith("using"):
                    first = begin + len(text[begin:at]) - len(text[begin:at].lstrip())
                    yield text.count("\n", 0, first) + 1
                begin = at + 1
                if not block:
                    break
            at += 1


def check_file(root, path):
    """Violations of one file as (line number, text)."""
    room = room_of(path)
    found = []
    text = (root / path).read_text(encoding="utf-8", errors="replace")
    if path.suffix in (".h", ".cuh") and "#pragma once" not in text:
        found.append((1, "a header opens with #pragma once"))
    for number in declared_by_hand(text):
        found.append((number, 'extern "C" declares a library by hand: include its header'))
    for number, line in enumerate(text.splitlines(), 1):
        error = None
        include = INCLUDE.match(line)
        condition = CONDITION.match(line)
        if include:
            target = include.group(2)
            ours = (root / "src" / target).is_file() or (root / target).is_file()
            if ours:
                error = own_edge_error(room, target)
            elif include.group(1) == '"':
                error = f'"{target}" is not found under src/ or the root'
            elif include.group(1) == "<":
                error = third_party_error(path, room, target)
        elif condition:
            error = condition_error(path, room, condition.group(1))
        elif room != "files" and FILE_CALL.search(line.split("//")[0]):
            error = "a system call on files: only src/files makes them"
        if error:
            found.append((number, error))
    return found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    suffixes = (".h", ".cpp", ".cu", ".cuh")
    files = sorted(p.relative_to(root) for top in ("src", "kernels")
                   for p in (root / top).rglob("*") if p.suffix in suffixes)
    if not files:
        print(f"{root}: no sources found under src/ and kernels/")
        return 1
    count = 0
    for path in files:
        for number, error in check_file(root, path):
            print(f"{path}:{number}: {error}")
            count += 1
    print(f"layers: {len(files)} files, {count} violations")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
