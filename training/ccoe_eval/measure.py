"""One measurement: an item asked in one of four ways."""

import math
from dataclasses import dataclass
from typing import Any

from ccoe.v1.generation_service_pb2 import ScoreResponse
from ccoe_client import Client

from .client import Turn, route_json, user
from .options import Option
from .shots import Shots
from .tasks import Item, Row

BASE, FEW_SHOT, EXPERT, ROUTED = "base", "base_3_shot", "expert", "routed"
ARMS = [BASE, FEW_SHOT, EXPERT, ROUTED]
GENERAL = "general"
Metrics = dict[str, float]


@dataclass(frozen=True)
class Asked:
    """An item as an arm asks it."""

    turns: list[Turn]
    domain: str | None
    """Who is told to answer; None: the gate decides."""


def asked(item: Item, arm: str, row: Row, shots: Shots | None) -> Asked:
    before = shots.before(item) if arm == FEW_SHOT and shots is not None else []
    domains = {BASE: GENERAL, FEW_SHOT: GENERAL, EXPERT: row.domain, ROUTED: None}
    return Asked([*before, *user(item.record["prompt"])], domains[arm])


def measure(client: Client, row: Row, item: Item, arm: str, shots: Shots | None) -> dict[str, Any]:
    """The result of one item and arm. Its metrics are
    `correct`  0 or 1, of the greedy answer;
    `letter`   0 or 1: the option whose letter alone is likeliest is right (choices);
    `option`   0 or 1: the likeliest option is right, per byte with its words (choices), as a whole
               (labels);
    `bits`, `bytes`  of the reference response after the prompt.
    What the routed arm measures beyond `correct` would repeat another arm's figures."""
    ask = asked(item, arm, row, shots)
    result: dict[str, Any] = {
        "prompt_sha256": item.prompt_sha256,
        "arm": arm,
        "source": item.record["source"],
        "kind": item.kind,
    }
    metrics: Metrics = {}
    if item.kind != "none":
        answer = client.generate(
            ask.turns, domain=ask.domain, max_tokens=row.max_tokens, temperature=0.0
        )
        metrics["correct"] = float(item.right(answer.text))
        result |= {
            "text": answer.text,
            "finish": answer.finish_reason,
            "route": route_json(answer.route),
        }
    elif arm == ROUTED:
        result["route"] = route_json(client.route(item.record["prompt"]).route)
    if arm != ROUTED and item.options:
        metrics |= likeliest(client, ask, item)
    if arm in (BASE, EXPERT):
        metrics |= reference_bits(client, ask, item.record["response"])
    if arm == FEW_SHOT:
        result["shots"] = (len(ask.turns) - 1) // 2
    return result | {"metrics": metrics}


def score(client: Client, ask: Asked, continuation: str) -> ScoreResponse:
    return client.score(ask.turns, continuation, domain=ask.domain)


def reference_bits(client: Client, ask: Asked, response: str) -> Metrics:
    bits = -score(client, ask, response).total_logprob / math.log(2)
    return {"bits": round(bits, 4), "bytes": float(len(response.encode()))}


def likeliest(client: Client, ask: Asked, item: Item) -> Metrics:
    answer = item.record["answer"]
    if item.kind == "label":
        scores = {o.label: label_logprob(client, ask, o) for o in item.options}
        return {"option": float(max(scores, key=scores.__getitem__) == answer)}
    letters, wholes = {}, {}
    for option in item.options:
        words = f"{option.label}. {option.words}"
        scored = score(client, ask, words)
        if scored.tokens[0].token != option.label.encode():
            raise ValueError(f"the tokenizer does not keep the letter of {words!r} apart")
        letters[option.label] = scored.tokens[0].logprob
        wholes[option.label] = scored.total_logprob / len(words.encode())
    return {
        "letter": float(max(letters, key=letters.__getitem__) == answer),
        "option": float(max(wholes, key=wholes.__getitem__) == answer),
    }


def label_logprob(client: Client, ask: Asked, option: Option) -> float:
    """Of a label in any of its spellings."""
    sums = [score(client, ask, spelling).total_logprob for spelling in option.spellings]
    largest = max(sums)
    return largest + math.log(sum(math.exp(value - largest) for value in sums))
