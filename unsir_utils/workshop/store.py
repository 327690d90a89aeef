"""Trained models, each named by its whole recipe, trained once and kept with a checksum.

Any notebook may ask first: a file lock lets one process train while the others wait, and an interrupted training goes on
after the last epoch that it saved.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import AcquireReturnProxy, FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from ..data.paths import models_root
from ..data.sets import Data
from ..engine import checks, precision_setting
from ..engine.precision import precision
from ..engine.samples import Samples, augmented, chunks
from ..engine.state import seeded
from ..engine.training import flush_tiny_weights, in_memory_order, one_epoch, parameter_groups
from ..metrics import evaluate
from . import checkpoints, models
from .progress import progress
from .provenance import tell

FOLDER = models_root()
SAVE_EVERY_S = 20.0  # a state smaller than this much work is not worth its write


@dataclass(frozen=True)
class Recipe:
    """How a model is made: everything that its weights depend on, but for the machine.

    training: "onecycle" (SGD with Nesterov momentum, one-cycle learning rate peaking at `lr`), "adamw" (the same cycle, for
        transformers) or "released" (the released notebook's: Adam at `lr`, weight decay 1e-4, gradients clipped by value at
        0.1, learning rate halved when the TEST loss stalls for 3 epochs).
    weights: what the body starts from, see `models.build`: a name in torchvision's weights API ("IMAGENET1K_V1"), or
        "file:PATH", which counts by the file's checksum and not by its path; None: at random.
    head_factor: the head learns at head_factor * lr.
    augment: each training image is shifted and mirrored at random whenever it is seen (see `samples.augmented`).
    label_smoothing: the share of a target's probability that is spread over all classes (torch's `cross_entropy`).
    left_out: classes whose samples are not trained on; the forget classes of a retrained model.

    Raises ValueError for a value that is none.
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
    augment: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.training not in TRAININGS:
            raise ValueError(f"unknown training {self.training!r}: choose one of {', '.join(TRAININGS)}")
        if not isinstance(self.architecture, str) or not isinstance(self.weights, str | None):
            raise ValueError(f"architecture and weights are {self.architecture!r} and {self.weights!r}: expected names")
        if not isinstance(self.augment, bool):
            raise ValueError(f"augment is {self.augment!r}: expected True or False")
        checks.counts(epochs=self.epochs, batch_size=self.batch_size)
        checks.counts(least=0, seed=self.seed)
        settings: dict[str, Any] = {name: _number(name, getattr(self, name)) for name in ("lr", "head_factor")}
        checks.positive(**settings)
        settings["label_smoothing"] = _number("label_smoothing", self.label_smoothing)
        checks.shares(label_smoothing=settings["label_smoothing"])
        settings["left_out"] = tuple(sorted(checks.classes(self.left_out, what="left_out class")))
        settings["seed"] = int(self.seed)
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    def name(self, data: Data) -> str:
        """A readable file name; the hash at its end covers every field, the data's fingerprint and the precision.

        Raises FileNotFoundError where a file of weights is absent.
        """
        fields = {name: value for name, value in asdict(self).items() if (name, value) not in YOUNGER.items()}
        about = json.dumps([fields | {"weights": _weights(self.weights)}, data.id, precision_setting()])
        digest = hashlib.blake2b(about.encode(), digest_size=4).hexdigest()
        without = f"-without-{'-'.join(map(str, self.left_out))}" if self.left_out else ""
        architecture = self.architecture.replace("/", "")
        return f"{data.name}-{architecture}-{self.training}-{self.epochs}ep{without}-seed{self.seed}-{digest}"


YOUNGER = {"augment": False, "label_smoothing": 0.0}  # settings younger than stored networks, as those were trained


@dataclass(frozen=True, eq=False)
class Trained:
    """A model of the store. history: one record an epoch; seconds: of training alone; sha256: of its file."""

    model: nn.Module
    history: list[dict]
    seconds: float
    recipe: Recipe
    name: str
    sha256: str


