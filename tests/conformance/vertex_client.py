#!/usr/bin/env python3
"""Runs the clients of Vertex AI's callers against a worker behind a stand-in for the platform (vertex_platform.py):
Google's own `aiplatform_v1` REST client, Anthropic's and OpenAI's clients as they speak to Vertex, and plain HTTP.

    pip install -r requirements.txt && pip install --no-deps -r requirements-without-dependencies.txt
    python vertex_client.py http://127.0.0.1:8080 [API_KEY]
"""

import json
import sys
import urllib.request

import anthropic
import openai
from google.api import httpbody_pb2
from google.api_core import exceptions
from google.auth import credentials
from google.cloud.aiplatform_v1 import PredictionServiceClient
from google.protobuf import json_format

import vertex_platform
from harness import BASE, KEY, check, main, raises
from vertex_platform import ENDPOINT

PLATFORM = vertex_platform.start(BASE, sys.argv[3] if len(sys.argv) > 3 else "/predict")
# Authorization is the platform's; a key of the worker's own comes in a header of its own.
OURS = {"x-api-key": KEY} if KEY else {}
QUESTION = "What is the capital of France?"
FIRST, SECOND = "The capital of France is", "The capital of Italy is"
ASK = [{"role": "user", "content": QUESTION}]


class Bearer(credentials.Credentials):
    def refresh(self, _):
        self.token = "a-token-of-the-platform"


CLIENT = PredictionServiceClient(credentials=Bearer(), transport="rest", client_options={"api_endpoint": PLATFORM})


def predict(instances, **parameters):
    return CLIENT.predict(endpoint=ENDPOINT, instances=instances, parameters=parameters, metadata=list(OURS.items()))


def http_body(value):
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(value).encode())


def raw(value):
    answer = CLIENT.raw_predict(endpoint=ENDPOINT, http_body=http_body(value), metadata=list(OURS.items()))
    assert answer.content_type == "application/json", answer.content_type
    return json.loads(answer.data)


@check
def predictions_come_in_order_and_numbers_are_doubles():
    answer = predict([{"prompt": FIRST}, {"messages": ASK, "max_tokens": 3}, SECOND], maxOutputTokens=5, temperature=0, seed=7)
    assert answer.deployed_model_id == "789" and answer.model_version_id == "1"
    one, two, three = (json_format.MessageToDict(prediction) for prediction in answer._pb.predictions)
    assert one["text"] and three["text"] and two["message"]["role"] == "assistant"
    assert 1 <= one["usage"]["completion_tokens"] <= 5 and 1 <= two["usage"]["completion_tokens"] <= 3
    again = predict([{"prompt": FIRST}, {"prompt": SECOND}], maxOutputTokens=5, temperature=0, seed=7)
    texts = [json_format.MessageToDict(prediction)["text"] for prediction in again._pb.predictions]
    assert texts == [one["text"], three["text"]], texts


@check
def an_instance_that_cannot_be_served_is_named_and_none_is():
    for instance, name in [
        ({"task": "asr", "audio": "UklGRg=="}, "instances[1].task"),
        ({"task": "translate_to_english", "sentence": "a", "source_language": "Luganda"}, "instances[1].task"),
        ({"prompt": "a", "max_tokens": 1.5}, "instances[1].max_tokens"),
    ]:
        error = raises(exceptions.BadRequest, lambda: predict([{"prompt": "a"}, instance]))
        # Before the container's body stands what was asked of which address.
        ours = json.loads(error.message[error.message.index("{") :])
        assert ours["error"]["param"] == name, error.message


@check
def a_raw_call_takes_every_dialect():
    chat = raw({"messages": ASK, "max_tokens": 4})
    assert chat["object"] == "chat.completion" and chat["choices"][0]["message"]["content"]
    assert raw({"prompt": QUESTION, "max_tokens": 4})["object"] == "text_completion"
    assert raw({"input": QUESTION, "max_output_tokens": 16})["object"] == "response"
    message = raw({"anthropic_version": "vertex-2023-10-16", "messages": ASK, "max_tokens": 4})
    assert message["type"] == "message" and message["usage"]["output_tokens"] <= 4
    assert raw(json.dumps({"messages": ASK, "max_tokens": 4}))["object"] == "chat.completion"
    error = raises(exceptions.BadRequest, lambda: raw({"input": ["a", "b"]}))
    assert "feature-extraction" in error.message


@check
def the_grouped_answer_of_the_first_container():
    answer = raw({"instances": [{"sentence": "One"}, {"sentence": "Two"}], "grouped": True, "parameters": {"max_tokens": 3}})
    assert answer["transcripts"] == answer["to_english_translations"] == answer["from_english_translations"] == []
    assert answer["base64_audio"] == [] and len(answer["generated_texts"]) == 2, answer


@check
def a_raw_stream_through_googles_client():
    body = http_body({"messages": ASK, "max_tokens": 8, "stream": True})
    pieces = list(CLIENT.stream_raw_predict(endpoint=ENDPOINT, http_body=body, metadata=list(OURS.items())))
    text = b"".join(piece.data for piece in pieces).decode()
    assert pieces[0].content_type.startswith("text/event-stream") and text.endswith("data: [DONE]\n\n"), text


@check
def a_raw_stream_over_plain_http_comes_as_it_is_written():
    body = json.dumps({"messages": ASK, "max_tokens": 8, "stream": True}).encode()
    url = f"{PLATFORM}/v1/{ENDPOINT}:streamRawPredict"
    request = urllib.request.Request(url, body, {"content-type": "application/json", **OURS})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["x-vertex-ai-deployed-model-id"] == "789" and answer.headers["x-request-id"]
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.decode().strip() for line in answer if line.strip()]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert len(events) >= 2 and lines[-1] == "data: [DONE]", lines


@check
def anthropics_client_for_vertex():
    client = anthropic.AnthropicVertex(
        project_id="123", region="us-central1", base_url=f"{PLATFORM}/v1", access_token="a-token", max_retries=0, default_headers=OURS
    )
    answer = client.messages.create(model="claude", max_tokens=8, messages=ASK)
    assert answer.type == "message" and answer.content[0].text and answer._request_id
    with client.messages.stream(model="claude", max_tokens=8, messages=ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text and final.stop_reason
    error = raises(anthropic.BadRequestError, lambda: client.messages.create(model="claude", max_tokens=8, messages=[]))
    assert error.body["type"] == "error"


@check
def openais_client_through_invoke():
    for base in (f"{PLATFORM}/v1/{ENDPOINT}/invoke/v1", f"{PLATFORM}/v1/{ENDPOINT}/deployedModels/789/invoke/v1", f"{BASE}/invoke/v1"):
        client = openai.OpenAI(base_url=base, api_key=KEY or "none", max_retries=0, timeout=60)
        assert client.chat.completions.create(model="default", messages=ASK, max_tokens=4).choices[0].message.content
        chunks = list(client.chat.completions.create(model="default", messages=ASK, max_tokens=4, stream=True))
        assert chunks[-1].choices[0].finish_reason
        assert client.models.list().data


main("Vertex AI's clients")
