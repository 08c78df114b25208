#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets to corpus/ from the goldens. Inputs that once broke a target
are kept there too, under the name found-*.

usage: tests/fuzz/make_corpus.py
"""

import json
import pathlib
import struct

FUZZ = pathlib.Path(__file__).resolve().parent
TINY = FUZZ.parent / "goldens" / "tiny"


def write(target, name, data):
    folder = FUZZ / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf(values, tensors, version=3):
    """A GGUF file; values are (key, type, encoded value), tensors (name, dimensions, type, data)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    for key, kind, encoded in values:
        out += string(key) + struct.pack("<I", kind) + encoded
    data = b""
    for name, dimensions, kind, content in tensors:
        data += b"\0" * (-len(data) % 32)
        out += string(name) + struct.pack("<I", len(dimensions))
        out += b"".join(struct.pack("<Q", d) for d in dimensions)
        out += struct.pack("<IQ", kind, len(data))
        data += content
    return out + b"\0" * (-len(out) % 32) + data


def strings(items):
    return struct.pack("<IQ", 8, len(items)) + b"".join(string(item) for item in items)


def ints(items):
    return struct.pack("<IQ", 5, len(items)) + b"".join(struct.pack("<i", i) for i in items)


def u32(value):
    return struct.pack("<I", value)


def f32(value):
    return struct.pack("<f", value)


def model_values(family, pre):
    tokens = ["a", "b", "ab", "Ġ", "<|im_start|>", "<|im_end|>"]
    values = [("general.architecture", 8, string(family))]
    for key, value in [("block_count", 1), ("embedding_length", 4), ("attention.head_count", 2),
                       ("attention.head_count_kv", 1), ("feed_forward_length", 4),
                       ("context_length", 16), ("rope.dimension_count", 2)]:
        values.append((f"{family}.{key}", 4, u32(value)))
    values += [
        (f"{family}.rope.freq_base", 6, f32(10000)),
        (f"{family}.attention.layer_norm_rms_epsilon", 6, f32(1e-5)),
        ("tokenizer.ggml.model", 8, string("gpt2")),
        ("tokenizer.ggml.pre", 8, string(pre)),
        ("tokenizer.ggml.tokens", 9, strings(tokens)),
        ("tokenizer.ggml.token_type", 9, ints([1, 1, 1, 1, 3, 3])),
        ("tokenizer.ggml.merges", 9, strings(["a b"])),
        ("tokenizer.ggml.eos_token_id", 4, u32(5)),
        ("tokenizer.ggml.add_bos_token", 7, b"\0"),
        ("tokenizer.chat_template", 8, string("<|im_start|>{{ role }}<|im_end|>")),
    ]
    return values


def model_tensors():
    def tensor(name, *dimensions):
        count = 1
        for dimension in dimensions:
            count *= dimension
        return (name, dimensions, 0, b"\0" * (4 * count))

    layer = "blk.0."
    return [tensor("token_embd.weight", 4, 6), tensor("output_norm.weight", 4),
            tensor(layer + "attn_norm.weight", 4), tensor(layer + "attn_q.weight", 4, 4),
            tensor(layer + "attn_k.weight", 4, 2), tensor(layer + "attn_v.weight", 4, 2),
            tensor(layer + "attn_output.weight", 4, 4), tensor(layer + "ffn_norm.weight", 4),
            tensor(layer + "ffn_gate.weight", 4, 4), tensor(layer + "ffn_up.weight", 4, 4),
            tensor(layer + "ffn_down.weight", 4, 4)]


def safetensors(tensors):
    header, data = {}, b""
    for name, shape, content in tensors:
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def make_gguf():
    write("gguf", "llama", gguf(model_values("llama", "smollm"), model_tensors()))
    write("gguf", "qwen3-v2", gguf(model_values("qwen3", "qwen2"), model_tensors(), version=2))
    factors = [("rope_freqs.weight", (1,), 0, f32(2))]
    write("gguf", "rope-factors", gguf(model_values("llama", "llama-bpe"),
                                       model_tensors() + factors))
    blocks = [("blk.0.ffn_up.weight", (256, 1), kind, b"\0" * size) for kind, size in
              [(2, 144), (3, 160), (6, 176), (7, 192), (8, 272), (12, 144), (13, 176), (14, 210)]]
    for index, block in enumerate(blocks):
        write("gguf", f"quantised-{index}", gguf([], [block]))


