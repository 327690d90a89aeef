import math
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.patches import PathPatch
from tiny import pixels

from unsir_utils.audit import maps
from unsir_utils.report import plots

NAN = math.nan
ONE = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]], [[NAN, 0.0], [0.0, 0.0]]])
SAME_PLACE = torch.tensor([[0.0, 0.0], [0.0, 5.0]]).expand(4, 2, 2)


def test_a_map_of_zeros_is_empty_and_one_that_is_undefined_is_not():
    assert maps.empty(ONE).tolist() == [False, False, True, False]


def test_likeness_is_the_cosine_and_undefined_where_a_map_is_empty_or_undefined():
    assert maps.likeness(ONE, SAME_PLACE).tolist() == pytest.approx([0.8, 1.0, NAN, NAN], nan_ok=True)
    assert maps.likeness(SAME_PLACE, ONE).tolist() == pytest.approx([0.8, 1.0, NAN, NAN], nan_ok=True)


def test_maps_that_share_no_cell_have_nothing_in_common_and_scale_does_not_count():
    elsewhere = torch.tensor([[[0.0, 7.0], [7.0, 0.0]]])
    assert maps.likeness(ONE[:1], elsewhere).item() == 0
    assert maps.likeness(ONE[:1], 1000 * ONE[:1]).item() == pytest.approx(1)


def test_maps_of_two_layers_are_not_compared():
    with pytest.raises(ValueError, match=r"\[4, 2, 2\] and \[1, 4, 4\]"):
        maps.likeness(ONE, torch.ones(1, 4, 4))


def test_a_record_an_image_in_their_order():
    records = maps.compared(SAME_PLACE[:3], ONE[:3])
    assert records[0] == {"cosine": pytest.approx(0.8), "empty before": False, "empty after": False}
    assert records[2] == {"cosine": pytest.approx(NAN, nan_ok=True), "empty before": False, "empty after": True}
    assert [r["empty before"] for r in maps.compared(ONE, SAME_PLACE)] == [False, False, True, False]


def test_the_first_of_each_class_stand_class_after_class():
    samples = replace(pixels(8), labels=torch.tensor([1, 0, 1, 1, 0, 2, 0, 1]))
    found = maps.first_of_each(samples, [2, 3, 5])
    assert found.labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert torch.equal(found.images, samples.images[[1, 4, 0, 2, 3, 5]])


LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
BETTER = torch.tensor([False, True, True, False, True, False])


@pytest.mark.parametrize(
    "classes, places", [([0], [1]), ([0, 0, 0], [1, 2, 0]), ([1, 0, 2, 0], [4, 1, 5, 2]), ([1, 1], [4, 3])]
)
def test_better_images_come_first_and_none_comes_twice(classes, places):
    assert maps.pick(LABELS, classes, BETTER) == places


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(ValueError, match="class 2 is to be pictured 2 times, but 1 of"):
        maps.pick(LABELS, [2, 0, 2], BETTER)


def test_maps_are_enlarged_to_the_image():
    large = maps.enlarged(torch.tensor([[[0.0, 4.0]], [[1.0, 1.0]]]), 3, 4)
    assert large.shape == (2, 3, 4)
    assert large[0, 1].tolist() == [0, 1, 3, 4] and (large[1] == 1).all()


@pytest.fixture
def figure():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    loud, faint = torch.ones(2, 2, 2), torch.full((2, 2, 2), 0.001)
    loud[1], faint[1] = NAN, 0.0005
    below = {"loud": ["cat", "undefined"], "faint": ["dog", "cat"]}
    figure = plots.map_grid(images, ["cat", "dog"], {"loud": loud, "faint": faint}, below)
    yield figure
    plt.close(figure)


def test_a_network_with_small_logits_is_seen_beside_one_with_large_ones(figure):
    grid = [axis for axis in figure.axes if axis.images]
    heats = {(axis.get_title(), axis.get_xlabel()): [i for i in axis.images if i.cmap.name == "inferno"] for axis in grid}
    (faint,) = heats["faint", "dog"]
    assert faint.get_clim() == pytest.approx((0, 0.001)) and faint.get_array().max() == pytest.approx(0.001)
    assert heats["loud", "cat"][0].get_clim() == (0, 1)
    (below,) = heats["", "cat"]
    assert below.get_clim() == pytest.approx((0, 0.001)), "a column shares its scale"
    assert heats["", "undefined"] == [] and heats["image", ""] == []


def test_its_rows_are_named_and_it_says_what_bright_means(figure):
    labels = [axis.get_ylabel() for axis in figure.axes[:6]]
    assert labels == ["cat", "", "", "dog", "", ""]
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["0", "column's largest value"]


def test_boxes_are_of_the_values_of_a_method_and_part():
    rows = [("UNSIR", "retain", v) for v in (0.1, 0.5, 0.9)] + [("UNSIR", "forget", NAN), ("Retrain", "forget", 0.3)]
    figure, axis = plt.subplots()
    plots.part_boxes(axis, pd.DataFrame(rows, columns=["method", "part", "value"]), ["Retrain", "UNSIR"])
    boxes = [box.get_path().get_extents() for box in axis.patches if isinstance(box, PathPatch)]
    assert [(round(b.x0, 9), round(b.x1, 9), round((b.y0 + b.y1) / 2, 9)) for b in boxes] == [
        (0.3, 0.7, 0.8),
        (0.3, 0.3, 0.2),
    ]
    assert [(t.get_text(), t.xy[1]) for t in axis.texts] == [("undefined", -0.2), ("undefined", 1.2)]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["Retrain", "UNSIR"]
    assert [h.get_label() for h in axis.get_legend_handles_labels()[0]] == ["retain images", "forget images"]
    plt.close(figure)
