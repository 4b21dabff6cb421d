#!/usr/bin/env python3
"""The same jobs for the official worker and for ours, and every message that they send to the platform compared.

    runpod_wire.py target/release/runpod-platform [target/release/chandler] [--write]

Messages become facts (a name and a value). What the SDK sends must be what `runpod_wire_sdk.json` says (`--write` writes
it anew); what ours sends may differ only where `runpod_differences.json` says so, with the reason. An entry that is no
longer true fails too.
"""

import fnmatch
import json
import re
import sys
import time
import urllib.parse

from runpod_processes import HERE, Platform, Worker, chandler, sdk, until

SNAPSHOT = HERE / "runpod_wire_sdk.json"
DIFFERENCES = HERE / "runpod_differences.json"
KINDS = {"job-take": "take", "job-take-batch": "batch take", "job-stop": "stop", "ping": "ping", "job-done": "result", "job-stream": "chunk"}
IGNORED_HEADERS = {"host", "content-length"}
QUESTION = {"model": "mock", "messages": [{"role": "user", "content": "Hello world"}], "max_tokens": 4}


# -- messages become facts ---------------------------------------------------------------------------------------------


def kind(entry):
    return KINDS.get(entry["path"].split("/")[3])


def shape(value, depth=2):
    """What a value looks like: the words in it are the model's business."""
    if isinstance(value, dict):
        return {k: shape(v, depth - 1) for k, v in sorted(value.items())} if depth else "object"
    if isinstance(value, list):
        return [shape(value[0], depth - 1)] if value and depth else "array"
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            return "events" if value.startswith("data: ") else "text"
        return {"JSON text with": sorted(inner)} if isinstance(inner, dict) else "text"
    return {bool: "flag", type(None): "null"}.get(type(value), "number")


def body(entry):
    try:
        said = json.loads(entry["body"])
    except ValueError:
        return entry["body"]
    if not isinstance(said, dict):
        return shape(said)
    facts = {key: shape(value) for key, value in sorted(said.items())}
    if "output" in said:  # outputs are what the models differ in
        output = said["output"]
        facts["output"] = ["one " + (type(output[0]).__name__)] if isinstance(output, list) and len(output) == 1 else type(output).__name__
        if isinstance(output, str):
            facts["output"] = shape(output)
    return facts


def header(name, value, job):
    if name == "authorization":
        return "the key as it is" if value == "worker-key" else "something else"
    if name == "user-agent":
        return re.split(r"[/ ]", value)[0]
    if name == "x-request-id":
        return "the job's id" if value == job else "another job's id"
    return value


def query(entry):
    """Parameters in their order, since templates end in some of them."""
    normal = {"batch_size": "a number", "job_in_progress": "0 or 1", "job_id": "ids", "runpod_version": "a version"}
    pairs = [pair.split("=", 1) for pair in entry["query"].split("&")]
    return {name: normal.get(name, urllib.parse.unquote(value) if name != "gpu" else value) for name, value in pairs}


def post_facts(name, entries, job):
    """What was posted about one job, in order; chunks that look alike count once."""
    messages = []
    for entry in entries:
        if kind(entry) not in ("result", "chunk") or job not in entry["path"]:
            continue
        message = {"kind": kind(entry), "method": entry["method"], "query": query(entry), "body": body(entry)}
        message["headers"] = {k: header(k, v, job) for k, v in entry["headers"].items() if k not in IGNORED_HEADERS}
        message["answered"] = entry["status"]
        alike = messages and message["kind"] == "chunk" and message == messages[-1]
        messages += [] if alike else [message]
    facts = {f"{name}: posts": [message["kind"] for message in messages]}
    for number, message in enumerate(messages, 1):
        where = f"{name}: post {number}"
        facts[f"{where}: method"] = message["method"]
        facts[f"{where}: answered"] = message["answered"]
        facts[f"{where}: body"] = message["body"]
        for part in ("query", "headers"):
            facts |= {f"{where}: {part}: {k}": v for k, v in message[part].items()}
    return facts


def poll_facts(entries):
    """What polls and pings look like, over the whole run: a part that not every one has is there `sometimes`."""
    facts = {}
    for wanted in ("take", "batch take", "stop", "ping"):
        polls = [entry for entry in entries if kind(entry) == wanted]
        seen = {}
        for entry in polls:
            parts = {f"query: {k}": v for k, v in query(entry).items()}
            parts |= {f"headers: {k}": header(k, v, None) for k, v in entry["headers"].items() if k not in IGNORED_HEADERS}
            for part, value in parts.items():
                seen.setdefault(part, []).append(value)
        for part, values in seen.items():
            often = "" if len(values) == len(polls) else "sometimes "
            facts[f"{wanted}: {part}"] = often + " or ".join(sorted(set(values)))
        facts[f"{wanted}: method"] = sorted({entry["method"] for entry in polls})
    return facts


# -- the jobs that both are given --------------------------------------------------------------------------------------


