"""From the files of tests/bench to Markdown."""

from ccoe_eval.lm_eval_section import lm_eval_section
from ccoe_eval.serving import memory_section, throughput_section

COMMON = {"machine": {"cpu": "a CPU", "cores": 2}, "model": "m.gguf", "threads": 2,
          "llama_cpp": "package 1", "standins": ["law"]}  # fmt: skip


def test_memory():
    rows = [{"name": name, "processes": 1, "code_mib": 9.6, "anonymous_mib": 60.4,
             "weights_mib": 40.2, "kv_mib": 0.0,
             "without_kv_mib": mib} for name, mib in (("ours", 100.6), ("six", 400.0))]  # fmt: skip
    comparison = {"ours": "ours", "other": "six", "ratio": 0.2515, "aim": 0.25, "met": False}
    text = memory_section({**COMMON, "rows": rows, "comparisons": [comparison],
                           "kv_budget_mib": 34, "full_depth": 23, "layers": 30})  # fmt: skip
    assert "| ours | 1 | 10 | 60 | 40 | 0 | 101 |" in text
    assert "| ours | six | -74.8 % | -75.0 % | **missed** |" in text
    assert "77 % of the layers" in text
    assert "Random weights stood in for the adapters of law." in text


def test_throughput():
    rows = [{"name": "ours", "tokens_per_second": [30.0, 10.0, 20.0], "median": 20.0,
             "ours_by_it": 1.0, "agreement": 1.0},
            {"name": "peer", "tokens_per_second": [8.0], "median": 8.0,
             "ours_by_it": 2.5, "agreement": 0.9}]  # fmt: skip
    text = throughput_section({**COMMON, "standins": [], "rows": rows, "streams": 16, "rounds": 3,
                               "prompts": 32, "prompt_tokens": {"mean": 99.5, "max": 200},
                               "output_tokens": 64, "others_cores": 0.1})  # fmt: skip
    assert "| ours | 20.0 | 10.0..30.0 | 1.00 | 100 % |\n| peer | 8.0 | 8.0..8.0 | 2.50 | 90 % |" in text
    assert "stood in" not in text


def test_lm_eval():
    values = {"alias": "t", "sample_len": 5, "acc,none": 0.4, "acc_stderr,none": 0.05,
              "acc_norm,none": 0.25, "acc_norm_stderr,none": 0.04}  # fmt: skip
    run = {"results": {"t": values}, "n-samples": {"t": {"original": 43, "effective": 5}}}
    text = lm_eval_section([run | {"domain": "law", "file": "law/dev.jsonl"},
                            run | {"domain": "", "file": "law/dev.jsonl"}])  # fmt: skip
    assert "| t | law/dev.jsonl | law | acc | 5 | 40.0 ± 5.0 |" in text
    assert "| t | law/dev.jsonl | routed | acc_norm | 5 | 25.0 ± 4.0 |" in text
