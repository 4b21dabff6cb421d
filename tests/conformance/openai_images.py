#!/usr/bin/env python3
"""Runs OpenAI's official client against a worker that draws, and says what it saw.

    pip install -r requirements.txt
    python openai_images.py http://127.0.0.1:8080 [API_KEY]

The worker serves `mock-image`, which draws gradients of sides that are multiples of 8 up to 256, and writes the lengths of the files
that it begins with into the first pixels. Ends with 'N passed, N failed', and with a code other than 0 when something failed.
"""

import asyncio
import base64
import io
import struct
import tempfile
import zlib
from pathlib import Path

import openai

from harness import BASE, KEY, check, main, raises

# No retries: an error must be seen the first time.
CLIENT = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY or "none", max_retries=0, timeout=120)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(alpha):
    """8×8 with an alpha channel, written by hand: the first row is as transparent as that."""
    rows = b"".join(b"\0" + bytes([200, 100, 50, alpha if row == 0 else 255]) * 8 for row in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PICTURE, MASK = png(255), png(0)


def chunks(file):
    """A PNG file's chunks, each of which its checksum is right for."""
    assert file.startswith(b"\x89PNG\r\n\x1a\n"), file[:16]
    at, found = 8, []
    while at < len(file):
        (length,) = struct.unpack_from(">I", file, at)
        name, data = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", file, at + 8 + length)[0] == zlib.crc32(name + data), name
        found.append((name, data))
        at += 12 + length
    return found


def size(file):
    return struct.unpack_from(">II", dict(chunks(file))[b"IHDR"])


def file_of(picture):
    return base64.b64decode(picture.b64_json, validate=True)


def draw(prompt="a red circle", **more):
    return CLIENT.images.generate(**{"model": "default", "prompt": prompt, **more})


@check
def a_picture_is_a_file():
    answer = draw(size="32x16", extra_body={"seed": 7})
    assert len(answer.data) == 1 and answer.data[0].url is None, answer
    assert size(file_of(answer.data[0])) == (32, 16)
    assert (answer.output_format, answer.size, answer.background) == ("png", "32x16", "opaque")
    assert answer.usage.input_tokens == answer.usage.total_tokens == 3 and answer.usage.output_tokens == 0
    assert answer.usage.input_tokens_details.text_tokens == 3
    assert answer.created > 1_700_000_000
    assert answer.data[0].seed == 7
    assert draw(size="32x16", extra_body={"seed": 7}).data[0].b64_json == answer.data[0].b64_json


@check
def several_pictures_are_of_the_seeds_that_follow():
    answer = draw(n=3, response_format="b64_json", extra_body={"seed": 1})
    assert [picture.seed for picture in answer.data] == [1, 2, 3]
    assert len({picture.b64_json for picture in answer.data}) == 3


@check
def the_file_says_what_it_was_drawn_from():
    extra = {"negative_prompt": "blue", "num_inference_steps": 3, "guidance_scale": 2.5, "scheduler": "DDIMScheduler", "seed": 9}
    texts = [data for name, data in chunks(file_of(draw(extra_body=extra).data[0])) if name == b"tEXt"]
    (keyword, text), = [data.split(b"\0", 1) for data in texts]
    assert keyword == b"parameters" and text.decode("latin-1").startswith(
        "a red circle\nNegative prompt: blue\nSteps: 3, Sampler: DDIMScheduler, CFG scale: 2.5, Seed: 9, Size: 64x64"
    ), text


@check
def formats():
    assert file_of(draw(output_format="jpeg", output_compression=80).data[0]).startswith(b"\xff\xd8\xff")
    assert file_of(draw(output_format="webp").data[0])[8:12] == b"WEBP"
    large, small = (len(file_of(draw(output_format="jpeg", output_compression=q, size="256x256").data[0])) for q in (100, 10))
    assert small < large


@check
def a_stream_has_partial_images_and_then_the_whole_one():
    events = list(draw(stream=True, partial_images=3, size="64x32", extra_body={"steps": 8}))
    kinds = [event.type for event in events]
    assert kinds[-1] == "image_generation.completed" and kinds.count(kinds[-1]) == 1, kinds
    assert set(kinds[:-1]) <= {"image_generation.partial_image"}, kinds
    for index, event in enumerate(events[:-1]):
        assert type(event) is openai.types.ImageGenPartialImageEvent and event.partial_image_index == index
        assert size(file_of(event)) == (8, 4)
    whole = events[-1]
    assert type(whole) is openai.types.ImageGenCompletedEvent
    assert size(file_of(whole)) == (64, 32) and whole.usage.total_tokens == 3
    assert (whole.output_format, whole.quality, whole.background, whole.size) == ("png", "auto", "opaque", "64x32")
    assert whole.created_at > 1_700_000_000


@check
def an_edit_takes_files_of_every_kind():
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(PICTURE)
        file.flush()
        named = ("picture.png", PICTURE, "image/png")
        for given in (PICTURE, named, Path(file.name), open(file.name, "rb"), io.BytesIO(PICTURE), [named]):
            answer = CLIENT.images.edit(model="default", image=given, prompt="a hat", size="64x64", extra_body={"strength": 0.5})
            assert size(file_of(answer.data[0])) == (64, 64)


@check
def an_edit_with_a_mask_is_a_stream_too():
    answer = CLIENT.images.edit(image=PICTURE, mask=MASK, prompt="a hat", n=2)
    assert len(answer.data) == 2
    events = list(CLIENT.images.edit(image=PICTURE, mask=MASK, prompt="a hat", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert type(events[-1]) is openai.types.ImageEditCompletedEvent
    error = raises(openai.BadRequestError, lambda: CLIENT.images.edit(image=PICTURE, mask=PICTURE, prompt="a"))
    assert error.param == "mask" and "alpha" in error.message, error


@check
def a_variation_needs_no_prompt():
    assert len(CLIENT.images.create_variation(image=PICTURE, n=2, size="64x64").data) == 2


@check
def errors_name_the_field():
    for more, param in (
        ({"size": "100x64"}, "size"),
        ({"size": "1024x1024"}, "size"),
        ({"n": 11}, "n"),
        ({"quality": "hd"}, "quality"),
        ({"style": "vivid"}, "style"),
        ({"background": "transparent"}, "background"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "webp", "output_compression": 50}, "output_compression"),
        ({"extra_body": {"num_inference_steps": 51}}, "num_inference_steps"),
        ({"prompt": ""}, "prompt"),
    ):
        error = raises(openai.BadRequestError, lambda more=more: draw(**more))
        assert error.param == param, (more, error)
    raises(openai.NotFoundError, lambda: draw(model="dall-e-3"))


@check
def many_at_once():
    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=BASE + "/v1", api_key=KEY or "none", max_retries=0, timeout=120) as client:
            asked = [client.images.generate(model="default", prompt="a", extra_body={"seed": seed}) for seed in range(16)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(all_of_them())
    assert [answer.data[0].seed for answer in answers] == list(range(16))


if __name__ == "__main__":
    main("openai_images")
