#!/usr/bin/env python3
"""Runs OpenAI's official client against a worker that hears, and says what it saw.

    pip install -r requirements.txt
    python openai_audio.py http://127.0.0.1:8080 [API_KEY]

The worker serves `mock-asr`, to which audio is text: a line of it is a segment, a word half a second. Ends with 'N passed,
N failed', and with a code other than 0 when something failed.
"""

import asyncio
import io
import json
import subprocess
import tempfile
from pathlib import Path

import openai

from harness import BASE, KEY, check, main, raises

# No retries: an error must be seen the first time.
CLIENT = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY or "none", max_retries=0, timeout=120)
AUDIO = b"so it begins\nand ends"
TEXT = "so it begins and ends"


def hear(file=("speech.wav", AUDIO), **more):
    return CLIENT.audio.transcriptions.create(**{"model": "default", "file": file, **more})


def translate(file=("speech.wav", AUDIO), **more):
    return CLIENT.audio.translations.create(**{"model": "default", "file": file, **more})


@check
def json_is_the_default():
    answer = hear()
    assert answer.text == TEXT and answer.usage.type == "duration" and answer.usage.seconds == 3, answer
    assert hear(response_format="json").text == TEXT


@check
def a_file_may_be_bytes_a_path_or_open():
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(AUDIO)
        file.flush()
        for given in (AUDIO, Path(file.name), open(file.name, "rb"), io.BytesIO(AUDIO)):
            assert hear(given).text == TEXT


