"""Whole layers: float32 weights, of which the matrix products take copies in their own type."""

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM

from .lora import targets


class OwnLinear(nn.Module):
    """A linear layer that keeps its weight in float32, so that small steps are not rounded away."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.weight = base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x.dtype))


def own_layers(model: LlamaForCausalLM, attach_depth: int) -> dict[str, nn.Parameter]:
    """Makes the layers from `attach_depth` on and the final norm trainable; returns their
    parameters by Hugging Face name. The head stays the base's."""
    for block, name in targets(model, attach_depth):
        setattr(block, name, OwnLinear(getattr(block, name)))
    model.model.layers[attach_depth:].requires_grad_(True)
    model.model.norm.requires_grad_(True)
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
