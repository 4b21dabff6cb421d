#!/usr/bin/env python3
"""Builds the CPU image's runtime stage from a binary that is there, without a daemon, and starts it for real.

    image.py target/release/chandler [--keep]

With no network the container answers from the demo model; with a read-only root and a user nobody knows it still does; its own
health check says so; SIGTERM lets a running answer end and the exit code is 0; the compressed size is printed and held against
the limit. What is missing (buildah, podman, runc, debootstrap) is installed with apt. Where that cannot be done, or the kernel
forbids containers, it says SKIPPED with the reason and ends with 0; CHANDLER_CI_IMAGE=required makes that a failure.
"""

import argparse
import gzip
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "localhost/chandler-ci-base:bookworm"
IMAGE = "localhost/chandler:ci"
TOOLS = ("buildah", "podman", "runc", "debootstrap")
LIMIT_MB = 100
# crun, podman's default, wants more of the kernel than a sandbox gives; and some have fewer files and processes to give.
ROOTLY = () if os.geteuid() == 0 else ("sudo", "-n")
PODMAN = (*ROOTLY, "podman", "--runtime", "runc")
RUN = ("run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
# Nobody's number, in no file of the image.
USER = "54321:12345"
BODY = json.dumps({"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0})


def mirror():
    """Where this machine's own packages come from, as debootstrap's last argument; none leaves the choice to it."""
    place = Path("/etc/apt")
    # As apt reads them: a line each, or paragraphs of fields; files of other names are none of its sources.
    for path in [place / "sources.list", *sorted(place.glob("sources.list.d/*.list")), *sorted(place.glob("sources.list.d/*.sources"))]:
        text = path.read_text() if path.is_file() else ""
        for entry in text.split("\n\n") if path.suffix == ".sources" else text.splitlines():
            words = [word for line in entry.splitlines() if not line.startswith("#") for word in line.split()]
            if "bookworm" in words and "main" in words:
                return [word for word in words if word.startswith("http")][:1]
    return []


class Skip(Exception):
    """This machine cannot run containers, through no fault of ours."""


def call(*command, timeout=600, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)


def must(*command, timeout=600):
    done = call(*command, timeout=timeout)
    if done.returncode != 0:
        sys.exit(f"image: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def timed(what, work, *arguments):
    begun = time.monotonic()
    result = work(*arguments)
    print(f"image: {what}: {time.monotonic() - begun:.1f} s", flush=True)
    return result


def install():
    if ROOTLY and call(*ROOTLY, "true").returncode != 0:
        raise Skip("containers are built and started as root here, and sudo asks for a password")
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"  # where debootstrap is
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=path)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise Skip(f"{', '.join(missing)} not installed, and there is no apt-get")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *missing]):
        done = call(*ROOTLY, "apt-get", *command, env=environment)
        if done.returncode != 0:
            raise Skip(f"{', '.join(missing)} cannot be installed: {(done.stderr or done.stdout).strip()[-300:]}")


def base():
    """What debian:bookworm-slim is, made from Debian's packages: no registry has to be reached."""
    if call(*PODMAN, "image", "exists", BASE).returncode == 0:
        return
    root = ROOT / "target/image/base"
    must(*ROOTLY, "rm", "-rf", str(root))
    root.parent.mkdir(parents=True, exist_ok=True)
    done = call(*ROOTLY, "debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(root), *mirror(), timeout=900)
    if done.returncode != 0:
        raise Skip(f"debootstrap cannot make a base: {(done.stderr or done.stdout).strip()[-300:]}")
    # As Debian's own slim images leave out what no container reads.
    unread = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
    must(*ROOTLY, "rm", "-rf", *(str(root / place) for place in unread))
    with subprocess.Popen([*ROOTLY, "tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        done = call(*PODMAN, "import", "-", BASE, stdin=tar.stdout)
    must(*ROOTLY, "rm", "-rf", str(root))
    if done.returncode != 0:
        raise Skip(f"podman cannot keep images here: {done.stderr.strip()[-300:]}")


def build(binary):
    """The runtime stage from the binary, stripped as the `dist` profile has it, with its SBOM."""
    place = ROOT / "target/image"
    place.mkdir(parents=True, exist_ok=True)
    must("strip", "-o", str(place / "chandler"), str(binary))
    sbom = must(sys.executable, str(ROOT / "docker/sbom.py"))
    (place / "sbom.cdx.json").write_text(sbom + "\n")
    commit = call("git", "-C", str(ROOT), "rev-parse", "HEAD").stdout.strip() or "unknown"
    version = must(str(binary), "--version").split()[1]
    arguments = {
        "BASE": BASE,
        "RUST": BASE,
        "BINARY": "target/image/chandler",
        "SBOM": "target/image/sbom.cdx.json",
        "COMMIT": commit,
        "VERSION": version,
    }
    flags = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    # Health checks are docker's, and in no image of OCI's format.
    must(
        *ROOTLY, "buildah", "bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--layers=false",
        "--ignorefile", str(ROOT / ".dockerignore"), "-f", str(ROOT / "docker/Dockerfile"), "-t", IMAGE, *flags, str(ROOT),
    )  # fmt: skip


class Container:
    """A container that runs detached; removed at the end, with its log where something failed."""

    def __init__(self, *options, command=()):
        done = call(*PODMAN, *RUN, "-d", *options, IMAGE, *command)
        self.id = done.stdout.strip()
        if done.returncode != 0:
            raise Skip(f"runc cannot start a container here: {done.stderr.strip()[-300:]}")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind:
            print(call(*PODMAN, "logs", self.id), file=sys.stderr)
        call(*PODMAN, "rm", "-f", "-v", self.id)

    def inside(self, *command, timeout=60):
        return call(*PODMAN, "exec", self.id, *command, timeout=timeout)

    def healthy(self, seconds=60):
        """Waits for the image's own health check, run by podman as a platform would; gives how long it took."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            if call(*PODMAN, "healthcheck", "run", self.id).returncode == 0:
                return time.monotonic() - begun
            time.sleep(0.1)
        sys.exit(f"image: not healthy within {seconds} s: {self.inside('chandler', 'health').stdout}")

    def http(self, method, path, body=""):
        """A request from inside, where no client is: bash's own connections. Needs no network."""
        head = f"{method} {path} HTTP/1.0\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        script = 'exec 3<>/dev/tcp/127.0.0.1/8080 && printf %s "$1" >&3 && cat <&3'
        return self.inside("bash", "-c", script, "bash", head + body).stdout

    def stop(self):
        must(*PODMAN, "stop", "-t", "40", self.id)
        return int(must(*PODMAN, "inspect", self.id, "--format", "{{.State.ExitCode}}"))


def expect(what, well, seen=""):
    if not well:
        sys.exit(f"image: {what} does not hold: {seen}")
    print(f"image: {what}", flush=True)


def answers_offline():
    with Container("--network", "none") as container:
        took = container.healthy()
        answer = container.http("POST", "/v1/chat/completions", BODY)
        expect(f"with no network, healthy after {took:.1f} s and the demo model answers", "Paris" in answer, answer)
        report = container.inside("chandler", "doctor", "--json")
        found = json.loads(report.stdout)
        hub = next(check for check in found["checks"] if check["check"] == "hub")
        well = report.returncode == 0 and hub["level"] == "warning"
        expect("`chandler doctor` finds nothing wrong but the hub, which the demo does not need", well, report.stdout)
        offline = container.inside("env", "CHANDLER_MODEL=org/name", "chandler", "doctor")
        expect("and says what is wrong when a model does come from there", offline.returncode == 1, offline.stdout)
        code = container.stop()
        expect("SIGTERM ends it with code 0", code == 0, code)


def drains():
    """A long answer is under way when SIGTERM comes, and comes whole. Asked from the host: when the container's first process
    ends, a client inside would be killed with its last bytes unread."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = ("--network", "host", "-e", f"PORT={port}", "-e", "CHANDLER_HOST=127.0.0.1")
    with Container(*host) as container:
        container.healthy()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        # As long as the demo model's window lets it be, and many at once: seconds of work.
        body = {"prompt": "One", "max_tokens": 480, "ignore_eos": True, "n": 16, "stream": True, "temperature": 0}
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        first = answer.readline().decode()
        expect("a stream is under way", first.startswith("data:"), first)
        begun = time.monotonic()
        code = container.stop()
        took = time.monotonic() - begun
        rest = answer.read().decode()
        whole = rest.rstrip().endswith("data: [DONE]")
        expect(f"it comes whole, and the exit code is 0 {took:.1f} s after SIGTERM", whole and code == 0, (code, rest[-300:]))


def read_only():
    # The volume /cache is all that can be written.
    with Container("--network", "none", "--read-only", "--read-only-tmpfs=false", "--user", USER) as container:
        container.healthy()
        answer = container.http("POST", "/v1/chat/completions", BODY)
        who = container.inside("id", "-u").stdout.strip()
        expect(f"with a read-only root it answers as user {who}", "Paris" in answer and who == USER.split(":")[0], answer)
        writes = container.inside("sh", "-c", "touch /tmp/x /x 2>/dev/null; touch /cache/x && echo yes").stdout.strip()
        expect("only the cache can be written", writes == "yes" and container.inside("ls", "/x", "/tmp/x").returncode != 0, writes)
        code = container.stop()
        expect("and it ends with code 0", code == 0, code)


def labels():
    config = json.loads(must(*PODMAN, "inspect", IMAGE))[0]
    found = config["Labels"]
    names = [f"org.opencontainers.image.{name}" for name in ("title", "version", "revision", "licenses", "description")]
    expect("it is labelled", all(found.get(name) for name in names), found)
    expect("and runs as nobody in particular by default", config["User"] == "65532:65532", config["User"])
    sbom = must(*PODMAN, *RUN, "--rm", "--network", "none", "--entrypoint", "cat", IMAGE, found["chandler.sbom"])
    crates = json.loads(sbom)["components"]
    expect(f"its SBOM names {len(crates)} crates", any(crate["name"] == "candle-core" for crate in crates))


def size():
    """What a registry would hold: the layers, compressed as `podman push` does it."""
    archive = ROOT / "target/image/image.tar"
    archive.unlink(missing_ok=True)
    must(*PODMAN, "save", "--format", "docker-archive", "-o", str(archive), IMAGE)
    must(*ROOTLY, "chmod", "a+r", str(archive))
    whole = compressed(archive.read_bytes())
    program = compressed((ROOT / "target/image/chandler").read_bytes())
    archive.unlink()
    print(f"image: {whole / 1e6:.1f} MB compressed, {program / 1e6:.1f} MB of it the program; the limit is {LIMIT_MB} MB")
    if whole > LIMIT_MB * 1e6:
        sys.exit(f"image: {whole / 1e6:.1f} MB are more than {LIMIT_MB} MB")


def compressed(data):
    return len(gzip.compress(data, 6))


def check(binary, keep):
    timed("tools", install)
    timed("base", base)
    timed("build", build, binary)
    try:
        for part in (answers_offline, drains, read_only, labels, size):
            timed(part.__name__, part)
    finally:
        if not keep:
            call(*PODMAN, "rmi", "-f", IMAGE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("--keep", action="store_true", help="leave the image where it is")
    given = parser.parse_args()
    try:
        check(given.binary, given.keep)
    except Skip as reason:
        print(f"image: SKIPPED, the container image was neither built nor started: {reason}", flush=True)
        sys.exit(os.environ.get("CHANDLER_CI_IMAGE") == "required")
