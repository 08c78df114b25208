"""The split over processes gives the tokens that one process gives."""

import json

import api
import prompts
import pytest


@pytest.mark.parametrize("domain", sorted(prompts.BY_DOMAIN))
def test_split_equals_embedded(client, cli, model, experts, domain):
    for temperature in (0.0, 0.9):
        embedded = cli("generate", "--model", model, "--experts", experts, "--json", "--max-tokens",
                       40, "--temperature", temperature, "--seed", 11, prompts.BY_DOMAIN[domain])
        assert embedded.returncode == 0, embedded.stderr
        last = json.loads(embedded.stdout.splitlines()[-1])
        split = client.answer(api.request(prompts.BY_DOMAIN[domain], max_tokens=40,
                                          temperature=temperature, seed=11))
        assert split.token_ids == last["token_ids"]
        assert split.text == last["text"]
        assert last["domain"] == split.started.route.domain == domain
        assert last["model_digest"] == split.started.model_digest


def test_scores_are_those_of_one_process(client, cli, shared):
    """A continuation is scored the same whether its tokens come at once or one by one."""
    message = api.request(prompts.SQL, max_tokens=12)
    message.output.top_logprobs = 0
    generated = []
    for event in client.stream(message):
        if isinstance(event, api.Delta):
            generated += [(token.id, token.logprob) for token in event.logprobs]
    scored = client.score(prompts.SQL, [id for id, _ in generated])
    assert [(token.id, token.logprob) for token in scored.tokens] == generated
