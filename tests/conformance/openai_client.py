#!/usr/bin/env python3
"""Runs OpenAI's official client against a worker, and says what it saw.

    pip install -r requirements.txt
    python openai_client.py http://127.0.0.1:8080 [API_KEY]

The worker may serve any language model, the mock too: what is checked is the protocol, not the words. Ends with
'N passed, N failed', and with a code other than 0 when something failed.
"""

import asyncio
import time

import openai

from harness import BASE, KEY, check, health, main, raises

# No retries: an error must be seen the first time.
CLIENT = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY or "none", max_retries=0, timeout=120)
ASK = [{"role": "user", "content": "What is the capital of France?"}]


def chat(**more):
    return CLIENT.chat.completions.create(**{"model": "default", "messages": ASK, "max_tokens": 12, **more})


def complete(prompt="The capital of France is", **more):
    return CLIENT.completions.create(**{"model": "default", "prompt": prompt, "max_tokens": 6, **more})


@check
def models_list():
    models = CLIENT.models.list().data
    assert len(models) >= 1 and models[0].object == "model" and models[0].id
    assert models[0].created > 0 and models[0].owned_by


@check
def models_retrieve():
    # An id with a slash goes out as %2F.
    served = CLIENT.models.list().data[0].id
    assert CLIENT.models.retrieve(served).id == served
    assert CLIENT.models.retrieve("default").id == served
    error = raises(openai.NotFoundError, lambda: CLIENT.models.retrieve("no/such-model"))
    assert error.code == "model_not_found"


@check
def the_served_id_works():
    assert chat(model=CLIENT.models.list().data[0].id).choices[0].message.content is not None


@check
def chat_create():
    answer = chat()
    assert answer.id and answer.object == "chat.completion" and answer.created > 0
    [choice] = answer.choices
    assert choice.index == 0 and choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length") and choice.logprobs is None
    usage = answer.usage
    assert usage.prompt_tokens > 0 and 1 <= usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@check
def chat_roles_and_parts():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}]},
        {"role": "assistant", "content": "The capital of France is Paris."},
        {"role": "user", "content": "And of Italy?"},
    ]
    assert chat(messages=messages).choices[0].message.role == "assistant"


@check
def chat_stream():
    chunks = list(chat(stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" and chunk.choices for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1])
    assert all(chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@check
def chat_stream_is_the_same_text():
    whole = chat(seed=5, temperature=1).choices[0].message.content
    streamed = "".join(c.choices[0].delta.content or "" for c in chat(seed=5, temperature=1, stream=True))
    assert whole == streamed, (whole, streamed)


@check
def chat_stream_usage():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])


@check
def chat_stream_helper():
    with CLIENT.chat.completions.stream(model="default", messages=ASK, max_tokens=64, n=2) as stream:
        try:
            answer = stream.get_final_completion()
        except openai.LengthFinishReasonError as error:
            # The helper's own way of saying that an answer reached its limit.
            answer = error.completion
    assert len(answer.choices) == 2 and answer.choices[1].message.content


@check
def chat_n():
    answer = chat(n=2, seed=1, temperature=1.5)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


@check
def chat_logprobs():
    answer = chat(logprobs=True, top_logprobs=3, temperature=0)
    tokens = answer.choices[0].logprobs.content
    # The token that ends an answer counts, and has no text of its own.
    assert answer.usage.completion_tokens - 1 <= len(tokens) <= answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) <= 3
        order = [top.logprob for top in token.top_logprobs]
        assert order == sorted(order, reverse=True)
    text = b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace")
    assert text.startswith(answer.choices[0].message.content), (text, answer.choices[0].message.content)


@check
def chat_stream_logprobs():
    chunks = list(chat(logprobs=True, top_logprobs=1, stream=True))
    pieces = [c.choices[0].logprobs.content for c in chunks if c.choices[0].logprobs]
    assert sum(len(piece) for piece in pieces) > 0


@check
def chat_seed():
    ask = lambda seed: chat(seed=seed, temperature=2, max_tokens=24).choices[0].message.content
    assert ask(11) == ask(11)
    assert len({ask(seed) for seed in range(5)}) > 1 or len(ask(0).split()) < 3


@check
def chat_stop():
    whole = chat(temperature=0).choices[0].message.content
    words = whole.split(" ")
    if len(words) > 2:
        answer = chat(temperature=0, stop=[words[2]]).choices[0]
        assert words[2] not in answer.message.content and answer.finish_reason == "stop"