def make_safetensors():
    prefix = "base_model.model.model.layers.2.mlp.up_proj.lora_"
    write("safetensors", "lora", safetensors([(prefix + "A.weight", [4, 2], b"\0" * 32),
                                              (prefix + "B.weight", [3, 4], b"\0" * 48)]))
    write("safetensors", "vector", safetensors([("model.norm.weight", [3], b"\0" * 12)]))
    write("safetensors", "empty", safetensors([]))


def make_json():
    for name in ["llama", "llama3_rope", "qwen2"]:
        full = json.loads((TINY / name / "tokenizer.json").read_text())
        model = full["model"]
        model["merges"] = model["merges"][:2]
        model["vocab"] = {token: id for token, id in model["vocab"].items()
                          if len(token) == 1 or token in ("th", "Ġth")}
        write("tokenizer", name, json.dumps(full, ensure_ascii=False))
        write("config", name, (TINY / name / "config.json").read_text())
    write("config", "qwen3", (TINY / "qwen3" / "config.json").read_text())
    write("config", "adapter", (TINY / "llama_lora" / "adapter_config.json").read_text())
    for name in ["llama_lora", "llama_full"]:
        manifest = json.loads((TINY / name / "expert.json").read_text())
        manifest["gate"]["rules"]["patterns"] = [{"regex": "(?i)\\bselect\\b.*from", "weight": 1}]
        manifest["gate"]["row"] = {"routing_layer": 1, "weights": [0.5, -1], "bias": 0,
                                   "threshold": 0.5}
        manifest["examples"] = [{"prompt": "x", "arithmetic": "exact", "max_tokens": 2,
                                 "token_ids": [1]}]
        manifest["sources"] = [{"name": "wikisql", "licence": "BSD-3-Clause"}]
        write("expert", name, json.dumps(manifest))


def make_text():
    write("text", "mixed", "I'm 12  years,\n\n e\u0301 \U0001F600 \u6f22\u5b57 aaaaaaa ½ \u180e\t")
    write("text", "invalid", b"ab\xff\xe2\x82 a\xf0\x9f\x98\xed\xa0\x80\xc0\x80")


def varint(value):
    out = b""
    value &= (1 << 64) - 1
    while True:
        value, low = value >> 7, value & 127
        out += bytes([low | (128 if value else 0)])
        if not value:
            return out


def field(number, value):
    """A protobuf field: an integer, or bytes (text, packed numbers, a message)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def make_link():
    """Frames of proto/ccoe/internal/v1/link.proto; the first byte names the receiver."""
    sampling = field(2, 5) + b"\x1d" + f32(0.9) + b"\x2d" + f32(1)
    segment = field(1, 7) + field(2, 1) + field(3, 5) + field(4, 2) + field(5, b"\x01\x02")
    scored = (field(1, 8) + field(4, 3) + field(5, b"\x03\x04") +
              field(6, varint(1) + varint(20)))  # zigzag: -1, 10
    rows = field(2, segment) + field(2, scored) + field(3, 99) + field(4, b"\0" * (4 * 4 * 4))
    hello = (field(1, 1) + field(2, 1) + field(3, b"d") + field(4, b"exact") + field(5, 4) +
             field(6, 4) + field(7, 2))
    opened = field(2, 7) + field(3, b"request") + field(5, 2) + field(6, 20) + field(7, sampling)
    to_expert = {"hello": field(1, hello), "open": field(2, opened + field(8, 3)),
                 "rows": field(3, rows), "close": field(4, field(2, 7))}
    description = field(1, field(1, b"sql") + field(2, b"1")) + field(5, 2) + field(6, b"{}")
    expert = field(1, description) + field(2, 8) + field(3, 8 * 16)
    reply = (field(1, 1) + field(2, b"d") + field(3, b"exact") + field(4, 4) + field(5, 4) +
             field(7, expert))
    token = field(1, 9) + field(2, 5) + field(4, field(1, 9) + b"\x15" + f32(-1))
    error = field(1, 14) + field(2, b"gone") + field(3, field(1, b"type") + field(2, b"x"))
    to_backbone = {"reply": field(1, reply), "opened": field(2, field(2, 7)),
                   "results": field(3, field(2, field(1, 7) + field(3, token) + field(4, 99))),
                   "credit": field(4, field(2, 4) + field(3, 64)),
                   "failed": field(5, field(2, 7) + field(3, error))}
    for receiver, frames in [(b"\0", to_expert), (b"\1", to_backbone)]:
        for name, frame in frames.items():
            write("link", name, receiver + frame)


if __name__ == "__main__":
    make_link()
    make_gguf()
    make_safetensors()
    make_json()
    make_text()
