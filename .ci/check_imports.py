#!/usr/bin/env python3
"""Imports run downwards only: main -> cli -> {api, runpod, provision} -> engine -> pipelines -> nn -> core.

Reads the sources (without comments, strings and test modules) and the crates' manifests; needs nothing but Python.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What each module of the package `chandler` may use of its siblings, and which of our crates.
MODULES = {
    "main": ({"cli"}, set()),
    "cli": ({"api", "bench", "runpod", "provision", "storage", "webhook", "reach", "google", "engine", "weights", "catalog", "config", "machine", "nearest", "captions", "pictures"}, {"core"}),
    "api": ({"engine", "reach", "captions", "pictures", "kinds", "spellings"}, {"core"}),
    "bench": ({"calendar", "catalog", "reach", "sse"}, {"core"}),
    "runpod": ({"engine", "storage", "webhook", "reach", "captions", "kinds", "spellings", "sse"}, {"core"}),
    "webhook": ({"engine", "reach"}, {"core"}),
    "storage": ({"calendar", "reach"}, set()),
    "reach": (set(), set()),
    "google": ({"reach"}, set()),
    "provision": ({"catalog", "config", "google", "reach", "webhook"}, {"core"}),
    "engine": ({"weights"}, {"core", "nn", "*"}),  # "*": every modality; nobody else may know one
    "weights": ({"reach", "google", "storage"}, {"nn"}),
    "config": ({"catalog", "nearest", "reach"}, set()),
    "catalog": ({"nearest"}, {"core"}),
    "calendar": (set(), set()),
    "captions": (set(), set()),
    "machine": (set(), set()),
    "kinds": (set(), set()),
    "nearest": (set(), set()),
    "pictures": (set(), {"core"}),
    "spellings": (set(), set()),
    "sse": (set(), set()),
}
# Which of our crates each crate under pipelines/ may use; a modality never knows another.
BASE_CRATES = {"core": set(), "nn": {"core"}}
MODALITY = {"core", "nn"}

# Words that must not stand in a place's code: (where, pattern, why).
FORBIDDEN = [
    ("pipelines/*/src", r"\b(tokio|axum|reqwest|hyper|async_trait)\b", "a pipeline knows no async runtime and no HTTP"),
    ("pipelines/*/src", r"\basync\s+fn\b", "a pipeline knows no async runtime"),
    ("pipelines/*/src", r"\benv::(?!consts)\w+", "a pipeline knows no environment variable"),
    ("pipelines/*/src", r"\b(Instant|SystemTime)::now\b", "a pipeline knows no clock but the one it is handed"),
    ("pipelines/*/src", r"\bstd::net\b", "a pipeline knows no network"),
    ("pipelines/core/src", r"\b(candle_core|candle_nn|tokenizers)\b", "core knows no tensor"),
    ("src/api", r"\b(candle_core|candle_nn|tokenizers)\b", "a front door knows no tensor"),
    ("src/runpod", r"\b(candle_core|candle_nn|tokenizers)\b", "a front door knows no tensor"),
    ("src/api", r"\w*([Ll]lama|[Qq]wen|[Mm]istral|[Ww]hisper|[Gg]emma)\w*", "a front door names no model type"),
    ("src/runpod", r"\w*([Ll]lama|[Qq]wen|[Mm]istral|[Ww]hisper|[Gg]emma)\w*", "a front door names no model type"),
    ("src/cli", r"\w*([Ll]lama|[Qq]wen|[Mm]istral|[Ww]hisper|[Gg]emma)\w*", "a front door names no model type"),
    ("src/api", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/runpod", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/storage", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/provision", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/google", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/reach", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/bench", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/webhook", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/engine", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/weights", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/config", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/machine", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/catalog", r"\benv::(?!consts)\w+", "only the command line reads the environment"),
    ("src/engine", r"\b(axum|reqwest|hyper)\b", "the engine knows no HTTP"),
    ("src/[!c]*", r"\banyhow\b", "anyhow is for the command line"),
    ("src/c[!l]*", r"\banyhow\b", "anyhow is for the command line"),
    ("pipelines/*/src", r"\banyhow\b", "anyhow is for the command line"),
]
FORBIDDEN_DEPENDENCIES = {"tokio", "axum", "reqwest", "hyper", "anyhow", "async-trait", "clap"}

TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hash>\#*)".*?"(?P=hash)|b?"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'""", re.S
)


