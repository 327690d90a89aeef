"""A picture under sliders, in a live notebook; elsewhere (papermill, a web page) the picture alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import IPython.display
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ..workshop.progress import watched


def sliders(draw: Callable[..., Figure], **settings: tuple[Any, Iterable]) -> None:
    """Shows `draw` of where the settings start. settings: name -> (start, all choices), an argument of `draw` each.

    The picture is an output of its own, which a saved notebook keeps; the sliders last as long as the kernel.
    """
    first = draw(**{name: start for name, (start, _) in settings.items()})
    picture = IPython.display.display(_closed(first), display_id=True)
    if not watched():
        return
    from ipywidgets import SelectionSlider, VBox

    common: dict[str, Any] = {"continuous_update": False}
    shown = {
        name: SelectionSlider(options=sorted({start, *choices}), value=start, description=name, **common)
        for name, (start, choices) in settings.items()
    }
    for slider in shown.values():
        slider.observe(lambda _: picture.update(_closed(draw(**{n: s.value for n, s in shown.items()}))), "value")
    IPython.display.display(VBox([*shown.values()]))


def _closed(figure: Figure) -> Figure:
    plt.close(figure)  # or the cell would show it again at its end
    return figure
