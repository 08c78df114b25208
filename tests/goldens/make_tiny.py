"""Makes tests/goldens/tiny: small randomly initialised models of every family, and their logits.

Usage: python tests/goldens/make_tiny.py [OUT]
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "training"))

from awkward_texts import CORPUS  # noqa: E402
from ccoe_training.tokenizer import pre_tokenizer  # noqa: E402

VOCABULARY = 320
INPUT_TOKENS = 40
ATTACH_DEPTH = 2
BASE_DIGEST = "sha256:6e58c2272c0fe52a26bd11b05e84d46177c22b9398c5233098e1f26985897eee"
"""Of tiny/llama, as `ccoe model inspect` shows it: to be written anew when that folder changes."""

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
STYLES = {
    "smollm": dict(
        specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], bos="<|im_start|>",
        eos="<|im_end|>", template=CHATML,
    ),
    "llama-bpe": dict(
        specials=["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                  "<|end_header_id|>", "<|eot_id|>"],
        bos="<|begin_of_text|>", eos="<|eot_id|>", template=LLAMA3,
    ),
    "qwen2": dict(
        specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], bos=None, eos="<|im_end|>",
        template=CHATML,
    ),
}  # fmt: skip


def train_tokenizer(style: str) -> Tokenizer:
    """SmolLM's control tokens come first, the others' last, as in the real vocabularies."""
    specials = [
        AddedToken(name, special=True, normalized=False) for name in STYLES[style]["specials"]
    ]
    tokenizer = Tokenizer(models.BPE(ignore_merges=style == "llama-bpe"))
    if style == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer(style)
    tokenizer.decoder = decoders.ByteLevel()
    first = style == "smollm"
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY if first else VOCABULARY - len(specials),
            initial_alphabet=sorted(ByteLevel.alphabet()),
            special_tokens=specials if first else [],
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens(specials)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"{style}: the corpus gives {tokenizer.get_vocab_size()} tokens")
    return tokenizer


def write_tokenizer(folder: Path, style: str) -> Tokenizer:
    trained = train_tokenizer(style)
    tokenizer = json.loads(trained.to_str())
    if style == "smollm":  # the older spelling of merges, still found in many folders
        tokenizer["model"]["merges"] = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    write_json(folder / "tokenizer.json", tokenizer)
    settings = STYLES[style]
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "bos_token": settings["bos"],
            "eos_token": settings["eos"],
            "chat_template": settings["template"],
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    return trained


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=False) + "\n", encoding="utf-8")


def randomise(model: PreTrainedModel, seed: int) -> None:
    """Large enough that every layer, bias and norm changes the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            parameter.data = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            parameter.data = 0.3 * noise
        else:
            parameter.data = noise / parameter.shape[-1] ** 0.5
    model.tie_weights()


def golden(model: PreTrainedModel, seed: int) -> dict[str, torch.Tensor]:
    """input_ids [tokens] and logits [tokens, vocabulary]."""
    ids = torch.randint(
        0, VOCABULARY, (INPUT_TOKENS,), generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        logits = model(input_ids=ids.unsqueeze(0)).logits[0]
    return {"input_ids": ids.to(torch.int32), "logits": logits.float().contiguous()}


def golden_with_states(
    model: torch.nn.Module, layers: torch.nn.ModuleList, norm: torch.nn.Module, seed: int
) -> dict[str, torch.Tensor]:
    """Adds hidden_states [layers + 1, tokens, hidden]: row i is what enters layer i, the last row
    what enters the final norm."""
    seen: list[torch.Tensor] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda _module, args, kwargs: seen.append(
                (args[0] if args else kwargs["hidden_states"])[0].clone()
            ),
            with_kwargs=True,
        )
        for module in [*layers, norm]
    ]
    values = golden(model, seed)
    for hook in hooks:
        hook.remove()
    return values | {"hidden_states": torch.stack(seen).float()}


def write_model(
    folder: Path, model: PreTrainedModel, style: str, *, seed: int,
    dtype: torch.dtype = torch.float32, shard_size: str = "1GB",
) -> None:  # fmt: skip
    """Weights are rounded to `dtype` before the float32 logits are taken."""
    tokenizer = write_tokenizer(folder, style)
    bos, eos = STYLES[style]["bos"], STYLES[style]["eos"]
    model.config.bos_token_id = tokenizer.token_to_id(bos) if bos else None
    model.config.eos_token_id = tokenizer.token_to_id(eos)
    randomise(model, seed)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # Read back: model.to(dtype) has rounded the rotary frequencies too, which no file holds.
    rounded = type(model).from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager"
    )
    save_file(golden(rounded.eval(), seed), folder / "logits.safetensors")


def sizes(hidden: int, **more: object) -> dict[str, object]:
    return dict(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=96, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        rms_norm_eps=1e-5, attn_implementation="eager",
    ) | more  # fmt: skip


