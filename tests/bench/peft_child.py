"""transformers and PEFT as a child (child.py): batches in which every row has its own adapter.

Needs training/requirements.txt.
"""

import pathlib
import sys
import time

import child
import torch
from peft import PeftModel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "training"))
from ccoe_training.base_model import load_base  # noqa: E402

BASE = "__base__"  # PEFT's name for a row without adapter


class Peer:
    """The base model, dequantised to `dtype`, with the adapter of each domain (null: none)."""

    def __init__(self, model, packages, threads, dtype):
        torch.set_num_threads(threads)
        base = load_base(pathlib.Path(model)).model
        self._names = [BASE if package is None else f"domain{index}"
                       for index, package in enumerate(packages)]
        adapters = [(name, package) for name, package in zip(self._names, packages) if package]
        first, path = adapters[0]
        self._model = PeftModel.from_pretrained(base, path, adapter_name=first)
        for name, path in adapters[1:]:
            self._model.load_adapter(path, adapter_name=name)
        self._model = self._model.to(getattr(torch, dtype)).eval()
        self._model.generation_config.eos_token_id = None

    def run(self, streams, output_tokens):
        """As in llama_child.py. The streams' prompts are answered wave by wave, one of each stream
        at a time, which costs nothing where all answers are equally long."""
        answers = [[] for _ in streams]
        names = [self._names[spec["domain"]] for spec in streams]
        begin = time.monotonic()
        for prompts in zip(*(spec["prompts"] for spec in streams), strict=True):
            for answer, tokens in zip(answers, self._wave(prompts, names, output_tokens)):
                answer.append(tokens)
        return {"seconds": time.monotonic() - begin, "answers": answers}

    def _wave(self, prompts, names, output_tokens):
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            out = self._model.generate(
                input_ids=ids, attention_mask=mask, adapter_names=names, do_sample=False,
                max_new_tokens=output_tokens, pad_token_id=0)
        return out[:, width:].tolist()


if __name__ == "__main__":
    child.serve(Peer)
