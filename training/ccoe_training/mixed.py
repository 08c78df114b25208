"""bfloat16 matrix products around a float32 residual stream."""

import torch
from torch import nn
from transformers import LlamaForCausalLM


def to_mixed(model: LlamaForCausalLM) -> None:
    """Matrices become bfloat16; norms compute in float32 and hand bfloat16 to the matrices."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.to(torch.bfloat16)
        elif type(module).__name__.endswith("RMSNorm"):
            module.register_forward_hook(lambda _module, _inputs, out: out.to(torch.bfloat16))
