"""The boundary states: hidden states at the attach depth, computed once and kept on disk."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from .data import Batch, Example

FLOAT16_MAX = 65504.0


def run_layers(model: LlamaForCausalLM, hidden: torch.Tensor, begin: int, end: int) -> torch.Tensor:
    """hidden [sequences, tokens, hidden] through layers begin..end, causal, from position 0."""
    positions = torch.arange(hidden.shape[1]).unsqueeze(0)
    cos, sin = model.model.rotary_emb(hidden, positions)
    dtype = model.model.embed_tokens.weight.dtype
    rotary = (cos.to(dtype), sin.to(dtype))
    for layer in model.model.layers[begin:end]:
        hidden = layer(hidden, position_embeddings=rotary, attention_mask=None)
    return hidden


class BoundaryCache:
    """float16 rows [tokens, hidden] in one file, filled as batches ask for them. The folder's name
    depends on the ids and the depth, so a changed recipe never reads stale states."""

    def __init__(self, folder: Path, examples: list[Example], hidden: int, key: str):
        digest = hashlib.sha256(json.dumps([key, [e.ids for e in examples]]).encode()).hexdigest()
        place = folder / digest[:16]
        place.mkdir(parents=True, exist_ok=True)
        self._begin: dict[int, int] = {}
        rows = 0
        for example in examples:
            self._begin[example.index] = rows
            rows += example.tokens
        self._states = self._open(place / "states.f16", np.float16, (rows, hidden))
        self._filled = self._open(place / "filled.u8", np.uint8, (rows,))

    @staticmethod
    def _open(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
        return np.memmap(path, dtype=dtype, mode="r+" if path.exists() else "w+", shape=shape)

    def get(self, batch: Batch, model: LlamaForCausalLM, depth: int) -> torch.Tensor:
        """[sequences, tokens, hidden] float32."""
        begins = [self._begin[example.index] for example in batch.examples]
        spans = [slice(b, b + e.tokens) for b, e in zip(begins, batch.examples)]
        if not all(self._filled[span].all() for span in spans):
            self._fill(batch, spans, model, depth)
        states = torch.zeros(*batch.ids.shape, self._states.shape[1])
        for row, span in enumerate(spans):
            states[row, : span.stop - span.start] = torch.from_numpy(self._states[span]).float()
        return states

    def _fill(self, batch: Batch, spans: list[slice], model: LlamaForCausalLM, depth: int) -> None:
        with torch.no_grad():
            embedded = model.model.embed_tokens(batch.ids).float()
            states = run_layers(model, embedded, 0, depth)
        if states.abs().max() > FLOAT16_MAX:
            raise ValueError("boundary states do not fit float16")
        for row, span in enumerate(spans):
            self._states[span] = states[row, : span.stop - span.start].to(torch.float16).numpy()
            self._filled[span] = 1
