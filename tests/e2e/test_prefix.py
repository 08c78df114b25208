"""The prefix cache: a conversation's next turn computes what is new, whichever expert answers it."""

import api
import processes
import pytest

TEXT = ("The harbour office keeps a list of boats with their captains, their lengths and the days on "
        "which they came. ") * 6
QUESTIONS = ["Which columns would a table of boats have?", "Count the boats of each captain.",
             "Which birds follow them?", "Say it in one sentence.", "Now only those longer than 9 m.",
             # Long enough for the gate to judge it alone: no page of the turns before it is wanted.
             "Write a query for the name, the captain and the length of every boat that came in May."]
DOMAINS = ["sql", "sql", "birds", "general", "sql", None]


@pytest.fixture(scope="module")
def without(tmp_path_factory, model, experts):
    """A server without the cache, in one process."""
    server = processes.Process(tmp_path_factory.mktemp("without"), "ccoe", {
        "engine": {"model": str(model), "threads": 1, "kv_cache_mib": 160, "prefix_cache": False},
        "experts": str(experts)})
    yield server
    server.kill()


def converse(client):
    """Of each turn its token ids and its usage."""
    messages, turns = [], []
    for index, (question, domain) in enumerate(zip(QUESTIONS, DOMAINS)):
        messages.append({"role": "user", "content": question if index > 0 else TEXT + question})
        answer = client.answer(api.request(messages, max_tokens=20, domain=domain))
        messages.append({"role": "assistant", "content": answer.text})
        turns.append((answer.token_ids, answer.finished.usage))
    return turns


def test_a_turn_computes_what_is_new(client, without):
    turns = converse(client)
    for (_, before), (_, usage) in zip(turns, turns[1:]):
        assert usage.cached_tokens >= before.prompt_tokens // 32 * 32
        assert usage.cached_tokens < usage.prompt_tokens
    with api.Client(without.listen) as other:
        computed = converse(other)
    assert [usage.cached_tokens for _, usage in computed] == [0] * len(DOMAINS)
    assert [ids for ids, _ in turns] == [ids for ids, _ in computed]


def total(process, name):
    """Of all series of a metric."""
    return sum(value for series, value in process.scrape().items() if series.startswith(name))


def test_what_is_found_is_counted(client, shared):
    before = total(shared.router, "ccoe_cached_tokens_total")
    found = sum(usage.cached_tokens for _, usage in converse(client))
    assert found > 0
    assert total(shared.router, "ccoe_cached_tokens_total") == before + found
    assert shared.backbone.scrape()['ccoe_kv_cache_blocks{state="cached"}'] > 0
