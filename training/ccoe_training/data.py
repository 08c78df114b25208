"""Records to token ids, and token ids to batches of like lengths."""

import random
from dataclasses import dataclass
from typing import Iterator

import torch

from .chat import ChatMl
from .records import Record


@dataclass(frozen=True)
class Example:
    """One conversation: ids[prompt_tokens:] is the response, closed by <|im_end|>."""

    index: int
    ids: list[int]
    prompt_tokens: int

    @property
    def tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """Padded on the right; with causal attention no real token sees the padding."""

    examples: list[Example]
    ids: torch.Tensor
    """[sequences, tokens] int64"""
    predicts: torch.Tensor
    """[sequences, tokens] bool: positions whose next token belongs to the response"""
    targets: torch.Tensor
    """[predicting positions] int64, in row order"""

    @property
    def tokens(self) -> int:
        return sum(example.tokens for example in self.examples)


def encode_records(records: list[Record], chat: ChatMl, max_tokens: int) -> list[Example]:
    """Encodes `records`; those longer than `max_tokens` are left out, never cut."""
    examples = []
    for index, record in enumerate(records):
        prompt = chat.user_ids(record["prompt"])
        ids = prompt + chat.response_ids(record["response"])
        if len(ids) <= max_tokens:
            examples.append(Example(index, ids, len(prompt)))
    return examples


def make_batch(examples: list[Example], pad_id: int = 0) -> Batch:
    width = max(example.tokens for example in examples)
    ids = torch.full((len(examples), width), pad_id, dtype=torch.int64)
    predicts = torch.zeros((len(examples), width), dtype=torch.bool)
    targets: list[int] = []
    for row, example in enumerate(examples):
        ids[row, : example.tokens] = torch.tensor(example.ids)
        predicts[row, example.prompt_tokens - 1 : example.tokens - 1] = True
        targets += example.ids[example.prompt_tokens :]
    return Batch(examples, ids, predicts, torch.tensor(targets))


def batches(examples: list[Example], max_batch_tokens: int, seed: int) -> Iterator[Batch]:
    """Batches of at most `max_batch_tokens` padded tokens, sorted by length within, in an order
    shuffled by `seed`."""
    rng = random.Random(seed)
    ordered = sorted(examples, key=lambda example: (example.tokens, rng.random()))
    groups: list[list[Example]] = [[]]
    for example in ordered:
        if groups[-1] and (len(groups[-1]) + 1) * example.tokens > max_batch_tokens:
            groups.append([])
        groups[-1].append(example)
    rng.shuffle(groups)
    for group in groups:
        yield make_batch(group)
