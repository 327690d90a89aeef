import math

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.report import plots


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def test_class_bars_show_the_values_and_hatch_the_forget_classes(axis):
    plots.class_bars(axis, torch.tensor([10.0, 0.0, 55.0]), ["a", "b", "c"], [2], "accuracy (%)")
    assert [bar.get_height() for bar in axis.patches] == [10, 0, 55]
    assert [bool(bar.get_hatch()) for bar in axis.patches] == [False, False, True]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert axis.get_ylabel() == "accuracy (%)"


def test_tries_are_filled_where_the_class_was_forgotten_and_the_chosen_one_is_ringed(axis):
    rows = [(False, 0.001, 90.0, False, False), (False, 0.003, 88.0, True, True), (True, 0.001, 87.0, True, False)]
    names = ("noise", "impair_lr", "A_Dr", "forgotten", "chosen")
    plots.tries(axis, [dict(zip(names, row, strict=True)) for row in rows])
    drawn = [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_markerfacecolor())
        for line in axis.lines
        if len(line.get_xdata())
    ]
    assert [point for *point, _ in drawn] == [[0.001, 90.0], [0.003, 88.0], [0.003, 88.0], [0.001, 87.0]]
    assert [face == hollow for (*_, face), hollow in zip(drawn, ["white", "white", "none", "white"], strict=True)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0.001", "0.003"]


def test_error_bars_reach_the_lowest_and_the_highest_value_from_the_mean():
    values = pd.DataFrame({"mean": [2.0, 5.0], "min": [1.5, 5.0], "max": [4.0, 5.0]})
    assert plots.reach(values).tolist() == [[0.5, 0.0], [2.0, 0.0]]
    assert plots.reach(values.loc[0]).tolist() == [[0.5], [2.0]]


def test_a_mean_of_equal_values_that_rounding_put_beside_them_still_has_bars(axis):
    runs = pd.Series({"mean": 0.1 + 2e-17, "min": 0.1, "max": 0.1})
    assert runs["max"] < runs["mean"]
    axis.errorbar(runs["mean"], 0, xerr=plots.reach(runs))


def test_method_lines_show_the_means_in_the_order_of_the_records(axis):
    runs = [("UNSIR", 60, 2), ("UNSIR", 70, 0), ("Original", 80, 90)]
    plots.method_lines(axis, pd.DataFrame(runs, columns=["method", "A_Dr", "A_Df"]))
    assert [label.get_text() for label in axis.get_yticklabels()] == ["UNSIR", "Original"]
    ends = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2]
    assert [list(map(float, end)) for end in ends] == [[1, 65], [90, 80]]


def test_the_ranges_of_both_accuracies_do_not_lie_on_each_other(axis):
    plots.method_lines(axis, pd.DataFrame([("UNSIR", 60, 2), ("UNSIR", 70, 90)], columns=["method", "A_Dr", "A_Df"]))
    heights = [container.lines[0].get_ydata().item() for container in axis.containers]
    assert heights[0] < 0 < heights[1]  # the axis counts downwards


@pytest.mark.parametrize("rates, markers", [(["chosen"], {"*", "D"}), (["chosen", "paper's"], {"*", "D", "h", "d"})])
def test_a_panel_of_one_pair_of_rates_has_the_methods_own_markers(axis, rates, markers):
    runs = [(f"{method} ({pair} rates)", 0, 60, 4) for pair in rates for method in ("UNSIR", "No noise")]
    plots.sweep_lines(axis, pd.DataFrame(runs, columns=["method", "n", "A_Dr", "A_Df"]), "n", "classes")
    assert {container.lines[0].get_marker() for container in axis.containers} == markers


UNDEFINED = float("nan")
HOSTILE = {
    "undefined": [UNDEFINED] * 4,
    "missing": [None] * 4,
    "one method lost": [UNDEFINED, UNDEFINED, 70.0, 70.0],
    "equal": [50.0] * 4,
    "at the edges": [0.0, 0.0, 100.0, 100.0],
    "a single row": [50.0],
}


@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("draw", ["method_lines", "sweep_lines", "heat_map", "a heat map around zero"])
@pytest.mark.filterwarnings("error")
def test_a_figure_of_records_stands_whatever_they_hold(axis, given, draw):
    records = pd.DataFrame({"A_Dr": given, "A_Df": given, "lr": [0.0, 0.1, 0.0, 0.1][: len(given)], "seed": 0})
    records["method"] = ["UNSIR", "UNSIR", "Original", "Original"][: len(given)]
    if draw.endswith("_lines"):
        plots.method_lines(axis, records) if draw == "method_lines" else plots.sweep_lines(
            axis, records, "lr", "rate", log=True
        )
    else:
        plots.heat_map(axis, records, "lr", "seed", "A_Df", "A_Df", around_zero="zero" in draw)
        assert not any("nan" in text.get_text() for text in axis.texts)
    plots.legend_below(axis.figure, [axis])
    axis.figure.canvas.draw()


