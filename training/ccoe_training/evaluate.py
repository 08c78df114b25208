"""Scores a package on its domain's dev set, beside its own base."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from .base_model import load_base
from .data import Example, batches, encode_records
from .gate import GateRules, measure
from .normalise import normalise_sql
from .package import load_expert, read_json, update_expert
from .records import read_records

MAX_NEW_TOKENS = 96
STREAMS = 8


@dataclass(frozen=True)
class Server:
    """A running `ccoe serve`, asked by the program `ccoe`."""

    address: str
    ccoe: Path


def dev_loss(model: LlamaForCausalLM, examples: list[Example]) -> float:
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches(examples, 2048, seed=0):
            hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[batch.predicts])
            total += functional.cross_entropy(logits, batch.targets, reduction="sum").item()
            count += len(batch.targets)
    return total / count


def answer(server: Server, domain: str, prompt: str) -> str:
    """The greedy answer of a running server."""
    command = [
        str(server.ccoe), "generate", "--server", server.address, "--domain", domain,
        "--temperature", "0", "--max-tokens", str(MAX_NEW_TOKENS), "--json", "-",
    ]  # fmt: skip
    out = subprocess.run(command, input=prompt, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])["text"]


def exact_matches(server: Server, domain: str, records: list[dict[str, str]]) -> int:
    with ThreadPoolExecutor(STREAMS) as pool:
        texts = pool.map(lambda record: answer(server, domain, record["prompt"]), records)
        return sum(normalise_sql(t) == normalise_sql(r["answer"]) for t, r in zip(texts, records))


def evaluate(package: Path, model: Path, data: Path, server: Server) -> dict[str, Any]:
    """`data` holds one folder for each domain; `server` serves the package. Writes what it measures
    into the package."""
    manifest = read_json(package / "expert.json")
    domain = manifest["domain"]
    records = read_records(data / domain / "dev.jsonl")
    base = load_base(model)
    examples = encode_records(records, base.chat, max_tokens=4096)
    scores: dict[str, Any] = {"dev_examples": len(records), "base": {}, "expert": {}}
    for who, name in (("base", "general"), ("expert", domain)):
        if who == "expert":
            load_expert(base, manifest["kind"], package)
        scores[who]["loss"] = round(dev_loss(base.model, examples), 4)
        scores[who]["exact_match"] = exact_matches(server, name, records)
        print(who, scores[who], flush=True)
    scores["gate"] = gate_scores(manifest, data)
    update_expert(package, "scores", scores)
    return scores


def gate_scores(manifest: dict[str, Any], data: Path) -> dict[str, Any]:
    """Precision and recall of the rules over every domain's dev prompts."""
    rules = GateRules.from_json(manifest["gate"]["rules"])
    records = [record for path in sorted(data.glob("*/dev.jsonl")) for record in read_records(path)]
    return measure(rules, records, manifest["domain"])
