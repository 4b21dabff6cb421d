#!/usr/bin/env python3
"""The official `runpod` client, through the platform, to our worker on the mock that hears text: jobs of RunPod's own worker
for speech (runpod-workers/worker-faster_whisper, `src/predict.py` at bd500dc), and what its clients find in an output.

    runpod_speech.py target/release/runpod-platform target/release/chandler
"""

import base64
import json
import os
import sys
import time
import traceback

from runpod_processes import Platform, Worker, chandler

PLATFORM = Platform(sys.argv[1], "--hold-ms", 800, "--ping-ms", 500)
os.environ["RUNPOD_ENDPOINT_BASE_URL"] = PLATFORM.base + "/v2"

import runpod  # noqa: E402: it reads the address above when it is imported

runpod.api_key = "client-key"
ENDPOINT = runpod.Endpoint("fake-endpoint")
CHECKS = []

# What the mock takes for audio: a text, a line a segment, a word half a second.
AUDIO = base64.b64encode(b"bonjour le monde\nsalut").decode()
# The input of that worker's own test (`.runpod/tests.json`), besides the audio.
THEIR_TEST = {
    "model": "turbo",
    "transcription": "plain text",
    "translate": False,
    "temperature": 0,
    "best_of": 5,
    "beam_size": 5,
    "suppress_tokens": "-1",
    "condition_on_previous_text": False,
    "temperature_increment_on_fallback": 0.2,
    "compression_ratio_threshold": 2.4,
    "logprob_threshold": -1,
    "no_speech_threshold": 0.6,
}
OUTPUT = {
    "segments": list,
    "detected_language": str,
    "transcription": str,
    "translation": (str, type(None)),
    "device": str,
    "model": str,
}
SEGMENT = {
    "id": int,
    "seek": int,
    "start": float,
    "end": float,
    "text": str,
    "tokens": list,
    "temperature": float,
    "avg_logprob": float,
    "compression_ratio": float,
    "no_speech_prob": float,
}
WORD = {"word": str, "start": float, "end": float}


def check(function):
    CHECKS.append(function)
    return function


def holds(value, shape):
    """The keys and types of an object, and no others."""
    assert list(value) == list(shape), (list(value), list(shape))
    for key, kind in shape.items():
        assert isinstance(value[key], kind), (key, value[key])


def holds_output(output, **more):
    holds(output, OUTPUT | more)
    for number, segment in enumerate(output["segments"], 1):
        holds(segment, SEGMENT)
        assert segment["id"] == number and all(isinstance(token, int) for token in segment["tokens"]), segment
    assert output["device"] in ("cpu", "cuda"), output["device"]


def error(given):
    job = ENDPOINT.run(given)
    view = PLATFORM.ended(job.job_id)["view"]
    assert view["status"] == "FAILED" and "output" not in view, view
    return json.dumps(view["error"])


@check
def their_own_test_has_their_output():
    output = ENDPOINT.run_sync({"audio_base64": AUDIO} | THEIR_TEST, timeout=20)
    holds_output(output)
    assert output["transcription"] == "bonjour le monde salut" and output["translation"] is None, output
    assert [segment["text"] for segment in output["segments"]] == [" bonjour le monde", " salut"], output
    assert output["model"] == "mock-asr", output


@check
def words_and_a_translation():
    given = {"audio_base64": AUDIO, "language": "fr", "word_timestamps": True, "enable_vad": True, "translate": True}
    given |= {"transcription": "srt", "translation": "vtt"}
    job = ENDPOINT.run({"input": given})
    output = job.output(timeout=20)
    holds_output(output, word_timestamps=list)
    for word in output["word_timestamps"]:
        holds(word, WORD)
    assert [word["word"] for word in output["word_timestamps"]] == [" bonjour", " le", " monde", " salut"], output
    assert output["detected_language"] == "fr" and job.status() == "COMPLETED"
    assert output["transcription"].startswith("1\n00:00:00,000 --> 00:00:01,500\nbonjour le monde\n\n2\n"), output
    # Theirs has no header, without which no player takes it.
    assert output["translation"].startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nBONJOUR LE MONDE\n\n"), output


@check
def a_job_that_streams_has_its_segments_and_the_same_output():
    given = {"audio_base64": AUDIO, "language": "fr"}
    job = ENDPOINT.run({"input": given | {"stream": True}})
    segments = [segment for chunk in job.stream() for segment in chunk["segments"]]
    output = job.output(timeout=20)
    holds_output(output)
    assert segments == output["segments"], (segments, output)
    assert output == ENDPOINT.run_sync(given, timeout=20)


@check
def the_forms_of_a_text():
    for form, text in (("plain_text", "bonjour le monde salut"), ("formatted_text", "bonjour le monde\nsalut")):
        output = ENDPOINT.run_sync({"audio_base64": AUDIO, "transcription": form}, timeout=20)
        assert output["transcription"] == text, output


@check
def what_they_refuse_is_refused_in_their_words():
    assert "Must provide either audio or audio_base64" in error({"model": "base"})
    both = error({"audio": "https://example.com/a.wav", "audio_base64": AUDIO})
    assert "Must provide either audio or audio_base64, not both" in both, both
    unknown = error({"audio_base64": AUDIO, "colour": "red"})
    assert "Unexpected input. colour is not a valid input option." in unknown, unknown
    assert "language" in error({"audio_base64": AUDIO, "language": "tlh"})


@check
def a_task_is_our_own_prediction():
    output = ENDPOINT.run_sync({"task": "transcribe", "audio_base64": AUDIO, "target_lang": "fr"}, timeout=20)
    assert output["text"] == "bonjour le monde salut" and output["language"] == "fr", output
    assert output["usage"] == {"type": "duration", "seconds": 2}, output


def main():
    worker = Worker(PLATFORM, "ours", chandler(sys.argv[2], model="mock-asr"))
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
        if AUDIO in "".join(worker.log):
            failed += 1
            print("FAIL  the audio is in the log")
    finally:
        worker.kill()
        PLATFORM.end()
    if failed:
        print("the worker's log ends with:\n" + "".join(worker.log[-40:]))
    print(f"runpod_speech: {len(CHECKS)} checks, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
