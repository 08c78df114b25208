"""Loads a GGUF file of the Llama family as the true base: its dequantised weights."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import LlamaConfig, LlamaForCausalLM

from .chat import ChatMl
from .tokenizer import ReferenceTokenizer

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


@dataclass(frozen=True)
class BaseModel:
    name: str
    model: LlamaForCausalLM
    tokenizer: ReferenceTokenizer
    chat: ChatMl

    @property
    def layers(self) -> int:
        return self.model.config.num_hidden_layers


def hugging_face_name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if match is None or match[2] not in LAYER_NAMES:
        raise ValueError(f"tensor {name!r} is not one of the Llama family's")
    return f"model.layers.{match[1]}.{LAYER_NAMES[match[2]]}.weight"


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undoes the row order that GGUF gives to the q and k projections of Llama models."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def read_config(reader: GGUFReader) -> LlamaConfig:
    def field(name: str, default: float | None = None):
        entry = reader.fields.get(name)
        if entry is None and default is None:
            raise ValueError(f"the GGUF file lacks {name}")
        return default if entry is None else entry.contents()

    if field("general.architecture") != "llama":
        raise ValueError("only the llama architecture can be trained here")
    tied = not any(tensor.name == "output.weight" for tensor in reader.tensors)
    return LlamaConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=field("llama.rope.freq_base", 10000.0),
        tie_word_embeddings=tied,
    )


def load_base(
    path: Path, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa"
) -> BaseModel:
    """Reads the whole file: weights in `dtype` without the file's quantisation, frozen."""
    reader = GGUFReader(str(path))
    config = read_config(reader)
    config._attn_implementation = attention
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        name = hugging_face_name(tensor.name)
        values = dequantize(tensor.data, tensor.tensor_type).reshape(tuple(tensor.shape[::-1]))
        if name.endswith("q_proj.weight"):
            values = unpermute(values, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            values = unpermute(values, config.num_key_value_heads)
        weights[name] = torch.from_numpy(np.array(values, dtype=np.float32))
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights, strict=True)
    model = model.to(dtype).eval().requires_grad_(False)
    tokenizer = ReferenceTokenizer.from_gguf(reader)
    template = reader.fields["tokenizer.chat_template"].contents()
    name = path.name.split(".")[0]
    return BaseModel(name, model, tokenizer, ChatMl.from_template(tokenizer, template))
