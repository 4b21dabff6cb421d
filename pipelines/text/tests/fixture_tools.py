"""Tool calls as chat templates write them: tool_calls.json.gz, from which the reader has to get the same calls back.

The templates are this project's own, short, and of the shape of real ones; what they print is transformers' doing.
Run alone: `python fixture_tools.py`.
"""

import gzip
import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from fixture_templates import HEADERS, TOOLS, TURNS

LIST = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {%- if tools is not none %}
            {{- "[AVAILABLE_TOOLS] " + (tools | tojson) + "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST] " + message.content + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for call in message.tool_calls %}
            {{- {"name": call.function.name, "arguments": call.function.arguments, "id": call.id} | tojson }}
            {{- ", " if not loop.last else "]" + eos_token }}
        {%- endfor %}
    {%- else %}
        {{- " " + message.content + eos_token }}
    {%- endif %}
{%- endfor %}
"""

NAMES = """{{- bos_token }}
{%- if tools %}
    {{- "[AVAILABLE_TOOLS]" + (tools | tojson) + "[/AVAILABLE_TOOLS]" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- "[INST]" + message.content + "[/INST]" }}
    {%- else %}
        {{- message.content or "" }}
        {%- for call in message.tool_calls or [] %}
            {{- "[TOOL_CALLS]" + call.function.name + "[ARGS]" + call.function.arguments | tojson }}
        {%- endfor %}
        {{- eos_token }}
    {%- endif %}
{%- endfor %}
"""

TAGS = """{%- if tools %}
    {{- "<|im_start|>system\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n<function>\\n<name>" + tool.function.name + "</name>\\n</function>" }}
    {%- endfor %}
    {{- "\\n</tools>\\n<tool_call>\\n<function=example>\\n<parameter=first>\\nvalue\\n</parameter>\\n</function>\\n</tool_call><|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {{- "<|im_start|>" + message.role + "\\n" }}
    {%- if message.content %}
        {{- message.content | trim }}
        {{- "\\n" if message.tool_calls else "" }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- "\\n<tool_call>\\n<function=" + call.function.name + ">\\n" }}
        {%- for name, value in call.function.arguments | items %}
            {{- "<parameter=" + name + ">\\n" }}
            {{- value | tojson if value is mapping or (value is sequence and value is not string) else value | string }}
            {{- "\\n</parameter>\\n" }}
        {%- endfor %}
        {{- "</function>\\n</tool_call>" }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
{%- endif %}
"""

# A template that shows tools and has no calls of a known make, and one that knows no tools.
STRANGE = """{{ tools | tojson if tools else "" }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"""
DEAF = """{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"""

TIDE = {"harbour": "横浜 \"Bay\"\n<b>", "hours": 12, "exact": True}
ODD = {"harbour": "}]</tool_call>{\\", "hours": -3, "exact": None}
ONE = [("get_tide", TIDE)]
TWO = [("get_tide", ODD), ("ring_bell", {})]

CASES = [
    {"name": "llama", "template": HEADERS, "end": "<|eot_id|>", "content": "", "calls": ONE},
    {"name": "hermes", "template": TURNS, "end": "<|im_end|>", "content": "Let me look.", "calls": ONE},
    {"name": "hermes", "template": TURNS, "end": "<|im_end|>", "content": "", "calls": [("get_tide", TIDE), ("ring_bell", {}), ("get_tide", ODD)]},
    {"name": "hermes", "template": TURNS, "end": "<|im_end|>", "content": "Yes.", "calls": ONE, "reasoning": "It asks for\n\nthe tide."},
    {"name": "hermes", "template": TURNS, "end": "<|im_end|>", "content": "Yes.", "calls": [], "reasoning": "A greeting."},
    {"name": "mistral-list", "template": LIST, "end": "</s>", "content": "", "calls": ONE},
    {"name": "mistral-list", "template": LIST, "end": "</s>", "content": "", "calls": TWO},
    {"name": "mistral-names", "template": NAMES, "end": "</s>", "content": "", "calls": ONE},
    {"name": "mistral-names", "template": NAMES, "end": "</s>", "content": "One moment.", "calls": TWO},
    {"name": "tags", "template": TAGS, "end": "<|im_end|>", "content": "", "calls": ONE},
    {"name": "tags", "template": TAGS, "end": "<|im_end|>", "content": "First the bell.", "calls": [("ring_bell", {}), ("get_tide", {"harbour": "a\n\nb", "hours": 0, "exact": False})]},
]


def render(tokenizer, one):
    tokenizer.chat_template = one["template"]
    user = {"role": "user", "content": "Tide?"}
    turn = {"role": "assistant", "content": one["content"]}
    if one["calls"]:
        turn["tool_calls"] = [
            {"id": f"call{n:05}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(one["calls"])
        ]
    if "reasoning" in one:
        turn["reasoning_content"] = one["reasoning"]
    prompt = tokenizer.apply_chat_template([user], tools=TOOLS, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([user, turn], tools=TOOLS, tokenize=False)
    assert whole.startswith(prompt), (one["name"], prompt, whole)
    written = whole[len(prompt):].rstrip()
    assert written.endswith(one["end"]), (one["name"], written)
    return {**one, "prompt": prompt, "written": written.removesuffix(one["end"])}


def make(folder):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    found = {"tools": TOOLS, "strange": STRANGE, "deaf": DEAF, "cases": [render(tokenizer, one) for one in CASES]}
    text = json.dumps(found, ensure_ascii=False, indent=1)
    folder.joinpath("tool_calls.json.gz").write_bytes(gzip.compress((text + "\n").encode(), mtime=0))


if __name__ == "__main__":
    make(Path(__file__).parent / "fixtures" / "chat")
