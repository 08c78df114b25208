#!/usr/bin/env python3
"""Converts the adapter of an expert package, or any in PEFT's format, to llama.cpp's GGUF.

  tests/bench/lora_gguf.py deploy/experts/sql --model MODEL.gguf --out sql.gguf
"""

import argparse
import json
import pathlib
import re

import gguf
from safetensors.numpy import load_file

NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)"
                    r"\.lora_([AB])\.weight")


def permute(rows, heads):
    """The order that GGUF files of the Llama family give to the rows of q and k: row
    j * size / 2 + i of a head, j being 0 or 1, goes to 2 * i + j."""
    count, columns = rows.shape
    halves = rows.reshape(heads, 2, count // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(count, columns)


def convert_tensor(name, values, heads, kv_heads):
    """GGUF's name of a tensor of PEFT's, and its values. Of q and k the rows of B are permuted; A's
    columns are inputs, whose order is the same in both formats."""
    match = TENSOR.fullmatch(name)
    if match is None or match[2] not in NAMES:
        raise ValueError(f"tensor {name!r} is not of a LoRA adapter of a Llama model")
    layer, module, factor = match[1], match[2], match[3].lower()
    if factor == "b" and module in ("q_proj", "k_proj"):
        values = permute(values, heads if module == "q_proj" else kv_heads)
    return f"blk.{layer}.{NAMES[module]}.weight.lora_{factor}", values


def convert(package, model, out):
    """Writes `out`; the factors keep their type."""
    config = json.loads((package / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("use_rslora") or config.get("use_dora"):
        raise ValueError(f"{package}: only plain LoRA is converted")
    fields = gguf.GGUFReader(model).fields
    heads = fields["llama.attention.head_count"].contents()
    kv_heads = fields["llama.attention.head_count_kv"].contents()
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, config["lora_alpha"])
    for name, values in load_file(package / "adapter_model.safetensors").items():
        writer.add_tensor(*convert_tensor(name, values, heads, kv_heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path, help="folder with adapter_config.json")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file of the base")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="GGUF file to write")
    arguments = parser.parse_args()
    convert(arguments.package, arguments.model, arguments.out)


if __name__ == "__main__":
    main()
