"""Scores a package on its domain's dev set, beside its own base."""

import re
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from .base_model import BaseModel, load_base
from .data import Example, batches, encode_records, read_records
from .gate import GateRules, measure
from .package import load_expert, read_json, update_expert

MAX_NEW_TOKENS = 96
BATCH = 10


def normalise(text: str) -> str:
    """Case, quotes, blanks and a closing semicolon do not matter."""
    text = text.strip().rstrip(";").lower().replace('"', "'")
    text = re.sub(r"\s*([(),=<>])\s*", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


def dev_loss(model: LlamaForCausalLM, examples: list[Example]) -> float:
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches(examples, 2048, seed=0):
            hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[batch.predicts])
            total += functional.cross_entropy(logits, batch.targets, reduction="sum").item()
            count += len(batch.targets)
    return total / count


def answers(base: BaseModel, prompts: list[list[int]]) -> list[str]:
    """Greedy answers, in batches padded on the left, ordered by length."""
    end = base.tokenizer.control["<|im_end|>"]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    for begin in range(0, len(order), BATCH):
        rows = order[begin : begin + BATCH]
        width = max(len(prompts[i]) for i in rows)
        ids = torch.full((len(rows), width), end)
        mask = torch.zeros((len(rows), width), dtype=torch.int64)
        for row, i in enumerate(rows):
            ids[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]) :] = 1
        with torch.no_grad():
            out = base.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=MAX_NEW_TOKENS, do_sample=False,
                eos_token_id=end, pad_token_id=end,
            )  # fmt: skip
        for row, i in enumerate(rows):
            texts[i] = base.tokenizer.decode(out[row, width:].tolist())
    return texts


def score(base: BaseModel, records: list[dict[str, str]]) -> dict[str, Any]:
    prompts = [base.chat.user_ids(record["prompt"]) for record in records]
    texts = answers(base, prompts)
    right = sum(normalise(t) == normalise(r["answer"]) for t, r in zip(texts, records))
    examples = encode_records(records, base.chat, max_tokens=4096)
    return {"loss": round(dev_loss(base.model, examples), 4), "exact_match": right}


def evaluate(package: Path, model: Path, data: Path, limit: int) -> dict[str, Any]:
    """`data` holds one folder for each domain. Writes what it measures into the package."""
    manifest = read_json(package / "expert.json")
    domain = manifest["domain"]
    records = read_records(data / domain / "dev.jsonl")
    step = max(1, len(records) // limit)
    records = records[::step][:limit]
    base = load_base(model)
    scores: dict[str, Any] = {"dev_examples": len(records)}
    scores["base"] = score(base, records)
    print("base", scores["base"], flush=True)
    load_expert(base, package)
    scores["expert"] = score(base, records)
    print("expert", scores["expert"], flush=True)
    scores["gate"] = gate_scores(manifest, data)
    update_expert(package, "scores", scores)
    return scores


def gate_scores(manifest: dict[str, Any], data: Path) -> dict[str, Any]:
    """Precision and recall of the rules over every domain's dev prompts."""
    rules = GateRules.from_json(manifest["gate"]["rules"])
    records = [record for path in sorted(data.glob("*/dev.jsonl")) for record in read_records(path)]
    return measure(rules, records, manifest["domain"])
