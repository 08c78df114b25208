"""Command line: python -m ccoe_training COMMAND --help."""

import argparse
import sys
from pathlib import Path

import torch


def add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train",
        help="train a LoRA adapter over the layers from the attach depth on, or the layers",
        description="Trains on DATA/train.jsonl, measures on DATA/dev.jsonl, and leaves "
        "checkpoint.pt and train_log.jsonl in OUT. Run again with the same OUT to resume.",
    )
    parser.add_argument("--model", type=Path, required=True, help="the base model, a GGUF file")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the run's state")
    parser.add_argument("--attach-depth", type=int, required=True, help="first layer of the expert")
    parser.add_argument(
        "--exclude", type=Path, help="split file (splits/NAME.json) of records not to train on"
    )
    parser.add_argument(
        "--kind", choices=["lora", "full"], default="lora", help="an adapter, or whole layers"
    )
    parser.add_argument("--rank", type=int, default=16, help="of an adapter")
    parser.add_argument("--alpha", type=int, default=32, help="of an adapter")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=512, help="longer examples are left out")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="padded tokens in a batch")
    parser.add_argument("--dev-examples", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--time-budget-s",
        type=float,
        default=float("inf"),
        help="stop after so many seconds; the learning rate decays over what is used",
    )
    parser.set_defaults(run=run_train)


NOT_OPTIONS = {"command", "run", "threads"}


def run_train(arguments: argparse.Namespace) -> None:
    from .train import Trainer, TrainOptions

    values = {name: value for name, value in vars(arguments).items() if name not in NOT_OPTIONS}
    Trainer(TrainOptions(**values)).run()


