"""The trained networks for others: one self-describing file each, which the store takes instead of training.

python -m unsir_utils.workshop.checkpoints --profile laptop gathers those of a profile (make models). UNSIR_CHECKPOINTS names
a folder or URL of such files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from ..data.paths import REPOSITORY, models_root, profile_files, results_root, sentence
from ..engine.forward import forward
from ..engine.precision import computed_in
from . import models

README = """# Trained networks of the profile {profile}

Each file is a state dict of `unsir_utils.workshop.models.build(architecture, n_classes)`, in safetensors; its metadata hold
the recipe, the training's history and the checksum of the full-precision file. To use them instead of training, name this
folder, or the address that holds its files, in the environment variable UNSIR_CHECKPOINTS.

{table}
"""


def gather(profile: str, source: Path, to: Path) -> tuple[list[str], list[str]]:
    """Puts the networks that the notebooks of a profile asked for into one folder, with a README.

    Weights are kept in half precision where the logits stay equal. Returns the names that were found in `source`, and those
    that were not. Raises ValueError where no notebook of the profile asked for any.
    """
    lists = [pd.read_csv(file) for file in profile_files(profile, "seconds/*_models.csv")]
    names = sorted({name for listed in lists for name in listed["model"]})
    if not names:
        raise ValueError(f"no notebook of {profile} has asked for a trained network: run make reproduce PROFILE={profile}")
    to.mkdir(parents=True, exist_ok=True)
    found = [name for name in names if (source / f"{name}.safetensors").exists() and (source / f"{name}.json").exists()]
    lines = [_gathered(source / f"{name}.safetensors", to) for name in found]
    table = pd.DataFrame(lines).to_markdown(index=False)
    (to / "README.md").write_text(README.format(profile=profile, table=table), encoding="utf-8")
    return found, [name for name in names if name not in found]


def _gathered(path: Path, to: Path) -> dict[str, str]:
    record, weights = json.loads(path.with_suffix(".json").read_text()), load_file(path)
    half = {name: value.bfloat16() if value.dim() > 1 else value for name, value in weights.items()}
    kept = half if _same_logits(record, weights, half) else weights
    record["sha256"] = _sha256(_in_full(kept))
    save_file(kept, to / path.name, metadata={"record": json.dumps(record)})
    accuracy = record["history"][-1].get("test_accuracy")
    return {
        "file": path.name,
        "weights": "bfloat16" if kept is half else "float32",
        "training": f"{record['seconds'] / 60:.0f} min",
        "test accuracy (%)": f"{accuracy:.1f}" if accuracy is not None else "",
        "sha256 in full precision": record["sha256"],
    }


def _in_full(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _sha256(weights: dict[str, Tensor]) -> str:
    """Of the file that the store makes of them."""
    return hashlib.sha256(save(weights)).hexdigest()


def _same_logits(record: dict, *weights: dict[str, Tensor]) -> bool:
    """Of 64 random inputs, in float32: who takes the weights may compute in it. No where an older record tells no shape."""
    if "shape" not in record:
        return False
    x = torch.randn(64, *record["shape"], generator=torch.Generator().manual_seed(0))
    with computed_in("float32"):
        one, other = (forward(_network(record, each), x) for each in weights)
    return torch.equal(one, other)


@torch.no_grad()
def _network(record: dict, weights: dict[str, Tensor]) -> nn.Module:
    model = models.build(record["recipe"]["architecture"], record["classes"])
    model.load_state_dict(weights)
    return models.placed(model, torch.device("cpu")).requires_grad_(False)


def fetched(name: str) -> tuple[dict[str, Tensor], dict] | None:
    """(weights in full precision, record) of the file of this name in UNSIR_CHECKPOINTS; None where it is not there.

    Raises OSError where the place cannot be read, ValueError for a file that is none of `gather`'s.
    """
    place = os.environ.get("UNSIR_CHECKPOINTS")
    if not place:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        if not _copied(place, name, file):
            return None
        try:
            with safe_open(file, "pt") as opened:
                record = json.loads((opened.metadata() or {})["record"])
            weights = _in_full(load_file(file))
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{name} in {place} is no network of `make models`: remove it or unset UNSIR_CHECKPOINTS"
            ) from error
    if _sha256(weights) != record["sha256"]:
        raise ValueError(f"{name} in {place} fails its checksum: fetch it anew, or unset UNSIR_CHECKPOINTS to train here")
    return weights, record


def _copied(place: str, name: str, to: Path) -> bool:
    if "://" not in place:
        if not (folder := REPOSITORY / Path(place).expanduser()).is_dir():  # a relative one is meant from the repository
            raise OSError(f"UNSIR_CHECKPOINTS is {place!r}, which is no folder: name one with networks, or unset it")
        if not (there := folder / name).exists():
            return False
        shutil.copy(there, to)
        return True
    try:
        with urllib.request.urlopen(f"{place.rstrip('/')}/{quote(name)}", timeout=60) as answer, to.open("wb") as file:
            shutil.copyfileobj(answer, file)
        return True
    except OSError as error:
        if getattr(error, "code", None) == 404:
            return False
        raise OSError(
            f"{name} could not be fetched from {place} ({error}): try again, or unset UNSIR_CHECKPOINTS to train here"
        ) from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    profile = parser.parse_args().profile
    to = results_root() / "models" / profile
    try:
        found, missing = gather(profile, models_root(), to)
    except (ValueError, OSError) as error:
        sys.exit(sentence(error))
    print(f"{len(found)} networks: {os.path.relpath(to)}")
    if missing:
        sys.exit(f"not on this machine: {', '.join(missing)}")


if __name__ == "__main__":
    main()
