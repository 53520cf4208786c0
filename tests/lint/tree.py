#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rules of the tree that no compiler checks: licence lines, sizes, words, links in documents.

Each rule is a function from (path, text) to findings; RULES says which files it applies to. A
single line is excused from the word rule by writing `lint: allow` and a reason on it.
"""

import os
import re
import subprocess
import sys

SOURCE_LINES = 1000
HEADER_LINES = 300
FUNCTION_LINES = 60
OPENING_LINES = 25  # where the comment that explains a file has to begin

# (path, function): why it is longer than FUNCTION_LINES.
LONG_FUNCTIONS = {}

GUEST = "tests/lib/guest/"  # scripts that run inside a guest: its paths are the tests' own

# Written apart so that this file passes its own rule.
WORDS = [
    (r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", "unfinished work belongs into an issue"),
    (r"(?<![\w.])/(work|home/\w+)/", "a path of one machine"),
    (r"(?<![\w.\"'])/ro" r"ot/", "a path of one machine"),
    (r"\b(py" r"pi\.org|npm" r"js\.(com|org)|dock" r"er\.io|gh" r"cr\.io|crat" r"es\.io"
     r"|proxy\.gol" r"ang\.org)\b", "a registry's host name"),
    (r"[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", "an invisible or direction character"),
]

# Frequent slips; a dictionary would know fewer of this field's words than it complained about.
MISSPELT = re.compile(r"\b(" + "|".join([
    "acc" "omodate", "occ" "ured", "occ" "urence", "recie" "ve", "sep" "erate", "te" "h",
    "leng" "ht", "heig" "th", "wic" "h", "unti" "ll", "succes" "ful", "neccess" "ary", "refer" "ed",
    "trans" "fered", "dep" "endant", "exist" "ance", "init" "alise", "buf" "fere",
]) + r")\b", re.IGNORECASE)


def licence(path, text):
    lines = text.split("\n", 2)
    first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
    if "SPDX-License-Identifier: Apache-2.0" not in first:
        yield 1, "the first line (after #!) must be the SPDX line"


def size(path, text):
    # A table of a format is as long as the format.
    header = path.endswith(".h") and not path.startswith("protocol/")
    limit = HEADER_LINES if header else SOURCE_LINES
    lines = text.count("\n")
    if lines > limit:
        yield lines, f"{lines} lines, the limit is {limit}: split it"


def functions(path, text):
    """Relies on the formatter: a body's braces, and only they, stand alone in column 0."""
    start = None
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            count = number - start - 1
            name = function_name(lines, start)
            if count > FUNCTION_LINES and (path, name) not in LONG_FUNCTIONS:
                yield start, f"{name}() has {count} lines, the limit is {FUNCTION_LINES}"
            start = None


def function_name(lines, start):
    for line in reversed(lines[:start - 1]):
        match = re.match(r"[\w\s*]*?\b(\w+)\(", line)
        if match and not line.startswith((" ", "\t")):
            return match.group(1)
    return "?"


def has_opening_comment(text):
    head = text.split("\n")[1:OPENING_LINES]
    return any(re.match(r"\s*/\*", line) for line in head)


def opening(path, text):
    """A header explains itself; a source file does, or a header of its folder does it for it."""
    if has_opening_comment(text):
        return
    folder = os.path.dirname(path)
    if path.endswith(".c") and os.path.isdir(folder):
        if any(name.endswith(".h") for name in os.listdir(folder)):
            return
    yield 1, "says nowhere near its start what it is for"


