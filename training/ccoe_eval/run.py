"""Measures the rows: which item and arm are asked, by several streams, and what is kept."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccoe_client import Client

from . import sandbox
from .client import TIMEOUT_S, connect, identity
from .measure import ARMS, EXPERT, FEW_SHOT, GENERAL, measure
from .progress import Progress
from .shots import SEED, SHOTS, Shots
from .store import Store
from .tasks import ROWS, SPLITS, Item, Row, RowData


@dataclass(frozen=True)
class RunOptions:
    server: str
    data: Path
    """One folder for each domain."""
    out: Path
    rows: list[str] = field(default_factory=lambda: [row.name for row in ROWS])
    arms: list[str] = field(default_factory=lambda: list(ARMS))
    limit: int | None = None
    """Items of each row; all when None."""
    streams: int = 8
    shot_tokens: int = 320
    """Longest example of the few-shot arm, its chat template included."""
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class Job:
    row: Row
    item: Item
    arm: str
    shots: Shots | None


def jobs_of(
    row: Row, options: RunOptions, client: Client, store: Store, domains: set[str]
) -> list[Job]:
    """What is still to be asked of a row. `general` has no expert and needs no examples; a domain
    that no expert serves is measured without one."""
    arms = [arm for arm in options.arms if arm != EXPERT or row.domain in domains - {GENERAL}]
    if row.domain == GENERAL:
        arms = [arm for arm in arms if arm != FEW_SHOT]
    data = RowData(row, options.data, options.limit)
    done = {(result["prompt_sha256"], result["arm"]) for result in store.read(row.name)}
    todo = [
        (item, arm) for item in data.items for arm in arms if (item.prompt_sha256, arm) not in done
    ]
    shots = None
    if any(arm == FEW_SHOT for _, arm in todo):
        shots = Shots(data, client, options.shot_tokens)
    return [Job(row, item, arm, shots) for item, arm in todo]


def run(options: RunOptions, arguments: list[str]) -> None:
    """Leaves OUT/run.json and OUT/ROW.jsonl. Items that are there are not asked again."""
    rows = [row for row in ROWS if row.name in options.rows]
    store = Store(options.out)
    with connect(options.server, options.timeout_s) as client:
        served = identity(client)
        depends = {
            **served,
            "max_tokens": {row.name: row.max_tokens for row in ROWS},
            "shots": {"count": SHOTS, "seed": SEED, "max_tokens": options.shot_tokens},
            **{f"data of {row.name}": data_sha256(row, options.data) for row in rows},
        }
        facts: dict[str, Any] = {}
        if any(row.domain == "code" for row in rows):
            sandbox.check()
            facts["sandbox"] = sandbox.description()
            print(f"programs: {facts['sandbox']}", flush=True)
        store.begin(depends, arguments, **facts)
        domains = set(served["experts"])
        jobs = []
        for row in rows:
            if row.domain not in domains:
                print(f"{row.name}: no expert serves {row.domain}; measured without", flush=True)
            todo = jobs_of(row, options, client, store, domains)
            print(f"{row.name}: {len(todo)} to ask", flush=True)
            jobs += todo
        ask_all(jobs, client, store, options.streams)


def ask_all(jobs: list[Job], client: Client, store: Store, streams: int) -> None:
    """Keeps every result as it comes. The first failure, or Ctrl-C, ends the run after the calls
    that are under way; what is kept stays."""
    progress = Progress(len(jobs))
    with ThreadPoolExecutor(streams) as pool:
        futures: dict[Future[dict[str, Any]], Job] = {
            pool.submit(measure, client, job.row, job.item, job.arm, job.shots): job for job in jobs
        }
        try:
            for future in as_completed(futures):
                job = futures[future]
                store.append(job.row.name, future.result())
                progress.step(f"{job.row.name} {job.arm}")
        finally:
            pool.shutdown(cancel_futures=True)


def data_sha256(row: Row, data: Path) -> str:
    files = [data / row.domain / "train.jsonl", data / row.domain / "dev.jsonl"]
    if row.split is not None:
        files.append(SPLITS / f"{row.split}.json")
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
