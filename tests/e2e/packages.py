"""Makes small expert packages for a given base model, so that the tests need no trained one."""

import json
import pathlib
import random
import struct


def _safetensors(tensors):
    """The bytes of a safetensors file; `tensors` maps names to (shape, list of floats)."""
    header, blobs, offset = {}, [], 0
    for name, (shape, values) in sorted(tensors.items()):
        blob = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def write_manifest(folder, base, name, kind, attach_depth, weights, keywords=()):
    """Writes expert.json of a package with random weights. `base` is as in make_lora."""
    (folder / "expert.json").write_text(json.dumps({
        "format": "ccoe.expert.v1",
        "name": name, "version": "0.0.1", "domain": name,
        "description": f"Random weights, for tests ({name}).", "kind": kind,
        "attach_depth": attach_depth, "base": {"name": base["name"], "digest": base["digest"]},
        "weights": weights,
        "gate": {"rules": {"threshold": 1.0,
                           "keywords": [{"text": word, "weight": 1.0} for word in keywords],
                           "patterns": []}, "row": None},
        "examples": [], "licence": "Apache-2.0", "sources": [], "scores": {}}))


def make_lora(folder, base, name, attach_depth, keywords, seed, rank=4):
    """Writes a LoRA package with random weights over q_proj and down_proj of layers
    [attach_depth, layers). `base` is what `ccoe model inspect --json` prints."""
    rng = random.Random(seed)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    hidden, ffn = base["hidden"], base["ffn"]
    modules = {"self_attn.q_proj": (hidden, base["heads"] * base["head_dim"]),
               "mlp.down_proj": (ffn, hidden)}

    def draw(rows, cols, size):
        return [rows, cols], [rng.gauss(0, size) for _ in range(rows * cols)]

    tensors = {}
    for layer in range(attach_depth, base["layers"]):
        for module, (inputs, outputs) in modules.items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{prefix}.lora_A.weight"] = draw(rank, inputs, 0.05)
            tensors[f"{prefix}.lora_B.weight"] = draw(outputs, rank, 0.05)
    (folder / "adapter_model.safetensors").write_bytes(_safetensors(tensors))
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": rank, "lora_alpha": rank,
        "target_modules": ["q_proj", "down_proj"], "use_rslora": False, "bias": "none",
        "layers_to_transform": list(range(attach_depth, base["layers"]))}))
    write_manifest(folder, base, name, "lora", attach_depth, "adapter_model.safetensors", keywords)
    return folder
