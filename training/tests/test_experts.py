"""Trains and packages experts of both kinds over a tiny base; needs training/requirements.txt. With
CCOE_BIN (`ccoe` or its folder) the program checks the packages as well."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")
pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402

from ccoe_training.base_model import load_base  # noqa: E402
from ccoe_training.data import batches  # noqa: E402
from ccoe_training.json_file import read_json  # noqa: E402
from ccoe_training.package import load_expert, pin_base, write_package  # noqa: E402
from ccoe_training.recipe import train_options  # noqa: E402
from ccoe_training.train import Trainer, TrainOptions  # noqa: E402
from tiny_gguf import write_tiny_gguf  # noqa: E402

DOMAINS = Path(__file__).resolve().parents[1] / "domains"
DEPTH = 2
PROMPT = "Say a3."
KINDS = pytest.mark.parametrize("kind", ["lora", "full"])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("base") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("train", 48), ("dev", 8)):
        records = [{"prompt": f"Say a{i % 8}.", "response": f"a{i % 8}"} for i in range(count)]
        lines = [json.dumps(record) + "\n" for record in records]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def options(base, data, tmp_path):
    return TrainOptions(
        model=base, data=data, out=tmp_path / "run", attach_depth=DEPTH, learning_rate=1e-2,
        warmup_steps=2, batch_tokens=512, rank=4, alpha=8,
    )  # fmt: skip


def program(name):
    folder = Path(os.environ["CCOE_BIN"])
    return folder / name if folder.is_dir() else folder


def domain_file(folder):
    path = folder / "say.json"
    path.write_text(json.dumps({
        "name": "say", "version": "1.0.0", "domain": "say", "description": "Says it.",
        "licence": "Apache-2.0", "sources": [],
        "gate": {"rules": {"threshold": 1.0, "keywords": [], "patterns": []}},
        "examples": [{"prompt": PROMPT, "max_tokens": 8}],
    }))  # fmt: skip
    return path


@KINDS
def test_a_run_lowers_the_loss_and_trains_the_upper_layers_alone(kind, options):
    trainer = Trainer(replace(options, kind=kind))
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    first = trainer.dev_loss()
    assert trainer.run() < 0.7 * first
    changed = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert changed == trained
    upper = tuple(f"model.layers.{layer}." for layer in range(DEPTH, trainer.base.layers))
    assert all(n.startswith(upper) or (kind, n) == ("full", "model.norm.weight") for n in changed)


def test_steps_too_small_for_bfloat16_are_kept(options):
    trainer = Trainer(replace(options, kind="full", learning_rate=1e-6))
    before = {name: p.clone() for name, p in trainer.parameters.items()}
    trainer.step(next(batches(trainer.train, 512, seed=0)), progress=0.0)
    moved = [not torch.equal(p, before[name]) for name, p in trainer.parameters.items()]
    assert all(p.dtype == torch.float32 for p in trainer.parameters.values()) and all(moved)


@KINDS
def test_a_run_goes_on_where_it_was_interrupted(kind, options):
    options = replace(options, kind=kind)
    first = Trainer(options)
    todo = list(batches(first.train, options.batch_tokens, options.seed))
    first.step(todo[0], progress=0.0)
    first.checkpoint()
    second = Trainer(options)
    second.resume()
    assert first.step(todo[1], progress=0.1) == second.step(todo[1], progress=0.1)
    for name, parameter in first.parameters.items():
        assert torch.equal(parameter, second.parameters[name])


@KINDS
def test_a_package_answers_as_it_says(kind, options, tmp_path):
    Trainer(replace(options, kind=kind)).run()
    package = tmp_path / "say"
    write_package(domain_file(tmp_path), options.out, options.model, package)
    manifest = read_json(package / "expert.json")
    assert (manifest["kind"], manifest["attach_depth"]) == (kind, DEPTH)

    tiny = load_base(options.model)
    prompt = torch.tensor([tiny.chat.user_ids(PROMPT)])
    base_logits = tiny.model(input_ids=prompt).logits[0, -1]
    expert = load_expert(tiny, kind, package)
    [first, *_] = manifest["examples"][0]["token_ids"]
    assert int(expert(input_ids=prompt).logits[0, -1].argmax()) == first
    assert int(base_logits.argmax()) != first

    if not os.environ.get("CCOE_BIN"):
        return
    pin_base(package, options.model, program("ccoe"))
    verify = [program("ccoe"), "expert", "verify", package, "--model", options.model]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_full_package_holds_every_upper_layer(options, tmp_path):
    trainer = Trainer(replace(options, kind="full"))
    trainer.checkpoint()
    package = tmp_path / "say"
    write_package(domain_file(tmp_path), options.out, options.model, package)
    weights = load_file(package / "model.safetensors")
    model = load_base(options.model).model
    upper = tuple(f"model.layers.{layer}." for layer in range(DEPTH, trainer.base.layers))
    expected = {n: p for n, p in model.named_parameters() if n.startswith((*upper, "model.norm."))}
    assert set(weights) == set(expected)
    for name, tensor in weights.items():
        matrix = tensor.dim() > 1
        assert tensor.dtype == (torch.bfloat16 if matrix else torch.float32)
        assert torch.equal(tensor, expected[name].to(tensor.dtype))


def test_an_unknown_kind_is_refused(options):
    with pytest.raises(ValueError, match="lora or full"):
        Trainer(replace(options, kind="dora"))


def test_every_domain_file_says_how_it_is_trained():
    files = sorted(DOMAINS.glob("**/*.json"))
    kinds = {f.stem: train_options(f, Path("m"), Path("d"), Path("w")).kind for f in files}
    assert kinds.pop("sql-full") == "full"
    assert set(kinds.values()) == {"lora"}
