import json

import pandas as pd
import pytest

from unsir_utils.data.paths import REPOSITORY, published_root
from unsir_utils.report import rejudge

PROFILES = ("quick", "laptop")
PUBLISHED = [(p, n) for p in PROFILES for n in rejudge.JUDGED if (published_root() / p / f"{n}.ipynb").exists()]


def published(profile: str, notebook: str) -> list[dict]:
    table = published_root() / profile / "tables" / f"{notebook}_findings.csv"
    return pd.read_csv(table, dtype=str, keep_default_na=False).to_dict("records")


@pytest.mark.parametrize("profile, notebook", PUBLISHED)
def test_published_records_give_the_published_verdicts(profile, notebook):
    """No verdict stands that its own records, judged now, would not give."""
    assert rejudge.lines(notebook, profile, published_root() / profile) == published(profile, notebook)


def test_every_notebook_that_judges_can_be_judged_again():
    notebooks = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in notebooks if "results.judged(" in path.read_text()] == sorted(rejudge.JUDGED)


def test_every_published_finding_is_of_the_judge():
    for profile in ("quick", "laptop"):
        for file in (published_root() / profile).glob("*/*_findings.csv"):
            assert "replicates" in pd.read_csv(file).columns, file


def test_an_unknown_notebook_is_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["rejudge", "18_nothing"])
    with pytest.raises(SystemExit, match="nothing is judged of 18_nothing: choose among 01_cifar10"):
        rejudge.main()


def test_a_folder_whose_size_is_not_known_is_named(tmp_path):
    (tmp_path / "numbers").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "13_repair_steps_records.csv").write_text("a\n1\n")
    saved = {"parameters": {"data": {"name": "folder:mine"}, "forget": [0]}}
    (tmp_path / "numbers" / "13_repair_steps.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="folder:mine: how many test images a class it has is not known here"):
        rejudge.lines("13_repair_steps", "laptop", tmp_path)
