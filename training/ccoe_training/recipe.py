"""From a domain file to its package, as the file's `training` says: train, package, pin."""

import shutil
from pathlib import Path
from typing import Any

from .json_file import read_json
from .package import pin_base, write_package
from .train import Trainer, TrainOptions

LOG = "train_log.jsonl"


def train_options(domain_file: Path, model: Path, data: Path, work: Path) -> TrainOptions:
    """`training` holds members of TrainOptions; `exclude` is relative to the domain file."""
    domain = read_json(domain_file)
    values: dict[str, Any] = dict(domain["training"])
    if "exclude" in values:
        values["exclude"] = domain_file.parent / values["exclude"]
    out = work / f"{domain['name']}-{domain['version']}"
    return TrainOptions(model=model, data=data / domain["domain"], out=out, **values)


def is_made(domain: dict[str, Any], package: Path) -> bool:
    manifest = package / "expert.json"
    return manifest.exists() and read_json(manifest)["version"] == domain["version"]


def make_expert(
    domain_file: Path, model: Path, data: Path, work: Path, experts: Path, ccoe: Path
) -> None:
    """Leaves a package of that version as it is. A run that was interrupted goes on."""
    domain = read_json(domain_file)
    package = experts / domain["name"]
    title = f"{domain['name']} {domain['version']}"
    if is_made(domain, package):
        print(f"{title}: {package} is there", flush=True)
        return
    options = train_options(domain_file, model, data, work)
    print(f"{title}: training in {options.out}", flush=True)
    Trainer(options).run()
    write_package(domain_file, options.out, model, package)
    pin_base(package, model, ccoe)
    shutil.copyfile(options.out / LOG, package / LOG)
    print(f"{title}: {package} is made; ccoe_eval scores adds what it scores", flush=True)
