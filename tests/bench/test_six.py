"""The pure parts of the measurements of six domains; needs requirements.txt beside it."""

import lora_gguf
import mixed
import numpy as np
import pytest
import serving_memory
import six


def test_rows_of_q_and_k_are_interleaved_within_each_head():
    rows = np.arange(16).reshape(8, 2)  # two heads of four rows
    assert lora_gguf.permute(rows, 2)[:, 0].tolist() == [0, 4, 2, 6, 8, 12, 10, 14]


def test_a_product_with_permuted_b_is_the_permuted_product():
    rng = np.random.default_rng(1)
    a, b, x = rng.random((2, 5)), rng.random((12, 2)), rng.random(5)
    product = (b @ (a @ x))[:, None]
    assert np.allclose(lora_gguf.permute(b, 3) @ (a @ x), lora_gguf.permute(product, 3)[:, 0])


@pytest.mark.parametrize("module, heads", [("q_proj", 4), ("k_proj", 2)])
def test_only_b_of_q_and_k_is_permuted(module, heads):
    prefix = f"base_model.model.model.layers.7.self_attn.{module}"
    b = np.arange(16).reshape(16, 1)
    name, values = lora_gguf.convert_tensor(f"{prefix}.lora_B.weight", b, 4, 2)
    assert name == f"blk.7.attn_{module[0]}.weight.lora_b"
    assert (values == lora_gguf.permute(b, heads)).all()
    assert (lora_gguf.convert_tensor(f"{prefix}.lora_A.weight", b, 4, 2)[1] == b).all()


def test_other_tensors_keep_their_rows():
    b = np.arange(16).reshape(16, 1)
    name, values = lora_gguf.convert_tensor(
        "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", b, 4, 2)
    assert name == "blk.0.ffn_down.weight.lora_b" and (values == b).all()
    with pytest.raises(ValueError, match="embed_tokens"):
        lora_gguf.convert_tensor("base_model.model.model.embed_tokens.lora_A.weight", b, 4, 2)


def test_memory_is_compared_with_the_least_of_the_others():
    rows = [{"name": name, "group": group, "without_kv_mib": mib} for name, group, mib in (
        ("mapped", "merged", 600.0), ("read", "merged", 500.0), ("adapters", "adapters", 130.0),
        ("lora", "lora", 120.0), ("split", None, 90.0), ("full", "full", 300.0))]
    found = [(one["ours"], one["other"], one["met"]) for one in serving_memory.compare(rows)]
    assert found == [("lora", "read", True), ("full", "read", False), ("lora", "adapters", True)]


def test_streams_are_shared_equally_and_use_every_prompt_once():
    owners, shares = mixed.share_streams(16, 6)
    assert shares == [3, 3, 3, 3, 2, 2]
    streams = mixed.make_streams(owners, [[f"{domain}.{n}" for n in range(6)]
                                          for domain in range(6)], 2)
    used = [prompt for stream in streams for prompt in stream["prompts"]]
    assert len(used) == len(set(used)) == 32
    assert all(prompt.startswith(f"{stream['domain']}.")
               for stream in streams for prompt in stream["prompts"])


def test_ours_is_divided_by_the_median_of_each():
    ours, peer = [[[1, 2, 3, 4]], [[5, 6]]], [[[1, 2, 3, 9]], [[5, 6]]]
    rows = mixed.summary({"ours": [(9.0, ours), (30.0, ours), (20.0, ours)],
                          "peer": [(4.0, peer), (5.0, peer), (90.0, peer)]})
    assert [row["ours_by_it"] for row in rows] == [1.0, 4.0]
    assert [row["agreement"] for row in rows] == [1.0, 0.875]


def test_answers_are_compared_up_to_the_first_difference():
    assert six.common([1, 2, 3], [1, 2, 4]) == 2
    assert six.common([1, 2], [1, 2]) == 2
