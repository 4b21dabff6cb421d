#!/usr/bin/env python3
"""The official `huggingface_hub` client against the hub double: that it works is what proves the double.

    hub_double.py target/release/hub-double [CHECK…]
"""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
import urllib.error
import urllib.request
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="hub-double-"))
MEBIBYTE = 1 << 20


class Double:
    """The double's process."""

    def __init__(self, binary):
        command = [binary, "--page-size", "3"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told = json.loads(self.process.stdout.readline())
        self.url, self.cdn_url = told["url"], told["cdn_url"]

    def control(self, what, body=None):
        data = json.dumps(body or {}).encode()
        with urllib.request.urlopen(f"{self.url}/control/{what}", data) as answer:
            return json.load(answer)

    def put(self, **repo):
        self.control("put", repo)

    def script(self, kind, *faults):
        self.control("script", {"kind": kind, "faults": faults})

    def seen(self, side):
        return [seen for seen in self.control("seen") if seen["side"] == side]

    def reset(self):
        for what in ("heal", "forget", "links"):
            self.control(what)


DOUBLE = Double(sys.argv[1])
for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
    del os.environ[name]
os.environ |= {
    "HF_ENDPOINT": DOUBLE.url,
    "HF_HOME": str(HOME),
    "HF_HUB_DISABLE_XET": "1",  # nothing here speaks Xet; the whole bytes are what is compared
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

# The environment above is read when it is imported.
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download  # noqa: E402
from huggingface_hub import errors  # noqa: E402

API = HfApi()
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def raises(kind, function, *given, **named):
    """The error, which must be of this very class."""
    try:
        function(*given, **named)
    except Exception as error:
        assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def fresh():
    return Path(tempfile.mkdtemp(dir=HOME))


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def safetensors():
    header = {"w": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}, "b": {"dtype": "F32", "shape": [5], "data_offsets": [24, 44]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(44))


CONFIG = '{"model_type": "llama"}\n'
WEIGHTS = safetensors()
(HOME / "weights").write_bytes(WEIGHTS)
FILES = [
    {"path": "config.json", "text": CONFIG},
    {"path": "sub dir/notes #1.txt", "text": "hello\n"},
    {"path": "sub dir/deep/empty.txt", "text": ""},
    {"path": "model.safetensors", "lfs": True, "file": str(HOME / "weights")},
    {"path": "large.bin", "lfs": True, "seed": 4, "size": 30 * MEBIBYTE + 17},
]
DOUBLE.put(id="org/m", files=FILES, tags=["v1.0", "refs/pr/1"], later=[[{"path": "new.txt", "text": "new"}]], xet=True)
DOUBLE.put(id="gpt2", files=FILES[:1], resolve_cache=True)
DOUBLE.put(id="org/gated", files=FILES, access="gated", allow=["alice"])
DOUBLE.put(id="org/private", files=FILES, access="private", allow=["alice"])
DOUBLE.put(id="org/closed", files=FILES, access="disabled")
DOUBLE.put(id="org/was-m", renamed_to="org/m")


@check
def model_info_has_the_digest_of_lfs_as_sha256():
    info = API.model_info("org/m", files_metadata=True)
    assert info.id == "org/m" and len(info.sha) == 40 and info.gated is False and info.private is False
    files = {file.rfilename: file for file in info.siblings}
    assert set(files) == {file["path"] for file in FILES} | {"new.txt"}
    assert files["config.json"].blob_id == git_sha1(CONFIG.encode()) and files["config.json"].lfs is None
    assert files["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert files["large.bin"].size == files["large.bin"].lfs.size == 30 * MEBIBYTE + 17
    tagged = API.model_info("org/m", revision="v1.0")
    assert tagged.sha != info.sha and tagged.siblings[0].size is None
    assert API.model_info("org/m", revision="refs/pr/1").sha == tagged.sha
    assert API.model_info("org/m", revision=tagged.sha).sha == tagged.sha
    assert API.model_info("org/gated").gated == "auto"


@check
def the_tree_comes_in_pages():
    entries = list(API.list_repo_tree("org/m", recursive=True))
    files = {entry.path: entry for entry in entries if hasattr(entry, "size") and hasattr(entry, "blob_id")}
    folders = {entry.path for entry in entries} - set(files)
    assert set(files) == {file["path"] for file in FILES} | {"new.txt"}, files
    assert folders == {"sub dir", "sub dir/deep"}, folders
    assert files["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert files["model.safetensors"].xet_hash and not files["config.json"].xet_hash
    pages = [seen for seen in DOUBLE.seen("hub") if "/tree/" in seen["path"]]
    assert len(pages) == 3, pages
    below = [entry.path for entry in API.list_repo_tree("org/m", "sub dir")]
    assert below == ["sub dir/deep", "sub dir/notes #1.txt"], below


@check
def some_paths_refs_and_existence():
    found = API.get_paths_info("org/m", ["config.json", "sub dir/notes #1.txt", "gone"])
    assert [file.path for file in found] == ["config.json", "sub dir/notes #1.txt"], found
    refs = API.list_repo_refs("org/m")
    assert "main" in {branch.name for branch in refs.branches} and "v1.0" in {tag.name for tag in refs.tags}
    assert API.file_exists("org/m", "config.json") and not API.file_exists("org/m", "gone")
    assert API.repo_exists("org/m") and not API.repo_exists("org/none")
    assert API.revision_exists("org/m", "v1.0") and not API.revision_exists("org/m", "v9")


@check
def safetensors_headers_are_read_by_range():
    told = API.get_safetensors_metadata("org/m")
    assert told.parameter_count == {"BF16": 12, "F32": 5}, told.parameter_count
    assert DOUBLE.seen("cdn")[0]["range"].startswith("bytes=0-")


@check
def whoami_knows_good_tokens_and_bad_ones():
    assert API.whoami(token="hf_alice")["name"] == "alice"
    error = raises(errors.HfHubHTTPError, API.whoami, token="hf_wrong")
    assert error.response.status_code == 401


@check
def a_snapshot_is_in_the_caches_layout():
    cache = fresh()
    folder = Path(snapshot_download("org/m", cache_dir=cache, token="hf_alice"))
    sha = API.model_info("org/m").sha
    assert folder == cache / "models--org--m/snapshots" / sha
    assert (cache / "models--org--m/refs/main").read_text() == sha
    assert (folder / "config.json").read_text() == CONFIG
    assert (folder / "sub dir/notes #1.txt").read_text() == "hello\n"
    assert (folder / "sub dir/deep/empty.txt").read_bytes() == b""
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "config.json").resolve().name == git_sha1(CONFIG.encode())
    large = folder / "large.bin"
    assert large.resolve().name == hashlib.sha256(large.read_bytes()).hexdigest()
    assert all(seen["authorization"] == "Bearer hf_alice" for seen in DOUBLE.seen("hub") if "/org/m/" in seen["path"] and seen["method"] == "HEAD")
    assert DOUBLE.seen("cdn") and not any(seen["authorization"] for seen in DOUBLE.seen("cdn"))
    again = DOUBLE.control("forget") or snapshot_download("org/m", revision=sha, cache_dir=cache, local_files_only=True)
    assert Path(again) == folder and not DOUBLE.seen("hub")


@check
def a_pattern_chooses_and_a_revision_is_kept():
    folder = Path(snapshot_download("org/m", revision="v1.0", cache_dir=fresh(), allow_patterns=["*.json", "new.txt"]))
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert folder.name == API.model_info("org/m", revision="v1.0").sha


@check
def metadata_come_from_the_hubs_own_answer():
    told = get_hf_file_metadata(hf_hub_url("org/m", "model.safetensors"))
    assert told.etag == hashlib.sha256(WEIGHTS).hexdigest() and told.size == len(WEIGHTS)
    assert told.location.startswith(DOUBLE.cdn_url) and told.xet_file_data.file_hash
    told = get_hf_file_metadata(hf_hub_url("org/m", "config.json"))
    assert told.etag == git_sha1(CONFIG.encode()) and told.location.startswith(DOUBLE.url) and told.xet_file_data is None


@check
def the_token_for_xet_is_read():
    from huggingface_hub.utils._xet import refresh_xet_connection_info

    file = get_hf_file_metadata(hf_hub_url("org/m", "model.safetensors")).xet_file_data
    told = refresh_xet_connection_info(file_data=file, headers={})
    assert told.access_token == "xet-token" and told.endpoint.startswith(DOUBLE.cdn_url)


@check
def relative_redirects_are_followed():
    assert Path(hf_hub_download("org/was-m", "config.json", cache_dir=fresh())).read_text() == CONFIG
    assert API.model_info("org/was-m").id == "org/m"
    assert Path(hf_hub_download("gpt2", "config.json", cache_dir=fresh())).read_text() == CONFIG
    assert any(seen["path"].startswith("/api/resolve-cache/") for seen in DOUBLE.seen("hub"))


@check
def who_may_not_see_it_is_told_so():
    def download(repo, token=False, file="config.json", revision=None):
        return hf_hub_download(repo, file, revision=revision, token=token, cache_dir=fresh())

    for kind, repo, given in [
        (errors.GatedRepoError, "org/gated", {}),
        (errors.GatedRepoError, "org/gated", {"token": "hf_bob"}),
        (errors.RepositoryNotFoundError, "org/private", {}),
        (errors.RepositoryNotFoundError, "org/private", {"token": "hf_bob"}),
        (errors.RepositoryNotFoundError, "org/none", {}),
        (errors.RepositoryNotFoundError, "org/none", {"token": "hf_alice"}),
        (errors.DisabledRepoError, "org/closed", {}),
        (errors.RevisionNotFoundError, "org/m", {"revision": "no-such"}),
        (errors.RemoteEntryNotFoundError, "org/m", {"file": "gone"}),
        (errors.HfHubHTTPError, "org/m", {"token": "hf_wrong"}),
    ]:
        try:
            error = raises(kind, download, repo, **given)
        except AssertionError as wrong:
            # What the metadata call raised is the cause, where the download wraps it.
            if not isinstance(getattr(wrong.__context__, "__cause__", None), kind):
                raise AssertionError(f"{repo} {given}: {wrong}") from wrong
            error = wrong.__context__.__cause__
        if given.get("token") == "hf_wrong":
            assert error.response.status_code == 401, error
    for repo in ("org/gated", "org/private"):
        assert Path(download(repo, token="hf_alice")).read_text() == CONFIG
    for repo, kind in [("org/none", errors.RepositoryNotFoundError), ("org/closed", errors.DisabledRepoError)]:
        raises(kind, API.model_info, repo)
    raises(errors.RevisionNotFoundError, API.model_info, "org/m", revision="no-such")
    raises(errors.RepositoryNotFoundError, snapshot_download, "org/none", cache_dir=fresh())


@check
def a_rate_limit_is_told_with_its_time():
    DOUBLE.script("api", *[{"too_many": {"retry_after": None, "reset": 0}}])
    error = raises(errors.HfHubHTTPError, API.model_info, "org/m")
    assert error.response.status_code == 429 and "'api' rate limit" in str(error), error
    DOUBLE.script("resolve", {"too_many": {"retry_after": 1, "reset": 1}})
    assert Path(hf_hub_download("org/m", "config.json", cache_dir=fresh())).read_text() == CONFIG
    assert [seen["status"] for seen in DOUBLE.seen("hub") if "/resolve/" in seen["path"]][:2] == [429, 200]


@check
def other_errors_have_the_classes_of_their_status():
    DOUBLE.script("api", {"answer": {"status": 400, "headers": {}, "body": '{"error": "no"}'}})
    raises(errors.BadRequestError, API.model_info, "org/m")
    DOUBLE.script("api", {"status": 500})
    assert raises(errors.HfHubHTTPError, API.model_info, "org/m").response.status_code == 500
    DOUBLE.script("resolve", {"status": 503})
    assert Path(hf_hub_download("org/m", "config.json", cache_dir=fresh())).read_text() == CONFIG


def large(**given):
    path = Path(hf_hub_download("org/m", "large.bin", cache_dir=fresh(), **given)).resolve()
    assert path.stat().st_size == 30 * MEBIBYTE + 17
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    return [(seen["range"], seen["status"], seen["fault"]) for seen in DOUBLE.seen("cdn")]


@check
def a_cut_is_resumed_where_it_was():
    DOUBLE.script("cdn", {"cut": 25 * MEBIBYTE})
    seen = large()
    assert seen == [(None, 200, "cut"), (f"bytes={20 * MEBIBYTE}-", 206, None)], seen


@check
def a_cut_before_the_answer_and_a_short_body_are_resumed():
    DOUBLE.script("cdn", "cut_before", {"short": 5})
    seen = large()
    assert [fault for _, _, fault in seen] == ["cut_before", "short", None], seen


@check
def a_whole_file_in_place_of_a_range_begins_anew():
    DOUBLE.script("cdn", {"cut": 12 * MEBIBYTE}, "whole")
    seen = large()
    assert seen[1] == (f"bytes={10 * MEBIBYTE}-", 200, "whole"), seen


@check
def an_expired_link_is_forbidden():
    DOUBLE.control("links", {"uses": 0})
    error = raises(errors.HfHubHTTPError, hf_hub_download, "org/m", "large.bin", cache_dir=fresh())
    assert error.response.status_code == 403 and "Request has expired" in error.response.text
    assert str(error.response.url).startswith(DOUBLE.cdn_url)


@check
def a_file_of_another_length_is_noticed_and_another_byte_is_not():
    DOUBLE.script("cdn", {"less": 9})
    raises(OSError, hf_hub_download, "org/m", "large.bin", cache_dir=fresh())
    DOUBLE.script("cdn", {"flip": 9})
    path = Path(hf_hub_download("org/m", "large.bin", cache_dir=fresh())).resolve()
    assert hashlib.sha256(path.read_bytes()).hexdigest() != path.name, "the client checks digests now: our own check is no news"


@check
def the_cdn_takes_no_token():
    link = get_hf_file_metadata(hf_hub_url("org/m", "model.safetensors")).location
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == WEIGHTS
    try:
        urllib.request.urlopen(urllib.request.Request(link, headers={"Authorization": "Bearer hf_alice"}))
    except urllib.error.HTTPError as error:
        assert error.code == 400 and b"Only one auth mechanism" in error.read()
    else:
        raise AssertionError("a token was taken")


def main():
    chosen = set(sys.argv[2:])
    failed = 0
    for function in CHECKS:
        if chosen and function.__name__ not in chosen:
            continue
        DOUBLE.reset()
        try:
            function()
            print(f"ok      {function.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {function.__name__}\n{traceback.format_exc()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        code = main()
    finally:
        DOUBLE.process.terminate()
        ended = DOUBLE.process.wait(timeout=20)
        shutil.rmtree(HOME, ignore_errors=True)
    sys.exit(code or ended)
