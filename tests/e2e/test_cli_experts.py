"""The commands that check, compare and make expert packages."""

import json
import resource
import shutil

import conftest
import prompts
import pytest
from test_cli import last_line

TINY = conftest.ROOT / "tests" / "goldens" / "tiny"


def copy_package(folder, to, **changes):
    """A copy of a package whose expert.json has other members."""
    shutil.copytree(folder, to)
    manifest = json.loads((to / "expert.json").read_text()) | changes
    (to / "expert.json").write_text(json.dumps(manifest))
    return to


def verify(cli, model, folder, *arguments):
    """The exit code and the last line of `ccoe expert verify --json`."""
    result = cli("expert", "verify", folder, "--model", model, "--json", *arguments)
    return result.returncode, json.loads(result.stdout.splitlines()[-1])


def test_the_trained_expert_answers_its_examples(cli, model):
    trained = conftest.ROOT / "deploy" / "experts" / "sql"
    inspected = cli("expert", "inspect", "--json", trained, "--model", model)
    if not json.loads(inspected.stdout)["ok"]:
        pytest.skip("the model is not its base")
    code, last = verify(cli, model, trained)
    assert (code, last["ok"]) == (0, True)
    assert last["examples"] and all(example["equal"] for example in last["examples"])
    assert "3 of 3 examples agree" in cli("expert", "verify", trained, "--model", model).stdout


def test_verify_says_where_tokens_part(cli, model, experts, tmp_path):
    answer = last_line(cli("generate", "--model", model, "--experts", experts, "--expert", "birds",
                           "--temperature", 0, "--max-tokens", 6, "--json", prompts.BIRDS))
    ids = answer["token_ids"]
    example = {"prompt": prompts.BIRDS, "arithmetic": "i8b32.v2", "max_tokens": 6}
    good = example | {"token_ids": ids}
    other = example | {"token_ids": ids[:2] + [ids[2] + 1] + ids[3:]}
    short = example | {"token_ids": ids[:4]}
    folder = copy_package(experts / "birds", tmp_path / "birds", examples=[good, other, short])
    code, last = verify(cli, model, folder, "--threads", 1)
    assert (code, last["ok"]) == (1, False)
    assert [e["equal"] for e in last["examples"]] == [True, False, False]
    assert [e["first_difference"] for e in last["examples"]] == [None, 2, 4]
    assert all(e["got"]["token_ids"] == ids for e in last["examples"])
    assert last["examples"][1]["expected"]["text"] != last["examples"][1]["got"]["text"]
    text = cli("expert", "verify", folder, "--model", model)
    assert "part at token 2" in text.stdout and "2 of 3 examples" in text.stderr


def test_verify_refuses_what_it_cannot_check(cli, model, experts, tmp_path):
    code, last = verify(cli, model, experts / "birds")
    assert (code, last["ok"]) == (1, False) and "no examples" in last["reason"]
    example = {"prompt": "x", "arithmetic": "i4b16", "max_tokens": 1, "token_ids": [1]}
    unknown = copy_package(experts / "birds", tmp_path / "birds", examples=[example])
    code, last = verify(cli, model, unknown)
    assert code == 4 and "'i4b16'; known are: exact" in last["reason"]
    pinned = copy_package(experts / "birds", tmp_path / "pinned", base={
        "name": "x", "digest": "sha256:" + "0" * 64}, examples=[example | {"arithmetic": "exact"}])
    code, last = verify(cli, model, pinned)
    assert code == 4 and "does not fit" in last["reason"] and last["examples"] == []


def test_expert_diff(cli, experts, tmp_path):
    other = copy_package(experts / "birds", tmp_path / "other", version="0.0.2")
    assert "byte for byte" in cli("expert", "diff", experts / "birds", experts / "birds").stdout
    result = cli("expert", "diff", experts / "birds", other, "--json")
    assert (result.returncode, result.stderr) == (1, "")
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["fields"] == [{"field": "version", "a": "0.0.1", "b": "0.0.2"}]
    assert last["lists"] == [] and not last["same"]
    assert {tensor["distance"] for tensor in last["tensors"]["distances"]} == {0}
    assert '+ "0.0.2"' in cli("expert", "diff", experts / "birds", other).stdout


def test_expert_diff_of_tensors(cli, experts, tmp_path):
    other = copy_package(experts / "birds", tmp_path / "other")
    weights = other / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0x80
    weights.write_bytes(data)
    last = json.loads(cli("expert", "diff", experts / "birds", other, "--json").stdout)
    distances = [tensor["distance"] for tensor in last["tensors"]["distances"]]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0 and distances[1] == 0 and last["fields"] == []
    weights.write_bytes(data[:100])
    result = cli("expert", "diff", experts / "birds", other, "--json")
    assert result.returncode == 4
    assert "truncated" in json.loads(result.stdout.splitlines()[-1])["message"]


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the tiny base model whose layer 2 was tuned; its base is TINY / "llama"."""
    folder = tmp_path / "tuned"
    shutil.copytree(TINY / "llama", folder)
    change_tensor(folder / "model.safetensors", "model.layers.2.mlp.down_proj.weight")
    return folder


def change_tensor(path, name):
    """Negates every value of a float32 tensor."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:8 + size])[name]["data_offsets"]
    for i in range(8 + size + begin + 3, 8 + size + end, 4):
        data[i] ^= 0x80
    path.write_bytes(data)


