"""Makes tests/goldens/quants.safetensors: random blocks of every quantised GGUF type and their values.

Usage: python tests/goldens/make_quants.py [OUT]
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
BLOCKS = 4

# Type -> offsets of the block's float16 scales, which must be finite.
SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}


def random_blocks(kind: GGMLQuantizationType, rng: np.random.Generator) -> np.ndarray:
    """[BLOCKS, bytes of a block] uint8."""
    _, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for offset in SCALES[kind.name]:
        scales = rng.normal(0.0, 0.1, (BLOCKS, 1)).astype("<f2")
        blocks[:, offset : offset + 2] = scales.view(np.uint8)
    return blocks


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "quants.safetensors"
    rng = np.random.default_rng(21)
    tensors = {}
    for name in SCALES:
        kind = GGMLQuantizationType[name]
        blocks = random_blocks(kind, rng)
        tensors[f"{name}.blocks"] = blocks
        tensors[f"{name}.values"] = np.ascontiguousarray(dequantize(blocks, kind).reshape(-1))
    save_file(tensors, out)


if __name__ == "__main__":
    main()
