#!/usr/bin/env python3
"""Runs OpenAI's official client against a worker as agents use it: tools, structured answers, thoughts, and Responses.

    pip install -r requirements.txt
    python openai_agents_client.py http://127.0.0.1:8080 [API_KEY]

The worker may serve any language model with a chat template, the mock too: a forced call and a schema are kept by any
model, whatever it knows. Ends with 'N passed, N failed', and with a code other than 0 when something failed.
"""

import json
from typing import Literal

import openai
import pydantic

from harness import BASE, KEY, check, is_mock, main, raises

CLIENT = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY or "none", max_retries=0, timeout=120)
ASK = [{"role": "user", "content": "What is the capital of France?"}]


class Capital(pydantic.BaseModel):
    """Every field is bounded: a model that knows nothing must come to an end, too."""

    city: Literal["Paris", "Rome", "Berlin"]
    large: bool
    rank: int = pydantic.Field(ge=1, le=9)


class Weather(pydantic.BaseModel):
    """The weather of a city."""

    city: Literal["Paris", "Rome", "Berlin"]
    days: int = pydantic.Field(ge=1, le=9)


# Room for what a model that knows nothing does: it fills every gap of a JSON text with as much space as it may.
ROOM = 448
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in ("weather", "time")]
FLAT = [{"type": "function", "name": name, "parameters": PARAMETERS, "strict": True} for name in ("weather", "time")]


def chat(**more):
    return CLIENT.chat.completions.create(**{"model": "default", "messages": ASK, "max_tokens": ROOM, "temperature": 0, **more})


def respond(**more):
    return CLIENT.responses.create(
        **{"model": "default", "input": ASK[0]["content"], "max_output_tokens": 12, "temperature": 0, **more})


def is_call(call, name=None):
    assert call.id and call.type == "function", call
    assert call.function.name == name or name is None and call.function.name in ("weather", "time"), call
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome"), call


@check
def a_forced_call():
    # One call: how many a model makes that may make several is its own affair, and may not end.
    choice = chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False).choices[0]
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    [call] = choice.message.tool_calls
    is_call(call)


@check
def a_named_call_streamed_is_the_call_whole():
    named = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "time"}}, "parallel_tool_calls": False}
    [whole] = chat(**named).choices[0].message.tool_calls
    is_call(whole, "time")
    chunks = list(chat(**named, stream=True))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert pieces[0].index == 0 and pieces[0].id and pieces[0].type == "function" and pieces[0].function.name == "time"
    assert all(piece.id is None and piece.function.name is None for piece in pieces[1:])
    arguments = "".join(piece.function.arguments for piece in pieces)
    assert json.loads(arguments) == json.loads(whole.function.arguments), arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@check
def calls_through_the_stream_helper():
    with CLIENT.chat.completions.stream(
        model="default", messages=ASK, max_tokens=ROOM, temperature=0, tool_choice="required", parallel_tool_calls=False,
        tools=[openai.pydantic_function_tool(Weather)],
    ) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds, kinds
    [call] = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather), call


@check
def allowed_tools():
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]}}
    [call] = chat(tools=TOOLS, tool_choice=allowed, parallel_tool_calls=False).choices[0].message.tool_calls
    is_call(call, "time")