def test_a_heat_map_keeps_the_cells_that_are_undefined(axis):
    runs = pd.DataFrame(
        [(0.1, 1, UNDEFINED), (0.2, 1, 5.0), (0.1, 2, UNDEFINED), (0.2, 2, UNDEFINED)], columns=["x", "y", "gain"]
    )
    plots.heat_map(axis, runs, "x", "y", "gain", "gain")
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0.1", "0.2"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["2", "1"]
    assert [t.get_text() for t in axis.texts] == ["5"]


def test_a_class_whose_value_is_undefined_has_no_bar(axis):
    plots.class_bars(axis, torch.tensor([10.0, UNDEFINED]), ["a", "b"], [1], "accuracy (%)")
    axis.figure.canvas.draw()
    drawn, left_out = (bar.get_height() for bar in axis.patches)
    assert drawn == 10 and math.isnan(left_out)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b"]


@pytest.mark.filterwarnings("error")
def test_noise_that_diverged_and_an_empty_row_are_still_pictures():
    figure = plots.image_grid({"nothing": torch.zeros(0, 3, 4, 4), "diverged": torch.full((2, 3, 4, 4), UNDEFINED)})
    figure.canvas.draw()
    assert sum(len(a.images) for a in figure.axes) == 2
    plt.close(figure)
    assert plots.image_grid({"nothing": torch.zeros(0, 3, 4, 4)}).axes


def test_image_grid_keeps_every_picture(axis):
    figure = plots.image_grid({"real": torch.zeros(3, 3, 4, 4, dtype=torch.uint8), "noise": torch.randn(2, 3, 4, 4)})
    assert sum(len(a.images) for a in figure.axes) == 5
    plt.close(figure)


def test_no_two_methods_share_both_colour_and_marker_but_under_one_name():
    names = {}
    for method, style in plots.METHOD_STYLE.items():
        names.setdefault(style, set()).add(method.split(" (")[0])
    assert all(len(same) == 1 for same in names.values())


def test_source_is_that_of_the_function():
    assert "def set_style() -> None:" in plots.source(plots.set_style).data


def committed():
    return sorted(REPOSITORY.glob("results/*/*.ipynb"))


