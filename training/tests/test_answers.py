"""What counts as a right answer."""

import pytest

from ccoe_eval import answers
from ccoe_eval.options import Option
from ccoe_training.normalise import normalise_sql

ABCD = [Option("A", "Low stage"), Option("B", "High stage"), Option("C", "fusion"),
        Option("D", "None of the above")]  # fmt: skip
NLI = [Option(label, label) for label in ("Contradiction", "Entailment", "NotMentioned")]
YES_NO = [Option(label, label) for label in ("maybe", "no", "yes")]


def test_sql_forgives_case_quotes_blanks_and_the_semicolon():
    assert normalise_sql('SELECT a ,b\n FROM t WHERE x = "Y" ;') == "select a,b from t where x='y'"
    assert answers.sql_right("```sql\nSELECT count( * ) FROM t;\n```", "select COUNT(*) from t")
    assert not answers.sql_right("SELECT a FROM t", "SELECT b FROM t")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9 - 3 = 6\n#### 6", 6),
        ("#### 1,250\nand 7 more", 1250),
        ("It costs $18.50.", 18.5),
        ("so 10-4=6", 6),
        ("pages 5-10", 10),
        ("x = -5", -5),
        ("about .5", 0.5),
        ("no number", None),
        ("####", None),
    ],
)
def test_final_number(text, number):
    assert answers.final_number(text) == number


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("2*x**2 - 4*x + 3", "2*x**2-4*x+3", True),
        ("Adding up,\nwe get 16*sqrt(7) = 3 + x", "3 + x", True),
        ("The answer is: -5, 1, 17.", "-5, 1, 17", True),
        ("It is 10:45 AM", "10:45 AM", True),
        ("true", "True", True),
        ("The value is 12.0", "12", True),
        ("1, 17", "-5, 1, 17", False),
        ("", "True", False),
    ],
)
def test_exact(text, answer, right):
    assert answers.exact_right(text, answer) is right


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B. High stage", "B"),
        ("(C) fusion", "C"),
        ("**D**", "D"),
        ("A", "A"),
        ("The correct answer is B, because of A.", "B"),
        ("Answer: C", "C"),
        ("The answer is a difficult one", None),
        ("A high stage is what is meant", "B"),
        ("It is the high stage, not the low stage.", None),
        ("E. Something", None),
        ("I do not know", None),
        ("", None),
    ],
)
def test_chosen_letter(text, letter):
    assert answers.chosen_letter(text, ABCD) == letter


@pytest.mark.parametrize(
    ("text", "options", "label"),
    [
        ("NotMentioned", NLI, "NotMentioned"),
        ("The statement is not mentioned.", NLI, "NotMentioned"),
        ("Entailment, no contradiction", NLI, "Entailment"),
        ("Yes. It is not cost-effective; no", YES_NO, "yes"),
        ("Nothing is known", YES_NO, None),
        ("", YES_NO, None),
    ],
)
def test_chosen_label(text, options, label):
    assert answers.chosen_label(text, options) == label


def test_the_longest_label_wins_where_several_begin():
    options = [Option(label, label) for label in ("License", "License Grant")]
    assert answers.chosen_label("It is a license grant.", options) == "License Grant"


def test_code_is_the_first_fence_or_the_lines_that_are_python():
    assert answers.code_of("Here:\n```python\nx = 1\n```\nThat is all.") == "x = 1"
    assert answers.code_of("def f():\n    return 1\nThis function returns 1.") == (
        "def f():\n    return 1"
    )


def test_named():
    assert answers.named_right("It was Katherine Cannon, I think.", "Cathy ||| katherine cannon")
    assert not answers.named_right("Romania", "Roman ||| Oman")
