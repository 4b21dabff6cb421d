#!/usr/bin/env python3
"""One cache, two programs: the official huggingface_hub and chandler.

    CHANDLER_PYTHON=.../bin/python cargo test --no-default-features --test main cache_python -- --ignored --nocapture

starts this script as `hub_cache.py CHANDLER OURS THEIRS`: CHANDLER is the binary, OURS a cache that chandler's own code has
written (tests/weights/cache_python.rs says what is in it), THEIRS an empty place. First huggingface_hub reads OURS with no network;
then it fills THEIRS from a small hub that this script serves, and chandler lists, verifies, bakes and removes what it wrote.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

CHANDLER, OURS, THEIRS = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
SYMLINKS = "HF_HUB_DISABLE_SYMLINKS" not in os.environ
COMMIT, OTHER = "c" * 40, "d" * 40
WEIGHTS = bytes(range(256)) * 2000
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": WEIGHTS,
    "sub/dir/tokenizer.json": b"{}" * 50,
}
LFS = {"model.safetensors"}


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Just what snapshot_download asks for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, **headers):
        self.send_response(200)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if "/resolve/" in path:
            name = path.split("/resolve/", 1)[1].split("/", 1)[1]
            data = FILES[name]
            etag = sha256(data) if name in LFS else git_sha1(data)
            return self.answer(data, ETag=f'"{etag}"', X_Repo_Commit=COMMIT, X_Linked_Size=len(data))
        if "/tree/" in path:
            body = json.dumps([self.entry(name, data) for name, data in FILES.items()])
        elif "/revision/" in path:
            body = json.dumps({"id": "org/theirs", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]})
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.answer(body.encode(), Content_Type="application/json")

    do_HEAD = do_GET

    def entry(self, name, data):
        entry = {"type": "file", "path": name, "oid": git_sha1(data), "size": len(data)}
        if name in LFS:
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
        return entry


HUB = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=HUB.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{HUB.server_address[1]}"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import huggingface_hub  # noqa: E402
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download  # noqa: E402


def chandler(root, *arguments, code=0):
    done = subprocess.run([CHANDLER, "cache", *arguments, "--hub-cache", root], capture_output=True, text=True)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def listed(root, model):
    (found,) = [entry for entry in json.loads(chandler(root, "ls", "--json")) if entry["model"] == model]
    return found


def offline(**options):
    return snapshot_download(local_files_only=True, **options)


def python_reads_ours():
    weights = b"weights " * 1000
    for revision in ["main", "refs/pr/1", "1" * 40]:
        where = Path(offline(repo_id="org/ours", cache_dir=OURS, revision=revision))
        assert where.name == "1" * 40, where
        assert (where / "model.safetensors").read_bytes() == weights
        path = hf_hub_download("org/ours", "a/b/notes ü.txt", cache_dir=OURS, revision=revision, local_files_only=True)
        assert Path(path).read_text() == "deep" and Path(path).is_symlink() == SYMLINKS
    assert hf_hub_download("org/ours", "config.json", cache_dir=OURS, revision="partial", local_files_only=True)
    if hasattr(huggingface_hub.errors, "IncompleteSnapshotError"):  # 2.x
        try:
            offline(repo_id="org/ours", cache_dir=OURS, revision="partial")
            raise AssertionError("a part was taken for the whole")
        except huggingface_hub.errors.IncompleteSnapshotError as error:
            assert "model.safetensors" in str(error), error
    scan = scan_cache_dir(OURS)
    assert not scan.warnings, scan.warnings
    (repo,) = scan.repos
    assert repo.repo_id == "org/ours" and len(repo.revisions) == 2, repo
    refs = {ref for revision in repo.revisions for ref in revision.refs}
    assert refs == {"main", "refs/pr/1", "partial"}, refs
    states = {revision["commit"][0]: revision["state"] for revision in listed(OURS, "org/ours")["revisions"]}
    assert states == {"1": "complete", "2": "complete"}, states  # of 2 only a part was wanted


def chandler_reads_theirs():
    where = Path(snapshot_download("org/theirs", cache_dir=THEIRS))
    assert where.name == COMMIT
    found = listed(THEIRS, "org/theirs")
    (revision,) = found["revisions"]
    assert revision["refs"] == ["main"] and revision["files"] == 3, revision
    assert revision["bytes"] == sum(map(len, FILES.values())), revision
    trees = (THEIRS / "models--org--theirs/trees").is_dir()
    assert revision["state"] == ("complete" if trees else "unlisted"), revision
    verified = json.loads(chandler(THEIRS, "verify", "--json"))
    checked = 3 if SYMLINKS or trees else 0
    assert verified["files"] == checked and not verified["broken"], verified
    layer = THEIRS.parent / "layer"
    baked = json.loads(chandler(THEIRS, "bake", "org/theirs", str(layer), "--json"))
    for name, data in FILES.items():
        assert baked["files"][name]["sha256"] == sha256(data), name
        assert (layer / name).read_bytes() == data and not (layer / name).is_symlink()


def chandler_finds_what_is_wrong_with_theirs():
    path = THEIRS / "models--org--theirs/snapshots" / COMMIT / "model.safetensors"
    data = bytearray(WEIGHTS)
    data[1000] ^= 1
    path.write_bytes(data)
    verified = json.loads(chandler(THEIRS, "verify", "org/theirs", "--json", code=1))
    (broken,) = verified["broken"]
    assert "digest" in broken["reason"] and broken["files"] == [f"{COMMIT}/model.safetensors"], broken
    assert json.loads(chandler(THEIRS, "verify", "--repair", "--json"))["broken"][0]["removed"]
    assert listed(THEIRS, "org/theirs")["revisions"][0]["state"] == "partial"
    assert not scan_cache_dir(THEIRS).warnings
    where = Path(snapshot_download("org/theirs", cache_dir=THEIRS))  # Python fetches what is missing
    assert (where / "model.safetensors").read_bytes() == WEIGHTS
    assert not json.loads(chandler(THEIRS, "verify", "--json"))["broken"]


def both_wait_for_one_lock():
    """Python holds a blob's lock: chandler, which would remove the blob, leaves it."""
    from huggingface_hub.utils import WeakFileLock

    blobs = THEIRS / "models--org--theirs/blobs"
    orphan = blobs / "orphan"
    orphan.write_bytes(b"x")
    os.utime(orphan, (0, 0))
    lock = THEIRS / ".locks/models--org--theirs/orphan.lock"
    with WeakFileLock(lock):
        chandler(THEIRS, "prune", "--yes")
        assert orphan.exists()
    chandler(THEIRS, "prune", "--yes")
    assert not orphan.exists()


