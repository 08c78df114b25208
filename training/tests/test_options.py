"""Which answers a record allows."""

from ccoe_eval.options import LabelSets, Option, choices, family


def record(source, answer, prompt="?"):
    return {"source": source, "answer": answer, "prompt": prompt}


def labels(sets, source, answer):
    return [option.label for option in sets.options(record(source, answer))]


def test_a_family_is_a_source_without_its_split():
    assert family("contractnli/test") == family("contractnli/train") == "contractnli"
    assert family("mmlu-testrows-as-train/law") == family("mmlu/test/law") == "mmlu/law"


def test_choices_are_the_lettered_lines_at_the_end():
    prompt = "A. Smith asks:\nA. one\nB. two\nC. three\nAnswer:"
    found = choices(record("x", "C", prompt))
    assert [(option.label, option.words) for option in found] == [
        ("A", "one"), ("B", "two"), ("C", "three")
    ]  # fmt: skip
    assert choices(record("x", "D", prompt)) == []
    assert choices(record("x", "A", "A. only one\nC. out of order")) == []
    assert choices({"source": "x", "prompt": prompt}) == []


def test_label_sets_come_from_the_train_records():
    train = [record("nli/train", a) for a in ("In", "Out", "In")]
    train += [record("q/one", a) for a in ("Yes", "No")]
    train += [record("poll/train", a) for a in ("Yes", "No", "Maybe")]
    measured = [record("q/two", "No"), record("marks", "generic"), record("marks", "fanciful")]
    sets = LabelSets(train, measured)
    assert labels(sets, "nli/test", "Out") == ["In", "Out"]
    assert labels(sets, "q/two", "No") == ["No", "Yes"]
    assert labels(sets, "marks", "generic") == ["fanciful", "generic"]
    assert labels(sets, "nli/test", "Neither") == []


def test_spellings():
    assert Option("NotMentioned", "").spellings == ["NotMentioned", "Not mentioned"]
    assert Option("yes", "").spellings == ["yes", "Yes"]
    assert Option("Yes", "").spellings == ["Yes"]
