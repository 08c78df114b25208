"""Writes tests/goldens/tiny/llama as the GGUF file that the recipe trains from."""

import json
from pathlib import Path

import gguf
from safetensors.numpy import load_file

from ccoe_training.base_model import LAYER_NAMES, TOP_NAMES

TINY = Path(__file__).resolve().parents[2] / "tests" / "goldens" / "tiny" / "llama"

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's: ChatML with a system message of its own."""


def gguf_name(name: str) -> str:
    """The inverse of base_model.hugging_face_name."""
    names = {theirs: ours for ours, theirs in TOP_NAMES.items()}
    if name in names:
        return names[name]
    _, _, layer, rest = name.split(".", 3)
    blocks = {theirs: ours for ours, theirs in LAYER_NAMES.items()}
    return f"blk.{layer}.{blocks[rest.removesuffix('.weight')]}.weight"


def write_tiny_gguf(path: Path) -> None:
    config = json.loads((TINY / "config.json").read_text())
    heads = {
        "q_proj": config["num_attention_heads"],
        "k_proj": config["num_key_value_heads"],
    }
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])

    tokenizer = json.loads((TINY / "tokenizer.json").read_text())
    control = {token["content"] for token in tokenizer["added_tokens"]}
    vocabulary = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if t in control else gguf.TokenType.NORMAL for t in tokens]
    )
    writer.add_token_merges(tokenizer["model"]["merges"])
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    for name, values in load_file(TINY / "model.safetensors").items():
        projection = name.split(".")[-2]
        if projection in heads:  # GGUF interleaves the halves of each head
            rows, columns = values.shape
            halves = values.reshape(heads[projection], 2, -1, columns)
            values = halves.swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(gguf_name(name), values.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
