"""What Prometheus and the dashboards tell is what the clients saw: a scripted load with an overload,
clients that cancel, and an expert that dies."""

import bisect
import collections
import concurrent.futures
import itertools
import math
import pathlib
import re
import time

import api
import certificates
import http_client
import monitoring
import processes
import prompts
import pytest
from ccoe_client import Delta, Started

DEEP = 22  # birds attaches there
MAX_ACTIVE = 4
TOKENS, REFUSED, LOST = 12, 9, 5
LOAD_S = 40  # long beside the second between two scrapes: what a rate makes of its ends is small

pytestmark = pytest.mark.skipif(not monitoring.PROGRAMS,
                                reason="CCOE_PROMETHEUS is not set (make test sets it)")

Seen = collections.namedtuple("Seen", "domain ttft tokens")


def ask(client, domain):
    """One request, whose domain the gate finds; what its client sees of it."""
    begin, first, count = time.monotonic(), None, 0
    for event in client.stream(api.request(prompts.BY_DOMAIN[domain], max_tokens=TOKENS,
                                           ignore_end_of_generation=True)):
        if isinstance(event, Delta) and event.token_ids:
            first = first or time.monotonic() - begin
            count += len(event.token_ids)
    return Seen(domain, first, count)


def put_load(client):
    """Asks in all domains for LOAD_S, two requests at a time."""
    end = time.monotonic() + LOAD_S

    def ask_on():
        seen = []
        for domain in itertools.cycle(prompts.BY_DOMAIN):
            if time.monotonic() >= end:
                return seen
            seen.append(ask(client, domain))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(ask_on) for _ in range(2)]
        return [seen for worker in workers for seen in worker.result()]


def overload(client):
    """Fills all places, is refused REFUSED times, and leaves."""
    held = []
    for _ in range(MAX_ACTIVE):
        stream = client.stream(api.request(prompts.GENERAL, domain="general", max_tokens=400,
                                           ignore_end_of_generation=True))
        assert isinstance(next(stream), Started)
        held.append(stream)
    for _ in range(REFUSED):
        error = api.failure_of(client.stream, api.request(prompts.SQL))
        assert error.reason == "QUEUE_FULL"
    for stream in held:
        stream.close()


def lose_an_expert(deployment, client):
    deployment.experts[1].kill()
    processes.wait_until(lambda: "birds" not in client.ready_domains(),
                         what="that birds is known to be gone")
    for _ in range(LOST):
        error = api.failure_of(client.stream, api.request(prompts.BIRDS, domain="birds"))
        assert error.reason == "EXPERT_UNAVAILABLE"


def bounds_of(metric):
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    row = re.search(rf"^\| `{metric}` \| ([\d. e-]+) \|$", page, re.MULTILINE)
    return [float(bound) for bound in row[1].split()]


@pytest.fixture(scope="module")
def system(tmp_path_factory, model, experts, cli):
    """A deployment that takes few requests at a time, for a key, and Prometheus beside it."""
    folder = tmp_path_factory.mktemp("monitored")
    added = cli("keys", "add", folder / "keys.json", "--name", "team")
    assert added.returncode == 0, added.stderr
    authority = certificates.new_authority()
    deployment = processes.Deployment(
        folder, model, [{"packages": [str(experts / "sql")], "general": True},
                        {"packages": [str(experts / "birds")]}], DEEP,
        router={"limits": {"max_active_requests": MAX_ACTIVE},
                "api_keys": str(folder / "keys.json"),
                "peer_tls": {"ca": certificates.write_ca(folder, authority)}},
        backbone={"server": {"tls": certificates.write_identity(folder, authority, "backbone")}})
    gateway = prometheus = None
    try:
        with api.Client(deployment.router.listen, api_key=added.stdout.strip()) as client:
            processes.wait_until(lambda: client.ready_domains() == {"sql", "birds", "general"},
                                 what="that all experts are ready")
            gateway = processes.Process(folder, "ccoe-gateway", {
                "router": deployment.router.listen, "http": {"listen": processes.LOCAL}})
            assert http_client.request(gateway.http, "GET", "/healthz")[0] == 200
            prometheus = monitoring.Prometheus(folder, {
                "gateway": [gateway.metrics],
                "router": [deployment.router.metrics], "backbone": [deployment.backbone.metrics],
                "expert": [expert.metrics for expert in deployment.experts]})
            yield deployment, prometheus, client
    finally:
        if prometheus is not None:
            prometheus.stop()
        if gateway is not None:
            gateway.kill()
        deployment.kill()


