"""The public API's messages and stubs, made from proto/ of this repository at the first import."""

import importlib
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"


def _make(out: str) -> None:
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    files = [str(path) for path in sorted((PROTO / "ccoe" / "v1").glob("*.proto"))]
    includes = [f"-I{PROTO}", f"-I{well_known}"]
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}"]
    if not files or protoc.main(["protoc", *includes, *outputs, *files]) != 0:
        raise RuntimeError(f"cannot make stubs from {PROTO}")


with tempfile.TemporaryDirectory(prefix="ccoe-stubs-") as _out:
    _make(_out)
    sys.path.insert(0, _out)
    try:
        types = importlib.import_module("ccoe.v1.types_pb2")
        generation = importlib.import_module("ccoe.v1.generation_service_pb2")
        generation_grpc = importlib.import_module("ccoe.v1.generation_service_pb2_grpc")
        catalog = importlib.import_module("ccoe.v1.catalog_service_pb2")
        catalog_grpc = importlib.import_module("ccoe.v1.catalog_service_pb2_grpc")
    finally:
        sys.path.remove(_out)