def trained(recipe: Recipe, data: Data, folder: Path | None = None) -> Trained:
    """The model of this recipe on this data, trained now if it never was; on the data's device.

    folder: another than the store's, for a model that no kept case rests on.

    A stored file that fails its checksum is set aside under a name that ends in .damaged, with a warning, and the
    model is trained again. The folder need not be writable for a model that is finished. Raises OSError, with what to do,
    where one is to be trained and cannot be stored.
    """
    if recipe.left_out:
        checks.forget_classes(recipe.left_out, data.n_classes)
    path = (folder or FOLDER) / f"{recipe.name(data)}.safetensors"
    if not _is_sound(path):
        with _lock(path):
            if not _is_sound(path):
                if path.exists() and path.with_suffix(".json").exists():
                    _set_aside(path, "fails its checksum; the model is trained again")
                _make(recipe, data, path)
    record = json.loads(path.with_suffix(".json").read_text())
    model = models.build(recipe.architecture, data.n_classes)
    model.load_state_dict(load_file(path))
    model = models.placed(model, data.train.device)
    found = Trained(model, record["history"], record["seconds"], recipe, path.stem, record["sha256"])
    return found if folder else handed_out(found)  # no one keeps what lies elsewhere


def _make(recipe: Recipe, data: Data, path: Path) -> None:
    """Takes the model from UNSIR_CHECKPOINTS, or trains it where it is not there."""
    if found := checkpoints.fetched(path.name):
        weights, record = found
        _put(path, weights, {**record, "fetched": True})
    else:
        _train(recipe, data, path)


def handed_out(found: Trained) -> Trained:
    """Notes who was asked for: every way to a model of the store ends here."""
    tell("networks", found.name, {"sha256": found.sha256, "seconds": found.seconds})
    return found


def checksum(name: str) -> str | None:
    """Of the stored model of this name, as its record says; None where there is none, or its file of weights is another."""
    try:
        record = json.loads((FOLDER / f"{name}.json").read_text())
        same = _weights(record["recipe"]["weights"]) == record["weights"] if "weights" in record else True
        return record["sha256"] if same else None
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None  # a damaged record vouches for nothing


def _weights(weights: str | None) -> str | None:
    """A recipe's weights as they are named, a file's by its checksum."""
    file = models.weights_file(weights)
    return f"{models.FILE}{_sha256(file)}" if file else weights


def _is_sound(path: Path) -> bool:
    try:
        return json.loads(path.with_suffix(".json").read_text())["sha256"] == _sha256(path)
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return False


