"""What the two measurements of six domains share: packages, prompts, and ours as processes."""

import concurrent.futures
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import lora_gguf
import numpy as np
import peer
from child import Child
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import api  # noqa: E402
import packages  # noqa: E402
import processes  # noqa: E402

GENERAL = "general"
# The experts' attach depths and ranks, for stand-ins of those that are not trained yet.
SHAPES = {"code": (18, 8), "law": (12, 8), "math": (18, 8), "medical": (18, 12), "sql": (18, 16)}
DOMAINS = [GENERAL, *SHAPES]
KV_BYTES = 2  # of a value in the KV cache: float16 on every side but PEFT's


def add_arguments(parser):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "ccoe"
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file of the base")
    parser.add_argument("--experts", type=pathlib.Path, default=ROOT / "deploy" / "experts",
                        help="folder of LoRA packages; domains that lack one get a stand-in of the "
                        "same shape with random weights (default: deploy/experts)")
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "build" / "bin",
                        help="where the project's programs are (default: build/bin)")
    parser.add_argument("--cache", type=pathlib.Path, default=cache / "bench",
                        help=f"where llama.cpp is built (default: {cache / 'bench'})")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="compute threads of every side (default: one per core)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write")


def add_data_argument(parser):
    """Where `texts` finds prompts."""
    parser.add_argument("--data", type=pathlib.Path,
                        help="folder of DOMAIN/dev.jsonl with the prompts (default: the short "
                        "invented ones of training/gate)")


def _projections(base):
    """Module -> (outputs, inputs)."""
    hidden, ffn = base["hidden"], base["ffn"]
    q, kv = base["heads"] * base["head_dim"], base["kv_heads"] * base["head_dim"]
    return {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, q),
            "mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn)}


def make_lora(folder, base, domain, attach_depth, rank, rng):
    """A package of an adapter over all projections from the attach depth on, random, float16."""
    tensors = {}
    layers = range(attach_depth, base["layers"])
    for layer in layers:
        for module, (outputs, inputs) in _projections(base).items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            for factor, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                values = rng.standard_normal(shape) * 0.02
                tensors[f"{prefix}.lora_{factor}.weight"] = values.astype(np.float16)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank,
        "bias": "none", "use_rslora": False, "layers_to_transform": list(layers),
        "target_modules": [module.split(".")[1] for module in _projections(base)]}))
    packages.write_manifest(folder, base, domain, "lora", attach_depth,
                            "adapter_model.safetensors")


def make_full(folder, base, domain, attach_depth, rng):
    """A package of whole layers from the attach depth on, random, matrices in float16; the final
    norm and the head stay the base's."""
    tensors = {}
    for layer in range(attach_depth, base["layers"]):
        prefix = f"model.layers.{layer}"
        for module, shape in _projections(base).items():
            values = rng.standard_normal(shape, dtype=np.float32) * 0.02
            tensors[f"{prefix}.{module}.weight"] = values.astype(np.float16)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{norm}.weight"] = np.ones(base["hidden"], np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    packages.write_manifest(folder, base, domain, "full", attach_depth, "model.safetensors")


