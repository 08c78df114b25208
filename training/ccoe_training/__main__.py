"""Command line: python -m ccoe_training COMMAND --help."""

import argparse
import sys
from pathlib import Path

import torch


def add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train", help="train a LoRA adapter over the layers from the attach depth on",
        description="Trains on DATA/train.jsonl, measures on DATA/dev.jsonl, and leaves "
        "checkpoint.pt and train_log.jsonl in OUT. Run again with the same OUT to resume.",
    )
    parser.add_argument("--model", type=Path, required=True, help="the base model, a GGUF file")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl, dev.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run's state")
    parser.add_argument("--attach-depth", type=int, required=True, help="first layer of the expert")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=512, help="longer examples are left out")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="padded tokens in a batch")
    parser.add_argument("--dev-examples", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--time-budget-s", type=float, default=float("inf"),
        help="stop after so many seconds; the learning rate decays over what is used",
    )
    parser.set_defaults(run=run_train)


def run_train(arguments: argparse.Namespace) -> None:
    from .train import Trainer, TrainOptions

    values = {name: value for name, value in vars(arguments).items() if name not in NOT_OPTIONS}
    Trainer(TrainOptions(**values)).run()


NOT_OPTIONS = {"command", "run", "threads"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="ccoe_training", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads (default 1)")
    commands = parser.add_subparsers(dest="command", required=True)
    add_train(commands)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