def words(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if "lint: allow" in line:
            continue
        for pattern, why in WORDS:
            match = re.search(pattern, line)
            if match and not (path.startswith(GUEST) and match.group(0).startswith("/")):
                yield number, f"{match.group(0)!r}: {why}"
        match = MISSPELT.search(line)
        if match:
            yield number, f"{match.group(0)!r}: misspelt"


def whitespace(path, text):
    if "\r" in text:
        yield 1, "carriage returns"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end"
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield number, "blanks at the end of the line"


def python(path, text):
    try:
        compile(text, path, "exec")
    except SyntaxError as error:
        yield error.lineno or 1, str(error)


LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:href|src)=["']([^"']+)["']""")
NAMED = re.compile(r"`((?:src|protocol|tests|docs|tools)/[\w./-]*)`")


def links(path, text):
    if path.endswith(".md"):
        text = re.sub(r"```.*?```", lambda m: re.sub(r"[^\n]", "", m.group(0)), text, flags=re.S)
    folder = os.path.dirname(path)
    for number, line in enumerate(text.split("\n"), 1):
        targets = [(a or b, folder) for a, b in LINK.findall(line)]
        targets += [(name, "") for name in NAMED.findall(line)]
        for target, base in targets:
            if re.match(r"[a-z]+:|#", target):
                continue
            file = os.path.normpath(os.path.join(base, target.split("#")[0]))
            if not os.path.exists(file):
                yield number, f"{target}: there is no {file}"


C_FILES = (".c", ".h", ".def")
TEXT = (".c", ".h", ".def", ".py", ".sh", ".md", ".build", ".txt", ".svg", ".json", ".service",
        ".ini", ".sql", ".yml", ".yaml", ".conf")

# rule, endings, folders ("" is all)
def tap(path, text):
    if "cmocka_run_group_tests" in text and "CM_OUTPUT_TAP" not in text:
        yield 1, "a suite that does not speak TAP is counted as skipped, whatever it found"


RULES = [
    (licence, (*C_FILES, ".py", ".sh"), ("",)),
    (size, (".c", ".h"), ("",)),
    (functions, (".c",), ("src/",)),
    (opening, (".c", ".h"), ("src/", "protocol/")),
    (words, (*TEXT, "dev", ".ci/run"), ("",)),
    (whitespace, (*TEXT, "dev", ".ci/run"), ("",)),
    (python, (".py",), ("",)),
    (links, (".md", ".svg"), ("",)),
    (tap, (".c",), ("tests/",)),
]


def walked_files():
    """For a tree that git does not know, such as an unpacked archive."""
    for folder, folders, names in os.walk("."):
        folders[:] = [name for name in folders
                      if not name.startswith("build") and name not in (".git", "__pycache__")]
        yield from (os.path.normpath(os.path.join(folder, name)) for name in names)


def tree_files():
    try:  # the tree may be another user's: a check of it runs nothing of its configuration
        out = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-co",
                              "--exclude-standard", "-z"], check=True, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, timeout=60).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        out = walked_files()
    return sorted(path for path in out
                  if path and os.path.isfile(path) and not os.path.islink(path))


def check_file(path):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        return []  # pictures and the like
    return [f"{path}:{number}: {finding}"
            for rule, endings, folders in RULES
            if path.endswith(endings) and path.startswith(folders)
            for number, finding in rule(path, text)]


# rule, path, text: each must be found.
SAMPLES = [
    (licence, "a.c", "int x;\n"),
    (licence, "a.py", "#!/usr/bin/python3\nx = 1\n"),
    (tap, "a.c", "cmocka_run_group_tests(tests)\n"),
    (size, "a.h", "\n" * (HEADER_LINES + 1)),
    (size, "a.c", "\n" * (SOURCE_LINES + 1)),
    (functions, "a.c", "static int f(int a)\n{\n" + "\tx();\n" * 61 + "}\n"),
    (opening, "src/a/none.c", "/* SPDX */\n\nint x;\n"),
    (words, "a.c", "/* TO" "DO: later */\n"),
    (words, "a.c", 'open("/wo' 'rk/x/y")\n'),
    (words, "a.md", "unti" "ll\n"),
    (words, "a.c", "int a; /* \u202e */\n"),
    (whitespace, "a.c", "int x; \n"),
    (whitespace, "a.c", "int x;"),
    (python, "a.py", "def f(:\n"),
    (links, "a.md", "[x](no/such/file.md)\n"),
    (links, "a.md", "see `src/no_such_folder/x.c`\n"),
    (links, "a.svg", '<a href="no/such">\n'),
]


def self_test():
    missed = [f"tree self-test: {rule.__name__} did not find its sample {text[:30]!r}"
              for rule, path, text in SAMPLES if not list(rule(path, text))]
    fine = "/* SPDX-License-Identifier: Apache-2.0 */\n\n/* What it is. */\n\nint x;\n"
    for rule, endings, _ in RULES:
        if ".c" in endings and list(rule("src/a.c", fine)):
            missed.append(f"tree self-test: {rule.__name__} complains about nothing")
    return missed


def main():
    faults = self_test()
    for path in sys.argv[1:] or tree_files():
        faults += check_file(path)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
