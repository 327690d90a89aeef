import inspect

import pytest

from unsir_utils.unsir import two_passes, unsir
from unsir_utils.workshop import study
from unsir_utils.workshop.rivals import GRIDS, RIVALS

KERNELS = {name: rival.kernels[0] for name, rival in RIVALS.items()} | {"UNSIR": unsir, "No noise": two_passes}


def test_every_method_has_a_grid():
    assert GRIDS.keys() == KERNELS.keys()


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_has_as_many_trials_as_any_and_the_authors_setting_among_them(name):
    grid, defaults = GRIDS[name], inspect.signature(KERNELS[name]).parameters
    assert len(grid) == (1 if name == "Head projection" else 8)
    assert set().union(*grid) <= study.options_of(name)
    assert sum(all(defaults[option].default == value for option, value in trial.items()) for trial in grid) == 1
    assert len({tuple(trial.values()) for trial in grid}) == len(grid)
