"""A chandler that serves one model, and what is asked of it: requests over HTTP whose events are timed as they come. What is measured
is the program that is deployed, with its queue and its protocol, and none of its parts alone."""

import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from typing import Self


class Failed(Exception):
    """A step cannot go on; the text says why."""


def serve(binary: pathlib.Path, model: pathlib.Path, device: str, dtype: str, more: tuple[str, ...] = ()) -> list[str]:
    """The command that serves a model on a free port of this machine."""
    return [str(binary), "serve", "--host", "127.0.0.1", "--port", "0", "--model", str(model), "--device", device, "--dtype", dtype,
            "--log-format", "json", "--safety-checker", "off", "--prefix-cache", "off", "--load-wait", "10m", *more]


class Worker:
    """`chandler serve` on a free port of this machine, with variables besides those of this process."""

    def __init__(self, binary: pathlib.Path, model: pathlib.Path, device: str, dtype: str, more: tuple[str, ...] = (), **variables: str):
        self.log: list[str] = []
        self.started = time.perf_counter()
        self.child = subprocess.Popen(serve(binary, model, device, dtype, more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                      env={**os.environ, **variables})
        self.told = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.port = int(self.line("listening")["url"].rsplit(":", 1)[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.terminate()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def _read(self) -> None:
        for line in self.child.stderr:
            sys.stderr.write(line)  # the report keeps the end of it
            with self.told:
                self.log.append(line)
                self.told.notify_all()
        with self.told:
            self.log.append("")
            self.told.notify_all()

    def line(self, message: str, earlier: int = 0) -> dict:
        """The log's line with this message, once it is there; after so many with the same."""
        seen = 0
        with self.told:
            while True:
                for text in self.log[seen:]:
                    if not text:
                        raise Failed(f"the worker ended before it said {message!r}:\n{''.join(self.log[-15:])}")
                    try:
                        told = json.loads(text)
                    except ValueError:
                        continue  # a panic's text, or a library's
                    if told.get("message") == message:
                        if not earlier:
                            return told
                        earlier -= 1
                seen = len(self.log)
                self.told.wait()

    def loaded(self) -> dict:
        """What the worker says of its loading: bytes, and seconds of each stage."""
        told = self.line("model loaded")
        stages = dict(part.rsplit(" ", 2)[:2] for part in told["stages"].split(", "))
        seconds = {name: int(milliseconds) / 1000 for name, milliseconds in stages.items()}
        return {"seconds": told["elapsed_ms"] / 1000, "bytes": told["weights_bytes"], "stages": seconds}

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> http.client.HTTPResponse:
        """An answer of whatever status; with a body it is posted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": kind})
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{path}: {error!r}; the worker's last words:\n{''.join(self.log[-5:])}") from error

    def post(self, path: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        answer = self.ask(path, body, kind)
        if answer.status != 200:
            raise Failed(f"{path}: {answer.status} {answer.read().decode(errors='replace')[:1000]}")
        return answer

    def stream(self, path: str, body: dict) -> Iterator[tuple[float, dict]]:
        """Events, each with when it came."""
        for line in self.post(path, json.dumps(body | {"stream": True}).encode(), "application/json"):
            now = time.perf_counter()
            text = line.decode().strip()
            if text.startswith("data:") and text != "data: [DONE]":
                event = json.loads(text[5:])
                if "error" in event:
                    raise Failed(f"{path}: {event}")
                yield now, event

    def transcribe(self, audio: pathlib.Path, fields: dict) -> dict:
        """A transcript, with all that the model says of it."""
        mark = uuid.uuid4().hex
        parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
        parts.append(f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{audio.name}"\r\n\r\n'.encode() + audio.read_bytes())
        body = b"".join(parts) + f"\r\n--{mark}--\r\n".encode()
        return json.load(self.post("/v1/audio/transcriptions", body, f"multipart/form-data; boundary={mark}"))


def prompt(tokens: int, salt: int, vocabulary: int) -> list[int]:
    """Ids that no cache has, none of them special."""
    return [300 + (index * 7919 + salt * 104_729) % (vocabulary - 300) for index in range(tokens)]


def write(worker: Worker, ids: list[int], tokens: int) -> list[float]:
    """Asks for so many tokens: when each piece of text came. A piece is a token, unless they come faster than they can be sent."""
    body = {"prompt": ids, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}
    times, written = [], 0
    for now, event in worker.stream("/v1/completions", body):
        if event.get("usage"):
            written = event["usage"]["completion_tokens"]
        elif event["choices"]:
            times.append(now)
    if written != tokens or not times:
        raise Failed(f"{written} tokens were written in {len(times)} pieces, {tokens} were asked for")
    return times


def rate(times: list[float], tokens: int) -> float:
    """Tokens a second after the first piece."""
    if len(times) < 2:
        raise Failed("all tokens came at once: more are needed")
    return tokens * (1 - 1 / len(times)) / (times[-1] - times[0])


def together(worker: Worker, prompts: list[list[int]], tokens: int) -> float:
    """Tokens a second of requests beside each other, while all of them are writing."""
    rows: list[list[float]] = []
    failures: list[Exception] = []

    def one(ids: list[int]) -> None:
        try:
            rows.append(write(worker, ids, tokens))
        except Exception as error:  # noqa: BLE001 (raised again where the thread was begun)
            failures.append(error)

    threads = [threading.Thread(target=one, args=(ids,)) for ids in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    # From the last one's first token to the first one's last: before and after, fewer are writing.
    begin, end = max(times[0] for times in rows), min(times[-1] for times in rows)
    if end <= begin:
        raise Failed("the requests never wrote beside each other: more tokens are needed")
    return sum(tokens / len(times) for times in rows for time in times if begin < time <= end) / (end - begin)


def draw(worker: Worker, body: dict) -> dict:
    """A picture: seconds of a step in their median, from the last step to the encoded picture, and of all."""
    began = time.perf_counter()
    steps, ended = [], None
    for now, event in worker.stream("/v1/images/generations", body | {"progress": True, "partial_images": 0, "output_format": "jpeg"}):
        if event["type"].endswith(".progress"):
            steps.append(now)
        elif event["type"].endswith(".completed"):
            ended = now
    if ended is None or len(steps) < 3:
        raise Failed(f"{len(steps)} steps were told, and {'no ' if ended is None else ''}picture came")
    between = [later - earlier for earlier, later in pairwise(steps)]
    return {"step_seconds": statistics.median(between), "decode_seconds": ended - steps[-1], "seconds": ended - began}


def first_token(binary: pathlib.Path, model: pathlib.Path, device: str, dtype: str, ids: list[int], more: tuple[str, ...] = ()) -> float:
    """Seconds from the start of a process to the first token of its answer; the request waits for the model."""
    with Worker(binary, model, device, dtype, more) as worker:
        return write(worker, ids, 2)[0] - worker.started

