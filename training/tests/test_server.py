"""A whole run against the real program; needs CCOE_BIN (`ccoe` or its folder) and CCOE_MODEL."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[1]
NEEDED = ("CCOE_BIN", "CCOE_MODEL")
pytestmark = pytest.mark.skipif(
    not all(os.environ.get(name) for name in NEEDED), reason=f"needs {' and '.join(NEEDED)}"
)

SCHEMA = "Given the database schema:\nCREATE TABLE t (a TEXT, b TEXT);\n\nWrite a SQL query that "


def record(prompt, response, answer=None, source="made/x"):
    answer = response if answer is None else answer
    return {"prompt": prompt, "response": response, "answer": answer, "source": source}


SQL = [
    record(
        f"{SCHEMA}answers the question: What is a where b is {i}?",
        f"SELECT a FROM t WHERE b = '{i}'",
    )
    for i in range(6)
]
LAW = [
    record(f"Which one is number {i}?\nA. one\nB. two\nC. three\nAnswer:", "B. two", "B")
    for i in range(5)
]
LAW += [record(f"Is {i} even?", "No" if i % 2 else "Yes", source="even/x") for i in range(3)]
CODE = [
    record(
        f"Write a Python function that returns {i}.",
        f"def f():\n    return {i}",
        f"assert f() == {i}",
    )
    for i in range(5)
]
RECORDS = {"sql": SQL, "law": LAW, "code": CODE}


@pytest.fixture(scope="module")
def addresses():
    program = Path(os.environ["CCOE_BIN"])
    program = program / "ccoe" if program.is_dir() else program
    experts = TRAINING.parent / "deploy" / "experts"
    command = [program, "serve", "--model", os.environ["CCOE_MODEL"], "--experts", experts,
               "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--threads", "1"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    line = process.stdout.readline()
    assert line.startswith("listening "), line
    yield dict(pair.split("=", 1) for pair in line.split()[1:])
    process.terminate()
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def server(addresses):
    return addresses["listen"]


@pytest.fixture(scope="module")
def http(addresses):
    return addresses["http"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for domain, records in RECORDS.items():
        (folder / domain).mkdir()
        for name, part in (("train", records[2:]), ("dev", records[:2] + records[-1:])):
            lines = [json.dumps({"domain": domain, **record}) + "\n" for record in part]
            (folder / domain / f"{name}.jsonl").write_text("".join(lines))
    return folder


def ccoe_eval(*arguments):
    command = [sys.executable, "-m", "ccoe_eval", *map(str, arguments)]
    done = subprocess.run(command, cwd=TRAINING, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_run_resume_and_report(server, data, tmp_path):
    out, rows = tmp_path / "out", ["--rows", "sql", "law", "code"]
    common = ["run", "--server", server, "--data", data, "--out", out, "--streams", 3]
    assert "sql: 4 to ask" in ccoe_eval(*common, *rows, "--limit", 1)
    printed = ccoe_eval(*common, *rows)
    # One of three items was asked before; law and code have no expert.
    assert "sql: 8 to ask" in printed
    assert "law: 6 to ask" in printed and "no expert serves law" in printed
    assert "sql: 0 to ask" in ccoe_eval(*common, "--rows", "sql")

    sql = [json.loads(line) for line in (out / "sql.jsonl").read_text().splitlines()]
    assert len({(r["prompt_sha256"], r["arm"]) for r in sql}) == len(sql) == 12
    routed = {r["prompt_sha256"]: r for r in sql if r["arm"] == "routed"}
    assert {r["route"]["domain"] for r in routed.values()} == {"sql"}
    for told in (r for r in sql if r["arm"] == "expert"):
        assert told["text"] == routed[told["prompt_sha256"]]["text"]
        assert told["metrics"]["bits"] > 0
    law = [json.loads(line) for line in (out / "law.jsonl").read_text().splitlines()]
    base = [r["metrics"] for r in law if r["arm"] == "base"]
    assert all({"correct", "option", "bits", "bytes"} <= set(metrics) for metrics in base)

    ccoe_eval("report", "--out", out, "--markdown", tmp_path / "results.md")
    assert "## The gate" in (tmp_path / "results.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["run"]["depends"]["experts"]["sql"]


def test_lm_eval_adapter(server):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from ccoe_eval.lm_eval_adapter import CcoeLM

    def instances(kind, *arguments):
        return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]

    model = CcoeLM(server=server, chat=False)
    pairs = [("The capital of France is", " Paris"), ("The capital of France is", " cheese"),
             ("", "Hello world")]  # fmt: skip
    paris, cheese, hello = model.loglikelihood(instances("loglikelihood", *pairs))
    assert paris[0] > cheese[0] and hello[0] < 0
    rolling = model.loglikelihood_rolling(instances("loglikelihood_rolling", ("Hello world",)))
    assert rolling == [hello[0]]
    asked = ("One, two, three,", {"until": [","], "max_gen_toks": 5})
    [text] = model.generate_until(instances("generate_until", asked))
    assert text and "," not in text


def tokenizer_of(model, folder):
    """The model's tokenizer as a folder of transformers': what lm-eval counts contexts with."""
    gguf, tokenizers = pytest.importorskip("gguf"), pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    fields = gguf.GGUFReader(model).fields

    def texts(name):
        field = fields[f"tokenizer.ggml.{name}"]
        return [bytes(field.parts[i]).decode() for i in field.data]

    vocabulary = {token: i for i, token in enumerate(texts("tokens"))}
    merges = [tuple(merge.split(" ")) for merge in texts("merges")]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    steps = tokenizers.pre_tokenizers
    made.pre_tokenizer = steps.Sequence(
        [steps.Digits(individual_digits=True), steps.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|im_start|>", eos_token="<|im_end|>"
    ).save_pretrained(folder)
    return str(folder)


CHOICES = [
    {"q": "The capital of France is", "choices": [" Paris", " cheese", " seven"], "gold": 0},
    {"q": "One, two, three,", "choices": [" blue", " four", " table"], "gold": 1},
    {"q": "The opposite of hot is", "choices": [" Paris", " banana", " cold"], "gold": 2},
]


def test_lm_eval_local_completions(http, tmp_path):
    """The harness's own client of OpenAI's API, on a task over a local file."""
    lm_eval = pytest.importorskip("lm_eval")
    pytest.importorskip("lm_eval.models.openai_completions")  # known by its name from here on
    from lm_eval.tasks import TaskManager

    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(json.dumps(each) + "\n" for each in CHOICES))
    task = {
        "task": "local_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(documents)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    found = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "model": "general",
            "base_url": f"http://{http}/v1/completions",
            "tokenizer_backend": "huggingface",
            "tokenizer": tokenizer_of(os.environ["CCOE_MODEL"], tmp_path / "tokenizer"),
            "tokenized_requests": False,
            "max_retries": 1,
        },
        tasks=["local_choice"],
        task_manager=TaskManager(include_path=str(tmp_path)),
        batch_size=2,
        log_samples=True,
    )
    assert found["results"]["local_choice"]["acc,none"] == 1.0
    answers = [sample["filtered_resps"] for sample in found["samples"]["local_choice"]]
    greedy = [[is_greedy for _, is_greedy in each] for each in answers]
    assert greedy == [[True, False, False], [False, True, False], [False, False, True]]
