"""The figures of serving six domains, which tests/bench measures, as Markdown."""

from typing import Any

from .markdown import table


def setting(report: dict[str, Any]) -> str:
    machine = report["machine"]
    text = (
        f"{machine['cores']} cores of {machine['cpu']}, {report['threads']} threads on every side, "
        f"llama.cpp of {report['llama_cpp']}, {report['model']}. The merged models are copies of "
        "that file."
    )
    if report["standins"]:
        text += f" Random weights stood in for the adapters of {', '.join(report['standins'])}."
    return text


def verdict(met: bool) -> str:
    return "**met**" if met else "**missed**"


def memory_section(report: dict[str, Any]) -> str:
    arrangements = [
        [row["name"], str(row["processes"]), f"{row['code_mib']:.0f}",
         f"{row['anonymous_mib']:.0f}", f"{row['weights_mib']:.0f}", f"{row['kv_mib']:.0f}",
         f"{row['without_kv_mib']:.0f}"]
        for row in report["rows"]
    ]  # fmt: skip
    comparisons = [
        [one["ours"], one["other"], f"{100 * (one['ratio'] - 1):+.1f} %",
         f"{100 * (one['aim'] - 1):+.1f} %", verdict(one["met"])]
        for one in report["comparisons"]
    ]  # fmt: skip
    shared = 100 * report["full_depth"] / report["layers"]
    intro = (
        "Resident memory (PSS) after one short prompt in each of the six domains, MiB. The KV "
        f"cache may hold {report['kv_budget_mib']} MiB everywhere and is left out where it is "
        "written at the start. The programs' own code does not count, of llama.cpp only what came "
        f"after its library was loaded is listed. Experts of whole layers share {shared:.0f} % of the layers with the base. "
        + setting(report)
    )
    head = ["arrangement", "processes", "code", "anonymous", "mapped weights", "KV cache", "counted"]
    aims = ["ours", "compared with", "measured", "aim, at most", "verdict"]
    return "\n\n".join(
        ["## Memory of six domains", intro, table(head, arrangements), table(aims, comparisons)]
    )


def throughput_section(report: dict[str, Any]) -> str:
    lines = [
        [row["name"], f"{row['median']:.1f}",
         f"{min(row['tokens_per_second']):.1f}..{max(row['tokens_per_second']):.1f}",
         f"{row['ours_by_it']:.2f}", f"{100 * row['agreement']:.0f} %"]
        for row in report["rows"]
    ]  # fmt: skip
    prompts = report["prompt_tokens"]
    intro = (
        f"{report['streams']} streams of six domains at a time, {report['prompts']} prompts of "
        f"{prompts['mean']:.0f} tokens on average (at most {prompts['max']}), "
        f"{report['output_tokens']} tokens generated for each, greedily. Generated tokens per "
        f"second, prefill included: medians of {report['rounds']} interleaved rounds. The last "
        "column is the share of tokens before an answer first differs from ours: activations are "
        "rounded in other ways, and the merged copies answer as the base does. Other processes "
        f"used at most {report['others_cores']:.2f} cores meanwhile. "
        + setting(report)
    )
    head = ["arrangement", "tokens/s", "lowest..highest", "ours by it", "tokens as ours"]
    return "\n\n".join(["## Throughput of six domains", intro, table(head, lines)])
