"""Answers that are followed while something else happens to the worker, and whether they are what the model says when nothing does.
Apart from worker.py, which times answers that must come."""

import http.client
import json
import re
import threading
from collections.abc import Iterable


from on_gpu.worker import Failed, Worker

TOKEN = re.compile(r"w(\d+)\.|(.)", re.DOTALL)
# How much less likely than the likeliest, in nats, a token may be found when its answer is read in one piece: on a GPU a pass of one
# token and one of many round bf16 differently.
NEAR = {"cuda": 0.25, "cpu": 0.001}


class Writing(threading.Thread):
    """An answer that is being written: its text so far, and how it ended."""

    def __init__(self, worker: Worker, ids: list[int], tokens: int):
        super().__init__(daemon=True)
        self.worker, self.ids, self.tokens = worker, ids, tokens
        self.text, self.written = "", 0
        self.begun = threading.Event()
        self.error: dict | None = None  # what the worker said
        self.broken: Exception | None = None  # what the connection came to
        self.start()

    def run(self) -> None:
        body = {"prompt": self.ids, "max_tokens": self.tokens, "temperature": 0, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}}
        try:
            answer = self.worker.ask("/v1/completions", json.dumps(body).encode())
            if answer.status != 200:
                self.error = json.load(answer)["error"] | {"status": answer.status}
                return
            whole = False
            for line in answer:
                whole = self._event(line.decode().strip()) or whole
            # A connection that is cut off looks like its end.
            if not whole and not self.error:
                raise Failed("the connection ended in the middle of the answer")
        except (Failed, OSError, http.client.HTTPException, ValueError) as error:
            self.broken = error
        finally:
            self.begun.set()

    def _event(self, line: str) -> bool:
        """Takes a line in; whether it was the last one."""
        if not line.startswith("data:") or line == "data: [DONE]":
            return line == "data: [DONE]"
        event = json.loads(line[5:])
        self.error = event.get("error", self.error)
        if event.get("usage"):
            self.written = event["usage"]["completion_tokens"]
        for choice in event.get("choices", ()):
            self.text += choice["text"]
            self.begun.set()
        return False

    def begins(self) -> None:
        """Waits for its first piece of text."""
        if not self.begun.wait(120) or self.error or self.broken:
            raise Failed(f"an answer did not begin: {self.error or self.broken}")

    def ends(self) -> None:
        """Waits for its end, well or not."""
        self.join(120)
        if self.is_alive():
            raise Failed("an answer neither goes on nor ends")

    def finishes(self) -> None:
        """Waits for all that it was asked for."""
        self.ends()
        if self.error or self.broken or self.written != self.tokens:
            raise Failed(f"an answer ended after {self.written} of {self.tokens} tokens: {self.error or self.broken}")


def ids_of(text: str) -> list[int]:
    """The tokens of a text that a model of models.py without special tokens has written."""
    letters = {chr(code): number for number, code in enumerate([*range(33, 127), *range(33), 127])}
    return [int(word) if word else letters[letter] for word, letter in TOKEN.findall(text)]


def as_alone(device: str, worker: Worker, writings: Iterable[Writing]) -> None:
    """Each token of these answers has to be the one that follows, in an answer of no other, on what stands before it."""
    for writing in writings:
        asked, written = writing.ids, ids_of(writing.text)
        if len(written) != writing.tokens:
            raise Failed(f"an answer of {writing.tokens} tokens has the text of {len(written)}")
        body = {"prompt": asked + written, "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
        told = json.load(worker.post("/v1/completions", json.dumps(body).encode(), "application/json"))["choices"][0]["logprobs"]
        chosen, best = (told[name][len(asked) :] for name in ("token_logprobs", "top_logprobs"))
        less = [max(top.values()) - one for one, top in zip(chosen, best, strict=True)]
        off = next((at for at, less in enumerate(less) if less > NEAR[device]), None)
        if off is not None:
            raise Failed(f"token {off} of an answer is not what the model says alone: it is {less[off]:.3f} nats less likely than another")
