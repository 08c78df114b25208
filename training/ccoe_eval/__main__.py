"""Command line: python -m ccoe_eval COMMAND --help."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from ccoe_client import CcoeError

from .sandbox import Unusable
from .store import OtherRun

EXAMPLES = """\
examples, from the folder training/, with a server that has the experts:
  ../build/bin/ccoe serve --model MODEL.gguf --experts ../deploy/experts &
  python -m ccoe_eval run --data DATA --out OUT                    # everything; resumable
  python -m ccoe_eval run --data DATA --out TRY --rows sql --limit 10
  python -m ccoe_eval report --out OUT --markdown ../docs/results.md
"""


def formatted(
    commands: argparse._SubParsersAction, name: str, **texts: Any
) -> argparse.ArgumentParser:
    return commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **texts)


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", default="127.0.0.1:50051", help="where ccoe serve listens")
    parser.add_argument("--streams", type=int, default=8, help="requests at a time (default 8)")


def add_run(commands: argparse._SubParsersAction) -> None:
    parser = formatted(
        commands,
        "run",
        help="ask a running server and keep what it answers",
        description="""\
Asks the records of DATA/<domain>/dev.jsonl in four ways, greedily:
  base          the domain `general`
  base_3_shot   the same, after three fixed examples of DATA/<domain>/train.jsonl
  expert        the domain is named
  routed        nothing is named, the gate decides
and measures right answers, the likelihood of the allowed options, and the bits of the reference
response. The row math_in_distribution takes the train records of splits/math_in_distribution.json,
which an expert must not have been trained on (train --exclude).

Leaves OUT/run.json and OUT/<row>.jsonl, one object for each item and arm. Run again with the same
OUT to go on: what is there is not asked again. A server that has other experts or another base
model needs another OUT. Generated programs run in a child process with limits and no network.""",
        epilog=EXAMPLES,
    )
    add_server(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of the domains' folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run's results")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="of the report (default: all)")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="(default: all four)")
    parser.add_argument(
        "--limit", type=int, help="so many items of each row, the same ones every time"
    )
    parser.add_argument(
        "--shot-tokens", type=int, default=320, help="pass over longer examples (default 320)"
    )
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=900.0,
        help="longest time of a call, with its waits for a busy server (default 900)",
    )
    parser.set_defaults(run=run_run)


def run_run(arguments: argparse.Namespace) -> None:
    from .measure import ARMS
    from .run import RunOptions, run
    from .tasks import ROWS

    values = {name: value for name, value in vars(arguments).items() if name not in NOT_OPTIONS}
    known = {"rows": [row.name for row in ROWS], "arms": ARMS}
    for name, allowed in known.items():
        values[name] = values[name] or allowed
        if unknown := set(values[name]) - set(allowed):
            sys.exit(f"unknown {name}: {', '.join(sorted(unknown))}; known: {', '.join(allowed)}")
    run(RunOptions(**values), sys.argv[1:])


NOT_OPTIONS = {"command", "run"}


def add_report(commands: argparse._SubParsersAction) -> None:
    parser = formatted(
        commands,
        "report",
        help="tables, intervals and aims from what a run left",
        description="""\
Reads OUT/run.json and OUT/<row>.jsonl and writes a Markdown document, and JSON beside it (the same
name, .json): right answers by arm, paired bootstrap 95 % intervals of the differences, bits per
byte, which aims are met, how often the gate chose right, commands and versions. Differences are
over the items that both arms have, so a run that is under way can be reported too. With --memory
and --throughput what serving takes is told as well (docs/bench.md).""",
        epilog=EXAMPLES,
    )
    parser.add_argument("--out", type=Path, required=True, help="the --out of run")
    parser.add_argument("--markdown", type=Path, required=True, help="the document to write")
    parser.add_argument("--memory", type=Path, help="--out of tests/bench/serving_memory.py")
    parser.add_argument("--throughput", type=Path, help="--out of tests/bench/mixed.py")
    parser.add_argument("--lm-eval", type=Path, nargs="+", default=[], help="outputs of lm-eval")
    parser.set_defaults(run=run_report)


def run_report(arguments: argparse.Namespace) -> None:
    from .lm_eval_section import lm_eval_section
    from .markdown import render
    from .report import Report
    from .serving import memory_section, throughput_section
    from .store import Store

    run = json.loads((arguments.out / "run.json").read_text(encoding="utf-8"))
    report = Report(Store(arguments.out), run)
    command = shlex.join(["python", "-m", "ccoe_eval", *sys.argv[1:]])
    more = [
        section(json.loads(path.read_text(encoding="utf-8")))
        for path, section in (
            (arguments.memory, memory_section), (arguments.throughput, throughput_section)
        ) if path
    ]  # fmt: skip
    if arguments.lm_eval:
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.lm_eval]
        more.insert(0, lm_eval_section(runs))
    arguments.markdown.write_text(render(report, command, more), encoding="utf-8")
    beside = arguments.markdown.with_suffix(".json")
    beside.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    for aim in report.aims:
        print(f"{aim.row}: {aim.text}: {aim.verdict}")


def add_plans(commands: argparse._SubParsersAction) -> None:
    parser = formatted(
        commands,
        "plans",
        help="see how a running server splits prompts into steps",
        description="""\
