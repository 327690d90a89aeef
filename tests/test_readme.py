import pytest

from unsir_utils.data.paths import REPOSITORY, published_root
from unsir_utils.report import readme


def test_the_readme_shows_what_is_in_results(monkeypatch):
    text = (REPOSITORY / "README.md").read_text()
    assert readme.PART.search(text) and readme.renewed(text) == text
    monkeypatch.setenv("UNSIR_RESULTS", str(published_root()))
    assert readme.NOTEBOOKS.read_text() == readme.overview(readme.PROFILES) + "\n"


def test_a_part_is_replaced_and_the_rest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "REPOSITORY", tmp_path)
    (tmp_path / "table.md").write_text("new\n")
    before = "a\n<!-- from table.md -->\nold\n<!-- end -->\nb"
    assert readme.renewed(before) == "a\n<!-- from table.md -->\nnew\n<!-- end -->\nb"


def test_a_part_whose_file_is_missing_is_an_error():
    with pytest.raises(FileNotFoundError, match="nowhere.md"):
        readme.renewed("<!-- from nowhere.md -->\n<!-- end -->")
