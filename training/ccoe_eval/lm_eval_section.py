"""What lm-evaluation-harness measured, as Markdown."""

from typing import Any

from .markdown import table


def lm_eval_section(runs: list[dict[str, Any]]) -> str:
    """`runs` are what the command lm-eval prints."""
    lines = [
        [task, run["file"], run["domain"] or "routed", metric.removesuffix(",none"),
         str(run["n-samples"][task]["effective"]),
         f"{100 * value:.1f} ± {100 * values[metric.replace(',', '_stderr,')]:.1f}"]
        for run in runs
        for task, values in run["results"].items()
        for metric, value in values.items()
        if metric.endswith(",none") and "_stderr" not in metric
    ]  # fmt: skip
    intro = (
        "lm-evaluation-harness asks the same server through an adapter: the likeliest of the lettered "
        "options, as a whole (acc) and per byte (acc_norm), in per cent with the standard error."
    )
    head = ["task", "file", "domain", "metric", "documents", "%"]
    return "\n\n".join(["## By lm-evaluation-harness", intro, table(head, lines)])
