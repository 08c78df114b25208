"""Health, reflection, channelz, request ids and metrics of a deployment."""

import api
import grpc
import prompts
from ccoe.v1 import generation_service_pb2_grpc as generation_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVING = health_pb2.HealthCheckResponse.SERVING


def check_health(address, service=""):
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def test_health_on_both_ports(shared):
    for process in shared.processes():
        assert check_health(process.listen) == SERVING
        assert check_health(process.health) == SERVING
    assert check_health(shared.router.listen, "ccoe.v1.GenerationService") == SERVING
    error = api.failure_of(check_health, shared.router.listen, "no.such.Service")
    assert error.code == grpc.StatusCode.NOT_FOUND


def test_reflection(shared):
    with grpc.insecure_channel(shared.router.listen) as channel:
        names = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {"ccoe.v1.GenerationService", "ccoe.v1.CatalogService", "grpc.health.v1.Health",
            "grpc.channelz.v1.Channelz"} <= names


def request_ids(client, prompt, given):
    """The id in the first event of a stream, and the one in its headers, which the client does not
    show."""
    call = generation_grpc.GenerationServiceStub(client.channel).GenerateStream(
        api.request(prompt, max_tokens=4), timeout=60, metadata=[("x-request-id", given)])
    first, *_ = list(call)
    return first.started.request_id, dict(call.initial_metadata())["x-request-id"]


def test_request_id_is_echoed(client, shared):
    given = "e2e.request-0001"
    assert request_ids(client, prompts.SQL, given) == (given, given)
    for process in [shared.router, shared.backbone, shared.experts[0]]:
        assert given in process.log.read_text(), f"{process.name} does not log the request's id"


def test_traceparent_is_passed_on(client, shared):
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client.answer(api.request(prompts.SQL, max_tokens=4), traceparent=given)
    for process in [shared.backbone, shared.experts[0]]:
        assert f"traceparent={given}" in process.log.read_text(), process.name
    client.answer(api.request(prompts.SQL, max_tokens=4), traceparent="malformed-0000")
    for process in shared.processes():
        assert "malformed-0000" not in process.log.read_text(), process.name


def test_request_id_is_made(client):
    started, header = request_ids(client, prompts.GENERAL, "not valid!")
    assert started not in ("", "not valid!")
    assert header == started


def test_prompts_are_never_logged(client, shared):
    marker = "xylophonequartz"
    client.answer(api.request(f"Tell me of {marker}.", max_tokens=4))
    for process in shared.processes():
        assert marker not in process.log.read_text()


def test_metrics(client, shared):
    client.answer(api.request(prompts.SQL, max_tokens=4))
    router, backbone = shared.router.scrape(), shared.backbone.scrape()
    assert any(name.startswith("ccoe_build_info{") for name in router)
    [expert] = client.experts("sql")
    labels = f'domain="sql",expert="sql",version="{expert.version}"'
    assert router[f"ccoe_time_to_first_token_seconds_count{{{labels}}}"] > 0
    assert router[f"ccoe_inter_token_latency_seconds_count{{{labels}}}"] > 0
    assert router[f"ccoe_expert_healthy{{{labels}}}"] == 1
    assert any(name.startswith("ccoe_requests_total{") and value > 0
               for name, value in router.items())
    assert not any(name.startswith("ccoe_sessions") for name in router)
    assert any(name.startswith("ccoe_step_duration_seconds_count{") and value > 0
               for name, value in backbone.items())
    assert backbone['ccoe_hidden_state_bytes_total{direction="sent"}'] > 0


def test_top(cli, client, shared):
    client.answer(api.request(prompts.SQL, max_tokens=4))
    addresses = [process.metrics for process in shared.processes()]
    shown = cli("top", *addresses, "--once", "--interval", 0.2)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert any(line.split()[:1] == ["sql"] and "ready" in line for line in lines)
    assert [line.split()[0] for line in lines[-4:]] == ["router", "backbone", "expert", "expert"]
    assert cli("top", shared.router.listen, "--once").returncode == 1  # no metrics there
    assert cli("top", "127.0.0.1:1", "--once").returncode == 3


def test_catalog(client, model):
    del model
    assert [expert.domain for expert in client.experts()] == ["birds", "general", "sql"]
    info = client.model()
    assert info.layers == 30 and info.digest.startswith("sha256:")
    assert info.arithmetic == "i8b32.v2"


def test_tokenize_and_count(client):
    text = api.types.Text(text="a  12 <|im_end|>")
    tokens = client.tokenize(text)
    assert b"".join(token.token for token in tokens) == b"a  12 <|im_end|>"
    assert client.count_tokens(text).tokens == len(tokens)
