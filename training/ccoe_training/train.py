"""The training loop: resumable, seeded, within a time budget."""

import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM

from .base_model import BaseModel, load_base
from .boundary import BoundaryCache, run_layers
from .data import Batch, Example, batches, encode_records
from .full import own_layers
from .lora import LoraSpec, add_lora, lora_parameters
from .mixed import to_mixed
from .records import read_hashes, read_records, without


@dataclass(frozen=True)
class TrainOptions:
    model: Path
    data: Path
    """A folder with train.jsonl and dev.jsonl."""
    out: Path
    attach_depth: int
    exclude: Path | None = None
    """A split file; the records that it names are kept out of the training set."""
    boundary: Path | None = None
    """Where boundary states are kept, OUT/boundary when None. Runs may share it."""
    kind: str = "lora"
    """lora trains an adapter of that rank and alpha; full the layers and the final norm."""
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    epochs: int = 1
    max_tokens: int = 512
    batch_tokens: int = 2048
    train_examples: int | None = None
    """As many of the training set, the same ones for one seed; all when None."""
    dev_examples: int = 96
    seed: int = 1
    time_budget_s: float = math.inf
    checkpoint_every_s: float = 120.0
    dev_every_s: float = 600.0


def trained_parameters(model: LlamaForCausalLM, options: TrainOptions) -> dict[str, nn.Parameter]:
    """Makes what the kind of expert trains trainable; by the names in the package's file."""
    if options.kind == "full":
        return own_layers(model, options.attach_depth)
    if options.kind != "lora":
        raise ValueError(f"the kind of an expert is lora or full, not {options.kind!r}")
    add_lora(model, options.attach_depth, LoraSpec(options.rank, options.alpha), options.seed)
    return lora_parameters(model)


class Trainer:
    """Owns the model, the optimiser and the progress; one instance per run."""

    def __init__(self, options: TrainOptions):
        self.options = options
        torch.manual_seed(options.seed)
        self.base: BaseModel = load_base(options.model)
        self.model = self.base.model
        self.parameters = trained_parameters(self.model, options)
        to_mixed(self.model)
        self.train = self._encode("train")
        if options.train_examples is not None:
            self.train = random.Random(options.seed).sample(self.train, options.train_examples)
        self.dev = self._encode("dev")[: options.dev_examples]
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=options.learning_rate, weight_decay=0.0
        )
        self.steps = 0
        self.epoch = 0
        self.batches_done = 0
        self.time_used_s = 0.0
        options.out.mkdir(parents=True, exist_ok=True)
        self._caches = {
            "train": self._cache(self.train),
            "dev": self._cache(self.dev),
        }
        self._log = (options.out / "train_log.jsonl").open("a", encoding="utf-8")

    def _encode(self, split: str) -> list[Example]:
        records = read_records(self.options.data / f"{split}.jsonl")
        if split == "train" and self.options.exclude is not None:
            records = without(records, read_hashes(self.options.exclude))
        return encode_records(records, self.base.chat, self.options.max_tokens)

    def _cache(self, examples: list[Example]) -> BoundaryCache:
        stat = self.options.model.stat()
        key = f"{self.base.name} {stat.st_size} {self.options.attach_depth}"
        folder = self.options.boundary or self.options.out / "boundary"
        return BoundaryCache(folder, examples, self.model.config.hidden_size, key)

    def loss(self, batch: Batch, split: str) -> torch.Tensor:
        """Mean cross entropy over the tokens of the responses."""
        depth = self.options.attach_depth
        hidden = self._caches[split].get(batch, self.model, depth)
        hidden = run_layers(self.model, hidden, depth, self.base.layers)
        logits = self.model.lm_head(self.model.model.norm(hidden[batch.predicts]))
        return functional.cross_entropy(logits.float(), batch.targets)

    def dev_loss(self) -> float:
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in batches(self.dev, self.options.batch_tokens, seed=0):
                total += self.loss(batch, "dev").item() * len(batch.targets)
                count += len(batch.targets)
        return total / count

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then a cosine to 5 % at the end of the examples or of the time budget,
        whichever comes first."""
        warm = min(1.0, (self.steps + 1) / self.options.warmup_steps)
        return self.options.learning_rate * warm * (0.525 + 0.475 * math.cos(math.pi * progress))

    def step(self, batch: Batch, progress: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(progress)
        loss = self.loss(batch, "train")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return loss.item()

    def checkpoint(self) -> None:
        """Written aside, then renamed: an interrupted write leaves the last one whole."""
        state = {
            "options": {name: str(value) for name, value in asdict(self.options).items()},
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "epoch": self.epoch,
            "batches_done": self.batches_done,
            "time_used_s": self.time_used_s,
        }
        partial = self.options.out / "checkpoint.partial"
        torch.save(state, partial)
        partial.rename(self.options.out / "checkpoint.pt")

    def resume(self) -> None:
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        for name, parameter in self.parameters.items():
            parameter.data.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.epoch = state["steps"], state["epoch"]
        self.batches_done, self.time_used_s = state["batches_done"], state["time_used_s"]

    def log(self, **fields: float) -> None:
        line = json.dumps(
            {k: round(v, 6) if isinstance(v, float) else v for k, v in fields.items()}
        )
        print(line, flush=True)
        self._log.write(line + "\n")
        self._log.flush()

    def run(self) -> float:
        """Trains to the end; the loss on the dev set then."""
        self.resume()
        options = self.options
        clock = Clock(self.time_used_s)
        self.log(step=self.steps, dev_loss=self.dev_loss(), examples=len(self.train))
        saved_s = dev_s = clock.seconds()
        while self.epoch < options.epochs:
            todo = list(batches(self.train, options.batch_tokens, options.seed + self.epoch))
            for batch in todo[self.batches_done :]:
                begin_s = clock.seconds()
                done = self.epoch + self.batches_done / len(todo)
                progress = max(done / options.epochs, begin_s / options.time_budget_s)
                if progress >= 1.0:
                    return self.finish(clock)
                loss = self.step(batch, progress)
                self.batches_done += 1
                now_s = self.time_used_s = clock.seconds()
                left_s = min(
                    now_s * (options.epochs / max(done, 1e-6) - 1), options.time_budget_s - now_s
                )
                self.log(
                    step=self.steps,
                    epoch=round(done, 4),
                    loss=loss,
                    tokens_per_s=round(batch.tokens / (now_s - begin_s)),
                    left_s=round(left_s),
                )
                if now_s - saved_s > options.checkpoint_every_s:
                    self.checkpoint()
                    saved_s = now_s
                if now_s - dev_s > options.dev_every_s:
                    self.log(step=self.steps, dev_loss=self.dev_loss())
                    dev_s = clock.seconds()
            self.epoch, self.batches_done = self.epoch + 1, 0
        return self.finish(clock)

    def finish(self, clock: "Clock") -> float:
        self.time_used_s = clock.seconds()
        self.checkpoint()
        loss = self.dev_loss()
        self.log(step=self.steps, dev_loss=loss, time_used_s=round(self.time_used_s))
        return loss


class Clock:
    """Seconds of training, counted on from an earlier run."""

    def __init__(self, used_s: float):
        self._start_s = time.monotonic() - used_s

    def seconds(self) -> float:
        return time.monotonic() - self._start_s