def make(cli, command, source, model, out, *arguments, **kwargs):
    return cli("expert", command, source, "--model", model, "--name", "law", "--domain", "law",
               "--out", out, *arguments, **kwargs)


def refused(result, out):
    """Why nothing was made, and that nothing is left of the attempt."""
    assert list(out.parent.iterdir()) == []
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["event"] == "error" and last["message"] in result.stderr
    return result.returncode, last["message"]


@pytest.fixture
def out(tmp_path):
    (tmp_path / "experts").mkdir()
    return tmp_path / "experts" / "law"


def test_extract_makes_a_package_that_is_served(cli, checkpoint, out):
    base = TINY / "llama"
    last = last_line(make(cli, "extract", checkpoint, base, out, "--json", "--licence", "MIT"))
    assert (last["attach_depth"], last["layers"], last["version"]) == (2, 4, "1.0.0")
    assert last["notes"] and "gate.rules" in last["notes"][0]
    inspected = last_line(cli("expert", "inspect", "--json", out, "--model", base))
    assert inspected["ok"] and inspected["kind"] == "full" and inspected["licence"] == "MIT"
    assert inspected["digest"] == last["digest"]
    raw = ["--raw", "--temperature", 0, "--max-tokens", 8, "--json", "--arithmetic", "exact",
           "hello"]
    expert = last_line(cli("generate", "--model", base, "--experts", out.parent, "--expert", "law",
                           *raw))
    tuned = last_line(cli("generate", "--model", checkpoint, *raw))
    assert expert["expert"] == "law"
    assert expert["token_ids"] == tuned["token_ids"]
    assert expert["token_ids"] != last_line(cli("generate", "--model", base, *raw))["token_ids"]


def test_extract_tells_people_what_was_made(cli, checkpoint, out):
    result = make(cli, "extract", checkpoint, TINY / "llama", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert "2 of 4 layers" in result.stdout and "gate.rules" in result.stdout
    assert list(out.parent.iterdir()) == [out]
    again = make(cli, "extract", checkpoint, TINY / "llama", out, "--json")
    assert again.returncode == 2 and "is there already" in again.stderr


def test_extract_refuses(cli, model, checkpoint, out):
    base = TINY / "llama"
    code, why = refused(make(cli, "extract", base, base, out, "--json"), out)
    assert code == 4 and "nothing to extract" in why
    if model.suffix == ".gguf":
        code, why = refused(make(cli, "extract", checkpoint, model, out, "--json"), out)
        assert code == 4 and "the base is quantised" in why
    code, why = refused(make(cli, "extract", TINY / "qwen2", base, out, "--json"), out)
    assert code == 4 and "qwen2" in why
    code, why = refused(make(cli, "extract", checkpoint, base, out, "--version", "V", "--json"),
                        out)
    assert code == 2 and "version" in why
    change_tensor(checkpoint / "model.safetensors", "model.embed_tokens.weight")
    code, why = refused(make(cli, "extract", checkpoint, base, out, "--json"), out)
    assert code == 4 and "differs from the base in model.embed_tokens.weight" in why
    (checkpoint / "model.safetensors").write_bytes(b"x")
    code, why = refused(make(cli, "extract", checkpoint, base, out, "--json"), out)
    assert code == 4 and "not a safetensors file" in why


def test_a_full_disk_leaves_nothing(cli, checkpoint, out):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))

    result = make(cli, "extract", checkpoint, TINY / "llama", out, "--json", preexec_fn=limit,
                  restore_signals=False)
    code, why = refused(result, out)
    assert code == 1 and f"cannot write {out}" in why
    result = make(cli, "extract", checkpoint, TINY / "llama", "/dev/full/law", "--json")
    assert result.returncode == 2 and "/dev/full" in result.stderr


def test_pack_makes_a_package_that_is_served(cli, model, experts, out):
    last = last_line(make(cli, "pack", experts / "birds", model, out, "--json"))
    assert last["attach_depth"] == conftest.DEEP
    assert last_line(cli("expert", "inspect", "--json", out, "--model", model))["ok"]
    differences = json.loads(cli("expert", "diff", experts / "birds", out, "--json").stdout)
    assert {t["distance"] for t in differences["tensors"]["distances"]} == {0}
    assert {f["field"] for f in differences["fields"]} == {"name", "domain", "version", "licence",
                                                           "description"}
    routed = last_line(cli("generate", "--model", model, "--experts", out.parent, "--domain", "law",
                           "--max-tokens", 2, "--json", prompts.BIRDS))
    assert routed["expert"] == "law"


def test_pack_refuses(cli, model, experts, out, tmp_path):
    code, why = refused(make(cli, "pack", TINY / "llama_lora", model, out, "--json"), out)
    assert code == 4 and "the model's is" in why  # an adapter for another hidden size
    adapter = tmp_path / "adapter"
    shutil.copytree(experts / "birds", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    code, why = refused(make(cli, "pack", adapter, model, out, "--json"), out)
    assert code == 4 and "use_dora" in why
    code, why = refused(make(cli, "pack", TINY / "llama", model, out, "--json"), out)
    assert code == 4 and "adapter_config.json" in why
