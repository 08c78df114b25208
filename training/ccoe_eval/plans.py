"""How the router splits prompts into steps when the plan is left to it."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ccoe_client import Client, Finished, Started, generate_request
from ccoe_training.records import read_records

from .client import user


@dataclass(frozen=True)
class Prompt:
    text: str
    domains: list[str]
    """Of its steps, in order; one: it is not to be split."""


def read_prompts(path: Path) -> list[Prompt]:
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [Prompt(record["prompt"], record["domains"]) for record in records]


def dev_prompts(data: Path, limit: int | None) -> list[Prompt]:
    """Of every domain's dev.jsonl, spread over the file: prompts of one step."""
    prompts = []
    for path in sorted(data.glob("*/dev.jsonl")):
        records = read_records(path)
        stride = max(1, len(records) // (limit or len(records)))
        kept = records[::stride][:limit]
        prompts += [Prompt(record["prompt"], [path.parent.name]) for record in kept]
    return prompts


def steps_of(client: Client, prompt: Prompt) -> list[str]:
    """The domains of the steps that the router makes of it; one token of each is generated."""
    request = generate_request(user(prompt.text), max_tokens=1, temperature=0.0, plan="automatic")
    domains: list[str] = []
    for event in client.stream(request):
        if isinstance(event, Started):
            domains = [event.route.domain]
        elif isinstance(event, Finished) and event.steps:
            domains = [step.route.domain for step in event.steps]
    return domains


def measure_plans(client: Client, prompts: list[Prompt], streams: int) -> list[list[str]]:
    with ThreadPoolExecutor(streams) as pool:
        return list(pool.map(lambda prompt: steps_of(client, prompt), prompts))


def report_plans(prompts: list[Prompt], found: list[list[str]]) -> list[str]:
    """Lines for people: what was split otherwise than expected, then the sums."""
    pairs = list(zip(prompts, found, strict=True))
    several = [(p, f) for p, f in pairs if len(p.domains) > 1]
    single = [(p, f) for p, f in pairs if len(p.domains) == 1]
    lines = [
        f"expected {', '.join(p.domains)}; made {', '.join(f)}: {p.text[:100]!r}"
        for p, f in pairs if f != p.domains and max(len(f), len(p.domains)) > 1
    ]  # fmt: skip
    right = sum(f == p.domains for p, f in several)
    split = sum(len(f) > 1 for _, f in single)
    if several:
        lines.append(f"{right} of {len(several)} prompts of several steps were split as expected")
    lines.append(f"{split} of {len(single)} prompts of one step were split")
    return lines
