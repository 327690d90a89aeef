"""The settings of the paper and of the code that it descends from, as literals, against default arguments."""

import inspect
import sys

import pytest
import torch
from tiny import convnet, floats, pixels
from torch import nn

from unsir_utils import metrics, noise
from unsir_utils.audit.recovered import logit_recovered, prototype_recovered
from unsir_utils.audit.relearning import relearned
from unsir_utils.audit.what_is_left import Look
from unsir_utils.data.sets import CIFAR10_MEAN, CIFAR10_STD, Data
from unsir_utils.engine.training import parameter_groups
from unsir_utils.impair import impair
from unsir_utils.methods import baselines, forget_set, one_shot, passes, zero_glance
from unsir_utils.methods.piled_up import piled_up
from unsir_utils.own import choose
from unsir_utils.own.forgetting import forget
from unsir_utils.repair import repair
from unsir_utils.unsir import released, two_passes, unsir
from unsir_utils.workshop import store, study
from unsir_utils.workshop.profiles import profile_values

impair_module = sys.modules["unsir_utils.impair"]

# NB: the authors' released notebook. G: Golatkar et al.'s public code. Z: the same authors' zero-shot-unlearning code.
# ours: the sources leave it open.
PASSES = {
    "copies": 20,  # NB
    "impair_lr": 0.02,  # NB
    "impair_epochs": 1,  # NB
    "repair_lr": 0.01,  # NB
    "repair_epochs": 1,  # NB
    "batch_size": 256,  # NB
    "head_factor": 1.0,  # NB
    "seed": 0,  # ours
}
DEFAULTS = {
    unsir: PASSES
    | {
        "noise": None,
        "forgotten": (),  # ours
        "noise_per_class": 256,  # NB
        "noise_total": None,
        "noise_steps": 40,  # NB: 5 x 8
        "noise_lr": 0.1,  # NB
        "penalty": 0.1,  # the paper's lambda, NB
        "batchnorm": "eval",  # the paper's model is frozen; NB's slip is a switch
    },
    two_passes: PASSES,
    noise.learn_noise: {
        "per_class": 256,  # NB
        "total": None,
        "steps": 40,  # NB
        "lr": 0.1,  # NB
        "penalty": 0.1,  # the paper's lambda, NB
        "batchnorm": "eval",  # as in unsir
        "seed": 0,
        "in_place": False,
    },
    noise.unlearned_noise: {"per_class": 256, "seed": 0},  # as many as UNSIR's
    noise.blank_images: {"per_class": 256},
    noise.more_retain: {"seed": 0},
    impair: {"copies": 20, "lr": 0.02, "epochs": 1, "batch_size": 256, "head_factor": 1.0, "seed": 0},
    repair: {"lr": 0.01, "epochs": 1, "batch_size": 256, "head_factor": 1.0, "seed": 0},  # NB
    released: {
        "noise": None,  # it is learned
        "per_class": 1000,  # NB: the first 1000 images of each retain class
        "used": 3,  # NB: batch[0].size(0), the number of channels
        "label": 0,  # NB: whatever the class
        "batchnorm": "train",  # NB
        "learned": 256,  # NB
        "seed": 0,
    },
    metrics.relearn_epochs: {"per_epoch": 500, "lr": 0.01, "cap": 100, "batch_size": 64, "seed": 0},  # G; batch: ours
    metrics.relearn_steps: {"share": 0.95, "lr": 1e-3, "cap": 1000, "batch_size": 256, "seed": 0},  # Z; cap: ours
    baselines.finetune: {"epochs": 10, "lr": 0.01, "batch_size": 256, "seed": 0},  # G; batch: ours
    baselines.neggrad: {"epochs": 1, "lr": 0.001, "batch_size": 256, "batchnorm": "train", "seed": 0},  # ours
    baselines.fisher_forgetting: {"alpha": 1e-6, "information": None, "seed": 0},  # G; information: ours
    # A: the authors' public code, as the docstring of each names it; ours: what that leaves open.
    zero_glance.bias_shift: {"shift": 10.0},  # ours
    zero_glance.l1_sparse: {"alpha": 5e-4, "epochs": 10, "lr": 0.01, "batch_size": 256, "seed": 0},  # A; alpha: reported
    zero_glance.weight_negation: {"epochs": 10, "lr": 0.01, "batch_size": 256, "seed": 0},  # as l1_sparse
    forget_set.neggrad_plus: {"alpha": 0.95, "epochs": 5, "lr": 0.01, "batch_size": 256, "seed": 0},  # ours
    forget_set.random_labels: {"epochs": 10, "lr": 0.01, "batch_size": 256, "seed": 0},  # A
    forget_set.salun: {"share": 0.5, "epochs": 10, "lr": 0.01, "batch_size": 256, "seed": 0},  # A
    forget_set.boundary_shrink: {"bound": 0.1, "epochs": 10, "lr": 1e-5, "batch_size": 64, "batchnorm": "train", "seed": 0},
    forget_set.delete: {"epochs": 20, "lr": 1e-3, "batch_size": 128, "batchnorm": "train", "seed": 0},  # A
    forget_set.scrub: {"alpha": 0.001, "gamma": 0.99, "temperature": 4.0, "epochs": 3, "forget_epochs": 2, "lr": 5e-4,
                       "batch_size": 256, "forget_batch_size": 512, "seed": 0},  # A
    forget_set.bad_teacher: {"share": 0.3, "epochs": 1, "lr": 1e-4, "batch_size": 256, "seed": 0},  # A
    one_shot.ssd: {"alpha": 10.0, "dampening": 1.0, "batch_size": 64},  # A
    one_shot.svd_projection: {"alpha_retain": 1e3, "alpha_forget": 30.0, "images": 900, "patches": 10_000, "seed": 0},  # A
    piled_up: {"impair_lr": 0.02, "repair_lr": 0.01, "copies": 20, "batch_size": 256, "seed": 0},  # NB
    forget: {"forgotten": (), "held_out_forget": None, "look": False, "noise": None, "budget": 5.0, "retain_per_class": 300,
             "batch_size": None, "seed": 0},  # ours
    Look: {"per_class": 200, "lost": 0.02, "shots": 10, "steps": 30, "lr": 0.01, "seed": 0},  # ours
    relearned: {"lost": 0.02, "steps": 30, "lr": 0.01, "batch_size": 100, "seed": 0},  # ours
    logit_recovered: {"lost": 0.02},  # ours
    prototype_recovered: {"lost": 0.02, "draws": 10},  # ours
    study.Scenario: {"retain_per_class": 1000, "seed": 0},  # NB
    study.METHODS["Blank images"].ready: {"noise_per_class": 256},  # as many as UNSIR's
    store.Recipe: {"training": "onecycle", "lr": 0.05, "batch_size": 64, "weights": None, "head_factor": 1.0, "left_out": (),
                   "seed": 0, "augment": False, "label_smoothing": 0.0},  # ours
}  # fmt: skip