def trained_packages(folder):
    """Domain -> folder of its LoRA package; of several versions the last by folder name."""
    found = {}
    for path in sorted(folder.glob("*/expert.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["kind"] == "lora" and manifest["domain"] in SHAPES:
            found[manifest["domain"]] = path.parent
    return found


class Setup(contextlib.ExitStack):
    """A folder, gone in the end, with a copy of the model (so that no process outside shares its
    pages), an `experts` folder with a package for each domain, and their adapters as GGUF."""

    def __init__(self, arguments):
        super().__init__()
        processes.BIN = arguments.bin_dir.resolve()
        self.threads = arguments.threads
        self.environment = peer.build_library(arguments.cache, len(os.sched_getaffinity(0)))
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(
            prefix="six-", dir=arguments.cache)))
        self.model = pathlib.Path(shutil.copy(arguments.model, self.folder / "base.gguf"))
        self.base = json.loads(subprocess.check_output(
            [processes.BIN / "ccoe", "model", "inspect", "--json", self.model]))
        self.kv_bytes_per_token = (2 * self.base["layers"] * self.base["kv_heads"]
                                   * self.base["head_dim"] * KV_BYTES)
        self.experts = self.folder / "experts"
        self.experts.mkdir()
        trained = trained_packages(arguments.experts)
        self.standins = [domain for domain in SHAPES if domain not in trained]
        rng = np.random.default_rng(1)
        for domain, (attach_depth, rank) in SHAPES.items():
            package = self.experts / domain
            if domain in trained:
                shutil.copytree(trained[domain], package)
            else:
                make_lora(package, self.base, domain, attach_depth, rank, rng)
            lora_gguf.convert(package, self.model, self.lora(domain))
        if self.standins:
            print(f"stand-ins with random weights: {', '.join(self.standins)}", file=sys.stderr)

    def lora(self, domain):
        """The domain's adapter as GGUF; None for the base's own."""
        return None if domain == GENERAL else str(self.folder / f"{domain}-lora.gguf")

    def package(self, domain):
        return None if domain == GENERAL else str(self.experts / domain)

    def full_packages(self, attach_depth):
        """A folder of packages of whole layers for all domains but `general`."""
        folder = self.folder / "full"
        rng = np.random.default_rng(2)
        for domain in SHAPES:
            make_full(folder / domain, self.base, domain, attach_depth, rng)
        return folder

    def merged(self):
        """A model file for each domain. A merged model has the base's tensors in other values,
        which neither memory nor speed depend on: they are copies of the base."""
        paths = [self.folder / f"merged-{domain}.gguf" for domain in DOMAINS]
        for path in paths:
            if not path.exists():
                shutil.copy(self.model, path)
        return [str(path) for path in paths]

    def llama(self):
        """A process for llama.cpp that has opened no model yet."""
        return Child(sys.executable, HERE / "llama_child.py", self.environment)

    def peft(self, python):
        """A process for PEFT, by a Python that has it."""
        return Child(python, HERE / "peft_child.py")

    def serve(self, folder, experts, kv_cache_mib, prefix_cache=False):
        """`ccoe serve` with the packages below `experts`; whole layers are quantised as the base
        is. Without a prefix cache prompts may be asked again."""
        return processes.Process(folder, "ccoe", {
            "engine": {"model": str(self.model), "threads": self.threads,
                       "kv_cache_mib": kv_cache_mib, "prefix_cache": prefix_cache,
                       "quantize_experts": True},
            "experts": str(experts)})


def common(one, other):
    """How many tokens stand before the first difference."""
    pairs = zip(one, other)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@contextlib.contextmanager
def stopping(running):
    """Ends a process of ours, or a deployment, on leaving."""
    try:
        yield running
    finally:
        running.kill()


def tokenize(client, text):
    """A user's words in the model's chat template."""
    return [token.id for token in client.tokenize(text)]


def texts(domain, data):
    """Prompts of the domain: of DATA/<domain>/dev.jsonl, or invented short ones."""
    path = data / domain / "dev.jsonl" if data else ROOT / "training" / "gate" / "prompts.jsonl"
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("domain", domain) == domain:
                yield record["prompt"]


def prompts(client, domains, data, count, max_tokens):
    """The first `count` prompts of each domain as tokens, longer ones passed over."""
    chosen = []
    for domain in domains:
        tokens = (tokenize(client, text) for text in texts(domain, data))
        short = (ids for ids in tokens if len(ids) <= max_tokens)
        chosen.append(list(itertools.islice(short, count)))
        if len(chosen[-1]) < count:
            raise RuntimeError(f"{domain} has {len(chosen[-1])} prompts of at most {max_tokens} "
                               f"tokens; {count} are needed")
    return chosen


def answer(client, domain, tokens, output_tokens):
    """A greedy answer of exactly so many tokens."""
    reply = client.generate(tokens, domain=domain, temperature=0.0, max_tokens=output_tokens,
                            ignore_end_of_generation=True, token_ids=True, timeout=600)
    return list(reply.token_ids)


def answer_streams(client, domains, streams, output_tokens):
    """What the children's run does, asked of a server: every stream is a thread that sends its
    next prompt when the last is answered."""
    def one(stream):
        return [answer(client, domains[stream["domain"]], prompt, output_tokens)
                for prompt in stream["prompts"]]

    with concurrent.futures.ThreadPoolExecutor(len(streams)) as pool:
        begin = time.monotonic()
        answers = list(pool.map(one, streams))
        return {"seconds": time.monotonic() - begin, "answers": answers}
