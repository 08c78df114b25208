"""Writes an expert package: expert.json, and PEFT's files of an adapter or the layers' weights."""

import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from .base_model import BaseModel, load_base
from .json_file import read_json, update_expert, write_json

WEIGHTS = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}


def adapter_config(base: BaseModel, options: dict[str, str]) -> dict[str, Any]:
    depth = int(options["attach_depth"])
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "inference_mode": True,
        "r": int(options["rank"]),
        "lora_alpha": int(options["alpha"]),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "layers_to_transform": list(range(depth, base.layers)),
        "target_modules": [
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        ],
    }  # fmt: skip


def write_weights(base: BaseModel, kind: str, state: dict[str, Any], out: Path) -> None:
    """An adapter in float16; of layers what the training computed with, matrices in bfloat16 and
    norms in float32."""
    narrow = torch.float16 if kind == "lora" else torch.bfloat16
    weights = {
        name: (p.to(narrow) if p.dim() > 1 else p).contiguous()
        for name, p in state["parameters"].items()
    }
    save_file(weights, out / WEIGHTS[kind], metadata={"format": "pt"})
    if kind == "lora":
        write_json(out / "adapter_config.json", adapter_config(base, state["options"]))


def load_expert(base: BaseModel, kind: str, package: Path) -> torch.nn.Module:
    """Puts the package's adapter, as PEFT itself reads it, or its layers into `base.model`, in
    float32."""
    if kind == "lora":
        return PeftModel.from_pretrained(base.model, str(package)).float().eval()
    base.model.load_state_dict(load_file(package / WEIGHTS[kind]), strict=False)
    return base.model


def greedy(model: torch.nn.Module, prompt: list[int], max_tokens: int, end: int) -> list[int]:
    """Up to `max_tokens` tokens; the control token that ends the answer is the last one."""
    ids: list[int] = []
    cache, step = None, torch.tensor([prompt])
    with torch.no_grad():
        while len(ids) < max_tokens and end not in ids[-1:]:
            out = model(input_ids=step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            ids.append(int(out.logits[0, -1].argmax()))
            step = torch.tensor([[ids[-1]]])
    return ids


def write_package(domain_file: Path, run: Path, model: Path, out: Path) -> None:
    """Packages the newest checkpoint of `run`; scores and the base's digest are added later."""
    domain = read_json(domain_file)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    base = load_base(model, attention="eager")
    out.mkdir(parents=True, exist_ok=True)
    kind = state["options"].get("kind", "lora")  # older checkpoints name none
    write_weights(base, kind, state, out)

    expert = load_expert(base, kind, out)
    end = base.tokenizer.control["<|im_end|>"]
    examples = []
    for example in domain["examples"]:
        ids = greedy(expert, base.chat.user_ids(example["prompt"]), example["max_tokens"], end)
        print(f"{example['prompt']!r}\n  -> {base.tokenizer.decode(ids)!r}", flush=True)
        examples.append({**example, "arithmetic": "exact", "token_ids": ids})
    write_json(
        out / "expert.json",
        {
            "format": "ccoe.expert.v1",
            **{key: domain[key] for key in ("name", "version", "domain", "description")},
            "kind": kind,
            "attach_depth": int(state["options"]["attach_depth"]),
            "base": {"name": base.name, "digest": ""},
            "weights": WEIGHTS[kind],
            "gate": domain["gate"],
            "examples": examples,
            "licence": domain["licence"],
            "sources": domain["sources"],
            "scores": {},
        },
    )


def pin_base(package: Path, model: Path, ccoe: Path) -> None:
    """Fills in the base's digest as the program `ccoe` computes it."""
    command = [str(ccoe), "model", "inspect", "--json", str(model)]
    digest = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["digest"]
    update_expert(package, "base", {**read_json(package / "expert.json")["base"], "digest": digest})
