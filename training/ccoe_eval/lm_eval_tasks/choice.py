"""The documents of ccoe_choice.yaml."""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset

from ccoe_eval.options import choices
from ccoe_training.records import read_records


def load(**_: Any) -> dict[str, Dataset]:
    """The records of CCOE_EVAL_FILE whose answer is one of the prompt's lettered options."""
    path = os.environ.get("CCOE_EVAL_FILE")
    if not path:
        raise ValueError("set CCOE_EVAL_FILE to a file of records, DATA/law/dev.jsonl for instance")
    documents = []
    for record in read_records(Path(path)):
        options = choices(record)
        if options:
            documents.append(
                {
                    "prompt": record["prompt"],
                    "options": [f"{option.label}. {option.words}" for option in options],
                    "gold": [option.label for option in options].index(record["answer"]),
                }
            )
    return {"test": Dataset.from_list(documents)}