def the_shared_store_is_respected():
    from huggingface_hub.utils import _shared_blobs

    folder = THEIRS / "models--org--theirs"
    xet = "ab" * 32
    arguments = dict(xet_hash=xet, cache_dir=THEIRS, expected_size=len(WEIGHTS))
    blob = folder / "blobs" / sha256(WEIGHTS)
    assert _shared_blobs.publish_blob_to_shared_store(blob_path=str(blob), **arguments)
    other = THEIRS / "models--org--second/blobs" / sha256(WEIGHTS)
    (THEIRS / "models--org--second/snapshots").mkdir(parents=True)
    other.parent.mkdir()
    assert _shared_blobs.try_link_from_shared_store(blob_path=str(other), **arguments)
    assert blob.is_symlink() and other.is_symlink()
    verified = json.loads(chandler(THEIRS, "verify", "--json"))
    assert not verified["broken"] and verified["files"] == 4, verified
    copy = _shared_blobs.shared_blob_path(THEIRS, xet)
    chandler(THEIRS, "rm", "org/theirs", "--yes")
    assert copy.is_file() and not folder.exists()
    os.utime(other, (0, 0), follow_symlinks=False)
    chandler(THEIRS, "prune", "--yes")
    assert not copy.exists() and not other.is_symlink()
    assert not _shared_blobs.unreferenced_shared_blobs(THEIRS)


def what_chandler_removed_python_does_not_miss():
    snapshot_download("org/theirs", cache_dir=THEIRS)
    chandler(THEIRS, "rm", "org/theirs@main", "--yes")
    scan = scan_cache_dir(THEIRS)
    assert not [str(warning) for warning in scan.warnings if "theirs" in str(warning)], scan.warnings
    assert not [revision for repo in scan.repos for revision in repo.revisions]
    chandler(THEIRS, "rm", "org/theirs@main", "--yes", code=1)


CHECKS = [python_reads_ours, chandler_reads_theirs, chandler_finds_what_is_wrong_with_theirs]
if SYMLINKS:
    CHECKS += [both_wait_for_one_lock]
    try:
        from huggingface_hub.utils import _shared_blobs  # noqa: F401  (2.x)

        CHECKS += [the_shared_store_is_respected]
    except ImportError:
        pass
CHECKS += [what_chandler_removed_python_does_not_miss]
for check in CHECKS:
    check()
    print("ok", check.__name__.replace("_", " "))
print(f"{len(CHECKS)} checks with huggingface_hub {huggingface_hub.__version__}, symbolic links {SYMLINKS}")
