#!/usr/bin/env python3
"""Runs Anthropic's official client against a worker, and says what it saw.

    pip install -r requirements.txt
    python anthropic_client.py http://127.0.0.1:8080 [API_KEY]

The worker may serve any language model with a chat template, the mock too. Ends with 'N passed, N failed', and with a
code other than 0 when something failed.
"""

from typing import Literal

import anthropic
import pydantic

from harness import BASE, KEY, check, is_mock, main, raises

CLIENT = anthropic.Anthropic(base_url=BASE, api_key=KEY or "none", max_retries=0, timeout=120)
ASK = [{"role": "user", "content": "What is the capital of France?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}, "required": ["city"]}
# Room for what a model that knows nothing does: it fills every gap of a JSON text with as much space as it may.
ROOM = 448
TOOLS = [{"name": name, "description": f"The {name} of a city.", "input_schema": SCHEMA} for name in ("weather", "time")]
REASONS = ("end_turn", "max_tokens", "stop_sequence", "tool_use")


class Capital(pydantic.BaseModel):
    city: Literal["Paris", "Rome", "Berlin"]
    large: bool


def settings(**more):
    # This client's own arguments have no temperature any more; its callers send it this way, too.
    return {"model": "default", "messages": ASK, "max_tokens": 12, "extra_body": {"temperature": 0}, **more}


def ask(**more):
    return CLIENT.messages.create(**settings(**more))


@check
def message():
    answer = ask(system="Be brief.")
    assert answer.id.startswith("msg_") and answer.type == "message" and answer.role == "assistant" and answer.model
    assert answer.content[0].type == "text" and answer.content[0].text
    assert answer.stop_reason in REASONS
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens > 0
    assert 1 <= answer.usage.output_tokens <= 12
    assert answer._request_id


@check
def stream_is_the_same_message():
    whole = ask()
    with CLIENT.messages.stream(**settings()) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert text == whole.content[0].text == streamed.content[0].text, (text, whole)
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


@check
def raw_events():
    kinds = [event.type for event in ask(stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds


@check
def a_limit_and_a_stop_sequence():
    assert ask(max_tokens=1).stop_reason == "max_tokens"
    words = ask(max_tokens=64).content[0].text.split(" ")
    if len(words) > 2:
        answer = ask(max_tokens=64, stop_sequences=["never", words[1]])
        assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", words[1]), answer


@check
def a_forced_call_whole_and_streamed():
    forced = {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "time", "disable_parallel_tool_use": True}, "max_tokens": ROOM}
    answer = ask(**forced)
    [call] = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and call.id and call.name == "time" and call.input["city"] in ("Paris", "Rome")
    with CLIENT.messages.stream(**settings(**forced)) as stream:
        [streamed] = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert (streamed.name, streamed.input) == (call.name, call.input)


@check
def any_call_and_no_call():
    answer = ask(tools=TOOLS, tool_choice={"type": "any", "disable_parallel_tool_use": True}, max_tokens=ROOM)
    assert answer.stop_reason == "tool_use", answer
    answer = ask(tools=TOOLS, tool_choice={"type": "none"})
    assert all(block.type == "text" for block in answer.content), answer


@check
def results_are_taken_back():
    answer = ask(messages=ASK + [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                                     {"type": "text", "text": "And now?"}]},
    ], tools=TOOLS, tool_choice={"type": "none"})
    assert answer.content[0].text, answer


@check
def a_schema_parsed():
    answer = CLIENT.messages.parse(**settings(max_tokens=ROOM), output_format=Capital)
    assert isinstance(answer.parsed_output, Capital), answer


@check
def thoughts_only_when_asked():
    words = [{"role": "user", "content": "!think about it"}]
    asked = ask(messages=words, thinking={"type": "enabled", "budget_tokens": 1024})
    assert all(block.type == "text" for block in ask(messages=words).content)
    thoughts = [block for block in asked.content if block.type == "thinking"]
    assert bool(thoughts) == (asked.usage.output_tokens_details.thinking_tokens > 0), asked
    if is_mock():
        assert thoughts[0].thinking and asked.content[-1].type == "text", asked


@check
def tokens_are_counted():
    count = CLIENT.messages.count_tokens(model="default", messages=ASK)
    usage = ask().usage
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


@check
def errors():
    image = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]
    for more, words in [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"messages": image}, "messages[0].content[0].type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ]:
        error = raises(anthropic.BadRequestError, lambda: ask(**more))
        assert error.body["type"] == "error" and error.body["error"]["type"] == "invalid_request_error", error.body
        assert words in error.body["error"]["message"], error.body
        assert error.request_id
    raises(anthropic.NotFoundError, lambda: ask(model="other"))
    if KEY:
        raises(anthropic.AuthenticationError, lambda: CLIENT.with_options(api_key="wrong").messages.create(**settings()))


main(f"anthropic {anthropic.__version__}")
