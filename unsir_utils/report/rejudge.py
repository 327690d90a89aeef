"""Judges published records anew, without running anything: after a change of a threshold, or of how it is judged.

python -m unsir_utils.report.rejudge --profile laptop
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ..data.paths import published_root
from ..data.sets import DRAWN_FOR_TEST
from ..settings import FISHER_ALPHA, PAPER_RATES
from ..workshop.profiles import parameters
from . import claims
from .judge import Finding, Test, judge
from .tables import Results

Records = Callable[[str], pd.DataFrame]  # name of a notebook's saved records -> the records
# Test images a class, and classes where the arguments of `data.sets.load` do not say how many.
TEST_IMAGES = {"cifar10": 1000, "cifar100": 100, "shapes": DRAWN_FOR_TEST, "faces": DRAWN_FOR_TEST, "olivetti": 2}
CLASSES = {"cifar10": 10, "cifar100": 100, "olivetti": 40}


def _size(data: dict) -> tuple[int, int]:
    """(test images a class, classes) of the arguments of `data.sets.load`. Raises ValueError for a folder."""
    if data["name"] not in TEST_IMAGES:
        raise ValueError(f"{data['name']}: how many test images a class it has is not known here; add it to TEST_IMAGES")
    return TEST_IMAGES[data["name"]], CLASSES.get(data["name"]) or data["n_classes"]


def images_of(p: dict) -> int:
    """Test images a class of a notebook's data."""
    return _size(p["data"])[0]


def _step(p: dict, n_forget: int | None = None) -> claims.Step:
    """n_forget: how many classes, those of `forget` unless it is given."""
    return claims.one_image_of(*_size(p["data"]), n_forget or len(p["forget"]))


def _sizes(p: dict) -> tuple[dict[str, int], dict[str, int]]:
    """`_size`, each of the two by network: 02's have data of their own."""
    each = {name: _size(p["data"].get(name, p["data"])) for name in p["recipes"]}
    return {name: images for name, (images, _) in each.items()}, {name: classes for name, (_, classes) in each.items()}


def _table(read: Records, p: dict) -> list[Test]:
    records, accuracy = read("records"), read("numbers").iloc[0]
    originals = {name: float(accuracy[f"accuracy of {name}, %"]) for name in records.network.unique()}
    tests = claims.tables(records, p["relearning"]["cap"], *_sizes(p))
    return tests + claims.works_on_each(records, originals, *_sizes(p))


def _efficiency(read: Records, p: dict) -> list[Test]:
    passes = read("passes").set_index("method")["times UNSIR, released settings"].astype(float)
    counted = claims.counted({name: passes[name] for name in ("Retrain", "Fisher (loop)")})
    return counted + claims.any_number(read("records"), images_of(p))


def _forgotten(p: dict) -> int:
    """The number of forget test images."""
    return images_of(p) * len(p["forget"])


def _in_turn(read: Records, p: dict) -> list[Test]:
    asked = sum(map(len, p["requests"]))
    return claims.in_turn(read("records"), asked, _step(p, asked))


def _presets(read: Records, p: dict) -> list[Test]:
    fewest = min(len(place["forget"]) for place in p["elsewhere"])
    return claims.presets(read("confirmed_records"), _step(p, fewest))


def _todays_methods(read: Records, p: dict) -> list[Test]:
    records, first = read("records"), p["requests"][0]
    return claims.keeps_as_much(records[records.forgotten == str(first)], _step(p, len(first)))


def _rates(read: Records, p: dict) -> list[Test]:
    return claims.rates(read("records"), read("originals"), tuple(PAPER_RATES.values()), _step(p))


JUDGED: dict[str, Callable[[Records, dict], list[Test]]] = {
    "01_cifar10": _table,
    "02_cifar100": _table,
    "03_faces": _table,
    "04_prediction_distribution": lambda read, p: claims.spread(read("records"), _forgotten(p)),
    "05_weight_distance": lambda read, p: claims.distance(read("records")),
    "06_efficiency": _efficiency,
    "07_sequential": _in_turn,
    "08_gradcam": lambda read, p: claims.looks_away(read("records")),
    "09_learning_rates": _rates,
    "10_gold_standard": lambda read, p: claims.like_retrained(read("records")),
    "11_retain_share": lambda read, p: claims.small_share(read("records"), p["share_of_claim"], _step(p)),
    "12_noise_penalty": lambda read, p: claims.penalty(read("records"), p["paper_penalty"], _step(p)),
    "13_repair_steps": lambda read, p: claims.heals(read("records"), _step(p)),
    "14_released_code": lambda read, p: claims.slips(read("records"), *_size(p["data"])),
    "15_how_little": _presets,
    "19_todays_methods": _todays_methods,
    "20_your_own_model": lambda read, p: claims.choice_lands(read("records")),
    "16_does_the_noise_matter": lambda read, p: claims.noise_matters(read("records"), *_size(p["data"])),
    "18_what_is_left": lambda read, p: claims.recoverable(read("records"), 100 / _forgotten(p)),
    "21_fisher_forgetting": lambda read, p: claims.spared(read("records"), read("parts_records"), FISHER_ALPHA, _step(p)),
}


def lines(notebook: str, profile: str, folder: Path) -> list[Finding]:
    """The findings of a notebook, from the tables, numbers and parameters that it saved in `folder`."""
    numbers = json.loads((folder / "numbers" / f"{notebook}.json").read_text(encoding="utf-8"))

    def read(name: str) -> pd.DataFrame:
        return pd.DataFrame([numbers]) if name == "numbers" else pd.read_csv(folder / "tables" / f"{notebook}_{name}.csv")

    # An old run may have saved no parameters, or not all: then those of the profile.
    return judge(JUDGED[notebook](read, parameters(notebook, profile) | numbers.get("parameters", {})))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="default: all that are published")
    parser.add_argument("--profile", default="laptop")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.notebooks) - set(JUDGED)):
        sys.exit(f"nothing is judged of {', '.join(unknown)}: choose among {', '.join(JUDGED)}")
    os.environ["UNSIR_RESULTS"] = str(published_root())
    folder = published_root() / arguments.profile
    for notebook in arguments.notebooks or [name for name in JUDGED if (folder / f"{name}.ipynb").exists()]:
        try:
            found = lines(notebook, arguments.profile, folder)
        except FileNotFoundError as error:  # published before its notebook saved these records
            print(f"{notebook:<27} as it was: {Path(error.filename).name} is not published")
            continue
        Results(notebook, arguments.profile).findings(found, "Judged from the published records.")
        print(f"{notebook:<27} {', '.join(line['verdict'] for line in found)}")


if __name__ == "__main__":
    main()