def _lock(path: Path) -> AcquireReturnProxy:
    """One process trains while the others wait."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise OSError(
            f"{path.stem} is to be trained, but {path.parent} cannot be written ({error}): "
            "make it writable, or name another folder in the environment variable UNSIR_MODELS"
        ) from error


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    warnings.warn(f"{path.name} {why}. The damaged file is kept as {aside}", stacklevel=4)


@dataclass(eq=False)
class _Training:
    """A training between two epochs. state: epochs done, their history, seconds."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    state: dict

    @classmethod
    def new(cls, recipe: Recipe, n_classes: int, train: Samples) -> _Training:
        model = models.placed(models.build(recipe.architecture, n_classes, recipe.seed, recipe.weights), train.device)
        steps = recipe.epochs * len(chunks(torch.arange(len(train)), recipe.batch_size))
        groups = parameter_groups(model, recipe.lr, recipe.head_factor, train.inputs(slice(0, 2)))
        optimiser, schedule = TRAININGS[recipe.training](groups, steps)
        return cls(model, in_memory_order(optimiser), schedule, {"epoch": 0, "history": [], "seconds": 0.0})

    @property
    def layout(self) -> str:
        """How the optimiser's state lies, which `training.in_memory_order` turns on a CPU alone."""
        return f"memory order, {next(self.model.parameters()).device.type}"

    def resume(self, file: Path, epochs: int) -> None:
        saved = torch.load(file, map_location=next(self.model.parameters()).device, weights_only=True)
        if saved.get("layout") != self.layout:
            raise ValueError("an older version or another device kept it")
        for name in ("model", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(saved[name])
        self.state = {name: saved[name] for name in self.state}
        if not 0 < self.state["epoch"] == len(self.state["history"]) < epochs:
            raise ValueError(f"it stands after {self.state['epoch']} of {epochs} epochs")

    def save(self, file: Path) -> bool:
        """Whether there was room for it; training goes on without."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimiser", "schedule")}
        try:
            write(file, lambda to: torch.save({**self.state, **parts, "layout": self.layout}, to))
        except OSError as error:
            warnings.warn(f"{file} could not be written ({error}): if interrupted, the training starts anew", stacklevel=2)
            return False
        return True


def _begin(recipe: Recipe, n_classes: int, train: Samples, partial: Path) -> _Training:
    """A new training, or an interrupted one that goes on."""
    training = _Training.new(recipe, n_classes, train)
    if not partial.exists():
        return training
    try:
        training.resume(partial, recipe.epochs)
        return training
    except Exception as error:  # what zip, pickle and storage raise; or it is another training's
        _set_aside(partial, f"cannot be gone on from ({type(error).__name__}); the training starts anew")
        return _Training.new(recipe, n_classes, train)


def _train(recipe: Recipe, data: Data, path: Path) -> None:
    train, watched = data.train.without(recipe.left_out), data.test.without(recipe.left_out)
    partial = path.with_suffix(".partial")
    training = _begin(recipe, data.n_classes, train, partial)
    done, saved = training.state["epoch"], time.perf_counter()
    kept = done
    try:
        for _ in progress(range(done, recipe.epochs), f"train {recipe.architecture}", initial=done, total=recipe.epochs):
            _epoch(training, recipe, train, watched)
            if time.perf_counter() - saved > SAVE_EVERY_S:
                kept = training.state["epoch"] if training.save(partial) else kept
                saved = time.perf_counter()
    except KeyboardInterrupt:
        where = f"{kept} of {recipe.epochs} epochs are kept in {partial}" if kept else "nothing was kept yet"
        print(f"Training of {path.stem} was interrupted: {where}; the same call goes on from there.", file=sys.stderr)
        raise
    _keep(training, recipe, data, path)
    partial.unlink(missing_ok=True)


def _epoch(training: _Training, recipe: Recipe, train: Samples, watched: Samples) -> None:
    model, optimiser, schedule, state = training.model, training.optimiser, training.schedule, training.state
    by_batch, start = recipe.training != "released", time.perf_counter()
    with seeded(1000 * recipe.seed + state["epoch"], train.device):
        batches = train.shuffled(recipe.batch_size)
        losses = one_epoch(
            model,
            augmented(batches) if recipe.augment else batches,
            optimiser,
            objective=functools.partial(F.cross_entropy, label_smoothing=recipe.label_smoothing),
            clip_value=None if by_batch else 0.1,
            schedule=schedule if by_batch else None,
        )
    flush_tiny_weights(model)
    record = {"epoch": state["epoch"] + 1, "train_loss": sum(losses) / len(losses), "lr": optimiser.param_groups[0]["lr"]}
    if not by_batch:
        record["test_loss"], record["test_accuracy"] = evaluate(model, watched)
        schedule.step(record["test_loss"])
    state["seconds"] += time.perf_counter() - start
    state["history"].append(record)
    state["epoch"] += 1


def _keep(training: _Training, recipe: Recipe, data: Data, path: Path) -> None:
    model, state = training.model, training.state
    about = {
        "recipe": asdict(recipe),
        "weights": _weights(recipe.weights),
        "data": data.id,
        "shape": list(data.train.shape),
        "classes": data.n_classes,
        "precision": str(precision(model, data.train.device)),
        "torch": torch.__version__,
        "seconds": state["seconds"],
        "history": state["history"],
    }
    _put(path, {k: v.contiguous() for k, v in model.state_dict().items()}, about)


def _put(path: Path, weights: dict[str, torch.Tensor], about: dict) -> None:
    try:
        write(path, lambda to: save_file(weights, to))
        record = {**about, "sha256": _sha256(path)}
        write(path.with_suffix(".json"), lambda to: to.write_text(json.dumps(record, indent=1)))
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path.stem} is trained but could not be stored in {path.parent} ({error}): make room there, or name another "
            "folder in the environment variable UNSIR_MODELS"
        ) from error


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


def write(path: Path, put: Callable[[Path], object]) -> None:
    """Puts it under a temporary name and renames, so that no half-written file ever carries the real name."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        put(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}: expected a number")
    return float(value)