Leaves the plan of each prompt to the server (plan: automatic) and compares the domains of the steps
with those expected. FILE has a line for each prompt: {"prompt": ..., "domains": [...]}; of DATA every
dev prompt counts as one of a single step. Tells what differs.""",
    )
    add_server(parser)
    parser.add_argument(
        "--prompts", type=Path, default=Path("gate/plans.jsonl"), help="(default gate/plans.jsonl)"
    )
    parser.add_argument("--data", type=Path, help="folder of the domains' folders")
    parser.add_argument("--limit", type=int, help="so many dev prompts of each domain")
    parser.set_defaults(run=run_plans)


def run_plans(arguments: argparse.Namespace) -> None:
    from .client import TIMEOUT_S, connect
    from .plans import dev_prompts, measure_plans, read_prompts, report_plans

    prompts = read_prompts(arguments.prompts)
    if arguments.data:
        prompts += dev_prompts(arguments.data, arguments.limit)
    with connect(arguments.server, TIMEOUT_S) as client:
        found = measure_plans(client, prompts, arguments.streams)
    for line in report_plans(prompts, found):
        print(line)


def add_scores(commands: argparse._SubParsersAction) -> None:
    parser = formatted(
        commands,
        "scores",
        help="write what a run measured into the packages that it asked",
        description="""\
Puts the figures of OUT into `scores` of EXPERTS/*/expert.json: for each row of the report of the
package's domain the items, and for base and expert the share of right answers, of options by
likelihood, and the bits per byte of the reference. A package that OUT did not measure, by its
digest, is left as it is. The new text gives the package another digest: do it before a version is
given away.""",
    )
    parser.add_argument("--out", type=Path, required=True, help="the --out of run")
    parser.add_argument("--experts", type=Path, required=True, help="folder of the packages")
    parser.set_defaults(run=run_scores)


def run_scores(arguments: argparse.Namespace) -> None:
    from .scores import write_scores
    from .store import Store

    run = json.loads((arguments.out / "run.json").read_text(encoding="utf-8"))
    for line in write_scores(Store(arguments.out), run, arguments.experts):
        print(line)


def add_split(commands: argparse._SubParsersAction) -> None:
    parser = formatted(
        commands,
        "split",
        help="choose train records to measure instead of training on them",
        description="""\
Writes the hashes of COUNT seeded records of DATA/<domain>/train.jsonl, no text. The defaults make
splits/math_in_distribution.json. Training leaves such records out:
  python -m ccoe_training train ... --exclude splits/math_in_distribution.json""",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the domains' folders")
    parser.add_argument("--domain", default="math", help="(default math)")
    parser.add_argument(
        "--source",
        default="deepmind-mathematics/",
        help="what the records' source begins with (default deepmind-mathematics/)",
    )
    parser.add_argument("--count", type=int, default=250, help="(default 250)")
    parser.add_argument("--seed", type=int, default=1, help="(default 1)")
    parser.add_argument(
        "--to", type=Path, required=True, help="file to write, splits/math_in_distribution.json"
    )
    parser.set_defaults(run=run_split)


def run_split(arguments: argparse.Namespace) -> None:
    from .split import write

    train = arguments.data / arguments.domain / "train.jsonl"
    write(train, arguments.source, arguments.count, arguments.seed, arguments.to)


def add_lm_eval(commands: argparse._SubParsersAction) -> None:
    parser = formatted(
        commands,
        "lm-eval",
        help="run tasks of lm-evaluation-harness against a running server",
        description="""\
Needs requirements-lm-eval.txt. The task ccoe_choice takes the multiple-choice records of a local
file (--file, or the environment's CCOE_EVAL_FILE); other names are the harness's own tasks, whose
data it fetches itself.""",
        epilog="""\
example:
  python -m ccoe_eval lm-eval --domain law --file DATA/law/dev.jsonl --limit 10""",
    )
    add_server(parser)
    parser.add_argument(
        "--domain", default="general", help='who answers; "" lets the gate decide (default general)'
    )
    parser.add_argument("--tasks", nargs="+", default=["ccoe_choice"], help="(default ccoe_choice)")
    parser.add_argument("--file", type=Path, help="records for ccoe_choice")
    parser.add_argument("--limit", type=int, help="so many documents of each task")
    parser.add_argument(
        "--plain", action="store_true", help="contexts are plain texts, without the chat template"
    )
    parser.set_defaults(run=run_lm_eval)


def run_lm_eval(arguments: argparse.Namespace) -> None:
    from .lm_eval_adapter import CcoeLM, evaluate

    model = CcoeLM(
        arguments.server, arguments.domain, chat=not arguments.plain, streams=arguments.streams
    )
    results = evaluate(model, arguments.tasks, arguments.file, arguments.limit)
    file = f"{arguments.file.parent.name}/{arguments.file.name}" if arguments.file else ""
    results |= {"domain": arguments.domain, "file": file}
    print(json.dumps(results, indent=1, default=str))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="ccoe_eval",
        description="Measures a running `ccoe serve` against the domains' data, by gRPC alone.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_run, add_report, add_scores, add_plans, add_split, add_lm_eval):
        add(commands)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except CcoeError as error:
        sys.exit(f"the server refused: {error}")
    except (OtherRun, Unusable, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; run again with the same --out to go on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
