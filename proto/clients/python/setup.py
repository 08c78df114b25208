"""Builds the package, with the stubs `ccoe.v1` made from the protocol's files; pyproject.toml has
the rest. Nothing is written into the source folder."""

import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc
from setuptools import setup
from setuptools.command.build_py import build_py

PROTO = Path(__file__).resolve().parents[2]


class BuildWithStubs(build_py):
    def run(self) -> None:
        super().run()
        out, files = self.build_lib, sorted(PROTO.glob("ccoe/v1/*.proto"))
        includes = [f"-I{PROTO}", f"-I{Path(grpc_tools.__file__).with_name('_proto')}"]
        outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
        if not files or protoc.main(["protoc", *includes, *outputs, *map(str, files)]) != 0:
            raise SystemExit(f"cannot make stubs from {PROTO}/ccoe/v1: build from a clone")
        Path(out, "ccoe", "v1", "py.typed").touch()


with tempfile.TemporaryDirectory() as scratch:
    setup(
        cmdclass={"build_py": BuildWithStubs},
        options={"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}},
    )
