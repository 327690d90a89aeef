"""What unlearning costs: image passes, which no machine changes; seconds, taken in turns; memory, counted.

An image pass is one image through the network, forward and back; repetitions count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..data.sets import Data
from ..engine.forward import forward
from ..engine.precision import device
from ..engine.samples import Samples
from ..settings import PAPER, RELEASED
from ..unsir import Unlearned, unsir
from . import models
from .store import Trained, trained
from .study import Scenario


def unsir_passes(subset: int, noise: int, copies: int, steps: int = PAPER.noise_steps) -> dict[str, int]:
    """Image passes of each phase of UNSIR. subset: retain images; noise: learned images, each in `steps` and `copies`."""
    return {"noise": steps * noise, "impair": subset + copies * noise, "repair": subset}


def image_passes(
    retain: int,
    forget: int,
    subset: int,
    *,
    classes: int,
    epochs: int,
    finetune_epochs: int,
    noise: int,
    copies: int,
    used: int = RELEASED.used,
) -> dict[str, int]:
    """Image passes of each method. retain, forget: training images of each kind; subset, noise, copies: see `unsir_passes`.

    epochs: of retraining. Fisher forgetting goes back once for each class, which counts as a pass of its own. used: the
    noise images, in all, that the impair pass of the released code sees.
    """
    whole = sum(unsir_passes(subset, noise, copies).values())
    return {
        "Retrain": epochs * retain,
        "FineTune": finetune_epochs * retain,
        "NegGrad": forget,
        "Fisher (loop)": classes * retain,
        "Fisher (layer-wise)": classes * retain,
        "Masked logits": 0,
        "No noise": 2 * subset,
        "UNSIR": whole,
        "Released": whole - copies * max(0, noise - used),
    }


def mini_batches(subset: int, noise: int, copies: int, batch_size: int) -> int:
    """Steps of the optimiser in UNSIR's impair and repair pass together, each pass with a last batch of its own."""
    passes = unsir_passes(subset, noise, copies)
    return sum(-(-passes[phase] // batch_size) for phase in ("impair", "repair"))


def clock() -> float:
    """Seconds; what was sent to a GPU is waited for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Job(NamedTuple):
    """What is timed of a method. part: the image passes that `run` takes; whole: those of the method."""

    run: Callable[[], object]
    part: int
    whole: int


def in_turns(jobs: Mapping[str, Job], repeats: int) -> pd.DataFrame:
    """Seconds of each whole method, a row a repeat; of UNSIR's three phases, too, in columns such as "UNSIR: noise".

    A first round warms up and does not count; then the jobs take turns. A part is scaled up by its image passes, fixed costs
    included. Raises ValueError where UNSIR's passes, which the kernel counts, are not those of its job.
    """
    rounds = [[_seconds(name, job) for name, job in jobs.items()] for _ in range(repeats + 1)]
    return pd.DataFrame([{k: v for seconds in turn for k, v in seconds.items()} for turn in rounds[1:]])


def _seconds(name: str, job: Job) -> dict[str, float]:
    start = clock()
    made = job.run()
    taken = {name: clock() - start}
    if isinstance(made, Trained):
        taken = {name: made.seconds}  # without the writing to disk
    if isinstance(made, Unlearned):
        taken |= {f"{name}: {phase}": seconds for phase, seconds in made.seconds.items()}
        if (counted := sum(made.samples.values())) != job.part:
            raise ValueError(f"{name} took {counted} image passes where {job.part} were expected: the formula is wrong")
    return {column: seconds * (job.whole / job.part if job.part else 1) for column, seconds in taken.items()}


def one_epoch(s: Scenario, part: Samples) -> Trained:
    """One epoch of retraining, fresh, on the retain classes of `part`, with all that the recipe's schedule looks at.

    part: of the training data; the test data that the training looks at are cut down to the same share.
    """
    share = len(part.without(s.forget)) / len(s.retain)
    test = s.loaded.test.draw(max(1, round(share * len(s.loaded.test) / s.loaded.n_classes)))
    return trained_apart(s, replace(s.loaded, train=part, test=test), s.recipe.seed)


def trained_apart(s: Scenario, data: Data, seed: int) -> Trained:
    """An epoch of Retrain on some data, which no one keeps."""
    with TemporaryDirectory() as folder:
        return trained(replace(s.recipe, epochs=1, left_out=s.forget, seed=seed), data, Path(folder))


def over_unsir(seconds: pd.DataFrame, here: Mapping[str, int], there: Mapping[str, int]) -> pd.DataFrame:
    """How many times UNSIR's seconds each method would take at other settings; by `trained` and `seed`, one a repeat.

    seconds: of `in_turns`; here, there: image passes by its columns, as it was run and at the other settings. The seconds of
    an image pass are taken to be the same there, those of UNSIR phase by phase.
    """
    scaled = seconds[[*here]] / pd.Series(here) * pd.Series(there)
    ours = scaled[[f"UNSIR: {phase}" for phase in unsir_passes(0, 0, 0)]].sum(axis=1)
    index = pd.MultiIndex.from_tuples([(0, i) for i in range(len(seconds))], names=["trained", "seed"])
    return scaled.div(ours, axis=0).set_axis(index)


def stand_in(architecture: str, image_size: int, retain: int, n_forget: int) -> tuple[nn.Module, Samples]:
    """An untrained network of 10 classes and random pixels: `retain` images in all, none of the first `n_forget` classes."""
    pixels = torch.randint(0, 256, (retain, 3, image_size, image_size), dtype=torch.uint8)
    samples = Samples(pixels, n_forget + torch.arange(retain) % (10 - n_forget), 10)
    model = models.build(architecture, 10)
    return model.to(device(), memory_format=torch.channels_last), samples.to(device())  # type: ignore[call-overload]


def step_megabytes(model: nn.Module, samples: Samples, *, batch_size: int, noise_total: int) -> float:
    """What one step of the impair pass holds, and the stored images, in units of 2**20 bytes; each tensor counts once.

    That is weights, gradients, Adam's two moments, all that the backward pass needs, `samples` and so many noise images. Not
    the working space of convolutions.
    """
    own = {p.data_ptr(): p.nbytes for p in model.parameters()}
    kept: dict[int, int] = {}
    x = samples.inputs(torch.arange(batch_size) % len(samples))

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()

    with saved_tensors_hooks(note, lambda tensor: tensor):
        logits = forward(model, x)  # keeps its graph, and with it what was saved
    images = samples.images.nbytes + noise_total * x[0].nbytes
    return (sum({**kept, **own}.values()) + 3 * sum(own.values()) + images + logits.nbytes) / 2**20


def growth(base: dict, varied: Mapping[str, list], *, repeats: int, noise_total: int, **passes: int) -> pd.DataFrame:
    """UNSIR's median seconds and its memory while one thing at a time varies from `base`; columns varied, x, seconds, MB.

    base: arguments of `stand_in`; varied: values of each; x: the value, or the parameters of an architecture. passes: copies
    and batch_size. The base itself is timed once, wherever it stands.
    """
    settings = [(name, {**base, name: value}) for name, values in varied.items() for value in values]
    made = {str(setting): stand_in(**setting) for _, setting in settings}
    sizes: dict[str, Any] = dict(noise_total=noise_total, **passes)
    jobs = {str(s): _unsir_job(*made[str(s)], s["n_forget"], sizes) for _, s in settings}
    seconds, lines = in_turns(jobs, repeats).median(), []
    for name, setting in settings:
        model, samples = made[str(setting)]
        x = models.n_parameters(model) if name == "architecture" else setting[name]
        memory = step_megabytes(model, samples, batch_size=sizes["batch_size"], noise_total=noise_total)
        lines.append({"varied": name, "x": x, "seconds": seconds[str(setting)], "MB": memory})
    return pd.DataFrame(lines)


def _unsir_job(model: nn.Module, samples: Samples, n_forget: int, sizes: dict[str, Any]) -> Job:
    passes = sum(unsir_passes(len(samples), sizes["noise_total"], sizes["copies"]).values())
    run = partial(unsir, model, range(n_forget), samples, impair_lr=1e-3, repair_lr=1e-3, **sizes)
    return Job(run, passes, passes)