@pytest.fixture(scope="module")
def story(system):
    """The scenario, once: {name: what the client saw or when}."""
    deployment, prometheus, client = system

    def scraped(expression, value):
        """Waits until Prometheus has the value; the time of a query that sees it."""
        processes.wait_until(lambda: prometheus.value(expression) == value,
                             what=f"that {expression} is {value}")
        return time.time()

    zeros = "count_over_time((sum(ccoe_requests_total) == 0)[1m:1s])"
    processes.wait_until(lambda: (prometheus.value(zeros) or 0) >= 3, what="that counters are seen at zero")
    told = {"begin": time.time() - 2 * monitoring.SCRAPE_S}
    told["seen"] = put_load(client)
    asked = len(told["seen"])
    told["loaded"] = scraped("sum(ccoe_requests_total)", asked)
    plan = api.request(None, max_tokens=4, plan=[("sql", "Write a query."), ("general", "Explain it.")])
    assert client.answer(plan).token_ids
    told["planned"] = scraped("ccoe_expert_switches_total", 1)
    overload(client)
    told["refused"] = scraped("sum(ccoe_requests_total)", asked + 1 + REFUSED + MAX_ACTIVE)
    lose_an_expert(deployment, client)
    told["lost"] = scraped("sum(ccoe_requests_total)", asked + 1 + REFUSED + MAX_ACTIVE + LOST)
    return told


def rate_of(prometheus, story, begin, end, dashboard, title):
    """{labels: value} of a panel over a part of the scenario, with its length in seconds."""
    window = story[end] - story[begin]
    expression = monitoring.fill_in(monitoring.panel(dashboard, title), window)
    result = prometheus.query(expression, at=story[end])
    return {tuple(labels.values()): value for labels, value in result}, window


def test_counts_are_the_clients(system, story):
    _, prometheus, _ = system
    codes = {labels["grpc_code"]: value for labels, value in prometheus.query(
        "sum by (grpc_code) (ccoe_requests_total) > 0")}
    assert codes == {"OK": len(story["seen"]) + 1, "RESOURCE_EXHAUSTED": REFUSED, "CANCELLED": MAX_ACTIVE,
                     "UNAVAILABLE": LOST}
    reasons = {labels["reason"]: value for labels, value in prometheus.query(
        "ccoe_requests_rejected_total > 0")}
    assert reasons == {"QUEUE_FULL": REFUSED, "EXPERT_UNAVAILABLE": LOST}
    assert prometheus.value('ccoe_cancellations_total{cause="client"}') == MAX_ACTIVE


def test_a_domain_without_replica_shows_its_demand(system, story):
    queue = 'ccoe_queue_requests{domain="birds"}'
    assert system[1].value(queue, at=story["refused"]) == 0
    assert system[1].value(queue, at=story["lost"]) == LOST


def test_requests_of_the_panel(system, story):
    rates, window = rate_of(system[1], story, "begin", "loaded", "overview", "Requests by domain")
    for domain in prompts.BY_DOMAIN:
        asked = sum(seen.domain == domain for seen in story["seen"])
        assert rates[(domain,)] * window == pytest.approx(asked, rel=0.05), domain


def test_tokens_of_the_panel(system, story):
    rates, window = rate_of(system[1], story, "begin", "loaded", "overview",
                            "Tokens generated per second")
    got = sum(seen.tokens for seen in story["seen"])
    assert got == len(story["seen"]) * TOKENS
    assert rates[()] == pytest.approx(got / window, rel=0.05)


def test_rejections_of_the_panel(system, story):
    rates, window = rate_of(system[1], story, "begin", "refused", "overview",
                            "Refused before the start, by reason")
    assert rates[("QUEUE_FULL",)] * window == pytest.approx(REFUSED, rel=0.05)
    rates, window = rate_of(system[1], story, "begin", "refused", "overview", "Cancelled, by cause")
    assert rates[("client",)] * window == pytest.approx(MAX_ACTIVE, rel=0.05)


def test_first_tokens_of_the_panel(system, story):
    window = story["loaded"] - story["begin"]
    expression = monitoring.panel("overview", "Time to the first token", index=1)
    assert expression.startswith("histogram_quantile(0.95")
    told = system[1].value(monitoring.fill_in(expression, window), at=story["loaded"])
    bounds = bounds_of("ccoe_time_to_first_token_seconds")
    times = sorted(seen.ttft for seen in story["seen"])
    seen = times[math.ceil(0.95 * len(times)) - 1]
    assert abs(bisect.bisect_left(bounds, told) - bisect.bisect_left(bounds, seen)) <= 1, (told, seen)


def test_the_lost_expert_is_shown_and_its_alert_waits(system, story):
    _, prometheus, _ = system
    del story
    healthy = {labels["expert"]: value for labels, value in prometheus.query("ccoe_expert_healthy")}
    assert healthy == {"sql": 1, "general": 1, "birds": 0}
    processes.wait_until(lambda: prometheus.alerts("CcoeExpertDown") == {"birds": "pending"},
                         what="that the alert waits for its two minutes")


@pytest.mark.parametrize(("dashboard", "title", "expressions"), list(monitoring.panels()),
                         ids=lambda value: value if isinstance(value, str) else "")
def test_every_panel_has_data(system, story, dashboard, title, expressions):
    window = story["lost"] - story["begin"]
    for expression in expressions:
        asked = monitoring.fill_in(expression, window, domain="sql")
        series = system[1].series(asked, story["begin"], story["lost"])
        assert any(math.isfinite(value) for values in series for value in values), asked
