from pathlib import Path

import pytest

from unsir_utils.data import paths


@pytest.mark.parametrize("given", ["1e-3", "1E-3", "1.0e-3", "+1e-3", "0.1e-2", ".1e-2"])
def test_a_power_of_ten_is_a_number_wherever_it_stands(given):
    assert paths.parse_yaml(f"{{a: {given}, b: [{given}, [{given}]], c: {{d: {given}}}}}") == {
        "a": 0.001, "b": [0.001, [0.001]], "c": {"d": 0.001},
    }  # fmt: skip


def test_words_and_other_numbers_stay_what_they_were():
    assert paths.parse_yaml("[e5, 1e, 3, 0.5, '1e-3', 0x1e3, v1e3, true, null]") == [
        "e5", "1e", 3, 0.5, "1e-3", 0x1E3, "v1e3", True, None,
    ]  # fmt: skip


@pytest.mark.parametrize("root", [paths.results_root, paths.models_root, paths.data_root])
def test_a_relative_folder_is_meant_from_the_repository_wherever_a_kernel_starts(root, tmp_path, monkeypatch):
    for name in ("UNSIR_RESULTS", "UNSIR_MODELS", "UNSIR_DATA"):
        monkeypatch.setenv(name, "some where/else")
    for place in (tmp_path, paths.REPOSITORY / "notebooks"):
        monkeypatch.chdir(place)
        assert root() == paths.REPOSITORY / "some where" / "else"


def test_runs_and_what_is_published_are_two_places(monkeypatch):
    for name in ("UNSIR_RESULTS", "UNSIR_MODELS"):
        monkeypatch.delenv(name, raising=False)
    assert paths.results_root() == paths.REPOSITORY / "runs" and paths.published_root() == paths.REPOSITORY / "results"
    assert paths.models_root() == paths.REPOSITORY / "runs" / "checkpoints"


def test_an_installed_package_says_where_its_files_are(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"claims.yaml is not there.*pip install -e \."):
        paths.read_yaml(tmp_path / "data" / "claims.yaml")


def test_a_file_belongs_to_the_notebook_whose_name_it_starts_with():
    assert paths.of_notebook("01_a", "01_a") and paths.of_notebook("01_a_records", "01_a")
    assert not paths.of_notebook("01_ab", "01_a")


def test_a_file_comes_from_where_its_notebook_ran(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "published_root", lambda: tmp_path / "results")
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path / "runs"))
    for root, name in [("results", "01_cifar10"), ("results", "02_cifar100"), ("runs", "01_cifar10")]:
        file = tmp_path / root / "quick" / f"{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = [paths.profile_file("quick", f"tables/{name}_x.csv") for name in ("01_cifar10", "02_cifar100", "03_faces")]
    assert [Path(f).relative_to(tmp_path).parts[0] for f in found] == ["runs", "results", "runs"]
    assert [f.relative_to(tmp_path).parts[0] for f in paths.profile_files("quick", "*.ipynb")] == ["runs", "results"]
