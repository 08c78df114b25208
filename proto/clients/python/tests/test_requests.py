"""Plain values become the protocol's messages."""

import typing

import pytest
from ccoe.v1 import generation_service_pb2 as generation
from ccoe.v1 import types_pb2 as types
from ccoe_client import (
    SELECT_BEST,
    CallOptions,
    ChatMessage,
    ExpertRef,
    GenerateOptions,
    GenerateRequest,
    Plan,
    PlanStep,
    RouteOptions,
    RoutingOptions,
    ScoreOptions,
    Text,
    generate_request,
)
from ccoe_client._requests import route_request, score_request

USER, ASSISTANT = types.ROLE_USER, types.ROLE_ASSISTANT
CONVERSATION = types.Chat(
    messages=[
        ChatMessage(role=USER, content="hello"),
        ChatMessage(role=ASSISTANT, content="hi"),
        ChatMessage(role=USER, content="how?"),
    ]
)
PROMPTS = [
    ("hello", {"chat": types.Chat(messages=CONVERSATION.messages[:1])}),
    (
        [
            {"role": "user", "content": "hello"},
            ChatMessage(role=ASSISTANT, content="hi"),
            {"role": "user", "content": "how?"},
        ],
        {"chat": CONVERSATION},
    ),
    ([1, 2, 3], {"token_ids": types.TokenIds(ids=[1, 2, 3])}),
    (Text(text="Once upon"), {"text": types.Text(text="Once upon")}),
    (None, {}),
]


@pytest.mark.parametrize("prompt, fields", PROMPTS)
def test_prompts(prompt, fields):
    assert generate_request(prompt) == GenerateRequest(**fields)


def test_every_option_goes_to_its_field():
    options = {
        "temperature": 0.0,
        "top_k": 40,
        "top_p": 0.5,
        "min_p": 0.25,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "seed": 2**63,
        "max_tokens": 0,
        "stop_sequences": ["\n\n"],
        "ignore_end_of_generation": True,
        "top_logprobs": 0,
        "token_ids": True,
        "domain": "sql",
        "min_confidence": 0.5,
        "on_unsure": RoutingOptions.ON_UNSURE_FAIL,
        "max_queue_time": 1.5,
    }
    request = generate_request("hello", **options)
    assert request == GenerateRequest(
        chat=types.Chat(messages=[ChatMessage(role=USER, content="hello")]),
        domain="sql",
        sampling=generation.SamplingParams(
            temperature=0,
            top_k=40,
            top_p=0.5,
            min_p=0.25,
            repetition_penalty=1.5,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            seed=2**63,
        ),
        stop=generation.StopConditions(
            max_tokens=0, stop_sequences=["\n\n"], ignore_end_of_generation=True
        ),
        output=generation.OutputOptions(top_logprobs=0, token_ids=True),
        routing=RoutingOptions(min_confidence=0.5, on_unsure=RoutingOptions.ON_UNSURE_FAIL),
        max_queue_time={"seconds": 1, "nanos": 500_000_000},
    )
    assert request.stop.HasField("max_tokens") and request.sampling.HasField("temperature")


def test_none_leaves_a_field_unset():
    request = generate_request("hello", temperature=None, domain=None, seed=None, plan=None)
    assert request == generate_request("hello")


@pytest.mark.parametrize(
    "expert", ["sql", ExpertRef(name="sql"), ExpertRef(name="sql", version="1.2.0")]
)
def test_experts(expert):
    ref = expert if isinstance(expert, ExpertRef) else ExpertRef(name=expert)
    assert generate_request("hello", expert=expert).expert == ref
    request = generate_request("hello", experts=[expert, "general"], select=SELECT_BEST)
    assert list(request.experts) == [ref, ExpertRef(name="general")]
    assert request.select == SELECT_BEST


def test_plans():
    assert generate_request("hello", plan="automatic").plan == Plan(automatic=True)
    step = PlanStep(expert=ExpertRef(name="general"), instruction="Explain it.", max_tokens=9)
    planned = generate_request(plan=[("sql", "List all customers."), step])
    first = PlanStep(domain="sql", instruction="List all customers.")
    assert planned == GenerateRequest(plan=Plan(steps=[first, step]))
    whole = Plan(steps=[step], max_total_tokens=20)
    assert generate_request("hello", plan=whole).plan == whole


def test_scored_and_routed_requests():
    assert score_request("hello", "there", expert="sql") == generation.ScoreRequest(
        chat=types.Chat(messages=[ChatMessage(role=USER, content="hello")]),
        expert=ExpertRef(name="sql"),
        continuation_text="there",
    )
    assert score_request([1], [2, 3], top_logprobs=2) == generation.ScoreRequest(
        token_ids=types.TokenIds(ids=[1]),
        continuation_ids=types.TokenIds(ids=[2, 3]),
        top_logprobs=2,
    )
    assert route_request([1], explain=True, min_confidence=0.5) == generation.RouteRequest(
        token_ids=types.TokenIds(ids=[1]), explain=True, routing={"min_confidence": 0.5}
    )


def test_a_request_of_ones_own_is_taken_as_it_is():
    request = GenerateRequest(domain="sql")
    assert generate_request(request, timeout=5) is request
    with pytest.raises(TypeError, match="temperature"):
        generate_request(request, temperature=0)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="temprature"):
        generate_request("hello", temprature=0)
    with pytest.raises(TypeError, match="explain"):
        generate_request("hello", explain=True)
    with pytest.raises(ValueError, match="ROLE_ROBOT"):
        generate_request([{"role": "robot", "content": "hello"}])


def fields_of(message, but):
    names = {field.name for field in message.DESCRIPTOR.fields}
    return names - {"chat", "text", "token_ids"} - set(but)


def test_there_is_an_option_for_every_field():
    """What the protocol gains shows up here."""
    call, routing = set(typing.get_type_hints(CallOptions)), fields_of(RoutingOptions, [])
    sampling = fields_of(generation.SamplingParams, []) | fields_of(generation.StopConditions, [])
    output = {field.name for field in generation.OutputOptions.DESCRIPTOR.fields}
    groups = ["sampling", "stop", "output", "routing"]
    generate = fields_of(GenerateRequest, groups) | sampling | output | routing | call
    continuations = ["continuation_text", "continuation_ids", "routing"]
    score = fields_of(generation.ScoreRequest, continuations) | routing | call
    route = fields_of(generation.RouteRequest, ["routing"]) | routing | call
    assert GenerateOptions.__optional_keys__ == generate
    assert ScoreOptions.__optional_keys__ == score
    assert RouteOptions.__optional_keys__ == route
