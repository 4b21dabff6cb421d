#!/usr/bin/env python3
"""A worker made with the official `runpod` package, as the peer of ours: `runpod_sdk_worker.py MODE`; no check of its own.

Modes: `plain`, `concurrent` (four at once), `many` (RUNPOD_TEST_CONCURRENCY at once), `generator`, `aggregate`, `refresh`.
What a job wants is in its input; `prompt` and `openai_route` are answered in the shapes that our worker answers them in.
"""

import asyncio
import json
import os
import sys
import time

import runpod

MODE = sys.argv[1]


async def handler(job):
    given = job["input"]
    match given.get("do"):
        case "echo":
            return given["value"]
        case "raise":
            raise ValueError(given["value"])
        case "sleep":
            await asyncio.sleep(given["seconds"])
            return {"slept": given["seconds"]}
        case "progress":
            for step in range(given["steps"]):
                runpod.serverless.progress_update(job, {"step": step})
                await asyncio.sleep(0.15)
            return "progressed"
        case "job":
            return {key: value for key, value in job.items() if key != "id"}
    return await answer(given)


async def answer(given):
    """What our mock does: it says words back."""
    if not isinstance(given.get("prompt"), str):
        return {"error": "prompt must be a string"}
    await asyncio.sleep(given.get("seconds", 0))
    words = given["prompt"].split()[:1] * int(given.get("max_tokens", 16))
    return {"text": " ".join(words), "finish_reason": "length", "usage": {}}


def generator(job):
    given = job["input"]
    if given.get("do") == "raise":
        yield "one"
        raise ValueError(given["value"])
    if given.get("do") == "error":
        yield "one"
        yield {"error": {"message": "no"}}
    elif "chunks" in given:
        for chunk in given["chunks"]:
            time.sleep(given.get("seconds", 0))
            yield chunk
    else:
        yield from openai(given)


def openai(given):
    """worker-vllm's ways: raw events when streaming, one object when not."""
    body = given.get("openai_input") or {}
    if given["openai_route"] == "/v1/models":
        yield {"object": "list", "data": [{"id": "mock", "object": "model"}]}
    elif body.get("stream"):
        for word in ("Hello", " world"):
            yield "data: " + json.dumps(chunk({"role": "assistant", "content": word}, None)) + "\n\n"
        yield "data: " + json.dumps(chunk({}, "stop")) + "\n\ndata: [DONE]\n\n"
    else:
        message = {"role": "assistant", "content": "Hello world"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        yield {"id": "c", "object": "chat.completion", "created": 0, "model": "mock", "choices": [choice]}


def chunk(delta, finish):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "mock", "choices": [choice]}


def config():
    match MODE:
        case "plain":
            return {"handler": handler}
        case "concurrent":
            return {"handler": handler, "concurrency_modifier": lambda _: 4}
        case "many":
            most = int(os.environ["RUNPOD_TEST_CONCURRENCY"])
            return {"handler": noop, "concurrency_modifier": lambda _: most}
        case "generator":
            return {"handler": generator}
        case "aggregate":
            return {"handler": generator, "return_aggregate_stream": True}
        case "refresh":
            return {"handler": handler, "refresh_worker": True}
    sys.exit(f"there is no mode {MODE}")


async def noop(job):
    return {"text": "a"}


if __name__ == "__main__":
    sys.argv = sys.argv[:1]  # the package reads the rest of the command line
    runpod.serverless.start(config())
