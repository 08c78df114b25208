#!/usr/bin/env python3
"""Writes dequantize.txt: random blocks of every quantised format and what the `gguf` package makes
of them. Per line: format, hexadecimal bytes of one file block, hexadecimal float32 values."""

import pathlib

import gguf
import numpy as np

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def main() -> None:
    random = np.random.default_rng(20240601)
    lines = []
    for name in TYPES:
        dtype = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[dtype]
        for _ in range(4 if elements == 32 else 2):
            block = random.integers(0, 256, size, dtype=np.uint8)
            for offset in HALVES.get(name, [0]):
                half = np.float16(random.normal() * 0.02)
                block[offset : offset + 2] = np.frombuffer(half.tobytes(), np.uint8)
            values = gguf.quants.dequantize(block.reshape(1, -1), dtype).astype("<f4")
            lines.append(f"{name.lower()} {block.tobytes().hex()} {values.tobytes().hex()}\n")
    path = pathlib.Path(__file__).with_name("dequantize.txt")
    path.write_text("".join(lines))


if __name__ == "__main__":
    main()
