"""Trained models, each named by its whole recipe, trained once and kept with a checksum.

Any notebook may ask first: a file lock lets one process train while the others wait, and an interrupted training goes on
after the last epoch that it saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import nn

from . import checks, models
from .data import Data
from .forward import precision
from .metrics import evaluate
from .paths import models_root
from .progress import progress
from .samples import chunks
from .training import flush_tiny_weights, one_epoch, parameter_groups, seeded

FOLDER = models_root()
ASKED_FOR: dict[str, float] = {}  # name -> seconds of training, of the models that this process asked for
SAVE_EVERY_S = 20.0  # a state smaller than this much work is not worth its write


@dataclass(frozen=True)
class Recipe:
    """How a model is made: everything that its weights depend on, but for the machine.

    training: "onecycle" (SGD with Nesterov momentum, one-cycle learning rate peaking at `lr`), "adamw" (the same cycle, for
        transformers) or "released" (the released notebook's: Adam at `lr`, weight decay 1e-4, gradients clipped by value at
        0.1, learning rate halved when the TEST loss stalls for 3 epochs).
    weights: name in torchvision's weights API ("IMAGENET1K_V1") that the body starts from; None: at random.
    head_factor: the head learns at head_factor * lr.
    left_out: classes whose samples are not trained on; the forget classes of a retrained model.
    """

    architecture: str
    epochs: int
    training: str = "onecycle"
    lr: float = 0.05
    batch_size: int = 64
    weights: str | None = None
    head_factor: float = 1.0
    left_out: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "left_out", tuple(sorted(self.left_out)))

    def name(self, data: Data) -> str:
        """A readable file name; the hash at its end covers every field and the data's fingerprint."""
        digest = hashlib.blake2b(json.dumps([asdict(self), data.id]).encode(), digest_size=4).hexdigest()
        without = f"-without-{'-'.join(map(str, self.left_out))}" if self.left_out else ""
        architecture = self.architecture.replace("/", "")
        return f"{data.name}-{architecture}-{self.training}-{self.epochs}ep{without}-seed{self.seed}-{digest}"


RELEASED = dict(training="released", lr=0.01, batch_size=256)  # the rest of the released notebook's recipe


@dataclass(frozen=True, eq=False)
class Trained:
    """A model of the store. history: one record an epoch; seconds: of training alone."""

    model: nn.Module
    history: list[dict]
    seconds: float
    recipe: Recipe


def trained(recipe: Recipe, data: Data, folder: Path | None = None) -> Trained:
    """The model of this recipe on this data, trained now if it never was; on the data's device.

    A stored file that fails its checksum is set aside under a name that ends in .damaged, with a warning, and the
    model is trained again.
    """
    if recipe.training not in TRAININGS:
        raise ValueError(f"unknown training {recipe.training!r}: choose one of {', '.join(TRAININGS)}")
    checks.counts(epochs=recipe.epochs, batch_size=recipe.batch_size)
    checks.positive(lr=recipe.lr, head_factor=recipe.head_factor)
    if recipe.left_out:
        checks.forget_classes(recipe.left_out, data.n_classes)
    folder = folder or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recipe.name(data)}.safetensors"
    with FileLock(path.with_suffix(".lock")):
        if not _is_sound(path):
            _train(recipe, data, path)
    record = json.loads(path.with_suffix(".json").read_text())
    ASKED_FOR[path.stem] = record["seconds"]
    model = models.build(recipe.architecture, data.n_classes)
    model.load_state_dict(load_file(path))
    return Trained(_place(model, data.train.device), record["history"], record["seconds"], recipe)


def _is_sound(path: Path) -> bool:
    record = path.with_suffix(".json")
    if not (path.exists() and record.exists()):
        return False
    try:
        if json.loads(record.read_text())["sha256"] == _sha256(path):
            return True
    except (json.JSONDecodeError, KeyError):
        pass  # a damaged record vouches for nothing
    _set_aside(path, "fails its checksum; the model is trained again")
    return False


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    warnings.warn(f"{path.name} {why}. The damaged file is kept as {aside}", stacklevel=4)


