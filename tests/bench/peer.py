"""Builds and drives llama.cpp, the peer that the engine is measured beside.

The sources come from PyPI's `llama-cpp-python` source package, pinned by version and hash, into a
folder of the bench's own below the user's cache. Nothing of it is linked into the project.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
ARCHIVE = f"llama_cpp_python-{VERSION}.tar.gz"

# GCC 12's _tile_loadconfig names 8 bytes of the structure as its input, so the stores to the rest
# are dropped as dead and the first tile instruction dies of SIGILL. A compiler barrier keeps them.
AMX_FILE = "ggml/src/ggml-cpu/amx/mmq.cpp"
AMX_CALL = "    _tile_loadconfig(&tc);\n"
AMX_BARRIER = '    __asm__ __volatile__("" : : "r"(&tc) : "memory");\n'

CMAKE_OPTIONS = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_COMMON=ON",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
]
TARGETS = ["llama-bench", "llama-batched-bench"]
SHARED_OPTIONS = [
    *CMAKE_OPTIONS,
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
]


class PeerError(Exception):
    """The peer could not be fetched, built or run; the text says why."""


def _run(command, **kwargs):
    print("+ " + " ".join(str(part) for part in command), file=sys.stderr, flush=True)
    result = subprocess.run([str(part) for part in command], stdout=sys.stderr, **kwargs)
    if result.returncode != 0:
        raise PeerError(f"exit status {result.returncode}: {command[0]} {command[1]}")


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _fetch(root):
    archive = root / ARCHIVE
    if archive.exists() and _sha256(archive) == SHA256:
        return archive
    venv = root / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", venv])
    pinned = root / "pinned.txt"
    pinned.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    _run([python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
          "--no-binary", PACKAGE, "--require-hashes", "--dest", root, "-r", pinned])
    if not archive.exists() or _sha256(archive) != SHA256:
        raise PeerError(f"pip did not leave {archive} with the pinned hash")
    return archive


def _unpack(root):
    """The patched llama.cpp source folder."""
    sources = root / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"
    stamp = sources / ".ccoe-patched"
    if stamp.exists():
        return sources
    shutil.rmtree(root / f"llama_cpp_python-{VERSION}", ignore_errors=True)
    with tarfile.open(_fetch(root)) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(root, filter="data")
        else:
            archive.extractall(root)
    (sources / ".git").unlink(missing_ok=True)
    file = sources / AMX_FILE
    text = file.read_text()
    if text.count(AMX_CALL) != 1:
        raise PeerError(f"{file}: the call to patch stands there {text.count(AMX_CALL)} times")
    file.write_text(text.replace(AMX_CALL, AMX_BARRIER + AMX_CALL))
    stamp.touch()
    return sources


def _has_openblas():
    return subprocess.run(["pkg-config", "--exists", "openblas"], check=False).returncode == 0


def _make(root, folder, options, targets, jobs):
    _run(["cmake", "-G", "Ninja", "-S", _unpack(root), "-B", folder, *options])
    _run(["nice", "-n", "10", "ninja", "-C", folder, f"-j{jobs}", *targets])


def build(root, jobs):
    """Builds the peer below `root` unless it stands there.

    Returns the folders of its binaries by variant: "own" (its own matrix kernels) and, where Debian's
    OpenBLAS is installed, "blas" (products of 32 rows and more go there).
    """
    root = pathlib.Path(root)
    root.mkdir(parents=True, exist_ok=True)
    variants = {"own": []}
    if _has_openblas():
        variants["blas"] = ["-DGGML_BLAS=ON", "-DGGML_BLAS_VENDOR=OpenBLAS"]
    folders = {}
    for variant, options in variants.items():
        folder = root / f"llama.cpp-{VERSION}-{variant}"
        folders[variant] = folder / "bin"
        if not all((folder / "bin" / target).exists() for target in TARGETS):
            _make(root, folder, [*CMAKE_OPTIONS, *options], TARGETS, jobs)
    return folders


def build_library(root, jobs):
    """Builds the peer as a library (its own matrix kernels) unless it stands there.

    Returns the environment in which Python finds the bindings of the same package, and through them
    the library.
    """
    root = pathlib.Path(root)
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"llama.cpp-{VERSION}-shared"
    if not (folder / "bin" / "libllama.so").exists():
        _make(root, folder, SHARED_OPTIONS, ["llama"], jobs)
    return {"PYTHONPATH": str(root / f"llama_cpp_python-{VERSION}"),
            "LLAMA_CPP_LIB_PATH": str(folder / "bin")}


# What is tried in every round; the best median of each measurement counts as the peer's.
SETTINGS = {
    "fa=off": ["-fa", "off"],
    "fa=on": ["-fa", "on"],
}


def _lines(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            check=False)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise PeerError(f"exit status {result.returncode} of {' '.join(map(str, command))}: {last}")
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def measure_prefill(bin_folder, model, threads, tokens, setting):
    """Tokens per second of one prompt, by llama-bench (which warms up by itself)."""
    rows = _lines([bin_folder / "llama-bench", "-m", model, "-t", threads, "-p", tokens, "-n", 0,
                   "-r", 1, "-o", "jsonl", *SETTINGS[setting]])
    return rows[0]["avg_ts"]


def measure_decode(bin_folder, model, threads, streams, prompt_tokens, decode_tokens, setting):
    """Tokens per second of all streams together, by number of streams (llama-batched-bench)."""
    context = max(streams) * (prompt_tokens + decode_tokens + 32)
    rows = _lines([bin_folder / "llama-batched-bench", "-m", model, "-t", threads, "-tb", threads,
                   "-c", context, "-npp", prompt_tokens, "-ntg", decode_tokens,
                   "-npl", ",".join(map(str, streams)), "--output-format", "jsonl",
                   *SETTINGS[setting]])
    return {row["pl"]: row["speed_tg"] for row in rows}


def system_info(bin_folder, model, threads):
    """What llama-bench says of the machine and the build."""
    row = _lines([bin_folder / "llama-bench", "-m", model, "-t", threads, "-p", 8, "-n", 0, "-r", 1,
                  "-o", "jsonl"])[0]
    wanted = ["cpu_info", "backends", "model_type", "n_threads", "type_k", "type_v", "repack"]
    return ", ".join(f"{key} {row[key]}" for key in wanted if key in row)
