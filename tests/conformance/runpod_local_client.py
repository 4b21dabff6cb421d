#!/usr/bin/env python3
"""Runs RunPod's official client against a worker's local API (`chandler serve --local-api on`), and says what it saw.

    pip install -r requirements.txt
    python runpod_local_client.py http://127.0.0.1:8080 [API_KEY]

The worker may serve any language model, the mock too. Ends with 'N passed, N failed', and with a code other than 0 when
something failed.
"""

import asyncio
import os
import sys
import time

from harness import BASE, KEY, check, main, raises

# The client reads this when it is imported.
os.environ["RUNPOD_ENDPOINT_BASE_URL"] = BASE + "/v2"
import aiohttp
import openai
import requests
import runpod

runpod.api_key = KEY or "none"
ENDPOINT = runpod.Endpoint("mine")
PROMPT = "What is the capital of France?"


def text_of(partial):
    """The text of worker-vllm's partial outputs."""
    return "".join(piece for output in partial for piece in output["choices"][0]["tokens"])


@check
def run_status_and_output():
    job = ENDPOINT.run({"input": {"prompt": PROMPT, "sampling_params": {"max_tokens": 8, "temperature": 0, "seed": 1}}})
    assert job.job_id
    output = job.output(timeout=60)
    assert job.status() == "COMPLETED"
    assert output[0]["usage"]["output"] <= 8 and text_of(output), output


@check
def an_input_is_wrapped_when_it_is_bare():
    output = ENDPOINT.run_sync({"text": PROMPT, "parameters": {"max_new_tokens": 4, "temperature": 0}}, timeout=60)
    assert output["text"] and output["usage"]["completion_tokens"] <= 4, output


@check
def a_stream_is_the_whole_in_parts():
    ask = {"prompt": PROMPT, "sampling_params": {"max_tokens": 24, "temperature": 0, "seed": 1}}
    whole = ENDPOINT.run_sync({"input": ask}, timeout=60)
    job = ENDPOINT.run({"input": {**ask, "stream": True}})
    chunks = list(job.stream())
    assert text_of(chunks) == text_of(whole), (chunks, whole)
    assert chunks[-1]["usage"] == whole[0]["usage"], (chunks, whole)
    assert job.output() == chunks


@check
def openai_through_a_job():
    body = {"model": "default", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}
    ask = {"openai_route": "/v1/chat/completions", "openai_input": body}
    [answer] = ENDPOINT.run_sync({"input": ask}, timeout=60)
    assert answer["object"] == "chat.completion", answer
    job = ENDPOINT.run({"input": {**ask, "openai_input": {**body, "stream": True}}})
    assert "".join(job.stream()).endswith("data: [DONE]\n\n")
    [models] = ENDPOINT.run_sync({"input": {"openai_route": "/v1/models"}}, timeout=60)
    assert models["object"] == "list", models


@check
def openais_client_on_the_platforms_path():
    client = openai.OpenAI(base_url=BASE + "/v2/mine/openai/v1", api_key=KEY or "none", max_retries=0)
    answer = client.chat.completions.create(model="default", messages=[{"role": "user", "content": PROMPT}], max_tokens=8)
    assert answer.choices[0].message.content


@check
def cancel():
    job = ENDPOINT.run({"input": {"prompt": PROMPT, "sampling_params": {"max_tokens": 200, "ignore_eos": True}}})
    answer = job.cancel()
    assert answer["id"] == job.job_id and answer["status"] in ("CANCELLED", "COMPLETED"), answer
    assert job.status() == answer["status"]


@check
def health_and_purge():
    health = ENDPOINT.health()
    assert set(health["jobs"]) == {"completed", "failed", "inProgress", "inQueue", "retried"}, health
    assert {"idle", "initializing", "ready", "running", "throttled"} <= set(health["workers"]), health
    assert health["workers"]["ready"] == 1
    assert ENDPOINT.purge_queue() == {"removed": 0, "status": "completed"}


@check
def a_job_that_cannot_be_done_has_failed():
    job = ENDPOINT.run({"input": {"prompt": "a", "num_inference_steps": 4}})
    limit = time.monotonic() + 30
    while job.status() not in ("COMPLETED", "FAILED") and time.monotonic() < limit:
        time.sleep(0.05)
    assert job.status() == "FAILED"
    state = job._fetch_job()
    assert "text-to-image" in state["error"] and "output" not in state, state


@check
def errors():
    gone = runpod.endpoint.Job("mine", "nobody", ENDPOINT.rp_client)
    error = raises(requests.HTTPError, gone.status)
    assert error.response.status_code == 404 and "nobody" in error.response.json()["error"]
    error = raises(requests.HTTPError, lambda: ENDPOINT.run({"input": {"a": 1}, "policy": {"ttl": 1}}))
    assert error.response.status_code == 400 and "policy.ttl" in error.response.json()["error"]
    if KEY:
        raises(RuntimeError, runpod.Endpoint("mine", api_key="wrong").health)


@check
def the_asynchronous_client():
    async def talk():
        async with aiohttp.ClientSession() as session:
            endpoint = runpod.AsyncioEndpoint("mine", session)
            assert (await endpoint.health())["workers"]["ready"] == 1
            job = await endpoint.run({"text": PROMPT, "max_tokens": 8, "temperature": 0, "stream": True})
            chunks = [chunk async for chunk in job.stream()]
            output = await job.output(timeout=60)
            assert "".join(chunk["text"] for chunk in chunks) == output["text"], (chunks, output)
            assert await job.status() == "COMPLETED"

    asyncio.run(talk())


main(f"runpod {runpod.__version__} on Python {sys.version.split()[0]}")