@check
def texts_come_as_they_are():
    assert hear(response_format="text") == TEXT + "\n"
    srt = hear(response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:01,500\nso it begins\n\n2\n"), srt
    vtt = hear(response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nso it begins\n\n"), vtt


@check
def verbose_json_has_everything():
    answer = hear(response_format="verbose_json")
    assert (answer.text, answer.language, answer.duration) == (TEXT, "english", 2.5)
    assert answer.words is None and [segment.id for segment in answer.segments] == [0, 1]
    first = answer.segments[0]
    assert (first.start, first.end, first.text, first.tokens) == (0, 1.5, " so it begins", [0, 1, 2])
    assert (first.seek, first.temperature, first.avg_logprob) == (0, 0, -0.25)
    assert (first.compression_ratio, first.no_speech_prob) == (1, 0.125)
    assert answer.usage.type == "duration" and answer.usage.seconds == 3


@check
def timestamp_granularities():
    words = hear(response_format="verbose_json", timestamp_granularities=["word"])
    assert [word.word for word in words.words] == TEXT.split() and words.segments is None
    assert (words.words[1].start, words.words[1].end) == (0.5, 1)
    both = hear(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert len(both.words) == 5 and len(both.segments) == 2
    error = raises(openai.BadRequestError, lambda: hear(timestamp_granularities=["word"]))
    assert error.param == "timestamp_granularities"


@check
def every_parameter_is_taken():
    vad = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200, "prefix_padding_ms": 300}
    for strategy in ("auto", vad):
        answer = hear(
            chunking_strategy=strategy, language="en", prompt="p", temperature=0.2, keywords=["tallow", "wick"], languages=["en"]
        )
        assert answer.text == TEXT
    assert hear(extra_body={"beam_size": 5, "vad_filter": True, "suppress_tokens": "-1"}).text == TEXT


@check
def a_stream_has_deltas_and_the_whole():
    events = list(hear(stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert [event.delta for event in events[:-1]] == ["so it begins", " and ends"]
    assert events[-1].text == TEXT


@check
def a_verbose_stream_has_segments():
    events = list(hear(stream=True, response_format="verbose_json"))
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert [(s.id, s.start, s.end, s.text) for s in segments] == [("0", 0, 1.5, " so it begins"), ("1", 1.5, 2.5, " and ends")]
    assert events[-1].type == "transcript.text.done"


@check
def a_stream_tells_how_far_it_is_where_that_is_asked():
    events = list(hear(stream=True, extra_body={"progress": True}))
    told = [event for event in events if event.type == "transcript.progress"]
    assert (told[0].seconds, told[-1].seconds, told[-1].duration) == (0, 2.5, 2.5), told
    rest = [event for event in events if event.type != "transcript.progress"]
    assert "".join(event.delta for event in rest if event.type == "transcript.text.delta") == TEXT
    assert rest[-1].type == "transcript.text.done" and rest[-1].text == TEXT
    error = raises(openai.BadRequestError, lambda: hear(extra_body={"progress": True}))
    assert error.param == "progress"


@check
def a_stream_may_be_left():
    with hear(("long.wav", b"a line\n" * 10_000), stream=True) as stream:
        assert next(iter(stream)).delta == "a line"
    assert hear().text == TEXT


@check
def the_async_client_does_the_same():
    async def run():
        async with openai.AsyncOpenAI(base_url=BASE + "/v1", api_key=KEY or "none", max_retries=0) as client:
            whole = await client.audio.transcriptions.create(model="default", file=("a.wav", AUDIO))
            stream = await client.audio.transcriptions.create(model="default", file=("a.wav", AUDIO), stream=True)
            return whole.text, [event.type async for event in stream][-1]

    assert asyncio.run(run()) == (TEXT, "transcript.text.done")


@check
def translations():
    assert translate().text == TEXT.upper()
    assert translate(response_format="text") == TEXT.upper() + "\n"
    verbose = translate(response_format="verbose_json", prompt="p", temperature=0)
    assert (verbose.language, verbose.duration, len(verbose.segments)) == ("english", 2.5, 2)


@check
def errors_are_the_clients_own():
    for call, param in (
        (lambda: hear(response_format="diarized_json"), "response_format"),
        (lambda: hear(language="xx"), "language"),
        (lambda: hear(("a.wav", b"\xff\xfe")), "file"),
        (lambda: hear(("a.wav", b"")), "file"),
        (lambda: hear(include=["logprobs"]), "include"),
        (lambda: hear(known_speaker_names=["a"], known_speaker_references=["data:,x"]), "known_speaker_names"),
        (lambda: hear(temperature=3), "temperature"),
        (lambda: hear(stream=True, response_format="srt"), "response_format"),
    ):
        error = raises(openai.BadRequestError, call)
        assert error.param == param and error.type == "invalid_request_error" and error.request_id, error
        assert error.response.headers["x-should-retry"] == "false"
    error = raises(openai.NotFoundError, lambda: hear(model="no-such-model"))
    assert error.code == "model_not_found"


@check
def a_model_that_hears_writes_no_text():
    ask = [{"role": "user", "content": "a"}]
    error = raises(openai.BadRequestError, lambda: CLIENT.chat.completions.create(model="default", messages=ask))
    assert error.code == "unsupported" and "automatic-speech-recognition" in error.message


@check
def a_large_upload_comes_through():
    # Larger than any limit of JSON bodies; curl asks before it sends so much.
    large = (b" ".join([b"word"] * 200) + b"\n") * 8000
    assert len(hear(("large.wav", large)).text) == len(large) - 1
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(large)
        file.flush()
        key = ["-H", f"Authorization: Bearer {KEY}"] if KEY else []
        form = ["-F", f"file=@{file.name}", "-F", "model=default", "-F", "response_format=text"]
        done = subprocess.run(["curl", "-sS", *key, *form, BASE + "/v1/audio/transcriptions"], capture_output=True, text=True)
        assert done.returncode == 0 and len(done.stdout) == len(large), done.stderr


@check
def curl_sends_the_file_first():
    key = ["-H", f"Authorization: Bearer {KEY}"] if KEY else []
    form = ["-F", "file=@-;filename=a.wav", "-F", "model=default", "-F", "timestamp_granularities[]=word", "-F", "response_format=verbose_json"]
    done = subprocess.run(["curl", "-sS", *key, *form, BASE + "/v1/audio/transcriptions"], input=AUDIO, capture_output=True)
    answer = json.loads(done.stdout)
    assert [word["word"] for word in answer["words"]] == TEXT.split(), answer


main("openai_audio")
