#!/usr/bin/env python3
"""README.md and --help agree: every command, flag and variable in the one is in the other's.

    check_readme.py target/release/chandler
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def help_of(binary, words=()):
    done = subprocess.run([binary, *words, "--help"], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def subcommands(text):
    section = re.search(r"^Commands:\n((?:  .*\n|\n(?=  ))+)", text, re.M)
    names = re.findall(r"^  ([a-z][\w-]*)", section.group(1), re.M) if section else []
    return [name for name in names if name != "help"]


def flags(text):
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", text))


class Commands:
    """Every subcommand of the program with its help."""

    def __init__(self, binary):
        self.helps = {}
        self.read(binary, ())

    def read(self, binary, words):
        text = help_of(binary, words)
        if text is None:
            return
        self.helps[words] = text
        for name in subcommands(text):
            self.read(binary, (*words, name))

    def check(self, words):
        """What is wrong with a command line after the program's name."""
        path = ()
        for word in words:
            if (*path, word) not in self.helps:
                break
            path = (*path, word)
        if not path and words and not words[0].startswith("-"):
            return f"there is no command `{words[0]}`"
        if path and subcommands(self.helps[path]):
            return f"`{' '.join(path)}` needs a subcommand"
        for word in words:
            flag = word.split("=")[0]
            if re.fullmatch(r"--?[a-z][a-z0-9-]*", flag) and flag not in flags(self.helps[path]):
                return f"`{' '.join(path)}` has no flag {flag}"
        return None

    def all_flags(self):
        return set().union(*(flags(text) for text in self.helps.values()))


def command_lines(readme):
    """Shell lines in fenced blocks, continuation lines joined, cut at pipes and the like."""
    for block in re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", readme, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^\$ ", "", line.strip())
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            for stop in ("|", ">", "&&", "&", ";"):
                words = words[: words.index(stop)] if stop in words else words
            if words:
                yield line, words


def cargo_flags(subcommand):
    done = subprocess.run(["cargo", subcommand, "--help"], capture_output=True, text=True)
    return flags(done.stdout) if done.returncode == 0 else None


def check_cargo(words, commands):
    ours = words[words.index("--") + 1 :] if "--" in words else []
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    known = cargo_flags(own[0]) if own else None
    if known is None:
        return f"there is no `cargo {' '.join(own[:1])}`"
    for word in own[1:]:
        if word.startswith("--") and word.split("=")[0] not in known:
            return f"`cargo {own[0]}` has no flag {word}"
    return commands.check(ours) if own[0] == "run" else None


def main():
    readme = (ROOT / "README.md").read_text()
    commands = Commands(sys.argv[1])
    everything = "\n".join(commands.helps.values())
    complaints, checked = [], 0
    for line, words in command_lines(readme):
        program = Path(words[0]).name
        wrong = None
        if program == "chandler":
            wrong = commands.check(words[1:])
        elif program == "cargo":
            wrong = check_cargo(words, commands)
        else:
            continue
        checked += 1
        if wrong:
            complaints.append(f"README.md: `{line}`: {wrong}")

    for first in (r"^cargo run --release -- serve$", r"^cargo test( |$)"):
        if not re.search(first, readme, re.M):
            complaints.append(f"README.md: no line matches {first}")
    prose = re.sub(r"^```.*?^```", "", readme, flags=re.M | re.S)
    for span in re.findall(r"`([^`\n]+)`", prose):
        if span.startswith("cargo "):
            continue
        for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", span):
            if flag not in commands.all_flags():
                complaints.append(f"README.md: `{span}`: no command has the flag {flag}")
    for variable in sorted(set(re.findall(r"\bCHANDLER_[A-Z_]+\b", readme))):
        if not re.search(rf"\b{variable}\b", everything):
            complaints.append(f"README.md: --help does not know {variable}")
    for path in commands.helps:
        if len(path) == 1 and f"chandler {path[0]}" not in readme and f"-- {path[0]}" not in readme:
            complaints.append(f"README.md does not mention `chandler {path[0]}`")

    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"README.md and --help agree: {checked} command lines, {len(commands.helps) - 1} commands")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
