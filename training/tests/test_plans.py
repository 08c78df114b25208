"""How splitting prompts is judged, without a server."""

from pathlib import Path

from ccoe_eval.plans import Prompt, read_prompts, report_plans

PROMPTS = Path(__file__).resolve().parents[1] / "gate" / "plans.jsonl"


def test_prompts_name_known_domains():
    prompts = read_prompts(PROMPTS)
    known = {"code", "general", "law", "math", "medical", "sql"}
    assert all(prompt.domains and set(prompt.domains) <= known for prompt in prompts)


def test_wrong_splits_are_told():
    prompts = [Prompt("a, then b", ["sql", "code"]), Prompt("a, then law", ["sql", "law"]),
               Prompt("one", ["law"]), Prompt("another", ["law"])]  # fmt: skip
    found = [["sql", "code"], ["sql"], ["general"], ["law", "code"]]
    assert report_plans(prompts, found) == [
        "expected sql, law; made sql: 'a, then law'",
        "expected law; made law, code: 'another'",
        "1 of 2 prompts of several steps were split as expected",
        "1 of 2 prompts of one step were split",
    ]