def _load_partial(path: Path, device: torch.device) -> dict | None:
    """The state of an interrupted training, if there is a sound one."""
    try:
        return torch.load(path, map_location=device, weights_only=True) if path.exists() else None
    except Exception:  # torch.load raises what zip, pickle and storage raise
        _set_aside(path, "cannot be read; the training starts anew")
        return None


def _train(recipe: Recipe, data: Data, path: Path) -> None:
    train = data.train.without(recipe.left_out)
    watched = data.test.without(recipe.left_out)
    model = _place(models.build(recipe.architecture, data.n_classes, recipe.seed, recipe.weights), train.device)
    steps = recipe.epochs * len(chunks(torch.arange(len(train)), recipe.batch_size))
    groups = parameter_groups(model, recipe.lr, recipe.head_factor, train.inputs(slice(0, 2)))
    optimiser, schedule = TRAININGS[recipe.training](groups, steps)
    by_batch = recipe.training != "released"
    partial = path.with_suffix(".partial")
    state = _load_partial(partial, train.device)
    if state is None:
        state = {"epoch": 0, "history": [], "seconds": 0.0}
    else:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
    saved = time.perf_counter()
    epochs = range(state["epoch"], recipe.epochs)
    for epoch in progress(epochs, f"train {recipe.architecture}", initial=state["epoch"], total=recipe.epochs):
        start = time.perf_counter()
        with seeded(1000 * recipe.seed + epoch, train.device):
            losses = one_epoch(
                model,
                train.shuffled(recipe.batch_size),
                optimiser,
                clip_value=None if by_batch else 0.1,
                schedule=schedule if by_batch else None,
            )
        flush_tiny_weights(model)
        record = {"epoch": epoch + 1, "train_loss": sum(losses) / len(losses), "lr": optimiser.param_groups[0]["lr"]}
        if not by_batch:
            record["test_loss"], record["test_accuracy"] = evaluate(model, watched)
            schedule.step(record["test_loss"])
        state["seconds"] += time.perf_counter() - start
        state["history"].append(record)
        if time.perf_counter() - saved > SAVE_EVERY_S:
            state.update(epoch=epoch + 1, model=model.state_dict(), optimiser=optimiser.state_dict())
            _write(partial, lambda to: torch.save({**state, "schedule": schedule.state_dict()}, to))
            saved = time.perf_counter()
    _write(path, lambda to: save_file({k: v.contiguous() for k, v in model.state_dict().items()}, to))
    about = {
        "recipe": asdict(recipe),
        "data": data.id,
        "sha256": _sha256(path),
        "precision": str(precision(model, train.device)),
        "torch": torch.__version__,
        "seconds": state["seconds"],
        "history": state["history"],
    }
    _write(path.with_suffix(".json"), lambda to: to.write_text(json.dumps(about, indent=1)))
    partial.unlink(missing_ok=True)


def _one_cycle(groups: list[dict], steps: int) -> tuple:
    sgd = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    return sgd, _cycle(sgd, groups, steps)


def _adamw(groups: list[dict], steps: int) -> tuple:
    adamw = torch.optim.AdamW(groups, weight_decay=0.05, fused=True)
    return adamw, _cycle(adamw, groups, steps)


def _cycle(optimiser: torch.optim.Optimizer, groups: list[dict], steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    peaks = [group["lr"] for group in groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=peaks, total_steps=steps + 1, pct_start=0.3)


def _released(groups: list[dict], steps: int) -> tuple:
    optimiser = torch.optim.Adam(groups, weight_decay=1e-4, fused=True)
    return optimiser, torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=3)


TRAININGS = {"onecycle": _one_cycle, "adamw": _adamw, "released": _released}


def _place(model: nn.Module, device: torch.device) -> nn.Module:
    return model.to(device, memory_format=torch.channels_last).eval()


def _write(path: Path, write) -> None:
    """Writes under a temporary name and renames, so that no half-written file ever carries the real name."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    write(temporary)
    temporary.replace(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
