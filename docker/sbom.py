#!/usr/bin/env python3
"""What the program is made of, as CycloneDX 1.5 JSON: every crate that this platform's build links, with version, licence,
origin and the digest that Cargo.lock holds.

    sbom.py [--features text,speech,image,kubernetes,cuda] [--platform x86_64-unknown-linux-gnu] >sbom.cdx.json

Build scripts, procedural macros and tests are left out: they are not in the program. The same input gives the same bytes.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cargo(*arguments):
    """Offline where everything has been downloaded; elsewhere Cargo fetches what Cargo.lock names."""
    for extra in (["--offline"], []):
        done = subprocess.run(["cargo", *arguments, "--locked", *extra], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
    sys.exit(done.stderr)


def linked(features, platform):
    """Name and version of each crate in the program, its own first."""
    tree = cargo(
        "tree", "--package", "chandler", "--target", platform, "--edges", "normal,no-proc-macro", "--prefix", "none",
        "--no-default-features", "--features", features, "--format", "{p}",
    )  # fmt: skip
    pairs = (line.split()[:2] for line in tree.splitlines() if line)
    return list(dict.fromkeys((name, version.removeprefix("v")) for name, version in pairs))


def component(package, digest):
    name, version = package["name"], package["version"]
    made = {"type": "library", "bom-ref": f"pkg:cargo/{name}@{version}", "name": name, "version": version}
    if package.get("license"):
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if digest:
        made["hashes"] = [{"alg": "SHA-256", "content": digest}]
    made["purl"] = made["bom-ref"]
    if package.get("repository"):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def document(features, platform):
    choice = ("--no-default-features", "--features", features)
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", platform, *choice))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    digests = {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}
    own, *crates = linked(features, platform)
    program = component(packages[own], None) | {"type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": program,
            "properties": [
                {"name": "cargo:features", "value": features},
                {"name": "cargo:target", "value": platform},
            ],
        },
        "components": [component(packages[key], digests.get(key)) for key in sorted(crates)],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", default="text,speech,image,kubernetes")
    parser.add_argument("--platform", default="x86_64-unknown-linux-gnu")
    given = parser.parse_args()
    print(json.dumps(document(given.features, given.platform), indent=1))
