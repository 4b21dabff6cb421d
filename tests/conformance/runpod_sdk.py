#!/usr/bin/env python3
"""The official `runpod` worker and client against the fake platform: that they work is what proves the platform.

    runpod_sdk.py target/release/runpod-platform [CHECK…]
"""

import asyncio
import contextlib
import json
import os
import sys
import time
import traceback

from runpod_processes import Platform, Worker, sdk, until

PLATFORM = Platform(sys.argv[1], "--hold-ms", 800, "--ping-ms", 1000, "--result-limit", 200_000)
os.environ["RUNPOD_ENDPOINT_BASE_URL"] = PLATFORM.base + "/v2"

import runpod  # noqa: E402: it reads the address above when it is imported

runpod.api_key = "client-key"
ENDPOINT = runpod.Endpoint("fake-endpoint")
GROUPS = {}


def check(mode):
    def add(function):
        GROUPS.setdefault(mode, []).append(function)
        return function

    return add


def state(job):
    return PLATFORM.client("GET", f"/status/{job}")[1]


def run(**given):
    job = ENDPOINT.run(given)
    PLATFORM.ended(job.job_id)
    return job


@check("plain")
def run_status_and_output(_):
    job = ENDPOINT.run({"do": "echo", "value": {"a": [1, "zwei", None]}})
    assert job.output(timeout=20) == {"a": [1, "zwei", None]}
    assert job.status() == "COMPLETED"
    seen = state(job.job_id)
    assert seen["workerId"] == "sdk-plain" and seen["executionTime"] >= 0 and seen["delayTime"] >= 0


@check("plain")
def run_sync_gives_the_output(_):
    assert ENDPOINT.run_sync({"do": "echo", "value": "now"}, timeout=30) == "now"


@check("plain")
def the_job_object_reaches_the_handler(_):
    given = {"input": {"do": "job"}, "webhook": "http://x/", "s3Config": {"bucketName": "b"}, "policy": {"ttl": 600000}}
    job = ENDPOINT.run(given)
    assert job.output(timeout=20) == {key: given[key] for key in ("input", "webhook", "s3Config")}


@check("plain")
def outputs_of_every_shape(_):
    results = {}
    for name, value in {"null": None, "empty": {}, "list": [1], "error": {"error": "no", "more": 1}, "refresh": {"refresh_worker": True, "a": 1}}.items():
        seen = PLATFORM.job(run(do="echo", value=value).job_id)
        results[name] = [json.loads(posted["body"]) for posted in seen["results"]]
    assert results == {
        "null": [{"output": None}],
        "empty": [{}],
        "list": [{"output": [1]}],
        "error": [{"output": {"more": 1}, "error": "no"}],
        "refresh": [{"output": {"a": 1}, "stopPod": True}],
    }, results


@check("plain")
def an_exception_fails_the_job(_):
    job = run(do="raise", value="not today")
    assert job.status() == "FAILED"
    error = json.loads(state(job.job_id)["error"])
    assert error["error_type"] == "<class 'ValueError'>" and error["error_message"] == "not today"
    assert error["worker_id"] == "sdk-plain" and error["hostname"] == "sdk-plain-host"
    assert ENDPOINT.run_sync({"do": "raise", "value": "x"}, timeout=30) is None


@check("plain")
def progress_is_seen_while_it_runs(_):
    job = ENDPOINT.run({"do": "progress", "steps": 4})
    seen = set()
    while job.status() in ("IN_QUEUE", "IN_PROGRESS"):
        view = state(job.job_id)
        if view["status"] == "IN_PROGRESS" and "output" in view:
            seen.add(view["output"]["step"])
    assert job.output() == "progressed" and len(seen) >= 2, seen
    assert PLATFORM.job(job.job_id)["progress_posts"] == 4


@check("plain")
def a_running_job_is_cancelled_and_nothing_is_posted(_):
    job = ENDPOINT.run({"do": "sleep", "seconds": 30})
    PLATFORM.taken(job.job_id)
    time.sleep(0.5)  # the SDK forgets a stop that comes before the job has left its own queue
    assert job.cancel()["status"] == "CANCELLED" and job.status() == "CANCELLED"
    seen = PLATFORM.until(job.job_id, lambda seen: seen["stop_told"])
    assert run(do="echo", value=1).output() == 1  # the worker is free again
    assert PLATFORM.job(job.job_id)["results"] == [] == seen["results"]


