#!/usr/bin/env python3
# Enforces the style that a machine can see: line, function and file length, ASCII, no tabs, no
# to-do marks, a comment at the top of every file. Prints the sizes so that drift is seen early.
"""Usage: style_report.py [ROOT]   exit 0: clean, 1: violations (one line each, file:line)"""

import pathlib
import re
import sys

MAX_LINE = 100
MAX_FILE = 500
MAX_FUNCTION = 60
MAX_TEST_FUNCTION = 120
CODE = (".h", ".cpp", ".cu", ".cuh")
SCRIPTS = (".sh", ".py", ".cmake", ".toml", ".sbatch", ".gp")
TOPS = ("src", "kernels", "tests", "scripts", "configs", "cmake", ".ci")
MARK = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")
RAW_STRING = re.compile(r'R"([^()\s]*)\(.*?\)\1"', re.S)
LITERAL = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'')
DIGIT_SEPARATOR = re.compile(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
NOT_FUNCTIONS = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def blank(match):
    """The same text with everything but line ends gone, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match.group())


def bare_code(text):
    """Code without comments, literals and preprocessor lines, line by line where it was."""
    text = DIGIT_SEPARATOR.sub("0", text)
    text = RAW_STRING.sub(blank, text)
    both = re.compile(LITERAL.pattern + "|" + COMMENT.pattern, re.S)
    text = both.sub(blank, text)
    return re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text)


def functions(text):
    """(first line, number of lines) of every function body: an outermost brace after a ')' that
    belongs to no namespace, class or enum."""
    found = []
    stack = []  # of (is function, line)
    head = ""
    line = 1
    for char in bare_code(text):
        if char == "\n":
            line += 1
        if char == "{":
            inside = any(is_function for is_function, _ in stack)
            scope = NOT_FUNCTIONS.search(re.sub(r"<[^<>]*>|\([^()]*\)", "", head))
            is_function = not inside and ")" in head and not scope
            first = line - head.strip("\n ").count("\n")
            stack.append((is_function, first))
            head = ""
        elif char == "}":
            if stack:
                is_function, first = stack.pop()
                if is_function:
                    found.append((first, line - first + 1))
            head = ""
        elif char == ";":
            head = ""
        else:
            head += char
    return found


def opens_with_comment(text, suffix):
    lines = text.splitlines()
    first = lines[0] if lines else ""
    if first.startswith("#!"):
        first = lines[1] if len(lines) > 1 else ""
    if suffix in CODE:
        return first.startswith(("//", "/*"))
    return first.startswith(("#", '"""') if suffix == ".py" else "#")


def check_lines(text):
    """Violations that one line shows."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MAX_LINE:
            found.append((number, f"line of {len(line)} characters, at most {MAX_LINE}"))
        if not line.isascii():
            found.append((number, "a character that is not ASCII"))
        if "\t" in line:
            found.append((number, "a tab"))
        if line != line.rstrip():
            found.append((number, "blanks at the end of the line"))
        if MARK.search(line):
            found.append((number, "a to-do mark: do it or file it"))
    return found


def check_file(path, text):
    """(violations, file length, function lengths)."""
    found = check_lines(text)
    length = text.count("\n")
    if length > MAX_FILE:
        found.append((1, f"file of {length} lines, at most {MAX_FILE}"))
    if not opens_with_comment(text, path.suffix):
        found.append((1, "the file does not open with a comment"))
    sizes = []
    if path.suffix in CODE:
        limit = MAX_TEST_FUNCTION if path.parts[0] == "tests" else MAX_FUNCTION
        for first, lines in functions(text):
            sizes.append(lines)
            if lines > limit:
                found.append((first, f"function of {lines} lines, at most {limit}"))
    return found, length, sizes


def is_source(path):
    """Files this report reads: code, and scripts of every kind."""
    if path.suffix in CODE + SCRIPTS or path.name == "CMakeLists.txt":
        return True
    return path.parts[0] == ".ci" and path.suffix == ""


def row(name, values):
    values = sorted(values) or [0]
    at = lambda q: values[min(len(values) - 1, int(q * len(values)))]
    return f"{name:<10}{len(values):>9}{sum(values):>9}{at(0.5):>9}{at(0.9):>9}{values[-1]:>9}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    files = {}
    sizes = {}
    violations = 0
    for top in TOPS:
        for full in sorted((root / top).rglob("*")):
            path = full.relative_to(root)
            if not full.is_file() or "fixture" in path.parts or not is_source(path):
                continue
            text = full.read_text(encoding="utf-8", errors="replace")
            found, length, lengths = check_file(path, text)
            files.setdefault(top, []).append(length)
            sizes.setdefault(top, []).extend(lengths)
            for number, error in found:
                print(f"{path}:{number}: {error}")
                violations += 1
    if not files:
        print(f"{root}: no sources found")
        return 1
    columns = f"{'':<10}{'count':>9}{'lines':>9}{'median':>9}{'p90':>9}{'max':>9}"
    print("files\n" + columns)
    print("\n".join(row(top, values) for top, values in files.items()))
    print("functions\n" + columns)
    print("\n".join(row(top, values) for top, values in sizes.items() if values))
    print(f"style: {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
