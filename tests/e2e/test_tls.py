"""TLS between clients, router, backbone and experts, with real certificates."""

import time

import api
import grpc
import processes
import prompts
import pytest
from certificates import new_authority, write_ca, write_identity

DEPTH = 18


@pytest.fixture(scope="module")
def authority():
    return new_authority()


@pytest.fixture(scope="module")
def stranger():
    return new_authority()


@pytest.fixture(scope="module")
def system(tmp_path_factory, model, experts, authority):
    """Router, backbone and expert that take only each other, by certificates of one authority."""
    folder = tmp_path_factory.mktemp("tls")
    ca = write_ca(folder, authority)
    engine = {"model": str(model), "threads": 1, "kv_cache_mib": 160}

    def mutual(name):
        return {"ca": ca, **write_identity(folder, authority, name)}

    started = []
    try:
        expert = processes.Process(folder, "ccoe-expert", {
            "engine": engine, "packages": [str(experts / "sql")], "general": True,
            "server": {"tls": mutual("expert")}})
        started.append(expert)
        backbone = processes.Process(folder, "ccoe-backbone", {
            "engine": engine, "layers": DEPTH, "peers": [{"address": expert.listen}],
            "server": {"tls": mutual("backbone")}, "peer_tls": mutual("backbone")})
        started.append(backbone)
        router = processes.Process(folder, "ccoe-router", {
            "backbone": backbone.listen, "peer_tls": mutual("router"), "admin_listen": processes.LOCAL,
            "server": {"tls": write_identity(folder, authority, "router-port")}})
        started.append(router)
        yield folder, router, backbone
    finally:
        for process in reversed(started):
            process.stop()


def client_of(address, authority, identity=None):
    pems = [None, None]
    if identity is not None:
        issued = identity.issue_cert("client@localhost")
        pems = [issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()]
    return api.Client(address, credentials=grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), *pems))


def test_an_answer_comes_over_tls_on_every_hop(system, authority):
    with client_of(system[1].listen, authority) as client:
        processes.wait_until(lambda: client.ready_domains() == {"sql", "general"}, what="that all is ready")
        answer = client.answer(api.request(prompts.SQL))
        assert answer.started.route.domain == "sql" and len(answer.token_ids) > 0


def test_plaintext_and_strangers_are_refused(system, authority, stranger):
    _, router, backbone = system
    with api.Client(router.listen) as client:
        assert api.failure_of(client.model).code == grpc.StatusCode.UNAVAILABLE
    with client_of(router.listen, stranger) as client:
        assert api.failure_of(client.model).code == grpc.StatusCode.UNAVAILABLE
    # The backbone asks for a certificate of its authority.
    for identity, served in ((None, False), (stranger, False), (authority, True)):
        with client_of(backbone.listen, authority, identity) as client:
            code = api.failure_of(client.model, timeout=5).code
            assert (code == grpc.StatusCode.UNIMPLEMENTED) == served, (identity, code)


def test_experts_are_pushed_and_popped_over_tls(system, authority, experts, cli):
    folder, router, _ = system
    trust = ("--tls-ca", folder / "ca.pem")
    pushed = cli("experts", "push", "--admin", router.admin, *trust, experts / "sql")
    assert pushed.returncode != 0 and "ALREADY_EXISTS" in pushed.stderr
    listed = cli("experts", "--server", router.listen, *trust)
    assert listed.returncode == 0 and "sql" in listed.stdout
    unknown = cli("experts", "--server", router.listen)
    assert unknown.returncode == 3


def test_a_renewed_certificate_needs_no_restart(system, authority):
    folder, router, _ = system
    name = "ccoe_certificate_expiry_timestamp_seconds"
    before = router.scrape()[name]
    assert before > time.time()
    renewed = new_authority()
    write_identity(folder, renewed, "router-port")

    def served():
        with client_of(router.listen, renewed) as client:
            try:
                return client.model(timeout=5)
            except api.CcoeError:
                return None

    assert processes.wait_until(served, what="that the renewed certificate is served")
    write_identity(folder, authority, "router-port")
    (folder / "router-port.pem").rename(folder / "moved.pem")
    assert router.scrape()[name] == 0
    (folder / "moved.pem").rename(folder / "router-port.pem")
    assert router.scrape()[name] == before


def test_what_is_no_certificate_is_refused_at_start(tmp_path, model, cli):
    (tmp_path / "text").write_text("no certificate")
    refused = cli("serve", "--model", model, "--tls-cert", tmp_path / "text", "--tls-key", tmp_path / "text")
    assert refused.returncode == 2
    assert "server.tls: " in refused.stderr and "holds no certificate" in refused.stderr
