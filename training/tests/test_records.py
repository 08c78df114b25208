"""Records that are kept out of training, by their hashes."""

import json
from pathlib import Path

import pytest

from ccoe_eval.split import choose, write
from ccoe_training.records import prompt_sha256, read_hashes, without

SPLITS = Path(__file__).resolve().parents[1] / "splits"


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "math" / "train.jsonl"
    path.parent.mkdir()
    records = [{"source": f"{'made' if i % 2 else 'other'}/x", "prompt": f"p{i}", "response": "r"}
               for i in range(40)]  # fmt: skip
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_split_is_fixed_by_its_seed(train):
    chosen = choose(train, "made/", 5, seed=1)
    assert chosen == choose(train, "made/", 5, seed=1) != choose(train, "made/", 5, seed=2)
    assert len(set(chosen)) == 5


def test_training_leaves_the_split_out(train):
    out = train.parent / "split.json"
    write(train, "made/", 5, 1, out)
    hashes = read_hashes(out)
    records = [json.loads(line) for line in train.read_text().splitlines()]
    left = without(records, hashes)
    assert len(left) == 35
    assert not {prompt_sha256(record) for record in left} & set(hashes)


def test_the_kept_split_holds_hashes_alone():
    split = json.loads((SPLITS / "math_in_distribution.json").read_text())
    assert set(split) == {"file", "source", "seed", "prompt_sha256"}
    assert len(set(split["prompt_sha256"])) == 250
    assert all(len(name) == 64 and int(name, 16) >= 0 for name in split["prompt_sha256"])