@check("plain")
def waiting_jobs_are_cancelled_and_purged(_):
    blocker = ENDPOINT.run({"do": "sleep", "seconds": 2})
    PLATFORM.taken(blocker.job_id)
    waiting = [ENDPOINT.run({"do": "echo", "value": i}) for i in range(3)]
    assert waiting[0].cancel()["status"] == "CANCELLED"
    health = ENDPOINT.health()
    assert health["jobs"]["inQueue"] == 2 and health["jobs"]["inProgress"] == 1, health
    assert health["workers"]["running"] == 1
    assert ENDPOINT.purge_queue() == {"removed": 2, "status": "completed"}
    assert waiting[1].status() == "CANCELLED"
    PLATFORM.ended(blocker.job_id)


@check("plain")
def a_failed_job_is_retried(_):
    job = run(do="raise", value="again")
    assert PLATFORM.client("POST", f"/retry/{job.job_id}")[1] == {"id": job.job_id, "status": "IN_QUEUE"}
    assert PLATFORM.ended(job.job_id)["view"]["status"] == "FAILED"
    assert ENDPOINT.health()["jobs"]["retried"] == 1


@check("plain")
def a_job_over_its_time_is_stopped(_):
    job = ENDPOINT.run({"input": {"do": "sleep", "seconds": 30}, "policy": {"executionTimeout": 300}})
    assert PLATFORM.ended(job.job_id)["view"]["status"] == "TIMED_OUT"
    PLATFORM.until(job.job_id, lambda seen: seen["stop_told"])


@check("plain")
def results_are_tried_again_after_5xx(_):
    PLATFORM.control("script", {"kind": "done", "faults": [{"status": 500}, {"status": 503}]})
    assert run(do="echo", value="third").output() == "third"


@check("plain")
def a_result_over_the_limit_is_lost(_):
    """The SDK gives up on a 4xx; the job ends by its time only."""
    before = PLATFORM.control("account")["too_large"]
    job = ENDPOINT.run({"input": {"do": "echo", "value": "x" * 300_000}, "policy": {"executionTimeout": 3000}})
    assert PLATFORM.ended(job.job_id)["view"]["status"] == "TIMED_OUT"
    assert PLATFORM.control("account")["too_large"] == before + 1


@check("plain")
def malformed_jobs_do_not_end_the_worker(_):
    """Not the seventh: an id that is a number is a job for the SDK, and its answer ends the worker's loop."""
    faults = [{"malformed": which} for which in range(11) if which != 7]
    before = PLATFORM.control("account")["malformed"]
    PLATFORM.control("script", {"kind": "take", "faults": faults})
    until(lambda: PLATFORM.control("account")["malformed"] == before + len(faults), 20, "the last malformed job")
    assert ENDPOINT.run({"do": "echo", "value": "alive"}).output(timeout=60) == "alive"


@check("plain")
def pings_name_the_worker_and_its_jobs(_):
    job = ENDPOINT.run({"do": "sleep", "seconds": 2.5})
    worker = lambda: PLATFORM.control("workers")["sdk-plain"]
    seen = until(lambda: (lambda w: job.job_id in w["last_ping"] and w)(worker()), 20, "a ping with the job")
    assert "runpod_version=1.12.0" in seen["last_ping"] and seen["pings"] >= 2
    PLATFORM.ended(job.job_id)


@check("plain")
def the_asynchronous_client(_):
    from runpod.http_client import AsyncClientSession

    async def go():
        async with AsyncClientSession() as session:
            endpoint = runpod.AsyncioEndpoint("fake-endpoint", session)
            job = await endpoint.run({"do": "echo", "value": "async"})
            assert await job.output(timeout=20) == "async"
            assert (await endpoint.health())["workers"]["ready"] >= 1

    asyncio.run(go())