def code(path):
    """The file without comments, strings and its test module; line numbers stay."""
    blank = lambda match: "\n" * match.group().count("\n") + " "
    text = TOKEN.sub(blank, path.read_text())
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


def is_test(path):
    return path.stem == "tests" or "tests" in path.relative_to(ROOT).parts


def rust_files(pattern):
    for place in sorted(ROOT.glob(pattern)):
        yield from [place] if place.suffix == ".rs" else sorted(place.rglob("*.rs"))


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def crate_roots(text, prefix):
    """Every name that follows `prefix::`, also within braces: (name, position)."""
    for match in re.finditer(rf"(?<![\w:]){prefix}::(?:(\w+)|\{{)", text):
        if match.group(1):
            yield match.group(1), match.start()
            continue
        depth, names, start = 1, "", match.end()
        for character in text[start:]:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                break
            names += character if depth == 1 else ""
        for part in names.split(","):
            yield re.split(r"::|\s", part.strip() or "self")[0], match.start()


def check_package(complaints):
    seen = set()
    for path in rust_files("src"):
        relative = path.relative_to(ROOT / "src")
        module = relative.parts[0].removesuffix(".rs")
        if module == "lib" or is_test(path):
            continue
        if module not in MODULES:
            complaints.append(f"src/{relative}: the module `{module}` has no place in .ci/check_imports.py")
            continue
        seen.add(module)
        siblings, crates = MODULES[module]
        text = code(path)
        for prefix in ("crate", "chandler"):
            for name, position in crate_roots(text, prefix):
                if name in MODULES and name != module and name not in siblings:
                    complaints.append(f"src/{relative}:{line_of(text, position)}: `{module}` may not use `{name}`")
        for match in re.finditer(r"\bchandler_(\w+)\b", text):
            name = match.group(1)
            modality = name not in BASE_CRATES and (ROOT / "pipelines" / name).is_dir()
            known = name in BASE_CRATES or modality
            if known and name not in crates and not (modality and "*" in crates):
                complaints.append(
                    f"src/{relative}:{line_of(text, match.start())}: `{module}` may not use the crate chandler-{name}"
                )
    return seen


def check_crates(complaints):
    for manifest in sorted(ROOT.glob("pipelines/*/Cargo.toml")):
        crate = manifest.parent.name
        allowed = BASE_CRATES.get(crate, MODALITY)
        table = tomllib.loads(manifest.read_text())
        for name in table.get("dependencies", {}):
            ours = name.removeprefix("chandler-")
            if ours != name and ours not in allowed:
                complaints.append(f"pipelines/{crate}/Cargo.toml: {crate} may not depend on {name}")
            if name in FORBIDDEN_DEPENDENCIES:
                complaints.append(f"pipelines/{crate}/Cargo.toml: a pipeline does not depend on {name}")


def check_words(complaints):
    for place, pattern, why in FORBIDDEN:
        for path in rust_files(place):
            if is_test(path):
                continue
            text = code(path)
            for match in re.finditer(pattern, text):
                where = f"{path.relative_to(ROOT)}:{line_of(text, match.start())}"
                complaints.append(f"{where}: `{match.group()}`: {why}")


def main():
    complaints = []
    seen = check_package(complaints)
    check_crates(complaints)
    check_words(complaints)
    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"imports run downwards in {len(seen)} modules and {len(list(ROOT.glob('pipelines/*/Cargo.toml')))} crates")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
