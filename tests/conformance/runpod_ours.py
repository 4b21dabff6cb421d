#!/usr/bin/env python3
"""The official `runpod` and `openai` clients, through the platform, to our worker on the mock.

    runpod_ours.py target/release/runpod-platform target/release/chandler
"""

import json
import os
import sys
import time
import traceback

from runpod_processes import Platform, Worker, chandler, until

PLATFORM = Platform(sys.argv[1], "--hold-ms", 800, "--ping-ms", 500)
os.environ["RUNPOD_ENDPOINT_BASE_URL"] = PLATFORM.base + "/v2"

import openai  # noqa: E402
import runpod  # noqa: E402: it reads the address above when it is imported

runpod.api_key = "client-key"
ENDPOINT = runpod.Endpoint("fake-endpoint")
OPENAI = openai.OpenAI(base_url=PLATFORM.url + "/openai/v1", api_key="client-key", max_retries=0)
MESSAGES = [{"role": "user", "content": "wax"}]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@check
def run_and_run_sync():
    assert json.dumps(ENDPOINT.run_sync({"prompt": "wax", "max_tokens": 3}, timeout=20)).count("wax") >= 3
    job = ENDPOINT.run({"prompt": "wax", "max_tokens": 3})
    assert "wax wax wax" in json.dumps(job.output(timeout=20)) and job.status() == "COMPLETED"


@check
def a_bad_input_fails_and_names_the_field():
    job = ENDPOINT.run({"prompt": 5})
    assert PLATFORM.ended(job.job_id)["view"]["status"] == "FAILED"
    assert "prompt" in json.dumps(PLATFORM.job(job.job_id)["view"]["error"])


@check
def chunks_are_streamed():
    chat = {"messages": MESSAGES, "max_tokens": 4, "stream": True}
    job = ENDPOINT.run({"openai_route": "/v1/chat/completions", "openai_input": chat})
    chunks = list(job.stream())
    assert chunks and "".join(chunks).endswith("data: [DONE]\n\n"), chunks
    assert job.status() == "COMPLETED"


@check
def a_running_job_is_cancelled_at_once():
    """Also one that has only just been taken, where the SDK forgets the stop; pings name it until then."""
    job = ENDPOINT.run({"prompt": "a", "max_tokens": 1_000_000_000})
    PLATFORM.taken(job.job_id)
    assert job.cancel()["status"] == "CANCELLED"
    PLATFORM.until(job.job_id, lambda seen: seen["stop_told"])
    worker = lambda: PLATFORM.control("workers")["ours"]
    pings = worker()["pings"]
    until(lambda: worker()["pings"] >= pings + 2, 20, "two more pings")
    assert job.job_id not in worker()["last_ping"] and PLATFORM.job(job.job_id)["results"] == []


@check
def health_and_queue():
    assert ENDPOINT.health()["workers"]["ready"] == 1
    assert ENDPOINT.purge_queue() == {"removed": 0, "status": "completed"}


@check
def the_openai_client():
    whole = OPENAI.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=3)
    assert whole.choices[0].message.content.split() == ["wax"] * 3 and whole.usage.completion_tokens == 3
    options = {"include_usage": True}
    pieces = list(OPENAI.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=3, stream=True, stream_options=options))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text.split() == ["wax"] * 3 and pieces[-1].usage.completion_tokens == 3
    assert OPENAI.completions.create(model="mock", prompt="wax", max_tokens=2).choices[0].text.split() == ["wax"] * 2
    assert len(OPENAI.models.list().data) == 1


@check
def an_error_is_one_for_the_openai_client():
    for stream in (False, True):
        try:
            OPENAI.chat.completions.create(model="mock", messages=[], stream=stream)
        except openai.APIStatusError as error:
            # A job's error is a text on the queue's wire; how production shows it to this client is not known.
            assert "messages is empty" in str(error.body), error.body
        else:
            raise AssertionError("an empty conversation was answered")


@check
def an_openai_stream_that_nobody_reads_is_cancelled():
    stream = OPENAI.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=1_000_000_000, stream=True)
    next(iter(stream))
    stream.close()
    until(lambda: PLATFORM.control("workers")["ours"]["running"] == 0, 20, "the job's end")


def main():
    worker = Worker(PLATFORM, "ours", chandler(sys.argv[2]))
    failed = 0
    try:
        PLATFORM.until_polled("ours")
        for run in CHECKS:
            begun = time.monotonic()
            try:
                run()
                print(f"ok    {run.__name__} ({time.monotonic() - begun:.2f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL  {run.__name__}")
                traceback.print_exc(file=sys.stdout)
        code = worker.terminate()
        violations = PLATFORM.control("account")["violations"]
        if code != 0 or violations:
            failed += 1
            print(f"FAIL  it ended with code {code} and broke {violations}")
    finally:
        worker.kill()
        PLATFORM.end()
    if failed:
        print("the worker's log ends with:\n" + "".join(worker.log[-40:]))
    print(f"runpod_ours: {len(CHECKS)} checks, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
