"""Chat templates, encoding and decoding as transformers does them: templates.json.gz and tokenizer_cases.json.gz."""

import datetime
import gzip
import json
import unittest.mock

import jinja2
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

import fixture_tokenizers as tokens
from fixture_templates import CASES

NOW = "2024-07-26T15:04:05"


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(NOW)


def render(tokenizer, one):
    """Fills in `rendered`, or `error` with what kind of failure it was."""
    tokenizer.bos_token, tokenizer.eos_token = one["bos_token"], one["eos_token"]
    template = one["chat_template"]
    tokenizer.chat_template = {t["name"]: t["template"] for t in template} if isinstance(template, list) else template
    one = {"tools": None, "add_generation_prompt": False, "continue_final_message": False, "kwargs": {}, **one}
    try:
        one["rendered"] = tokenizer.apply_chat_template(
            one["messages"], tools=one["tools"], add_generation_prompt=one["add_generation_prompt"],
            continue_final_message=one["continue_final_message"], tokenize=False, **one["kwargs"])
    except jinja2.exceptions.UndefinedError as error:
        one["error"], one["error_kind"] = str(error), "undefined"
    except jinja2.exceptions.TemplateError as error:
        assert type(error) is jinja2.exceptions.TemplateError, f"{one['name']}: {error!r}"
        one["error"], one["error_kind"] = str(error), "raise_exception"
    assert one["name"].endswith("raises") == (one.get("error_kind") == "raise_exception"), one["name"]
    return one


TEXTS = [
    "", " ", "Hello", " Hello", "Hello world", "  two  spaces  ", "line\n\n\tnext\r\n", "It's 12345 o'clock, they'RE late.",
    "Größe, déjà vu, mañana", "e\u0301 is not é", "蜡烛在夜里燃烧。", "ろうそく 촛불 Свеча", "🕯️", "👨‍👩‍👧 and 👍🏽!", "a▁b _ ▁", "\u0000\u007f\ufffd", "x" * 40,
]
SPECIAL_TEXTS = {
    "byte-level": ["<|begin_of_text|>Hi<|eot_id|>", "a <|start_header_id|>user<|end_header_id|>\n\nHello <|eot_id|> b", "<|eot_id", "<|begin_of_text|><|begin_of_text|>"],
    "metaspace": ["<s>Hi</s>", "a <s> b</s> c", "</s", "<unk>", "<s> Hello", "<0x41>"],
}
SPECIAL_TEXTS["normalizer"] = SPECIAL_TEXTS["metaspace"]
STREAMS = ["The small candle burns", "🕯️🔥 wax", "蜡烛在夜里燃烧", "👨‍👩‍👧é👍🏽.", " leading and  double ", "a\ufffdb"]


def prefixes(tokenizer, ids, skip):
    return [tokenizer.decode(ids[:n], skip_special_tokens=skip) for n in range(1, len(ids) + 1)]


def tokenizer_cases(folder):
    """What the saved tokenizer, loaded again by transformers, encodes and decodes; the bare `tokenizers` library agrees."""
    fast, raw = AutoTokenizer.from_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = {"tokenizer": folder.name, "encode": [], "decode": [], "stream": []}
    for text in TEXTS + SPECIAL_TEXTS[folder.name]:
        for add in (True, False):
            ids = fast.encode(text, add_special_tokens=add)
            assert ids == raw.encode(text, add_special_tokens=add).ids, (folder.name, text)
            found["encode"].append({"text": text, "add_special_tokens": add, "ids": ids})
        ids = fast.encode(text, add_special_tokens=True)
        for skip in (True, False):
            decoded = fast.decode(ids, skip_special_tokens=skip)
            assert decoded == raw.decode(ids, skip_special_tokens=skip), (folder.name, text)
            found["decode"].append({"ids": ids, "skip_special_tokens": skip, "text": decoded})
    streams = [fast.encode(text, add_special_tokens=False) for text in STREAMS]
    # Half an emoji that never completes, alone, before text and before a special token; and a special token in the middle.
    whole = fast.encode("🕯", add_special_tokens=False)
    more = fast.encode("ok", add_special_tokens=False)
    end = [fast.eos_token_id]
    half = whole[:-1]
    assert len(half) >= 2 and "\ufffd" in fast.decode(half), (folder.name, whole)
    # A byte-fallback decoder turns a whole run of bytes into U+FFFD when its tail is bad: what was whole is retracted, so this is not a stream.
    tail = whole + half[-1:]
    found["decode"].append({"ids": tail, "skip_special_tokens": True, "text": fast.decode(tail, skip_special_tokens=True)})
    streams += [half, half + more, half + end + more, whole + end + whole, more + half[-1:] + more]
    for ids in streams:
        for skip in (True, False):
            found["stream"].append({"ids": ids, "skip_special_tokens": skip, "text": fast.decode(ids, skip_special_tokens=skip), "prefixes": prefixes(fast, ids, skip)})
    return found


def packed(path, what):
    """Without spaces, and packed: these are the longest texts of the fixtures."""
    whole = json.dumps(what, ensure_ascii=False, separators=(",", ":")) + "\n"
    path.write_bytes(gzip.compress(whole.encode(), mtime=0))


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    built = {"byte-level": (tokens.byte_level("llama3"), "llama3"), "metaspace": (tokens.byte_fallback("metaspace"), "metaspace"),
             "normalizer": (tokens.byte_fallback("normalizer"), "normalizer")}
    cases = []
    for name, (tokenizer, flavour) in built.items():
        tokens.save(tokens.wrap(tokenizer, flavour), folder / name)
        cases.append(tokenizer_cases(folder / name))
    packed(folder / "tokenizer_cases.json.gz", cases)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=built["metaspace"][0])
    with unittest.mock.patch.object(chat_template_utils, "datetime", Frozen):
        rendered = [render(tokenizer, one) for one in CASES]
    packed(folder / "templates.json.gz", {"now": NOW, "cases": rendered})
    print(f"chat: {len(rendered)} templates, {sum(len(c['encode']) + len(c['decode']) + len(c['stream']) for c in cases)} tokenizer cases")
