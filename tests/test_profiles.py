"""The profiles that no test runs: is every value in them one that the code takes, and does every recipe take a step?"""

import inspect

import pytest
import torch
import torchvision

from unsir_utils.data.sets import load
from unsir_utils.engine.training import one_epoch, parameter_groups
from unsir_utils.report.judge import FEWEST
from unsir_utils.workshop import models, store
from unsir_utils.workshop.profiles import parameters, profile_values
from unsir_utils.workshop.store import Recipe

PROFILES = ["laptop", "paper"]


EVERY = [(p, n, parameters(n, p)) for p in PROFILES for n in profile_values(p)]


def recipes() -> dict[str, tuple[Recipe, int]]:
    """Every recipe of the profiles, with the image size that it is for, named."""
    found = {}
    for *_, values in EVERY:
        each = [("", values["recipe"])] if "recipe" in values else []
        each += [(name, {"architecture": name, **recipe}) for name, recipe in values.get("recipes", {}).items()]
        for name, recipe in each:
            data = values["data"] if isinstance(values["data"], dict) else {}
            data = data.get(name, data)
            size = data.get("image_size", 32)
            found[f"{recipe} at {size}"] = Recipe(**recipe), size
            assert data.get("keras_inputs", False) == recipe["architecture"].endswith("-Keras")
    return found


RECIPES = recipes()


EACH = pytest.mark.parametrize("profile, notebook, values", EVERY, ids=[f"{p}-{n}" for p, n, _ in EVERY])


@EACH
def test_the_data_are_named_by_what_load_takes(profile, notebook, values):
    sets = values["data"] if isinstance(values.get("data"), dict) else {}
    for data in [sets] if "name" in sets else sets.values():
        inspect.signature(load).bind(**data)


@EACH
def test_rates_are_in_range_and_only_how_little_varies_the_heads(profile, notebook, values):
    pairs = values.get("rates", [])
    if notebook == "02_cifar100":
        pairs = [pair for network in values["recipes"] for pair in pairs[network]]
    own = {"head_factor"} if notebook == "15_how_little" else set()
    for rates in [r for r in pairs if isinstance(r, dict)]:
        assert set(rates) - {"impair_lr", "repair_lr"} == own
        assert 0 < rates["impair_lr"] < 10 and 0 < rates["repair_lr"] < 10
        assert rates.get("head_factor", 1) >= 1


@EACH
def test_there_are_enough_seeds_or_replicates(profile, notebook, values):
    if "seeds" in values:
        assert len(values["seeds"]) >= 5 or notebook not in FIVE_SEEDS[profile]
    replicates = values.get("replicates", [])
    for own in replicates.values() if isinstance(replicates, dict) else [replicates] if replicates else []:
        assert len(own) >= (5 if notebook in FIVE_SEEDS[profile] else 3)


def test_laptops_first_table_rests_on_three_networks():
    assert len({network for network, _ in profile_values("laptop")["01_cifar10"]["replicates"]}) == 3


FIVE_SEEDS = {  # in paper every notebook of the paper's
    "laptop": ["14_released_code"],
    "paper": [n for n in profile_values("paper") if n[:2] in {f"{i:02}" for i in range(1, 15)} - {"03"}],
}


@pytest.mark.parametrize("recipe, size", RECIPES.values(), ids=RECIPES)
def test_every_recipe_takes_a_step(recipe, size):
    model = models.build(recipe.architecture, 4)
    if recipe.weights and not recipe.weights.startswith(models.FILE):
        assert recipe.weights in {
            w.name for w in torchvision.models.get_model_weights(models.PRETRAINED[recipe.architecture])
        }
    x = torch.randn(2, 3, size, size)
    groups = parameter_groups(model, recipe.lr, recipe.head_factor, x)
    optimiser, schedule = store.TRAININGS[recipe.training](groups, steps=2)
    head = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    before = head.weight.clone()
    losses = one_epoch(model, [(x, torch.tensor([0, 3]))], optimiser)
    assert all(torch.isfinite(torch.tensor(losses))) and not torch.equal(head.weight, before)


@pytest.mark.parametrize("profile", ["quick", *PROFILES])
@pytest.mark.parametrize("notebook", ["09_learning_rates", "16_does_the_noise_matter"])
def test_a_grid_of_rates_is_chosen_from_by_three_replicates_at_least(profile, notebook):
    assert len(parameters(notebook, profile)["replicates"]) >= FEWEST
