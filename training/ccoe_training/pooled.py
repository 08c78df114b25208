"""Pooled states: what the learned gate sees of a prompt, one vector a prompt."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .base_model import BaseModel, load_base
from .boundary import run_layers
from .chat import ChatMl
from .mixed import to_mixed

MIN_TOKENS = 16
BATCH_TOKENS = 2048
CHUNK_PROMPTS = 256


@dataclass(frozen=True)
class Pooling:
    """The ids of a sequence up to the last pooled token, and which of them are pooled."""

    ids: list[int]
    pooled: list[int]


def content_begin(chat: ChatMl, ids: list[int], header: str) -> int:
    """The first of the tokens of `header` + content that holds none of the header's bytes. In a
    byte-level vocabulary a token has one character for each byte."""
    seen = 0
    for position, token in enumerate(ids):
        if seen >= len(header):
            return position
        seen += len(chat.tokenizer.vocab[token])
    return len(ids)


def pool_conversation(chat: ChatMl, messages: list[dict[str, str]]) -> Pooling:
    """Pools the content of the last user turn, and of the user turns before it as long as there are
    fewer than MIN_TOKENS tokens; never a control token or a role header."""
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": chat.default_system}, *messages]
    ids: list[int] = []
    turns: list[list[int]] = []
    for message in messages:
        ids.append(chat.tokenizer.control["<|im_start|>"])
        header = f"{message['role']}\n"
        content = chat.tokenizer.encode(header + message["content"])
        begin = content_begin(chat, content, header)
        if message["role"] == "user":
            turns.append(list(range(len(ids) + begin, len(ids) + len(content))))
        ids += content + [chat.tokenizer.control["<|im_end|>"]] + chat.tokenizer.encode("\n")
    pooled: list[int] = []
    while turns and len(pooled) < MIN_TOKENS:
        pooled = turns.pop() + pooled
    return Pooling(ids[: pooled[-1] + 1] if pooled else [], pooled)


def pool_prompt(chat: ChatMl, prompt: str) -> Pooling:
    return pool_conversation(chat, [{"role": "user", "content": prompt}])


def pooled_states(base: BaseModel, layers: list[int], batch: list[Pooling]) -> torch.Tensor:
    """[routing layers, prompts, hidden] float32: the mean over the pooled tokens of the state that
    enters a routing layer, divided by its root mean square."""
    width = max(len(prompt.ids) for prompt in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.int64)
    mask = torch.zeros(len(batch), width, 1)
    for row, prompt in enumerate(batch):
        ids[row, : len(prompt.ids)] = torch.tensor(prompt.ids)
        mask[row, prompt.pooled] = 1.0 / len(prompt.pooled)
    epsilon = base.model.config.rms_norm_eps
    pooled, done = [], 0
    with torch.no_grad():
        hidden = base.model.model.embed_tokens(ids).float()
        for layer in layers:
            hidden = run_layers(base.model, hidden, done, layer)
            scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + epsilon)
            pooled.append((hidden * scale * mask).sum(1))
            done = layer
    return torch.stack(pooled)


def digest(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode()).digest()[:16]


class PooledStates:
    """Computes pooled states once for each prompt and keeps them in FOLDER, one folder below it for
    each model and routing layer. The model is loaded when a prompt is not there yet."""

    def __init__(self, model: Path, folder: Path, layers: list[int]):
        self._model = model
        self._base: BaseModel | None = None
        self._layers = layers
        name = f"{model.stem}-{model.stat().st_size}"
        self._folders = {layer: folder / f"{name}-layer{layer}" for layer in layers}
        self._known: dict[int, dict[bytes, np.ndarray]] = {}
        for layer, place in self._folders.items():
            place.mkdir(parents=True, exist_ok=True)
            self._known[layer] = {}
            for path in sorted(place.glob("*.npz")):
                chunk = np.load(path)
                keys = [key.tobytes() for key in chunk["keys"]]
                self._known[layer].update(zip(keys, chunk["states"]))

    def get(self, prompts: list[str]) -> dict[int, np.ndarray]:
        """For each routing layer [prompts, hidden] float32."""
        missing = {
            digest(prompt): prompt
            for prompt in prompts
            if any(digest(prompt) not in known for known in self._known.values())
        }
        if missing:
            self._compute(missing)
        return {
            layer: np.stack([known[digest(prompt)] for prompt in prompts])
            for layer, known in self._known.items()
        }

    def _compute(self, missing: dict[bytes, str]) -> None:
        if self._base is None:
            self._base = load_base(self._model)
            to_mixed(self._base.model)
        todo = [(key, pool_prompt(self._base.chat, text)) for key, text in missing.items()]
        todo.sort(key=lambda item: len(item[1].ids))
        chunk: list[tuple[bytes, np.ndarray]] = []
        while todo:
            size = 1
            while size < len(todo) and (size + 1) * len(todo[size][1].ids) <= BATCH_TOKENS:
                size += 1
            batch, todo = todo[:size], todo[size:]
            states = pooled_states(self._base, self._layers, [pooling for _, pooling in batch])
            chunk += [(key, states[:, row].numpy()) for row, (key, _) in enumerate(batch)]
            if len(chunk) >= CHUNK_PROMPTS or not todo:
                self._save(chunk)
                print(f"pooled states: {len(todo)} prompts left", flush=True)
                chunk = []

    def _save(self, chunk: list[tuple[bytes, np.ndarray]]) -> None:
        keys = np.stack([np.frombuffer(key, np.uint8) for key, _ in chunk])
        for index, layer in enumerate(self._layers):
            states = np.stack([state[index] for _, state in chunk]).astype(np.float32)
            name = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
            np.savez(self._folders[layer] / f"{name}.npz", keys=keys, states=states)
            self._known[layer].update((key.tobytes(), state) for key, state in zip(keys, states))
