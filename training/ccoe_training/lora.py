"""LoRA over the upper layers: y = W x + s B (A x), with the frozen W never differentiated."""

import math
from dataclasses import dataclass
from typing import Iterator

import torch
from torch import nn
from transformers import LlamaForCausalLM

TARGETS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


@dataclass(frozen=True)
class LoraSpec:
    rank: int
    alpha: int

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class _LoraMatmul(torch.autograd.Function):
    """x [rows, in] -> [rows, out]. Terms are accumulated inside the matrix products, so that there
    is no elementwise pass over the activations."""

    @staticmethod
    def forward(ctx, x, weight, a, b, scale):
        a, b = a.to(x.dtype), b.to(x.dtype)
        low = x @ a.t()
        ctx.save_for_backward(x, low, weight, a, b)
        ctx.scale = scale
        return torch.addmm(x @ weight.t(), low, b.t(), alpha=scale)

    @staticmethod
    def backward(ctx, grad):
        x, low, weight, a, b = ctx.saved_tensors
        grad_low = (grad @ b) * ctx.scale
        grad_a = (grad_low.t() @ x).float()
        grad_b = (grad.t() @ low).float() * ctx.scale
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.addmm(grad @ weight, grad_low, a)
        return grad_x, None, grad_a, grad_b, None


class LoraLinear(nn.Module):
    """A frozen linear layer with float32 factors A [rank, in] and B [out, rank]."""

    def __init__(self, base: nn.Linear, spec: LoraSpec, generator: torch.Generator):
        super().__init__()
        outputs, inputs = base.weight.shape
        bound = 1.0 / math.sqrt(inputs)
        a = torch.empty(spec.rank, inputs).uniform_(-bound, bound, generator=generator)
        self.base = base
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(outputs, spec.rank))
        self.scale = spec.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y = _LoraMatmul.apply(flat, self.base.weight, self.lora_a, self.lora_b, self.scale)
        return y.view(*x.shape[:-1], -1)


def targets(model: LlamaForCausalLM, attach_depth: int) -> Iterator[tuple[nn.Module, str]]:
    """Every target of the layers from `attach_depth` on, in a fixed order: its block and name."""
    for layer in model.model.layers[attach_depth:]:
        for target in TARGETS:
            parent, name = target.split(".")
            yield getattr(layer, parent), name


def add_lora(model: LlamaForCausalLM, attach_depth: int, spec: LoraSpec, seed: int) -> None:
    """Replaces every target of the layers from `attach_depth` on."""
    generator = torch.Generator().manual_seed(seed)
    for block, name in targets(model, attach_depth):
        setattr(block, name, LoraLinear(getattr(block, name), spec, generator))


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable factors by their names in PEFT's file format."""
    names = {"lora_a": "lora_A", "lora_b": "lora_B"}
    found = {}
    for module_name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            for ours, theirs in names.items():
                found[f"base_model.model.{module_name}.{theirs}.weight"] = getattr(module, ours)
    return found
