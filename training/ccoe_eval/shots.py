"""The examples that are put before a prompt as earlier turns of the conversation."""

import random
from typing import Callable

from ccoe_client import Client
from ccoe_training.records import Record

from .client import Turn, user
from .options import choices, family
from .tasks import Item, RowData

SHOTS = 3
SEED = 1


class Shots:
    """Fixed, seeded train examples for every source of a row's items: of the same source where the
    train records have it, else of the same form of answer, else any with an answer. Those that make
    a conversation of more than `max_tokens` by themselves are passed over."""

    def __init__(self, data: RowData, client: Client, max_tokens: int):
        self._answer_tokens = data.row.max_tokens
        self._client, self._max_tokens = client, max_tokens
        self._candidates = [record for record in data.train if "answer" in record]
        random.Random(SEED).shuffle(self._candidates)
        self._chosen: dict[str, list[Record]] = {}
        for item in data.items:
            if self._key(item) not in self._chosen:
                self._chosen[self._key(item)] = self._choose(item)

    @staticmethod
    def _key(item: Item) -> str:
        return f"{family(item.record['source'])} {item.kind}"

    def _choose(self, item: Item) -> list[Record]:
        name = family(item.record["source"])
        collection = name.split("/")[0]
        kind = bool(choices(item.record))
        preferences: list[Callable[[Record], bool]] = [
            lambda r: family(r["source"]) == name,
            lambda r: family(r["source"]).split("/")[0] == collection,
            lambda r: bool(choices(r)) == kind,
            lambda r: True,
        ]
        chosen: list[Record] = []
        for preferred in preferences:
            for record in self._candidates:
                if len(chosen) == SHOTS:
                    return chosen
                if record not in chosen and preferred(record) and self._fits(record):
                    chosen.append(record)
        return chosen

    def _fits(self, record: Record) -> bool:
        count = self._client.count_tokens([*exchange(record), *user("-")])
        return count.tokens <= self._max_tokens

    def before(self, item: Item) -> list[Turn]:
        """The turns that go before the item's prompt; fewer examples where the model's context has
        no room for all of them and an answer."""
        chosen = self._chosen[self._key(item)]
        while True:
            turns = [turn for record in chosen for turn in exchange(record)]
            count = self._client.count_tokens([*turns, *user(item.record["prompt"])])
            if not chosen or count.tokens + self._answer_tokens <= count.max_prompt_tokens:
                return turns
            chosen = chosen[1:]


def exchange(record: Record) -> list[Turn]:
    """The record as a question and its answer."""
    return [*user(record["prompt"]), {"role": "assistant", "content": record["response"]}]
