"""A report as Markdown."""

from .bootstrap import RESAMPLES, Estimate
from .measure import ARMS, BASE, EXPERT, FEW_SHOT, ROUTED
from .report import ACCURACIES, Report, RowReport, portable

HEADS = {BASE: "base", FEW_SHOT: "base, 3-shot", EXPERT: "expert", ROUTED: "routed"}
METRICS = {
    "correct": "right answers, generated",
    "letter": "likeliest letter is right",
    "option": "likeliest option is right",
}


def table(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])


def percent(estimate: Estimate | None, sign: str = "") -> str:
    """In per cent or points, with the interval."""
    if estimate is None:
        return "-"
    value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def accuracy_table(report: RowReport) -> str:
    lines = []
    for metric in ACCURACIES:
        means = report.means[metric]
        if means:
            items = max(mean.items for mean in means.values())
            cells = [percent(means.get(arm)) for arm in ARMS]
            gains = [
                percent(report.difference(metric, *pair), "+")
                for pair in ((EXPERT, BASE), (EXPERT, FEW_SHOT), (ROUTED, EXPERT))
            ]
            lines.append([METRICS[metric], str(items), *cells, *gains])
    head = ["%", "items", *(HEADS[arm] for arm in ARMS)]
    head += ["expert - base", "expert - base, 3-shot", "routed - told"]
    return table(head, lines)


def bits_line(report: RowReport) -> str:
    bits = report.bits_per_byte
    if BASE not in bits:
        return ""
    text = f"Bits per byte of the reference response: base {bits[BASE].value:.3f}"
    if EXPERT in bits:
        text += f", expert {bits[EXPERT].value:.3f}, {percent(bits['reduction'])} % lower"
    return text + f" ({bits[BASE].items} items)."


def row_section(report: RowReport) -> str:
    parts = [f"## {report.row.name}"]
    if any(report.means.values()):
        parts.append(accuracy_table(report))
    parts.append(bits_line(report))
    return "\n\n".join(part for part in parts if part)


def aims_section(report: Report) -> str:
    lines = [
        [aim.row, aim.text, percent(aim.estimate, "+"), f"**{aim.verdict}**"] for aim in report.aims
    ]
    intro = (
        "Points are differences of percentages; bits per byte are compared in per cent. The told "
        "arm is the expert's: its domain is named. `correct` is of generated answers, `option` of "
        "likelihoods, which a mere change of format does little for; of code, `correct` is pass@1."
    )
    return "\n\n".join(
        ["## Aims", intro, table(["row", "aim", "measured [95 % interval]", "verdict"], lines)]
    )


def gate_section(report: Report) -> str:
    gate = report.gate
    if not gate["asked"]:
        return ""
    columns = sorted({name for routes in gate["routes"].values() for name in routes})
    lines = [
        [domain, *(str(routes.get(name, 0)) for name in columns),
         f"{100 * gate['right'][domain] / gate['asked'][domain]:.1f} %"]
        for domain, routes in gate["routes"].items()
    ]  # fmt: skip
    right, asked = sum(gate["right"].values()), sum(gate["asked"].values())
    stages = ", ".join(f"{stage} {count}" for stage, count in sorted(gate["stages"].items()))
    return "\n\n".join(
        [
            "## The gate",
            f"Prompts of dev.jsonl by where they went; {right} of {asked} "
            f"({100 * right / asked:.1f} %) went to their own domain, or to general where no "
            f"expert serves it. Decided by: {stages}.",
            table(["domain", *(f"to {name}" for name in columns), "right"], lines),
        ]
    )


def how_section(report: Report, command: str) -> str:
    run, depends = report.run, report.run["depends"]
    experts = ", ".join(
        f"{expert['name']} {expert['version']} for {domain}" + (
            f" ({expert['digest']})" if expert["digest"] else "")
        for domain, expert in depends["experts"].items()
    )  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    facts = [
        f"- Server {depends['server_version']}, arithmetic {depends['arithmetic']}",
        f"- Base model {depends['model']} ({depends['model_digest']})",
        f"- Experts as they were then, before `scores` wrote into them: {experts}",
        f"- {versions}",
    ]
    if "sandbox" in run:
        facts.append(f"- Programs ran in a sandbox: {run['sandbox']}")
    facts += [
        f"- {name}: {value}" for name, value in depends.items() if name.startswith("data of ")
    ]
    commands = "\n".join([*run["commands"], portable(command)])
    return "\n\n".join(
        [
            "## How it was measured",
            "Greedy answers and log probabilities of a running server, by its public API. "
            f"Intervals are paired percentile bootstraps of {RESAMPLES:,} resamples of the items.",
            "\n".join(facts),
            f"```\n{commands}\n```",
        ]
    )


def render(report: Report, command: str, more: list[str]) -> str:
    """`more` are further sections, `command` is what made this document."""
    rows = [row_section(row) for row in report.rows.values() if any(row.results.values())]
    sections = ["# Results", aims_section(report), *rows, gate_section(report)]
    sections += [*more, how_section(report, command)]
    return "\n\n".join(s for s in sections if s) + "\n"
