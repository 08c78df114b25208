"""Writes an expert package: expert.json, PEFT's adapter_config.json, adapter_model.safetensors."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file

from .base_model import BaseModel, load_base

WEIGHTS = "adapter_model.safetensors"


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Indented, with short objects and lists of numbers on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=True)
    number = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
    numbers = rf"\[\s+((?:{number},\s+)*{number})\s+\]"
    text = re.sub(numbers, lambda m: f"[{' '.join(m[1].split())}]", text)
    short = r'\{\n\s+("(?:text|regex|name)": .*),\n\s+("(?:weight|licence)": [^\n]*)\n\s+\}'
    path.write_text(re.sub(short, r"{\1, \2}", text) + "\n", encoding="utf-8")


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


def load_expert(base: BaseModel, package: Path) -> PeftModel:
    """Puts the package's adapter into `base.model`, in float32, as PEFT itself reads it."""
    return PeftModel.from_pretrained(base.model, str(package)).float().eval()


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
    weights = {name: p.to(torch.float16).contiguous() for name, p in state["parameters"].items()}
    save_file(weights, out / WEIGHTS, metadata={"format": "pt"})
    write_json(out / "adapter_config.json", adapter_config(base, state["options"]))

    expert = load_expert(base, out)
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
            "kind": "lora",
            "attach_depth": int(state["options"]["attach_depth"]),
            "base": {"name": base.name, "digest": ""},
            "weights": WEIGHTS,
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


def update_expert(package: Path, field: str, value: object) -> None:
    path = package / "expert.json"
    write_json(path, read_json(path) | {field: value})
