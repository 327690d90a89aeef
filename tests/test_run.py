import json
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from zmq import ZMQError

from unsir_utils.data.paths import read_yaml
from unsir_utils.workshop import profiles, run

NOTEBOOKS = sorted(profiles.NOTEBOOKS.glob("*.ipynb"))
PARAMETERS = """profile: str = "mine"
seeds: list = [0, 1]
lr: float = 0.5
steps: int = 3
limit: int = None
fast: bool = False"""
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.fixture(autouse=True)
def settings_of_kernels(monkeypatch):
    """What `run` puts into the environment is gone after a test."""
    for name in ("OMP_NUM_THREADS", *run.KERNEL_SETTINGS):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UNSIR_THREADS", "1")


@pytest.fixture
def no_kernel(monkeypatch):
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with one notebook, a profile `huge` that changes it, one `stale` that names another, and results."""
    monkeypatch.setattr(run, "REPOSITORY", tmp_path)
    monkeypatch.setattr(run, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(profiles, "PROFILES", tmp_path / "notebooks" / "profiles")
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path / "out"))
    profiles.PROFILES.mkdir(parents=True)
    write(tmp_path / "notebooks" / "00_tiny.ipynb", "print(profile, seeds, lr, steps)")
    (profiles.PROFILES / "huge.yaml").write_text("00_tiny: {steps: 99}")
    (profiles.PROFILES / "stale.yaml").write_text("gone: {steps: 99}")
    (profiles.PROFILES / "empty.yaml").write_text("")
    return tmp_path


def write(path: Path, *cells: str) -> Path:
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell("# Tiny"), parameters, *map(new_code_cell, cells)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


@pytest.mark.parametrize(
    "name, profile, given, words",
    [
        ("absent", "quick", {}, ["absent.ipynb", "choose one of 00_tiny"]),
        ("00_tiny", "enormous", {}, ["unknown profile 'enormous'", "choose one of quick, mine, empty, huge, stale"]),
        ("00_tiny", "stale", {}, ["profile stale", "gone"]),
        (
            "00_tiny",
            "quick",
            {"step": 1},
            ["00_tiny.ipynb has no parameter 'step'", "profile, seeds, lr, steps, limit, fast"],
        ),
        ("00_tiny", "quick", {"seeds": "0"}, ["seeds", "'0', a str", "a list", "[0, 1]"]),
        ("00_tiny", "quick", {"seeds": [0, "1"]}, ["an entry of parameter seeds", "'1', a str", "a int"]),
        ("00_tiny", "quick", {"steps": 1.0}, ["steps", "1.0, a float", "a int", "default 3"]),
        ("00_tiny", "quick", {"lr": "0.5"}, ["lr", "'0.5', a str", "a float"]),
        ("00_tiny", "quick", {"steps": True}, ["steps", "True, a bool", "a int"]),
        ("00_tiny", "quick", {"fast": 1}, ["fast", "1, a int", "a bool"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_before_a_kernel_starts(project, no_kernel, name, profile, given, words):
    with pytest.raises(ValueError) as error:
        run.run(project / "notebooks" / f"{name}.ipynb", profile, given)
    assert [word for word in words if word not in str(error.value)] == []
    assert not (project / "out").exists()


@pytest.mark.parametrize("name", ["Untitled", "00_tiny-Copy1"])
def test_what_a_reader_adds_beside_the_notebooks_is_in_nobodys_way(project, name):
    (project / "notebooks" / f"{name}.ipynb").write_text("{}")
    assert run.check(project / "notebooks" / "00_tiny.ipynb", "huge") == {"steps": 99, "profile": "huge"}


NONE = [("", "is no notebook"), ("[]", "is no notebook"), ('{"cells": []}', "has 0 cells tagged")]


@pytest.mark.parametrize("text, words", NONE)
def test_a_notebook_without_parameters_is_named(project, text, words):
    (project / "notebooks" / "01_empty.ipynb").write_text(text)
    with pytest.raises(ValueError, match=f"01_empty.ipynb {words}"):
        run.check(project / "notebooks" / "01_empty.ipynb", "quick")


def test_nothing_runs_into_what_is_published(project, no_kernel, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", "results")
    with pytest.raises(ValueError, match="UNSIR_RESULTS names results/"):
        run.run(project / "notebooks" / "00_tiny.ipynb")


def test_the_profile_is_no_override(project):
    with pytest.raises(ValueError, match="name one by --profile"):
        run.check(project / "notebooks" / "00_tiny.ipynb", "quick", {"profile": "huge"})


@pytest.mark.parametrize(
    "given",
    [{"lr": 1}, {"lr": 1.5}, {"seeds": []}, {"limit": 3}, {"limit": "x"}, {"steps": None}, {"fast": True}],
    ids=str,
)
def test_fitting_values_pass(project, given):
    profiles.check_parameters(project / "notebooks" / "00_tiny.ipynb", given)


def test_an_override_beats_the_profile_and_the_profile_the_default(project, monkeypatch):
    given = []

    def execute(source, target, parameters, **_):
        given.append(parameters)
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    own = {"quick": project / "out" / "quick", "empty": project / "out" / "empty", "huge": project / "out" / "huge"}
    for profile, folder in own.items():
        assert run.run(project / "notebooks" / "00_tiny.ipynb", profile).parent == folder
    apart = run.run(project / "notebooks" / "00_tiny.ipynb", "huge", {"steps": 5}).parent
    assert apart.parent == own["huge"] and apart.name.startswith("steps=5-")
    assert [values.pop("profile") for values in given] == ["quick", "empty", "huge", "huge"]
    assert given == [{}, {}, {"steps": 99}, {"steps": 5}]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", profiles.profiles())
def test_every_profile_fits_every_notebook(profile, notebook):
    profiles.check_parameters(notebook, profiles.profile_values(profile).get(notebook.stem, {}) | {"profile": profile})


@pytest.mark.parametrize("profile", [p for p in profiles.profiles() if p not in (profiles.DEFAULT, profiles.MINE)])
def test_every_profile_speaks_of_every_notebook(profile):
    """It has values for it, or says that it stays as in quick."""
    said = set(read_yaml(profiles.PROFILES / f"{profile}.yaml").get("as_in_quick", []))
    said |= {name for name, values in profiles.profile_values(profile).items() if values}
    assert said == {"17_benchmark"} if profile == "bench" else said == {path.stem for path in NOTEBOOKS}


def test_a_copy_of_a_notebook_that_succeeds_is_kept(project):
    source = project / "notebooks" / "00_tiny.ipynb"
    before = source.read_bytes()
    copy = run.run(source, "huge", {"lr": 2})
    assert copy.relative_to(project / "out" / "huge").match("lr=2-*/00_tiny.ipynb") and source.read_bytes() == before
    notebook = nbformat.read(copy, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[-1].outputs[0].text == "huge [0, 1] 2 99\n"
    assert [cell.id for cell in notebook.cells] == [f"cell-{n}" for n in range(len(notebook.cells))]
    assert 0 < notebook.metadata["unsir"]["seconds"] < 600 and "papermill" not in notebook.metadata
    for place in (project, run.__file__, sys.prefix, Path.home()):
        assert str(place) not in copy.read_text()
    assert not re.search(r"\d{4}-\d\d-\d\dT\d\d:", copy.read_text()), "a time of the day differs from run to run"
    assert not list((copy.parent / "failed").iterdir())


def test_a_cell_that_fails_is_named_and_an_earlier_copy_stays(project):
    source = write(project / "notebooks" / "00_tiny.ipynb", "1 / (lr - 0.5)", "print('not reached')")
    earlier = project / "out" / "quick" / "00_tiny.ipynb"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    with pytest.raises(RuntimeError) as error:
        run.run(source)
    failed = project / "out" / "quick" / "failed" / "00_tiny.ipynb"
    assert str(error.value) == f"00_tiny failed in cell 3: ZeroDivisionError: float division by zero: open {failed}"
    cells = nbformat.read(failed, as_version=4).cells
    assert any(output.output_type == "error" for cell in cells for output in cell.get("outputs", []))
    assert "not reached" not in str([cell.get("outputs") for cell in cells])
    assert earlier.read_text() == "earlier"


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["absent.ipynb"], "no notebook absent.ipynb"),
        (["{tiny}", "--profile", "enormous"], "unknown profile 'enormous'"),
        (["{tiny}", "-p", "step=1"], "no parameter 'step'"),
        (["{tiny}", "-p", "steps=1.5"], "1.5, a float"),
        (["{tiny}", "-p", "seeds=x"], "'x', a str"),
    ],
    ids=str,
)
def test_the_command_ends_with_a_message(project, no_kernel, monkeypatch, arguments, word):
    tiny = str(project / "notebooks" / "00_tiny.ipynb")
    monkeypatch.setattr(sys, "argv", ["run", *(a.replace("{tiny}", tiny) for a in arguments)])
    with pytest.raises(SystemExit) as end:
        run.main()
    assert isinstance(end.value.code, str) and word in end.value.code


def test_the_command_ends_with_a_message_when_a_cell_fails(project, monkeypatch):
    def fail(*_, **__):
        raise papermill.exceptions.PapermillExecutionError(2, 1, "1 / 0", "ZeroDivisionError", "division by zero", [])

    monkeypatch.setattr(papermill, "execute_notebook", fail)
    monkeypatch.setattr(sys, "argv", ["run", str(project / "notebooks" / "00_tiny.ipynb")])
    told = "^00_tiny failed in cell 1: ZeroDivisionError: division by zero: open .*00_tiny.ipynb$"
    with pytest.raises(SystemExit, match=told):
        run.main()


def test_the_command_hands_its_overrides_on(project, monkeypatch, capsys):
    given, tiny = [], str(project / "notebooks" / "00_tiny.ipynb")
    monkeypatch.setattr(run, "run", lambda *arguments: given.append(arguments) or project / "00_tiny.ipynb")
    monkeypatch.setattr(sys, "argv", ["run", tiny, "--profile", "huge", "-p", "seeds=[3]", "-p", "lr=1e-1"])
    run.main()
    assert given == [(Path(tiny), "huge", {"seeds": [3], "lr": 0.1})]
    assert "00_tiny" in capsys.readouterr().out


@pytest.mark.parametrize("pair", ["x=[", "seed"])
def test_an_override_that_cannot_be_read_ends_in_a_message(pair, monkeypatch):
    monkeypatch.setattr(run.papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    monkeypatch.setattr(sys, "argv", ["run", "notebooks/00_start_here.ipynb", "-p", pair])
    with pytest.raises(SystemExit, match="YAML|NAME=VALUE"):
        run.main()


def test_kernels_that_run_together_have_sockets_of_their_own(project, monkeypatch):
    places = []

    def execute(source, target, config, **_):
        places.append(Path(config["KernelManager"]["ip"]).parent)
        assert config["KernelManager"]["transport"] == "ipc" and places[-1].is_dir()
        if len(places) == 1:  # a second one starts while the first runs
            run.run(project / "notebooks" / "00_tiny.ipynb", "huge")
        nbformat.write(nbformat.read(source, as_version=4), target)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    run.run(project / "notebooks" / "00_tiny.ipynb", "quick")
    assert len(set(places)) == 2 and not any(place.exists() for place in places)


def test_only_what_would_run_is_checked(project, no_kernel, monkeypatch):
    tiny = str(project / "notebooks" / "00_tiny.ipynb")
    monkeypatch.setattr(sys, "argv", ["run", "--check", tiny, tiny, "--profile", "huge"])
    run.main()
    assert not (project / "out").exists()


def test_an_unknown_precision_is_named_before_a_kernel_starts(project, no_kernel, monkeypatch):
    monkeypatch.setenv("UNSIR_PRECISION", "float16")
    with pytest.raises(ValueError, match="UNSIR_PRECISION is 'float16': choose one of auto, float32"):
        run.run(project / "notebooks" / "00_tiny.ipynb")


@pytest.mark.parametrize("variable", ["UNSIR_THREADS", "UNSIR_WORKERS"])
@pytest.mark.parametrize("value", ["0", "two", "-1"])
def test_a_bad_number_of_threads_or_workers_is_named(project, no_kernel, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} is '{value}': expected a whole number from 1 on"):
        run.run(project / "notebooks" / "00_tiny.ipynb")


@pytest.mark.parametrize(
    "error, message",
    [
        (OSError(28, "No space left on device", "/full/00_tiny.ipynb"), "^No space left on device: /full/00_tiny.ipynb$"),
        (OSError(28, "No space left on device"), "^No space left on device: .*out$"),
        (ZMQError(98), "^00_tiny: its kernel failed: ZMQError: Address already in use$"),
        (DeadKernelError("Kernel died"), "^00_tiny: its kernel failed: DeadKernelError: Kernel died$"),
        (KeyboardInterrupt(), "^130$"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_whatever_stops_a_run_is_a_sentence(project, monkeypatch, capsys, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(papermill, "execute_notebook", fail)
    monkeypatch.setattr(sys, "argv", ["run", str(project / "notebooks" / "00_tiny.ipynb")])
    with pytest.raises(SystemExit) as end:
        run.main()
    assert re.search(message, str(end.value.code))
    assert end.value.code != 130 or "interrupted" in capsys.readouterr().err


def test_a_foreign_kernelspec_and_a_long_temporary_folder_do_no_harm(project, tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    broken = {"argv": ["/no/such/python", "{connection_file}"], "display_name": "Broken", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(broken))
    monkeypatch.setenv("JUPYTER_PATH", str(spec.parent.parent))
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    write(project / "notebooks" / "00_tiny.ipynb", "import sys; print(sys.version)")
    copy = run.run(project / "notebooks" / "00_tiny.ipynb", overrides={"lr": 1e-3})
    notebook = nbformat.read(copy, as_version=4)
    assert notebook.cells[-1].outputs[0].text.strip() == sys.version.strip()
    assert notebook.metadata.kernelspec == KERNEL


@pytest.mark.parametrize("places, transport", [(["/tmp"], "ipc"), (["long" * 30, "/no/such"], "tcp")])
def test_sockets_have_short_paths_or_none(monkeypatch, places, transport):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: places[0])
    monkeypatch.setattr(run.os, "access", lambda place, _: place in places)
    with run._sockets() as settings:
        assert settings["transport"] == transport and len(settings.get("ip", "")) < 95


def test_a_value_in_a_profile_may_be_a_power_of_ten(project):
    (profiles.PROFILES / "huge.yaml").write_text("00_tiny: {lr: 1e-3, seeds: [1e-3]}")
    assert profiles.profile_values("huge")["00_tiny"] == {"lr": 0.001, "seeds": [0.001]}


def test_what_a_profile_shares_goes_to_every_notebook_that_has_it_and_asks_for_nothing_else(project):
    write(project / "notebooks" / "01_other.ipynb")
    write(project / "notebooks" / "02_quick.ipynb")
    text = "as_in_quick: [02_quick]\nshared: {lr: 0.5, steps: 7}\n00_tiny: {steps: 99}"
    (profiles.PROFILES / "huge.yaml").write_text(text)
    expected = {"00_tiny": {"lr": 0.5, "steps": 99}, "01_other": {"lr": 0.5, "steps": 7}, "02_quick": {}}
    assert profiles.profile_values("huge") == expected
    (profiles.PROFILES / "huge.yaml").write_text("shared: {lr: 0.5, rate: 7}")
    with pytest.raises(ValueError, match="shares what is no parameter of any notebook: rate"):
        profiles.profile_values("huge")


@pytest.mark.parametrize(
    "text, words",
    [
        ("00_tiny: {lr: 0.5", "huge.yaml is no YAML"),
        ("00_tiny:", "huge.yaml: 00_tiny holds None: expected a dict"),
        ("00_tiny: [1]", "00_tiny holds .1.: expected a dict"),
        ("[1]", "huge.yaml holds a list: expected parameters by notebook"),
        ("as_in_quick: 00_tiny", "as_in_quick holds '00_tiny': expected a list"),
        ("shared:", "shared holds None: expected a dict"),
    ],
)
def test_a_profile_that_holds_something_else_is_named(project, text, words):
    (profiles.PROFILES / "huge.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        profiles.profile_values("huge")


def test_values_are_checked_within_dicts_and_lists_as_far_as_they_share_names():
    default = {"epochs": 3, "rates": [{"lr": 0.1}], "left": None}
    for fine in [{"epochs": 1}, {"rates": []}, {"rates": [{"lr": 1}]}, {"rates": [{"other": "x"}]}, {"left": 3}]:
        profiles._check("it", fine, default)
    for wrong, place in [({"epochs": "1"}, "epochs in it"), ({"rates": [{"lr": "1"}]}, "lr in an entry of rates in it")]:
        with pytest.raises(ValueError, match=place):
            profiles._check("it", wrong, default)