@check
def no_calls_and_results_taken_back():
    assert chat(tools=TOOLS, tool_choice="none").choices[0].message.tool_calls is None
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = ASK + [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    assert chat(messages=messages, tools=TOOLS, tool_choice="none").choices[0].message.content is not None


@check
def wrong_tools_are_named():
    for more, param in [
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools[1]"),
    ]:
        error = raises(openai.BadRequestError, lambda: chat(**more))
        assert error.param == param, error


@check
def a_schema_parsed():
    answer = CLIENT.chat.completions.parse(model="default", messages=ASK, max_tokens=ROOM, response_format=Capital)
    assert isinstance(answer.choices[0].message.parsed, Capital), answer
    assert answer.choices[0].finish_reason == "stop"


@check
def a_schema_parsed_at_a_high_temperature():
    for seed in range(3):
        answer = CLIENT.chat.completions.parse(
            model="default", messages=ASK, max_tokens=ROOM, response_format=Capital, temperature=2, seed=seed)
        assert isinstance(answer.choices[0].message.parsed, Capital), answer


@check
def a_schema_parsed_from_a_stream():
    with CLIENT.chat.completions.stream(model="default", messages=ASK, max_tokens=ROOM, response_format=Capital) as stream:
        answer = stream.get_final_completion()
    assert isinstance(answer.choices[0].message.parsed, Capital), answer


@check
def choices_and_expressions():
    answer = chat(extra_body={"guided_choice": ["yes", "no"]}).choices[0]
    assert answer.message.content in ("yes", "no") and answer.finish_reason == "stop"
    completion = CLIENT.completions.create(
        model="default", prompt="a", max_tokens=16, extra_body={"structured_outputs": {"choice": ["left", "right"]}})
    assert completion.choices[0].text in ("left", "right")
    if not is_mock():
        answer = chat(extra_body={"guided_regex": "[ab]{3}-[0-9]{2}"}).choices[0].message.content
        assert len(answer) == 6 and answer[3] == "-" and set(answer[:3]) <= set("ab"), answer
    error = raises(openai.BadRequestError, lambda: chat(extra_body={"guided_choice": []}))
    assert error.param == "guided_choice"


@check
def thoughts():
    answer = chat(messages=[{"role": "user", "content": "!think about it"}], max_tokens=12)
    thoughts = answer.choices[0].message.model_extra.get("reasoning_content")
    tokens = answer.usage.completion_tokens_details.reasoning_tokens
    assert bool(thoughts) == (tokens > 0), answer
    if is_mock():
        assert thoughts and answer.choices[0].message.content, answer
        chunks = list(chat(messages=[{"role": "user", "content": "!think about it"}], max_tokens=12, stream=True))
        streamed = "".join((chunk.choices[0].delta.model_extra or {}).get("reasoning_content", "") for chunk in chunks)
        assert streamed == thoughts, streamed


@check
def response_create():
    response = respond(metadata={"a": "b"}, instructions="Be brief.")
    assert response.id.startswith("resp_") and response.object == "response" and response.created_at > 0
    assert response.status in ("completed", "incomplete") and response.output_text
    assert response.output[-1].type == "message" and response.output[-1].role == "assistant"
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens and usage.output_tokens <= 12
    assert usage.input_tokens_details.cached_tokens >= 0 and usage.output_tokens_details.reasoning_tokens >= 0
    assert response.metadata == {"a": "b"} and response.instructions == "Be brief." and response.to_dict()["store"] is False


@check
def response_is_the_chat_answer():
    answer = chat(max_tokens=12).choices[0].message.content
    assert respond().output_text == answer, answer


@check
def response_stream():
    events = list(respond(stream=True))
    kinds = [event.type for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"], kinds
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"], kinds
    assert kinds[-1] in ("response.completed", "response.incomplete")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == respond().output_text


@check
def response_stream_helper_and_parse():
    response = CLIENT.responses.parse(model="default", input=ASK[0]["content"], text_format=Capital, max_output_tokens=ROOM)
    assert isinstance(response.output_parsed, Capital), response
    with CLIENT.responses.stream(
        model="default", input=ASK[0]["content"], text_format=Capital, max_output_tokens=ROOM
    ) as stream:
        response = stream.get_final_response()
    assert isinstance(response.output_parsed, Capital), response


@check
def response_calls_and_their_outputs():
    forced = {"tools": FLAT, "tool_choice": {"type": "function", "name": "weather"}, "parallel_tool_calls": False}
    response = respond(**forced, max_output_tokens=ROOM)
    [call] = [item for item in response.output if item.type == "function_call"]
    assert call.name == "weather" and json.loads(call.arguments)["city"] in ("Paris", "Rome") and call.call_id
    events = list(respond(**forced, max_output_tokens=ROOM, stream=True))
    deltas = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    [done] = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert deltas == done.arguments == call.arguments, (deltas, call.arguments)
    turns = [{"role": "user", "content": "Weather?"}, *(item.to_dict() for item in response.output),
             {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    assert respond(input=turns, tools=FLAT, tool_choice="none").output_text is not None


@check
def response_thoughts():
    response = respond(input="!think about it", reasoning={"effort": "low"})
    thoughts = [item for item in response.output if item.type == "reasoning"]
    assert bool(thoughts) == (response.usage.output_tokens_details.reasoning_tokens > 0), response
    if is_mock():
        assert thoughts[0].content[0].text and response.output_text, response


@check
def response_tokens_are_counted():
    count = CLIENT.responses.input_tokens.count(model="default", input=ASK[0]["content"])
    assert count.input_tokens == respond().usage.input_tokens


@check
def response_refusals():
    for more, param in [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, "input[0].content[0].type"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name"),
    ]:
        error = raises(openai.BadRequestError, lambda: respond(**more))
        assert error.param == param, error
    raises(openai.NotFoundError, lambda: CLIENT.responses.retrieve("resp_1"))
    raises(openai.NotFoundError, lambda: CLIENT.responses.delete("resp_1"))


main(f"openai {openai.__version__}, agents")