@check
def chat_extra_fields():
    chat(extra_body={"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.1, "something_else": {"a": 1}})
    chat(user="someone", metadata={"a": "b"}, store=False, logit_bias={"5": -100})
    chat(max_completion_tokens=4, presence_penalty=0.5, frequency_penalty=0.5, top_p=0.9)


@check
def completions_text():
    answer = complete()
    assert answer.object == "text_completion" and answer.choices[0].text is not None
    assert answer.usage.completion_tokens <= 6


@check
def completions_several_prompts():
    answer = complete(["one two", "three four"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


@check
def completions_tokens():
    assert len(complete([5, 6, 7]).choices) == 1
    assert len(complete([[5, 6], [7]]).choices) == 2


@check
def completions_logprobs():
    answer = complete(logprobs=2, temperature=0)
    lists = answer.choices[0].logprobs
    count = len(lists.tokens)
    assert answer.usage.completion_tokens - 1 <= count <= answer.usage.completion_tokens
    assert len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset) == count
    assert lists.text_offset == sorted(lists.text_offset)
    assert all(logprob <= 0 for logprob in lists.token_logprobs)


@check
def completions_echo():
    prompt = "The capital of France is"
    answer = complete(prompt, echo=True, logprobs=1, temperature=0).choices[0]
    if answer.text.startswith(prompt):
        assert answer.logprobs.token_logprobs[0] is None and answer.logprobs.top_logprobs[0] is None
        assert all(logprob is not None for logprob in answer.logprobs.token_logprobs[1:])
    else:
        # Only the mock may leave echo out.
        assert health()["architecture"] == "Mock", answer.text


@check
def completions_best_of():
    answer = complete(best_of=3, temperature=1, seed=1)
    assert len(answer.choices) == 1 and answer.usage.completion_tokens > 0
    error = raises(openai.BadRequestError, lambda: complete(best_of=3, stream=True))
    assert error.param == "best_of"


@check
def completions_stream():
    whole = complete(temperature=0)
    chunks = list(complete(temperature=0, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason


@check
def unknown_model():
    error = raises(openai.NotFoundError, lambda: chat(model="gpt-9"))
    assert error.code == "model_not_found" and error.param == "model" and "gpt-9" in error.message


@check
def bad_fields():
    for more, param in [
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 1_000_000_000_000}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"messages": []}, "messages"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "response_format.json_schema.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}, "messages[0].content[0].type"),
    ]:
        error = raises(openai.BadRequestError, lambda: chat(**more))
        assert error.param == param and error.type == "invalid_request_error" and param in error.message, error
        assert error.response.headers["x-should-retry"] == "false"


@check
def past_the_context_window():
    window = CLIENT.models.list().data[0].model_extra["max_model_len"]
    error = raises(openai.BadRequestError, lambda: complete("word " * (window * 2)))
    assert error.code == "context_length_exceeded", error


@check
def routes_that_are_not_here():
    raises(openai.NotFoundError, lambda: CLIENT.embeddings.create(model="default", input="a"))


@check
def authentication():
    if KEY is None:
        return
    stranger = CLIENT.with_options(api_key="wrong")
    error = raises(openai.AuthenticationError, lambda: stranger.models.list())
    assert error.code == "invalid_api_key"


@check
def request_ids():
    answer = CLIENT.chat.completions.with_raw_response.create(model="default", messages=ASK, max_tokens=2)
    assert answer.headers["x-request-id"] and answer.parse()._request_id == answer.headers["x-request-id"]
    error = raises(openai.BadRequestError, lambda: chat(temperature=9))
    assert error.request_id
    named = CLIENT.models.with_raw_response.list(extra_headers={"x-request-id": "conformance-1"})
    assert named.headers["x-request-id"] == "conformance-1"


@check
def cancelling_a_stream():
    with chat(stream=True, max_tokens=200, extra_body={"ignore_eos": True}) as stream:
        for number, _ in enumerate(stream):
            if number == 2:
                break
    limit = time.monotonic() + 10
    while (counters := health()["jobs"])["inProgress"] + counters["inQueue"] > 0:
        assert time.monotonic() < limit, counters
        time.sleep(0.02)


@check
def twenty_at_once():
    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=CLIENT.base_url, api_key=CLIENT.api_key, max_retries=0, timeout=120) as client:
            async def one(number):
                if number % 2:
                    stream = await client.chat.completions.create(
                        model="default", messages=ASK, max_tokens=8, seed=3, temperature=1, stream=True)
                    return "".join([c.choices[0].delta.content or "" async for c in stream])
                answer = await client.chat.completions.create(
                    model="default", messages=ASK, max_tokens=8, seed=3, temperature=1)
                return answer.choices[0].message.content
            return await asyncio.gather(*(one(number) for number in range(20)))

    answers = asyncio.run(all_of_them())
    assert len(answers) == 20 and len(set(answers)) == 1, set(answers)


main(f"openai {openai.__version__}")