@pytest.mark.parametrize("function", DEFAULTS, ids=lambda function: function.__name__)
def test_defaults_are_the_papers_settings(function):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == DEFAULTS[function]


# Of these the docstring of `choose` tells what came.
CHOICE = {
    "RATES": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "REPAIR": 0.1,
    "HEAD_FACTOR": 30.0,
    "FORGOTTEN": -4.0,
    "STAND_INS": 16,
    "LEARNED": {"steps": 40, "lr": 0.1, "penalty": 1e-4},
    "CARRIED": {"steps": 20, "stride": 0.05, "target": 3.0},
}


def test_the_choice_of_rates_is_by_the_numbers_that_were_measured():
    assert {name: getattr(choose, name) for name in CHOICE} == CHOICE


def test_the_released_recipe_is_the_notebooks():
    recipe = {"architecture": "ResNet18", "epochs": 40, "training": "released", "lr": 0.01, "batch_size": 256}  # NB
    assert all(profile_values(profile)["14_released_code"]["recipe"] == recipe for profile in ("laptop", "paper"))
    assert (CIFAR10_MEAN, CIFAR10_STD) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # NB


TRAININGS = {
    "onecycle": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "dampening": 0}),  # ours
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.05}),  # ours
    "released": (torch.optim.Adam, {"weight_decay": 1e-4, "betas": (0.9, 0.999), "lr": 0.01}),  # NB
}