def add_study(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "study",
        help="compare attach depths and ranks by small runs; propose those that fit a budget",
        description="Trains on EXAMPLES of DATA/<domain>/train.jsonl for each domain, attach depth "
        "and rank, and appends the loss on DATA/<domain>/dev.jsonl to OUT/study.jsonl. Run again "
        "with the same OUT to resume, or with another --budget-mb to plan only.",
    )
    parser.add_argument("--model", type=Path, required=True, help="the base model, a GGUF file")
    parser.add_argument("--data", type=Path, required=True, help="folder of the domains' folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and results")
    parser.add_argument("--domains", nargs="+", default=["code", "law"])
    parser.add_argument("--depths", nargs="+", type=int, default=[12, 18, 22, 26])
    parser.add_argument("--ranks", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--budget-mb", type=float, help="propose what fits so many 10^6 bytes")
    parser.set_defaults(run=run_study)


def run_study(arguments: argparse.Namespace) -> None:
    from .study import plan, study

    points = study(
        arguments.model, arguments.data, arguments.out,
        arguments.domains, arguments.depths, arguments.ranks, arguments.examples,
    )  # fmt: skip
    for point in points if arguments.budget_mb is None else plan(points, arguments.budget_mb):
        print(
            f"{point.domain}: attach depth {point.attach_depth}, rank {point.rank}, "
            f"{point.package_mb} MB: loss {point.base_loss} -> {point.loss} "
            f"(-{100 * point.gain:.1f} %)"
        )


def add_plot(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("plot", help="draw a study's losses over the depths, as SVG")
    parser.add_argument("--study", type=Path, required=True, help="OUT/study.jsonl of study")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.set_defaults(run=run_plot)


def run_plot(arguments: argparse.Namespace) -> None:
    from .plot import plot
    from .study import read_points

    arguments.out.write_text(plot(read_points(arguments.study)), encoding="utf-8")


def add_package(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "package",
        help="write an expert package from a run's newest checkpoint",
        description="Writes expert.json and the adapter or the layers to OUT, "
        "with the greedy answers to the domain's example prompts.",
    )
    parser.add_argument("--domain", type=Path, required=True, help="domains/NAME.json")
    parser.add_argument("--run-folder", type=Path, required=True, help="the --out of train")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the package's folder")
    parser.set_defaults(run=run_package)


def run_package(arguments: argparse.Namespace) -> None:
    from .package import write_package

    write_package(arguments.domain, arguments.run_folder, arguments.model, arguments.out)


def add_gate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("gate", help="measure the gate rules of a domain file or package")
    parser.add_argument("--domain", type=Path, required=True, help="domains/NAME.json, expert.json")
    parser.add_argument("--data", type=Path, required=True, help="folder of the domains' folders")
    parser.set_defaults(run=run_gate)


def run_gate(arguments: argparse.Namespace) -> None:
    from .gate import GateRules, measure
    from .json_file import read_json
    from .records import read_records

    manifest = read_json(arguments.domain)
    paths = sorted(arguments.data.glob("*/dev.jsonl"))
    records = [record for path in paths for record in read_records(path)]
    print(measure(GateRules.from_json(manifest["gate"]["rules"]), records, manifest["domain"]))


def add_gate_rows(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "gate-rows",
        help="train the learned gate's rows, measure them beside the rules",
        description="Trains one linear classifier for each domain over pooled states of the base "
        "model, against a fixed background of DATA's and GATE/invented.jsonl's prompts, and prints "
        "how well rules and rows tell prompts apart: DATA's dev prompts, GATE/prompts.jsonl, and "
        "each source of the background by rows trained without it. A row depends on its own domain "
        "and the background only: name a new domain alone, and the others' rows stay.",
    )
    parser.add_argument("--model", type=Path, required=True, help="the base model, a GGUF file")
    parser.add_argument("--data", type=Path, required=True, help="folder of the domains' folders")
    parser.add_argument("--gate", type=Path, default=Path("gate"), help="the invented prompts")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the pooled states")
    parser.add_argument(
        "--domains", type=Path, nargs="+", required=True, help="domains/NAME.json, expert.json"
    )
    parser.add_argument("--routing-layer", type=int, default=8)
    parser.add_argument("--l2", type=float, default=0.03)
    parser.add_argument("--no-invented", action="store_true", help="without GATE/invented.jsonl")
    parser.add_argument("--write", action="store_true", help="put the rows into the DOMAINS' files")
    parser.set_defaults(run=run_gate_rows)


def run_gate_rows(arguments: argparse.Namespace) -> None:
    from .gate_data import BackgroundOptions
    from .gate_rows import GateRowsOptions, RowOptions, run

    options = GateRowsOptions(
        model=arguments.model,
        data=arguments.data,
        gate=arguments.gate,
        cache=arguments.cache,
        domains=arguments.domains,
        routing_layer=arguments.routing_layer,
        row=RowOptions(l2=arguments.l2),
        background=BackgroundOptions(invented=not arguments.no_invented),
    )
    run(options, arguments.write)


def add_pin(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("pin", help="write the base model's digest into a package")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--ccoe", type=Path, default=Path("build/bin/ccoe"), help="the program ccoe"
    )
    parser.set_defaults(run=run_pin)


def run_pin(arguments: argparse.Namespace) -> None:
    from .package import pin_base

    pin_base(arguments.package, arguments.model, arguments.ccoe)


def add_experts(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "experts",
        help="train, package and pin the experts of domain files",
        description="For each domain file whose package is not in EXPERTS in that version: trains "
        "as the file's `training` says, resuming in WORK what was interrupted, writes the package "
        "and pins it to the base.",
    )
    parser.add_argument("--domains", type=Path, nargs="+", required=True, help="domains/NAME.json")
    parser.add_argument("--model", type=Path, required=True, help="the base model, a GGUF file")
    parser.add_argument("--data", type=Path, required=True, help="folder of the domains' folders")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs' state")
    parser.add_argument("--experts", type=Path, required=True, help="folder of the packages")
    parser.add_argument(
        "--ccoe", type=Path, default=Path("build/bin/ccoe"), help="the program ccoe"
    )
    parser.set_defaults(run=run_experts)


def run_experts(arguments: argparse.Namespace) -> None:
    from .recipe import make_expert

    for domain in arguments.domains:
        make_expert(
            domain, arguments.model, arguments.data, arguments.work, arguments.experts,
            arguments.ccoe,
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="ccoe_training", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads (default 1)")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (
        add_experts, add_train, add_study, add_plot, add_package, add_gate, add_gate_rows,
        add_pin,
    ):  # fmt: skip
        add(commands)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
