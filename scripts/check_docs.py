#!/usr/bin/env python3
# Checks what the documentation quotes against what is there: files, links, headings, commands,
# flags and configuration keys. Reads README.md, CONTRIBUTING.md and docs/*.md.
"""Usage: check_docs.py [ROOT]   exit 0: clean, 1: violations (one line each, file:line)"""

import pathlib
import re
import shlex
import sys

TOPS = ("src/", "kernels/", "tests/", "scripts/", "configs/", "docs/", "cmake/", ".ci/")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`]+)`")
PATH = re.compile(r"^(?:%s)[\w./*?-]*$" % "|".join(re.escape(top) for top in TOPS))
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9_.-]*)")
COMMAND = re.compile(r"(?<![\w/.-])(?:\.?/?build/)?lockstep ([a-z]+)((?: .*)?)$")
OUR_SCRIPT = re.compile(r"(?<![\w/])((?:\./)?scripts/[\w/.-]+\.(?:sh|py))((?: .*)?)$")
DECLARED = re.compile(r'\.add(?:_switch|_list)?\(\s*"--([a-z][a-z0-9-]*)')
KEY = re.compile(r'\badd(?:_\w+)?\(\s*"([a-z]+\.[a-z0-9_]+)"')


class Known:
    """What the program and the scripts take, read from their sources."""

    def __init__(self, root):
        app = {p.stem: p.read_text() for p in (root / "src/app").glob("*.cpp")}
        self.commands = {name[:-len("_command")]: set(DECLARED.findall(text))
                         for name, text in app.items() if name.endswith("_command")}
        self.keys = set(KEY.findall("\n".join(app.values()))) | {"section.key"}  # any of them
        self.general = {"help", "version"}
        self.anywhere = "\n".join(
            p.read_text(errors="replace") for top in ("scripts", "src/app", "tests", ".ci", "cmake")
            for p in (root / top).rglob("*") if p.is_file())

    def flag_error(self, command, flag):
        """Why `lockstep COMMAND --flag` is wrong, or None."""
        if flag in self.commands[command] | self.general:
            return None
        if "." in flag and command in ("train", "plan", "requeue"):
            return None if flag in self.keys else f"configuration key {flag} does not exist"
        return f"lockstep {command} has no --{flag}"


def slug(heading):
    """The anchor that a heading gets."""
    text = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(path):
    found = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#"):
            found.add(slug(line.lstrip("#")))
    return found


def link_errors(root, page, line):
    for target in LINK.findall(line):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page.resolve()
        if not path.exists():
            yield f"link to {target}: no such file"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield f"link to {target}: no such heading"


def path_errors(root, words):
    for word in words:
        word = word.rstrip(".,;:")
        if PATH.match(word) and not any(root.glob(word.rstrip("/"))):
            yield f"{word}: no such file"


def words_of(text):
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def command_errors(root, known, text, alone):
    """Errors of one command line or quote; `alone`: a flag by itself counts too."""
    text = re.split(r"\s[|>]|&&|;|\s#", text)[0].strip()
    ours = COMMAND.search(text)
    script = OUR_SCRIPT.search(text)
    if ours and ours.group(1) not in known.commands:
        yield f"lockstep has no command {ours.group(1)}"
    elif ours:
        for flag in FLAG.findall(ours.group(2)):
            error = known.flag_error(ours.group(1), flag)
            if error:
                yield error
    elif script:
        path = root / script.group(1)
        body = path.read_text() if path.is_file() else ""
        for flag in FLAG.findall(script.group(2)):
            if "--" + flag not in body:
                yield f"{script.group(1)} has no --{flag}"
    elif alone and text.startswith("--"):
        for flag in FLAG.findall(text)[:1]:
            if "." in flag and flag not in known.keys:
                yield f"configuration key {flag} does not exist"
            elif "." not in flag and "--" + flag not in known.anywhere:
                yield f"nothing here knows --{flag}"


def statements(page):
    """(line number, kind, text): kind is "prose" or "code"; continued code lines are joined."""
    fence = False
    held = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fence = not fence
            continue
        if fence and line.endswith("\\"):
            held += line[:-1]
            continue
        yield number, "code" if fence else "prose", held + line
        held = ""


def page_errors(root, known, page):
    for number, kind, text in statements(page):
        found = []
        if kind == "prose":
            found += link_errors(root, page, text)
            for quote in INLINE.findall(text):
                found += path_errors(root, quote.split())
                found += command_errors(root, known, quote, alone=True)
        else:
            command = re.sub(r"^\s*[$#]\s+", "", text)
            found += path_errors(root, words_of(command))
            found += command_errors(root, known, command, alone=False)
        for error in found:
            yield number, error


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    pages = [p for p in [root / "README.md", root / "CONTRIBUTING.md",
                         *sorted((root / "docs").glob("*.md"))] if p.is_file()]
    if not pages:
        print(f"{root}: no README.md and no docs/*.md")
        return 1
    known = Known(root)
    count = 0
    for page in pages:
        for number, error in page_errors(root, known, page):
            print(f"{page.relative_to(root)}:{number}: {error}")
            count += 1
    print(f"docs: {len(pages)} pages, {count} violations")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
