"""The HTTP API of `ccoe serve --http` with the real model, by OpenAI's own client where it can ask."""

import asyncio
import json
import math

import api
import http_client
import openai
import processes
import prompts
import pytest
from http_client import Socket, chat, post

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def serve(tmp_path_factory, model, experts):
    process = processes.Process(tmp_path_factory.mktemp("http"), "ccoe", {
        "engine": {"model": str(model), "threads": 1, "kv_cache_mib": 160}, "experts": str(experts),
        "http": {"listen": processes.LOCAL}})
    yield process
    process.kill()


@pytest.fixture(scope="module")
def client(serve):
    with openai.OpenAI(base_url=f"http://{serve.http}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def grpc_client(serve):
    with api.Client(serve.listen) as client:
        yield client


def user(words):
    return [{"role": "user", "content": words}]


def test_an_answer_can_be_sent_back_as_it_came(client):
    ask = {"model": "general", "max_tokens": 4, "temperature": 0}
    first = client.chat.completions.create(messages=user("Hello"), **ask).choices[0].message
    dumped = first.model_dump()
    assert None in dumped.values()  # the client fills in what we did not say
    turns = [*user("Hello"), dumped, *user("And now?")]
    assert client.chat.completions.create(messages=turns, **ask).choices[0].message.content


def refusal_of(call, **fields):
    with pytest.raises(openai.APIStatusError) as caught:
        call(**fields)
    return caught.value


def test_a_chat_is_what_grpc_answers(client, grpc_client):
    answer = client.chat.completions.create(model="auto", messages=user(prompts.SQL), max_tokens=12,
                                            temperature=0)
    same = grpc_client.generate(api.request(prompts.SQL, max_tokens=12))
    assert answer.choices[0].message.content == same.text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens == same.finished.usage.prompt_tokens
    assert answer.model.startswith("sql@")
    told = answer.model_extra["ccoe"]
    assert told["route"]["domain"] == "sql" and told["route"]["stage"] == "rules"
    assert told["timings_ms"]["total"] > 0
    assert answer.id == f"chatcmpl-{told['request_id']}"


def test_a_stream_is_the_whole_answer_in_pieces(client):
    fields = {"model": "sql", "messages": user("List the customers."), "max_tokens": 12, "seed": 5,
              "temperature": 0.8, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**fields)
    chunks = list(client.chat.completions.create(**fields, stream=True,
                                                 stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].model_extra["ccoe"]["route"]["domain"] == "sql"
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    tokens = [token for chunk in chunks if chunk.choices and chunk.choices[0].logprobs
              for token in chunk.choices[0].logprobs.content]
    assert tokens == whole.choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)


def test_async_streams_side_by_side(serve):
    async def ask(client, domain):
        stream = await client.chat.completions.create(
            model=domain, messages=user(prompts.BY_DOMAIN[domain]), max_tokens=8, temperature=0,
            stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"http://{serve.http}/v1", api_key="none") as client:
            return await asyncio.gather(*[ask(client, domain) for domain in prompts.BY_DOMAIN])

    assert all(asyncio.run(ask_all()))


def test_models_are_domains_and_versions(client):
    names = {model.id for model in client.models.list()}
    assert {"auto", "sql", "birds", "general", "general@base"} <= names
    version = next(name for name in names if name.startswith("sql@"))
    assert client.models.retrieve(version).id == version
    answer = client.chat.completions.create(model=version, messages=user("Hi"), max_tokens=2)
    assert answer.model == version
    assert answer.model_extra["ccoe"]["route"]["stage"] == "explicit"


@pytest.mark.parametrize("name", ["law", "sql@9.9.9", "nothing@1"])
def test_an_unknown_model(client, name):
    error = refusal_of(client.chat.completions.create, model=name, messages=user("Hi"))
    assert (error.status_code, error.code) == (404, "model_not_found")


@pytest.mark.parametrize(("fields", "code", "param"), [
    ({"n": 2}, "unsupported_parameter", "n"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported_parameter", "tools"),
    ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
    ({"extra_body": {"temprature": 1}}, "unsupported_parameter", "temprature"),
    ({"temperature": 3}, "invalid_request", None),
    ({"max_tokens": 10**6}, "invalid_request", None),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "invalid_request", None),
    ({"messages": user("word " * 20000)}, "context_length_exceeded", None)])  # fmt: skip
def test_what_is_refused(client, fields, code, param):
    fields = {"model": "sql", "messages": user("Hi"), **fields}
    error = refusal_of(client.chat.completions.create, **fields)
    assert (error.status_code, error.code, error.param) == (400, code, param)
    assert error.message


def test_a_plan_streams_its_steps(client):
    steps = [{"domain": "sql", "instruction": "Write a query.", "max_tokens": 4},
             {"domain": "general", "instruction": "Explain it.", "max_tokens": 4}]
    chunks = list(client.chat.completions.create(
        model="auto", messages=user("I have a table of birds."), temperature=0, stream=True,
        extra_body={"ccoe": {"plan": steps}}))
    told = [chunk.model_extra["ccoe"] for chunk in chunks]
    begun = [each["step_started"]["domain"] for each in told if "step_started" in each]
    assert begun == ["sql", "general"]
    assert [each["step_finished"]["step"] for each in told if "step_finished" in each] == [0, 1]
    assert [step["route"]["domain"] for step in told[-1]["steps"]] == begun


def test_completions_of_several_prompts(client, grpc_client):
    ids = [token.id for token in grpc_client.tokenize("The capital of France is")]
    many = client.completions.create(model="general", prompt=["One, two,", "Red, green,"], max_tokens=4,
                                     temperature=0)
    alone = [client.completions.create(model="general", prompt=prompt, max_tokens=4, temperature=0)
             for prompt in ("One, two,", "Red, green,")]
    assert [choice.text for choice in many.choices] == [each.choices[0].text for each in alone]
    assert [choice.index for choice in many.choices] == [0, 1]
    assert many.usage.total_tokens == sum(each.usage.total_tokens for each in alone)
    assert client.completions.create(model="general", prompt=ids, max_tokens=1).usage.prompt_tokens == len(ids)


def test_a_completion_streams(client):
    fields = {"model": "general", "prompt": "One, two,", "max_tokens": 6, "temperature": 0}
    whole = client.completions.create(**fields)
    pieces = client.completions.create(**fields, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def test_echo_scores_the_prompt(client):
    prompt = "The capital of France is Paris."
    echoed = client.completions.create(model="general", prompt=prompt, max_tokens=1, temperature=0,
                                       echo=True, logprobs=2).choices[0]
    told = echoed.logprobs
    assert "".join(told.tokens[:-1]) == prompt and echoed.text.startswith(prompt)
    assert told.text_offset[0] == 0 and told.text_offset[-1] == len(prompt)
    assert told.token_logprobs[0] is None and told.top_logprobs[0] is None
    assert all(logprob < 0 for logprob in told.token_logprobs[1:])
    for logprob, top in zip(told.token_logprobs[1:], told.top_logprobs[1:]):
        assert 2 <= len(top) <= 3 and max(top.values()) >= logprob
    alone = client.completions.create(model="general", prompt=prompt, max_tokens=0, echo=True,
                                      logprobs=2).choices[0]
    assert alone.text == prompt
    assert alone.logprobs.token_logprobs == told.token_logprobs[:-1]


def test_scored_and_generated_tokens_agree(client):
    fields = {"model": "sql", "temperature": 0, "logprobs": 3}
    generated = client.completions.create(prompt="SELECT name", max_tokens=5, **fields).choices[0]
    scored = client.completions.create(prompt="SELECT name" + generated.text, max_tokens=0, echo=True,
                                       **fields).choices[0].logprobs
    count = len(generated.logprobs.tokens)
    assert scored.tokens[-count:] == generated.logprobs.tokens
    for ours, theirs in zip(scored.top_logprobs[-count:], generated.logprobs.top_logprobs):
        assert ours.keys() == theirs.keys()
        assert all(math.isclose(ours[key], theirs[key], abs_tol=1e-4) for key in ours)


def test_route_and_status(serve):
    status, _, route = http_client.request(serve.http, "POST", "/v1/ccoe/route", {"prompt": prompts.SQL})
    assert (status, route["domain"]) == (200, "sql")
    assert route["stages"][0]["rules"]
    status, _, told = http_client.request(serve.http, "GET", "/v1/ccoe/status")
    assert status == 200
    assert {"sql", "birds", "general"} <= {expert["domain"] for expert in told["experts"]}
    assert told["model"]["layers"] > 0 and told["server"]["version"]
    [node] = told["nodes"]
    assert (node["role"], node["healthy"]) == ("server", True)
    assert {expert["domain"] for expert in node["experts"]} == {"sql", "birds", "general"}
    assert node["load"]["kv_blocks_total"] > 0
    assert http_client.request(serve.http, "GET", "/healthz")[2] == {"status": "ok"}


def test_a_client_that_leaves_frees_everything(serve, client):
    client.chat.completions.create(model="general", messages=user("Hi"), max_tokens=1)
    processes.wait_until(lambda: not any(serve.load().values()), what="that the server is idle")
    connections = []
    for _ in range(8):
        connections.append(Socket(serve.http))
        connections[-1].send(post(CHAT, chat("Count to a million.", model="general", max_tokens=500,
                                             stream=True)))
    for connection in connections:  # a token: from now on the engine's steps are short
        assert b"200 OK" in connection.read_until(b'"ccoe":{"step":')
    for connection in connections:
        connection.close()
    processes.wait_until(lambda: not any(serve.load().values()), timeout_s=5,
                         what="that all memory is free again")


def test_an_expert_that_dies_ends_its_stream_in_band(deployment, tmp_path):
    gateway = processes.Process(tmp_path, "ccoe-gateway", {
        "router": deployment.router.listen, "http": {"listen": processes.LOCAL}})
    try:
        connection = Socket(gateway.http)
        connection.send(post(CHAT, chat("Tell me of birds.", model="birds", max_tokens=1000,
                                        temperature=0, stream=True)))
        connection.read_until(b'"content":"')
        deployment.experts[1].kill()
        events = connection.read_until(b"0\r\n\r\n")
        assert b"[DONE]" not in events
        error = json.loads(events.rsplit(b"data: ", 1)[1].split(b"\n")[0])["error"]
        assert error["type"] == "server_error" and error["code"]
        status, _, answer = http_client.request(gateway.http, "POST", CHAT, chat("Hi", model="birds"))
        assert (status, answer["error"]["code"]) == (503, "expert_unavailable")
    finally:
        gateway.kill()


def test_a_drain_finishes_answers(tmp_path, model):
    process = processes.Process(tmp_path, "ccoe", {
        "engine": {"model": str(model), "threads": 1, "kv_cache_mib": 64},
        "http": {"listen": processes.LOCAL}})
    connection = Socket(process.http)
    connection.send(post(CHAT, chat("Hello", max_tokens=40, stream=True)))
    connection.read_until(b"data: ")
    process.terminate()
    assert b"data: [DONE]" in connection.read_all()
    assert process.wait() == 0