@pytest.mark.parametrize("training", TRAININGS)
def test_the_optimiser_of_each_training(training):
    optimiser, schedule = store.TRAININGS[training](parameter_groups(convnet(), 0.01), 100)
    kind, options = TRAININGS[training]
    assert type(optimiser) is kind and {name: optimiser.defaults[name] if name != "lr" else
                                        optimiser.param_groups[0]["lr"] for name in options} == options  # fmt: skip
    if training == "released":
        assert isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
        assert (schedule.factor, schedule.patience, schedule.mode) == (0.5, 3, "min")  # NB
    else:
        assert isinstance(schedule, torch.optim.lr_scheduler.OneCycleLR)
        assert optimiser.param_groups[0]["max_lr"] == 0.01
        rates = []
        for _ in range(100):
            rates.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        assert rates.index(max(rates)) in (29, 30)  # 30 % of the way


def spied(monkeypatch, module, name: str = "one_epoch") -> list[tuple]:
    """The optimiser and the keyword arguments of each pass."""
    passes, real = [], getattr(module, name)

    def spy(model, batches, optimiser, **options):
        passes.append((optimiser, options))
        return real(model, batches, optimiser, **options)

    monkeypatch.setattr(module, name, spy)
    return passes


def test_impair_and_repair_each_take_a_fresh_adam_without_decay_or_clipping(monkeypatch):
    passes = spied(monkeypatch, impair_module)
    retain = floats((3, 8, 8)).without([1])
    unsir(convnet(), [1], retain, noise_per_class=2, noise_steps=1)
    (impaired, _), (repaired, _) = passes
    assert [type(o) for o, _ in passes] == [torch.optim.Adam] * 2 and impaired is not repaired
    assert [o.param_groups[0]["lr"] for o, _ in passes] == [0.02, 0.01]
    for optimiser, options in passes:
        assert optimiser.defaults["weight_decay"] == 0 and optimiser.defaults["betas"] == (0.9, 0.999)
        assert not options.get("clip_value") and options.get("train_mode", True)
    (steps,) = {state["step"].item() for state in repaired.state.values()}
    assert steps == 1  # its own: one batch


@pytest.mark.parametrize("unlearn", [unsir, two_passes], ids=lambda unlearn: unlearn.__name__)
def test_the_heads_factor_reaches_both_passes(unlearn, monkeypatch):
    passes = spied(monkeypatch, impair_module)
    retain, images = floats((3, 8, 8)).without([1]), noise.unlearned_noise([1], (3, 8, 8), per_class=2)
    arguments = ([1], retain) if unlearn is unsir else (retain, images)
    unlearn(convnet(), *arguments, head_factor=5.0, **({"noise": images} if unlearn is unsir else {}))
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser, _ in passes]
    assert rates == [[0.02, pytest.approx(0.1)], [0.01, pytest.approx(0.05)]]


SGD_PASSES = {
    "finetune": (passes, lambda m, s: baselines.finetune(m, s, epochs=1), 0.01),
    "neggrad": (passes, lambda m, s: baselines.neggrad(m, s), 0.001),
    "relearn_epochs": (metrics, lambda m, s: metrics.relearn_epochs(m, better(s), s, s, cap=1), 0.01),
}


def better(samples) -> nn.Module:
    """Right about everything."""
    model = convnet()
    model.forward = lambda x: 50 * nn.functional.one_hot(samples.labels[: len(x)], samples.n_classes).float()
    return model


@pytest.mark.parametrize("name", SGD_PASSES)
def test_baselines_and_relearning_by_epochs_take_plain_sgd(name, monkeypatch):
    module, run, lr = SGD_PASSES[name]
    passes = spied(monkeypatch, module)
    run(convnet(), floats((3, 8, 8)))
    ((optimiser, _),) = passes
    assert type(optimiser) is torch.optim.SGD
    assert optimiser.param_groups[0]["lr"] == lr
    assert not any(optimiser.defaults[name] for name in ("momentum", "weight_decay", "nesterov"))


def test_a_recipe_hands_its_numbers_to_its_training(tmp_path, monkeypatch):
    seen, released_training = [], store.TRAININGS["released"]
    monkeypatch.setitem(
        store.TRAININGS, "released", lambda groups, steps: seen.append((groups, steps)) or released_training(groups, steps)
    )
    monkeypatch.setitem(store.models.ARCHITECTURES, "tiny", convnet)
    data = Data("tiny", tuple("abcd"), pixels(33), pixels(8), pixels(20))
    store.trained(store.Recipe("tiny", 2, "released", lr=0.03, batch_size=8, head_factor=4.0), data, tmp_path)
    (((body, head), steps),) = seen
    assert (body["lr"], head["lr"]) == (0.03, pytest.approx(0.12))
    assert steps == 2 * 4  # a last batch of one joins the one before it