def config(kind: type[PretrainedConfig], hidden: int, **more: object) -> PretrainedConfig:
    return kind(**sizes(hidden, **more))


def write_lora(folder: Path, model: LlamaForCausalLM) -> None:
    """PEFT's adapter over the layers from ATTACH_DEPTH on, with non-zero A and B."""
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    layers = list(range(ATTACH_DEPTH, model.config.num_hidden_layers))
    adapted = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, layers_to_transform=layers)
    )
    generator = torch.Generator().manual_seed(71)
    for name, parameter in sorted(adapted.named_parameters()):
        if "lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = 0.5 * noise / parameter.shape[-1] ** 0.5
    adapted.eval()
    inner = adapted.base_model.model.model
    save_file(
        golden_with_states(adapted, inner.layers, inner.norm, 11), folder / "logits.safetensors"
    )
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "tiny-llama"
    settings["target_modules"] = sorted(settings["target_modules"])
    write_json(folder / "adapter_config.json", settings)
    adapted.unload()
    write_expert(folder, "tiny-lora", "lora", "adapter_model.safetensors")


def write_full(folder: Path, config: LlamaConfig, base: dict[str, torch.Tensor]) -> None:
    """An expert that owns its upper layers, final norm and head; the layers below are the base's."""
    model = LlamaForCausalLM(config)
    randomise(model, 31)
    below = tuple(f"model.layers.{i}." for i in range(ATTACH_DEPTH))
    shared = {name: t for name, t in base.items() if name.startswith(below) or "embed" in name}
    model.load_state_dict(shared, strict=False)
    model.tie_weights()
    model.eval()
    owned = {
        name: tensor.to(torch.float16)
        for name, tensor in model.state_dict().items()
        if name not in shared and name != "lm_head.weight"
    }
    save_file(owned, folder / "model.safetensors", metadata={"format": "pt"})
    model.load_state_dict({name: tensor.float() for name, tensor in owned.items()}, strict=False)
    values = golden_with_states(model, model.model.layers, model.model.norm, 11)
    save_file(values, folder / "logits.safetensors")
    write_expert(folder, "tiny-full", "full", "model.safetensors")


def write_expert(folder: Path, name: str, kind: str, weights: str) -> None:
    write_json(
        folder / "expert.json",
        {
            "format": "ccoe.expert.v1",
            "name": name,
            "version": "1.0.0",
            "domain": name,
            "description": f"A randomly initialised {kind} expert for tests.",
            "kind": kind,
            "attach_depth": ATTACH_DEPTH,
            "base": {"name": "tiny-llama", "digest": BASE_DIGEST},
            "weights": weights,
            "gate": {
                "rules": {
                    "threshold": 1.0,
                    "keywords": [{"text": name, "weight": 1.0}],
                    "patterns": [],
                },
                "row": None,
            },
            "examples": [],
            "licence": "Apache-2.0",
            "sources": [],
            "scores": {},
        },
    )


LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "tiny"
    torch.set_num_threads(1)
    folders = {name: out / name for name in (
        "llama", "llama_untied", "llama3_rope", "qwen2", "qwen2_untied", "qwen3", "llama_lora",
        "llama_full",
    )}  # fmt: skip
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)

    llama_config = config(LlamaConfig, 64, tie_word_embeddings=True, rope_theta=100000.0)
    llama = LlamaForCausalLM(llama_config)
    write_model(folders["llama"], llama, "smollm", seed=11)
    values = golden_with_states(llama, llama.model.layers, llama.model.norm, 11)
    save_file(values, folders["llama"] / "logits.safetensors")
    write_lora(folders["llama_lora"], llama)
    write_full(
        folders["llama_full"], llama_config, load_file(folders["llama"] / "model.safetensors")
    )

    untied = LlamaForCausalLM(config(LlamaConfig, 32, tie_word_embeddings=False))
    write_model(folders["llama_untied"], untied, "smollm", seed=12, shard_size="120KB")
    scaled = config(
        LlamaConfig, 32, tie_word_embeddings=True, rope_theta=500000.0, rope_scaling=LLAMA3_ROPE
    )
    half = LlamaForCausalLM(scaled)
    write_model(folders["llama3_rope"], half, "llama-bpe", seed=13, dtype=torch.float16)

    tied = Qwen2ForCausalLM(config(Qwen2Config, 32, tie_word_embeddings=True, rope_theta=1e6))
    write_model(folders["qwen2"], tied, "qwen2", seed=14)
    bf16 = Qwen2ForCausalLM(config(Qwen2Config, 32, tie_word_embeddings=False, rope_theta=1e6))
    write_model(folders["qwen2_untied"], bf16, "qwen2", seed=15, dtype=torch.bfloat16)
    qwen3 = Qwen3ForCausalLM(
        config(Qwen3Config, 32, tie_word_embeddings=True, rope_theta=1e6, head_dim=16)
    )
    write_model(folders["qwen3"], qwen3, "qwen2", seed=16)


if __name__ == "__main__":
    main()
