#!/usr/bin/env python3
"""Plain HTTP as Vertex AI and the seeds' front ends speak it, against a worker; the standard library is enough.

    python http_client.py http://127.0.0.1:8080 [API_KEY]

Ends with 'N passed, N failed', and with a code other than 0 when something failed.
"""

import json
import sys
import traceback
import urllib.error
import urllib.request

BASE = sys.argv[1].rstrip("/")
KEY = sys.argv[2] if len(sys.argv) > 2 else None
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def call(path, body=None):
    """Status, headers, and the body as JSON where it is."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **({"x-api-key": KEY} if KEY else {})}
    request = urllib.request.Request(BASE + path, data=data, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=120)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode()
        kind = answer.headers.get("content-type", "")
        return answer.status, answer.headers, json.loads(text) if kind.startswith("application/json") else text


def good(path, body=None):
    status, _, value = call(path, body)
    assert status == 200, (status, value)
    return value


@check
def health_routes():
    assert good("/isalive")["status"] == "healthy"
    assert good("/livez")["status"] == "alive"
    health = good("/health")
    assert health["model_loaded"] is True and health["workers"]["ready"] == 1
    assert set(health["jobs"]) == {"completed", "failed", "inProgress", "inQueue", "retried"}


@check
def predictions_with_numbers_as_doubles():
    body = {
        "instances": [
            {"prompt": "The capital of France is"},
            {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 4.0},
            "One two three",
        ],
        "parameters": {"maxOutputTokens": 6.0, "temperature": 0.0, "topK": 40.0, "seed": 7.0},
    }
    first, second, third = good("/predict", body)["predictions"]
    assert first["text"] and 1 <= first["usage"]["completion_tokens"] <= 6
    assert second["message"]["role"] == "assistant" and second["usage"]["completion_tokens"] <= 4
    assert third["finish_reason"] in ("stop", "length")
    again = good("/predict", body)["predictions"]
    assert [p["usage"]["completion_tokens"] for p in again] == [p["usage"]["completion_tokens"] for p in (first, second, third)]
    assert again[0]["text"] == first["text"]


@check
def a_bad_instance_is_named():
    for instance, param in [
        ({"prompt": 5}, "instances[1].prompt"),
        ({"prompt": "a", "max_tokens": 1.5}, "instances[1].max_tokens"),
        ({"prompt": "a", "task": "text-to-image"}, "instances[1].task"),
    ]:
        status, headers, value = call("/predict", {"instances": ["a", instance]})
        assert status == 400 and value["error"]["param"] == param, value
        assert headers["x-request-id"] and headers["x-should-retry"] == "false"
    assert call("/predict", {"instances": []})[0] == 400


@check
def raw_openai_bodies_on_the_predict_route():
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    assert good("/predict", body)["object"] == "chat.completion"
    status, headers, text = call("/predict", {**body, "stream": True})
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    assert text.endswith("data: [DONE]\n\n")


@check
def generate_in_three_dialects():
    ours = good("/generate", {"prompt": "The capital", "max_tokens": 6, "temperature": 1.0})
    again = good("/generate", {"prompt": "The capital", "max_tokens": 6, "temperature": 1.0, "seed": ours["seed"]})
    assert again["text"] == ours["text"]
    context = good("/generate", {"max_tokens": 5, "context": [1.0, 2.0], "temperature": 0.5})
    assert context["tokens"][:2] == [1, 2] and 3 <= len(context["tokens"]) <= 7 and context["generation_time"] >= 0
    characters = good("/generate", {"num_chars": 30, "seed": 3})
    assert characters["success"] is True and characters["parameters"] == {"seed": 3, "temperature": 1.0, "num_chars": 30}
    assert call("/generate", {"seed": 3})[2] == {"error": "num_chars is required"}
    assert call("/generate", {"max_tokens": 501})[0] == 422


@check
def generate_gives_as_many_characters_as_asked():
    if good("/health")["architecture"] == "Mock":
        return
    assert len(good("/generate", {"num_chars": 30, "seed": 3})["generated_text"]) == 30


@check
def vocabulary():
    vocabulary = good("/vocab")
    assert len(vocabulary["characters"]) == vocabulary["vocab_size"] and vocabulary["block_size"] > 0


@check
def bad_bodies():
    for path in ("/predict", "/v1/chat/completions", "/v1/completions"):
        for body in (b"", b"{", b'{"prompt": "\xff"}', b"[" * 100000, b"7"):
            status, _, value = call(path, body)
            assert status == 400 and value["error"]["message"], (path, body[:20], value)
    assert call("/v1/chat/completions", b"a" * (64 << 20))[0] == 413


@check
def documents():
    assert good("/openapi.json")["openapi"].startswith("3.")
    assert "<html" in good("/docs")
    status, headers, text = call("/metrics")
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "chandler_time_to_first_token_seconds_bucket" in text and "http_requests_total" in text


def main():
    failed = 0
    for run in CHECKS:
        try:
            run()
            print(f"ok    {run.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL  {run.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"plain HTTP: {len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