class Side:
    """One of the two: how its workers are started, and what its inputs look like where they cannot be the same."""

    def __init__(self, name, platform_binary, command):
        self.name, self.command = name, command
        self.platform = Platform(platform_binary, "--keep-wire", "--hold-ms", 700, "--ping-ms", 1000)
        self.facts = {}

    def worker(self, mode):
        name = f"{self.name}-{mode}"
        worker = Worker(self.platform, name, self.command(mode), RUNPOD_PING_INTERVAL="1000")
        try:
            self.platform.until_polled(name)
        except AssertionError:
            worker.kill()
            sys.exit(f"{name} does not poll; its log:\n{''.join(worker.log[-40:])}")
        return worker

    def wire(self):
        return self.platform.control("wire")

    def run(self, name, given, faults=(), **more):
        """One job from its submission to its end; what was posted about it is kept as facts."""
        if faults:
            self.platform.control("script", {"kind": "done", "faults": list(faults)})
        reply = self.platform.client("POST", "/run", {"input": given} | more)[1]
        ended = self.platform.ended(reply["id"], 40)
        time.sleep(0.2)  # for whatever a worker still has to say
        self.facts |= post_facts(name, self.wire(), reply["id"])
        self.facts[f"{name}: ended as"] = ended["view"]["status"]

    def stopped(self):
        """A long job that its client cancels."""
        given = {"prompt": "a", "seconds": 60, "max_tokens": 3}
        if self.name == "ours":
            given = {"prompt": "a", "max_tokens": 1_000_000_000}
        job = self.platform.submit(given)
        self.platform.taken(job)
        pinged = lambda: job in self.platform.control("workers")[f"{self.name}-plain"]["last_ping"]
        until(pinged, 20, "a ping with the job's id")
        self.platform.client("POST", f"/cancel/{job}")
        self.platform.until(job, lambda seen: seen["stop_told"])
        time.sleep(0.5)
        self.facts |= post_facts("stopped job", self.wire(), job)

    def trouble(self):
        """How often a worker asks while every take is answered with 500."""
        takes = lambda: self.platform.control("account")["takes"] + self.platform.control("account")["faults"].get("status", 0)
        self.platform.control("faults", {"status": 1.0})
        time.sleep(0.3)
        before = takes()
        time.sleep(1)
        count = takes() - before
        self.platform.control("faults", {})
        self.facts["a second of 500s: asked"] = "over 50 times" if count > 50 else "at most 50 times"

    def ends(self, worker):
        given = {"prompt": "a b", "max_tokens": 3} | ({"seconds": 1} if self.name == "sdk" else {})
        job = self.platform.submit(given)
        self.platform.taken(job)
        self.facts["SIGTERM: exit code"] = worker.terminate(100)
        self.facts["SIGTERM: the job ended as"] = self.platform.job(job)["view"]["status"]

    def go(self):
        worker = self.worker("plain")
        try:
            self.plain()
            self.trouble()
            self.ends(worker)
        finally:
            worker.kill()
        for mode, act in (("aggregate", self.openai), ("concurrent", self.several)):
            worker = self.worker(mode)
            try:
                act()
            finally:
                worker.kill()
        self.facts |= poll_facts(self.wire())
        self.facts["violations"] = self.platform.control("account")["violations"]
        self.platform.end()
        return self.facts

    def plain(self):
        given = {"prompt": "hello", "max_tokens": 3}
        self.run("task input", given)
        self.run("bad input", {"prompt": 5})
        self.run("result answered with 500", given, [{"status": 500}])
        soon = {"executionTimeout": 5000}
        self.run("result cut off", given, ["cut_before"], policy=soon)
        self.run("result refused", given, [{"status": 400}], policy=soon)
        self.stopped()

    def openai(self):
        def ask(name, route, given=None):
            self.run(name, {"openai_route": route} | ({"openai_input": given} if given else {}))

        ask("models", "/v1/models")
        ask("chat", "/v1/chat/completions", QUESTION)
        ask("chat, streamed", "/v1/chat/completions", QUESTION | {"stream": True})

    def several(self):
        time.sleep(1)  # the SDK grows to four before its next poll
        for job in self.platform.submit({"prompt": "a", "max_tokens": 2}, count=6):
            self.platform.ended(job)


def ours_for(binary, mode):
    """The SDK runs one job at a time unless told otherwise; ours as many as the model has rows."""
    return chandler(binary, *({"plain": ["--max-rows", "1", "--runpod-prefetch", "0"]}.get(mode, [])))


# -- what may differ ---------------------------------------------------------------------------------------------------


def differences(expected, found):
    missing = "(not there)"
    for name in sorted(expected.keys() | found.keys()):
        was, now = expected.get(name, missing), found.get(name, missing)
        if was != now:
            yield name, was, now


def compare(reference, ours):
    allowed = json.loads(DIFFERENCES.read_text())
    used, failed = set(), 0
    for name, was, now in differences(reference, ours):
        matching = [i for i, entry in enumerate(allowed) if fnmatch.fnmatchcase(name, entry["fact"]) and entry["ours"] == now]
        used.update(matching)
        if matching:
            print(f"meant {name}: {json.dumps(was)} -> {json.dumps(now)}")
        else:
            failed += 1
            print(f"FAIL  {name}: the SDK has {json.dumps(was)}, ours {json.dumps(now)}")
    for i, entry in enumerate(allowed):
        if i not in used:
            failed += 1
            print(f"FAIL  no longer a difference: {entry['fact']}")
    return failed


def check_sdk(facts, write):
    if write:
        SNAPSHOT.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        print(f"wrote {SNAPSHOT.name}")
    failed = 0
    for name, was, now in differences(json.loads(SNAPSHOT.read_text()), facts):
        failed += 1
        print(f"FAIL  the SDK: {name}: {json.dumps(was)} is written down, {json.dumps(now)} was seen")
    return failed


def main():
    arguments = [word for word in sys.argv[1:] if word != "--write"]
    reference = json.loads(json.dumps(Side("sdk", arguments[0], sdk).go()))
    failed = check_sdk(reference, "--write" in sys.argv)
    print(f"runpod_wire: {len(reference)} facts of the SDK, {failed} failed")
    if len(arguments) > 1:
        ours = json.loads(json.dumps(Side("ours", arguments[0], lambda mode: ours_for(arguments[1], mode)).go()))
        wrong = compare(reference, ours)
        print(f"runpod_wire: {len(ours)} facts of ours, {wrong} failed")
        failed += wrong
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
