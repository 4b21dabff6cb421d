#!/usr/bin/env python3
"""Licences, duplicates, origins and TLS stacks of the crates in Cargo.lock, offline. What is tolerated, and why, is in crates.toml."""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def cargo(*arguments):
    """Offline where everything has been downloaded; a fresh clone fetches what Cargo.lock names."""
    for extra in (["--offline"], []):
        done = subprocess.run(["cargo", *arguments, "--locked", *extra], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
    sys.exit(done.stderr)


def packages(platform):
    """The packages that this platform builds with the default features, not all that the lock file knows."""
    # Why not metadata's own resolution: it follows weak features (`ring` behind `rustls?/ring`) that nothing turns on.
    tree = cargo("tree", "--workspace", "--target", platform, "--edges", "all", "--prefix", "none", "--format", "{p}")
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", platform))
    return [package for package in metadata["packages"] if (package["name"], f"v{package['version']}") in used]


def satisfied(expression, allowed):
    """Whether an SPDX expression can be met with allowed licences only."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while words and words[0] == "OR":
            words.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while words and words[0] == "AND":
            words.pop(0)
            value = one() and value
        return value

    def one():
        word = words.pop(0)
        if word == "(":
            value = either()
            words.pop(0)
            return value
        if words and words[0] == "WITH":
            word = f"{word} WITH {words[1]}"
            del words[:2]
        return word in allowed

    return either()


def main():
    rules = tomllib.loads((ROOT / ".ci/crates.toml").read_text())
    allowed = set(rules["licences"])
    tolerated = rules["duplicates"]
    complaints = []
    versions = defaultdict(set)
    found = packages(rules["platform"])
    for package in found:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].add(package["version"])
        if not package["license"]:
            complaints.append(f"{name} names no licence")
        elif not satisfied(package["license"], allowed):
            complaints.append(f"{name} is under `{package['license']}`, which .ci/crates.toml does not allow")
        if package["source"] not in (None, REGISTRY):
            complaints.append(f"{name} comes from {package['source']}, not from crates.io")

    duplicates = {name: sorted(found) for name, found in versions.items() if len(found) > 1}
    for name, found_versions in sorted(duplicates.items()):
        if name not in tolerated:
            complaints.append(f"{name} is there {len(found_versions)} times ({', '.join(found_versions)}): unify, or say why not in .ci/crates.toml")
        elif len(found_versions) > tolerated[name]["versions"]:
            complaints.append(f"{name} is there {len(found_versions)} times, .ci/crates.toml tolerates {tolerated[name]['versions']}")
    for name in tolerated:
        if name not in duplicates:
            complaints.append(f"{name} is no duplicate any more: take it out of .ci/crates.toml")

    for name in sorted(set(rules["denied"]) & set(versions)):
        complaints.append(f"{name} is denied: {rules['denied'][name]}")
    if len(versions.get("rustls", ())) > 1 or {"ring", "aws-lc-rs"} <= set(versions):
        complaints.append("there is more than one TLS stack: rustls with aws-lc-rs is ours")

    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"{len(found)} crates: licences allowed, {len(duplicates)} duplicates, all with a reason")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