@check("plain")
def a_wrong_key_is_refused(_):
    try:
        runpod.Endpoint("fake-endpoint", api_key="wrong").health()
    except RuntimeError as error:
        assert "401" in str(error)
    else:
        raise AssertionError("a wrong key was accepted")


@check("plain")
def sigterm_lets_the_job_end(worker):
    job = ENDPOINT.run({"do": "sleep", "seconds": 1})
    PLATFORM.taken(job.job_id)
    assert worker.terminate() == 0
    assert job.status() == "COMPLETED"


@check("generator")
def chunks_are_streamed_as_they_come(_):
    job = ENDPOINT.run({"chunks": ["a", {"b": 1}, 3], "seconds": 0.7})
    assert list(job.stream()) == ["a", {"b": 1}, 3]
    assert job.output() == []
    assert PLATFORM.job(job.job_id)["results"][0]["is_stream"] is True


@check("generator")
def a_generator_that_fails_keeps_its_chunks(_):
    job = run(do="raise", value="halfway")
    assert job.status() == "FAILED" and state(job.job_id)["error"].startswith("handler: halfway")
    assert PLATFORM.job(job.job_id)["chunks"] == ["one"]
    job = run(do="error")
    assert state(job.job_id)["error"] == "{'message': 'no'}"


@check("aggregate")
def chunks_are_the_output_too(_):
    assert run(chunks=["a", "b"]).output() == ["a", "b"]


@check("aggregate")
def the_openai_client_over_the_queue(_):
    import openai

    client = openai.OpenAI(base_url=PLATFORM.url + "/openai/v1", api_key="client-key", max_retries=0)
    messages = [{"role": "user", "content": "Hello"}]
    whole = client.chat.completions.create(model="mock", messages=messages)
    assert whole.choices[0].message.content == "Hello world"
    pieces = client.chat.completions.create(model="mock", messages=messages, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Hello world"
    assert [model.id for model in client.models.list()] == ["mock"]


@check("concurrent")
def four_jobs_run_at_once_and_come_in_batches(_):
    PLATFORM.submit({"do": "sleep", "seconds": 0.1})  # the SDK grows from 1 to 4 before its first job
    time.sleep(0.5)
    begun = time.monotonic()
    jobs = PLATFORM.submit({"do": "sleep", "seconds": 1}, count=8)
    for job in jobs:
        assert PLATFORM.ended(job)["view"]["status"] == "COMPLETED"
    assert time.monotonic() - begun < 5, "eight seconds of sleep, four at once"


@check("refresh")
def a_worker_that_refreshes_ends_after_one_job(worker):
    job = run(do="echo", value=1)
    assert json.loads(PLATFORM.job(job.job_id)["results"][0]["body"]) == {"output": 1, "stopPod": True}
    assert worker.process.wait(timeout=20) == 0


def group(mode, checks):
    name = f"sdk-{mode}"
    worker = Worker(PLATFORM, name, sdk(mode))
    failed = 0
    with contextlib.ExitStack() as stack:
        stack.callback(worker.kill)
        PLATFORM.until_polled(name)
        for one in checks:
            begun = time.monotonic()
            try:
                one(worker)
                print(f"ok    {mode}: {one.__name__} ({time.monotonic() - begun:.2f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL  {mode}: {one.__name__}")
                traceback.print_exc(file=sys.stdout)
    if failed:
        print("the worker's log ends with:\n" + "".join(worker.log[-40:]))
    return failed


def main():
    wanted = sys.argv[2:]
    for mode, checks in list(GROUPS.items()) if wanted else []:
        GROUPS[mode] = [one for one in checks if one.__name__ in wanted]
        if not GROUPS[mode]:
            del GROUPS[mode]
    try:
        failed = sum(group(mode, checks) for mode, checks in GROUPS.items())
        violations = PLATFORM.control("account")["violations"]
        if violations:
            failed += 1
            print(f"FAIL  the SDK broke rules of the platform's: {violations}")
    finally:
        PLATFORM.end()
    count = sum(map(len, GROUPS.values()))
    print(f"runpod_sdk: {count} checks, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