@pytest.mark.parametrize("path", committed(), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_committed_copies_have_neither_errors_nor_warnings_nor_paths_of_a_machine(path):
    text = path.read_text()
    assert not any(part in text for part in ("site-packages", "/home/", "/root/", "/tmp/", "Traceback"))
    outputs = [o for cell in nbformat.reads(text, as_version=4).cells for o in cell.get("outputs", [])]
    assert outputs and not [o for o in outputs if o.output_type in ("error", "stream")]
    assert path.stat().st_size < 700_000


def test_nbval_has_something_to_compare():
    cells = nbformat.read(REPOSITORY / "results/quick/00_start_here.ipynb", as_version=4).cells
    tagged = [c for c in cells if "nbval-check-output" in c.metadata.get("tags", [])]
    assert len([c for c in tagged if c.outputs]) >= 2


def test_sweep_lines_show_the_mean_and_range_of_both_accuracies(axis):
    runs = [("UNSIR", 0, 60, 4), ("UNSIR", 0, 70, 0), ("UNSIR", 0.1, 50, 0), ("No noise", 0, 80, 9)]
    plots.sweep_lines(axis, pd.DataFrame(runs, columns=["method", "lr", "A_Dr", "A_Df"]), "lr", "rate", log=True)
    assert [c.get_label() for c in axis.containers] == ["UNSIR, A_Dr", "UNSIR, A_Df", "No noise, A_Dr", "No noise, A_Df"]
    data, _, (bars,) = axis.containers[0].lines
    assert data.get_xdata().tolist() == [0, 0.1] and data.get_ydata().tolist() == [65, 50]
    assert bars.get_segments()[0][:, 1].tolist() == [60, 70]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0", "0.1"]


def test_a_heat_map_writes_the_mean_into_each_cell(axis):
    runs = pd.DataFrame([(0.1, 1, 10), (0.1, 1, 30), (0.2, 1, 50), (0.1, 2, 0), (0.2, 2, 99)], columns=["x", "y", "A_Df"])
    plots.heat_map(axis, runs, "x", "y", "A_Df", "A_Df")
    assert [t.get_text() for t in axis.texts] == ["0", "99", "20", "50"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["2", "1"]


def test_heat_maps_of_differences_can_share_a_scale(axis):
    runs = pd.DataFrame([(0.1, 1, -3.0), (0.2, 1, 30.0)], columns=["x", "y", "gain"])
    plots.heat_map(axis, runs, "x", "y", "gain", "gain", around_zero=True, reach=50.0)
    assert axis.collections[0].get_clim() == (-50, 50)


def test_a_heat_map_of_differences_has_signs_and_a_mark_lies_in_its_cell(axis):
    runs = pd.DataFrame([(0.1, 1, -3.0), (0.2, 1, 30.0), (0.1, 2, -0.2), (0.2, 2, 0.0)], columns=["x", "y", "gain"])
    plots.heat_map(axis, runs, "x", "y", "gain", "gain", around_zero=True)
    assert [t.get_text() for t in axis.texts] == ["+0", "+0", "-3", "+30"]
    assert axis.collections[0].get_clim() == (-30, 30)
    plots.mark_cell(axis, runs, "x", "y", (0.2, 1))
    assert axis.patches[-1].get_bbox().contains(1.5, 1.5) and not axis.patches[-1].get_bbox().contains(0.5, 0.5)


@pytest.mark.filterwarnings("error")
def test_layer_lines_show_the_mean_ratio_of_each_layer_in_the_networks_order(axis):
    runs = [("UNSIR", "b", 2.0), ("UNSIR", "a", UNDEFINED), ("UNSIR", "b", 4.0), ("Second original", "b", 0.5)]
    plots.layer_lines(axis, pd.DataFrame(runs, columns=["method", "layer", "ratio"]), ["UNSIR", "Second original"], 2)
    retrain, unsir, second = axis.lines
    assert [line.get_label() for line in axis.lines] == ["Retrain", "UNSIR", "Second original"]
    assert retrain.get_ydata() == [1, 1] and second.get_linestyle() == ":"
    assert list(unsir.get_xdata()) == ["b", "a"] and unsir.get_ydata()[0] == 3 and pd.isna(unsir.get_ydata()[1])
    axis.figure.canvas.draw()


@pytest.mark.parametrize("ratio", [UNDEFINED, 0.0])
@pytest.mark.filterwarnings("error")
def test_layer_lines_without_a_ratio_stand(axis, ratio):
    plots.layer_lines(axis, pd.DataFrame({"method": ["UNSIR"], "layer": ["a"], "ratio": [ratio]}), ["UNSIR"], 2)
    axis.figure.canvas.draw()


TRIED = pd.DataFrame({"image_passes": [900, 100, 300, 200], "A_Dr": [60.0, 50.0, 70.0, 90.0]})


def test_the_frontier_rises_over_those_that_stayed(axis):
    plots.frontier(axis, TRIED, [0, 1, 2], 2, {"paper's": 0, "fast": 1, "best": 2}, 88.0)
    assert axis.lines[0].get_xydata().tolist() == [[100, 50], [300, 70], [900, 70], [900, 70]]
    assert [text.get_text() for text in axis.texts] == ["paper's", "fast", "best"]
    (left,) = [points for points in axis.collections if points.get_offsets().tolist() == [[200, 90]]]
    assert left.get_facecolor().tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("lowest", [50.0, 0.0])
def test_no_word_of_the_frontier_touches_an_axis(axis, lowest):
    axis.figure.set_size_inches(6.4, 3.6)
    plots.frontier(
        axis, TRIED.assign(A_Dr=[60, lowest, 70, 90]), [0, 1, 2, 3], 2, {"paper's": 0, "fast": 1, "best": 3}, 88.0
    )
    axis.figure.draw_without_rendering()
    inner = axis.get_window_extent()
    for word in (text.get_window_extent() for text in axis.texts):
        assert inner.x0 < word.x0 and word.x1 < inner.x1 and inner.y0 < word.y0 and word.y1 < inner.y1


@pytest.mark.filterwarnings("error")
def test_an_undefined_frontier_is_empty(axis):
    plots.frontier(axis, TRIED.assign(A_Dr=UNDEFINED), [0], 3, {"paper's": 0, "fast": 0, "best": 0}, UNDEFINED)
    assert [text.get_text() for text in axis.texts] == ["paper's, fast, best"]


def test_a_power_law_shows_its_slope(axis):
    x = pd.Series([1, 10, 100])
    plots.power_law(axis, x, 5 * x**2.0, "UNSIR")
    assert axis.get_title() == "slope 2.00" and axis.lines[1].get_ydata() == pytest.approx(5 * x**2.0)
    assert axis.lines[0].get_color() == plots.METHOD_STYLE["UNSIR"][0]
    plots.power_law(axis, x, pd.Series([3.0] * 3), "UNSIR")
    assert axis.get_title() == "slope 0.00"


def test_level_lines_lie_at_the_means(axis):
    plots.level_lines(axis, pd.DataFrame({"A_Dr": [60.0, 70.0], "A_Df": [4.0, 0.0]}), "No noise")
    assert {line.get_label(): line.get_ydata()[0] for line in axis.lines} == {"No noise, A_Dr": 65, "No noise, A_Df": 2}
    assert {line.get_color() for line in axis.lines} == {plots.METHOD_STYLE["No noise"][0]}


def by_seed(*numbers: float) -> pd.Series:
    return pd.Series(numbers, pd.MultiIndex.from_product([[0], range(len(numbers))], names=["trained", "seed"]), dtype=float)


@pytest.mark.filterwarnings("error")
def test_change_lines_show_the_mean_its_interval_and_the_seeds(axis):
    changes = {("one", "A_Dr"): by_seed(1, 2, 3), ("one", "A_Df"): by_seed(UNDEFINED, 0, 0)}
    changes |= {("two", "A_Dr"): by_seed(), ("two", "A_Df"): by_seed()}
    plots.change_lines(axis, changes, 2, 0.1)
    assert [t.get_text() for t in axis.get_yticklabels()] == ["one", "two"] and axis.get_ylim()[0] > axis.get_ylim()[1]
    assert [t.get_text() for t in axis.texts] == ["not run"] and axis.texts[0].get_position() == (0, 1)
    (drawn,) = axis.containers
    data, _, (bars,) = drawn.lines
    assert data.get_xdata().tolist() == [2] and drawn.get_label() == "A_Dr"
    assert bars.get_segments()[0][:, 0] == pytest.approx([2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5], abs=0.001)
    assert axis.lines[0].get_xdata().tolist() == [1, 2, 3]
    plots.legend_below(axis.figure, [axis])
    axis.figure.canvas.draw()


@pytest.mark.filterwarnings("error")
def test_a_change_of_one_seed_has_no_interval(axis):
    plots.change_lines(axis, {("one", "A_Df"): by_seed(5)}, 2, 0.1)
    (drawn,) = axis.containers
    assert drawn.lines[0].get_xdata().tolist() == [5] and not drawn.lines[2]
    axis.figure.canvas.draw()


def test_ratio_lines_show_each_ratio_its_range_and_what_is_wanted(axis):
    line = dict(what="UNSIR", against="plain", ratio=2.0, lowest=1.5, highest=3.0, wanted=1.2, reached="yes")
    plots.ratio_lines(axis, pd.DataFrame([line, {**line, "wanted": 2.5, "reached": "no"}]))
    assert [bar.get_xdata().tolist() for bar in axis.lines[:2]] == [[1.5, 3.0]] * 2
    assert [dots.get_offsets().tolist() for dots in axis.collections] == [[[2, 0]], [[1.2, 0]], [[2, 1]], [[2.5, 1]]]
    filled, open_ = (axis.collections[i].get_facecolor()[0].tolist() for i in (0, 2))
    assert filled != open_ == [1, 1, 1, 1]
    assert [text.get_text() for text in axis.texts] == ["2.00", "2.00"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["UNSIR\nagainst plain"] * 2


def test_side_lines_show_the_mean_and_range_of_both_accuracies(axis):
    runs = {"what": ["many", "many", "one"], "side": "here", "A_Dr": [80.0, 90.0, 70.0], "A_Df": [0.0, 2.0, 5.0]}
    plots.side_lines(axis, pd.DataFrame(runs))
    retain, forget = axis.containers
    assert retain[0].get_xdata().tolist() == [85, 70] and forget[0].get_xdata().tolist() == [1, 5]
    assert retain[2][0].get_segments()[0][:, 0].tolist() == [80, 90]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["many: here", "one: here"]


def test_every_test_of_the_audit_is_a_row_from_retrained_to_original(axis):
    lines = [("Original", "probe", 1.0), ("UNSIR", "probe", 0.2), ("UNSIR", "probe", 0.4), ("UNSIR", "silent", math.nan)]
    lines += [("Original", "silent", math.nan), ("UNSIR", "far", 9.0), ("Original", "far", 1.0)]
    records = pd.DataFrame(lines, columns=["method", "test", "position"]).assign(floor=10.0, ceiling=50.0, bound=20.0)
    cannot = {"method": "UNSIR", "test": "probe", "position": math.nan, "floor": 10.0, "ceiling": 5.0, "bound": 20.0}
    records = pd.concat([records, pd.DataFrame([cannot])])  # on one network, and its bound does not count
    plots.what_is_left(axis, records)
    drawn = {line.get_label(): line.get_xdata() for line in axis.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(drawn["UNSIR"], [0.3, math.nan, 1.5])
    np.testing.assert_allclose(drawn["Original"], [1, math.nan, 1])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["probe", "silent", "far"]
    assert [(text.get_text(), text.get_position()[1]) for text in axis.texts] == [("cannot tell", 1)]
    strokes = np.concatenate([s for c in axis.collections for s in c.get_segments()])[:, 0]
    np.testing.assert_allclose(sorted(strokes), [0.25] * 4 + [1.5, 1.6])  # the bound, where a test tells; what is off
