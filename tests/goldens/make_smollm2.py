"""Makes tests/goldens/smollm2: logits and greedy tokens of the dequantised GGUF under transformers.

Usage: python tests/goldens/make_smollm2.py MODEL.gguf [OUT]
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "training"))

from ccoe_training.base_model import BaseModel, load_base  # noqa: E402
from greedy_prompts import PROMPTS  # noqa: E402

GREEDY_TOKENS = 64
CHOSEN = 256
TOP = 20
BOUNDARY_DEPTHS = [12, 18, 24, 30]

SENTENCE = "The lighthouse keeper counted 3 ships and 14 gulls before breakfast, then"
QUESTION = "How do I sort a list of words by their length in Python?"
SOURCE = (
    "#include <vector>\n\n// Returns the largest element; `values` must not be empty.\n"
    "int Largest(const std::vector<int>& values) {\n  int best = values[0];\n"
    "  for (int value : values) {\n    if (value > best) best = value;\n  }\n  return best;\n}\n"
)


def all_logits(base: BaseModel, ids: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """[tokens, vocabulary], and what enters each layer and the final norm, [tokens, hidden]."""
    seen: list[torch.Tensor] = []

    def remember(_module, args, kwargs):
        seen.append((args[0] if args else kwargs["hidden_states"])[0].clone())

    modules = [*base.model.model.layers, base.model.model.norm]
    hooks = [m.register_forward_pre_hook(remember, with_kwargs=True) for m in modules]
    with torch.no_grad():
        logits = base.model(input_ids=torch.tensor([ids])).logits[0]
    for hook in hooks:
        hook.remove()
    return logits, seen


def write_logits(base: BaseModel, path: Path) -> None:
    tokenizer = base.tokenizer
    prompts = [
        tokenizer.encode(SENTENCE)[:16], base.chat.user_ids(QUESTION), tokenizer.encode(SOURCE)[:64],
    ]  # fmt: skip
    chosen = torch.randperm(
        base.model.config.vocab_size, generator=torch.Generator().manual_seed(5)
    )
    chosen = chosen[:CHOSEN].sort().values
    tensors = {"chosen_ids": chosen.to(torch.int32)}
    single = [all_logits(base, ids) for ids in prompts]
    base.model.double()
    double = [all_logits(base, ids) for ids in prompts]
    base.model.float()
    for i, (ids, (logits, states), (exact, _)) in enumerate(zip(prompts, single, double)):
        difference = logits.double() - exact
        top = logits.topk(TOP)
        values = {
            "input_ids": torch.tensor(ids, dtype=torch.int32),
            "last_logits": logits[-1],
            "chosen_logits": logits[:, chosen],
            "chosen_difference": difference[:, chosen].float(),
            "max_difference": difference.abs().amax(dim=1).float(),
            "top_ids": top.indices.to(torch.int32),
            "top_logits": top.values,
        }
        if i == 0:
            values |= {f"boundary_{depth}": states[depth] for depth in BOUNDARY_DEPTHS}
        tensors |= {f"prompt{i}.{name}": value.contiguous() for name, value in values.items()}
        print(f"prompt {i}: {len(ids)} tokens, float32 to float64 {difference.abs().max():.2e}")
    save_file(tensors, path)


def greedy(base: BaseModel, prompt: list[int]) -> tuple[list[int], list[float]]:
    """Tokens and the distance of the best logit to the second best; control tokens do not stop it."""
    ids, margins, cache = [], [], None
    step = torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(GREEDY_TOKENS):
            out = base.model(input_ids=step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            best = out.logits[0, -1].topk(2).values
            ids.append(int(out.logits[0, -1].argmax()))
            margins.append(round(float(best[0] - best[1]), 5))
            step = torch.tensor([[ids[-1]]])
    return ids, margins


def write_greedy(base: BaseModel, path: Path, digest: str) -> None:
    end = base.chat.tokenizer.control["<|im_end|>"]
    entries = []
    for prompt in PROMPTS:
        prompt_ids = base.chat.user_ids(prompt)
        ids, margins = greedy(base, prompt_ids)
        entry = {
            "prompt": prompt, "prompt_ids": prompt_ids, "token_ids": ids, "margins": margins,
            "stop_at": ids.index(end) if end in ids else None,
        }  # fmt: skip
        entries.append(json.dumps(entry))
    head = json.dumps({"model": base.name, "file_sha256": digest, "tokens": GREEDY_TOKENS})
    body = ",\n".join(entries)
    path.write_text(f'{head[:-1]}, "prompts": [\n{body}\n]}}\n', encoding="ascii")


def main() -> None:
    model = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "smollm2"
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    base = load_base(model, attention="eager")
    write_logits(base, out / "logits.safetensors")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    write_greedy(base, out / "greedy.json", digest)


if __name__ == "__main__":
    main()
