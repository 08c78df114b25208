"""How deep and how wide: small runs over attach depths and ranks, and what to choose from them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterable

from .train import Trainer, TrainOptions


@dataclass(frozen=True)
class Point:
    """One run of the study."""

    domain: str
    attach_depth: int
    rank: int
    package_mb: float
    """The adapter in float16, 10^6 bytes."""
    base_loss: float
    """On the dev set, before the first step."""
    loss: float
    seconds: float

    @property
    def gain(self) -> float:
        """The share of the base's loss that the adapter takes away."""
        return 1.0 - self.loss / self.base_loss


def read_points(path: Path) -> list[Point]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [Point(**json.loads(line)) for line in lines]


def run_point(options: TrainOptions, domain: str) -> Point:
    trainer = Trainer(options)
    base_loss = trainer.dev_loss()
    loss = trainer.run()
    elements = sum(parameter.numel() for parameter in trainer.parameters.values())
    return Point(
        domain=domain,
        attach_depth=options.attach_depth,
        rank=options.rank,
        package_mb=round(elements * 2 / 1e6, 2),
        base_loss=round(base_loss, 4),
        loss=round(loss, 4),
        seconds=round(trainer.time_used_s, 1),
    )


def study(
    model: Path,
    data: Path,
    out: Path,
    domains: Iterable[str],
    depths: Iterable[int],
    ranks: Iterable[int],
    examples: int,
) -> list[Point]:
    """Appends one line for each run to OUT/study.jsonl; runs that are there already are not
    repeated. Runs of one domain and depth share their boundary states."""
    out.mkdir(parents=True, exist_ok=True)
    results = out / "study.jsonl"
    done = {(point.domain, point.attach_depth, point.rank) for point in read_points(results)}
    for domain in domains:
        for depth in depths:
            for rank in ranks:
                if (domain, depth, rank) in done:
                    continue
                print(f"{domain}: attach depth {depth}, rank {rank}", flush=True)
                options = TrainOptions(
                    model=model,
                    data=data / domain,
                    out=out / f"{domain}-{depth}-{rank}",
                    attach_depth=depth,
                    rank=rank,
                    alpha=2 * rank,
                    train_examples=examples,
                    boundary=out / "boundary",
                )
                with results.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(asdict(run_point(options, domain))) + "\n")
    return read_points(results)


def plan(points: list[Point], budget_mb: float) -> list[Point]:
    """For each domain the point with the lowest loss whose adapter fits `budget_mb`; of points
    within 1 % of it the deepest, which keeps the most layers shared, then the smallest."""
    chosen = []
    for domain in sorted({point.domain for point in points}):
        fitting = [p for p in points if p.domain == domain and p.package_mb <= budget_mb]
        if not fitting:
            continue
        best = min(point.loss for point in fitting)
        close = [point for point in fitting if point.loss <= best * 1.01]
        chosen.append(max(close, key=lambda point: (point.attach_depth, -point.package_mb)))
    return chosen
