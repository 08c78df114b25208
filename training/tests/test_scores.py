"""What a run measured, written into packages."""

import json
import shutil
from pathlib import Path

from ccoe_eval.scores import package_digest, write_scores
from ccoe_eval.store import Store

EXPERTS = Path(__file__).resolve().parents[2] / "deploy" / "experts"


def result(arm, correct, bits):
    return {"prompt_sha256": "0", "arm": arm, "source": "s", "kind": "sql", "route": None,
            "metrics": {"correct": correct, "bits": bits, "bytes": 10.0}}  # fmt: skip


def test_only_what_was_measured_gets_scores(tmp_path):
    experts = tmp_path / "experts"
    for domain in ("sql", "law"):
        shutil.copytree(EXPERTS / domain, experts / domain)
    law = (experts / "law" / "expert.json").read_bytes()
    weights = (experts / "sql" / "adapter_model.safetensors").read_bytes()
    store = Store(tmp_path / "out")
    served = {"sql": {"name": "sql", "version": "1", "digest": package_digest(experts / "sql")},
              "law": {"name": "law", "version": "1", "digest": "sha256:another"}}  # fmt: skip
    store.begin({"experts": served}, ["run"])
    store.append("sql", result("base", 0.0, 20.0))
    store.append("sql", result("expert", 1.0, 10.0))
    run = json.loads((store.folder / "run.json").read_text())
    lines = list(write_scores(store, run, experts))

    written = json.loads((experts / "sql" / "expert.json").read_text())["scores"]["sql"]
    assert written == {"items": 1, "base": {"correct": 0.0, "bits_per_byte": 2.0},
                       "expert": {"correct": 1.0, "bits_per_byte": 1.0}}  # fmt: skip
    assert (experts / "sql" / "adapter_model.safetensors").read_bytes() == weights
    assert (experts / "law" / "expert.json").read_bytes() == law
    assert "left as it is" in lines[0] and "sql" in lines[1]
