#!/usr/bin/env python3
"""Guards the direction of includes: arrows point down the layers only, siblings never include each
other. Prints `file:line: why` for each breach; exits 1 when there is one.

usage: check_includes.py [FILE...]      without files: every C++ file that git knows
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a folder may include besides itself. A folder is named by its longest prefix in this table.
BASE = {"common/base"}
LOWER = BASE | {"common/model", "common/compute", "common/telemetry"}
COMMON = LOWER | {"common/runtime", "common/rpc"}
ALLOWED = {
    "common/base": set(),
    "common/model": BASE,
    "common/compute": BASE,
    "common/telemetry": BASE,
    "common/runtime": LOWER,
    # The link carries the runtime's remote experts: docs/adr/0003.
    "common/rpc": LOWER | {"common/runtime"},
    "services/router": COMMON,
    "services/backbone": COMMON,
    "services/expert": COMMON,
    # It speaks to the router through the public API alone.
    "services/gateway": LOWER | {"common/rpc"},
    # The composition root wires the other services into one process: docs/adr/0004.
    "services/cli": COMMON | {"services/router", "services/backbone", "services/expert",
                              "services/gateway"},
}
# Headers generated from .proto files; only the layers that speak gRPC may include them.
PROTO = ".pb.h"
PROTO_USERS = ("common/rpc", "services/", "tests/")
PROJECT_FOLDERS = ("common/", "services/", "tests/")
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^">]+)[">]')


def folder_of(path):
    """The layer that owns a path, or None where the table has no word about it."""
    parts = path.split("/")
    return next(
        (prefix for i in range(len(parts), 0, -1) if (prefix := "/".join(parts[:i])) in ALLOWED),
        None,
    )


def breach(path, included):
    """Why `path` may not include `included`, or None."""
    if included.endswith(PROTO):
        if path.startswith(PROTO_USERS):
            return None
        return f"only common/rpc, services and tests include generated protobuf headers ({included})"
    if included.startswith("tests/") and not path.startswith("tests/"):
        return f"only tests include {included}"
    source, target = folder_of(path), folder_of(included)
    if path.startswith("tests/"):
        return None
    if source is None:
        return f"{path} lies in no layer of deploy/dev/check_includes.py"
    if target is None:
        return f"{included} lies in no layer of deploy/dev/check_includes.py"
    if target != source and target not in ALLOWED[source]:
        return f"{source} must not include {target} ({included})"
    return None


def check(path):
    """Yields one line per breach in a file, given from the root."""
    text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match or "/" not in match[1]:
            continue
        included = match[1]
        if included.startswith("."):
            yield f"{path}:{number}: include from the repository root, not {included}"
        elif included.startswith(PROJECT_FOLDERS) or included.endswith(PROTO):
            if why := breach(path, included):
                yield f"{path}:{number}: {why}"


def known_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard",
         "common", "services", "tests"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [p for p in listed if p.endswith((".h", ".cc", ".cu")) and (ROOT / p).exists()]


def main():
    files = sys.argv[1:] or known_files()
    breaches = [line for path in files for line in check(path)]
    print("\n".join(breaches) or f"{len(files)} files include downwards only")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
