"""LaTeX: any text as it is, and every published table on a page, with booktabs alone."""

import shutil
import subprocess

import pandas as pd
import pytest

from unsir_utils.data.paths import published_root
from unsir_utils.report.latex import HEIGHT, WIDTH, escape, latex

PDFLATEX = shutil.which("pdflatex") and not subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode
PUBLISHED = sorted(published_root().glob("*/*/*.tex"))


@pytest.mark.parametrize(
    "plain, shown",
    [
        ("a\\b", r"a\textbackslash{}b"),
        ("{x}^2_1~$5", r"\{x\}\textasciicircum{}2\_1\textasciitilde{}\$5"),
        ("<3 | >4 & 5 % #", r"$<$3 $|$ $>$4 \& 5 \% \#"),
        ("λ ± × µ μ – — − ≥", r"$\lambda$ $\pm$ $\times$ $\mu$ $\mu$ -- --- $-$ $\geq$"),
        ("é ½ 漢 two\nlines", "e ? ? two lines"),
        ("[0, 2]", "{[}0, 2{]}"),
        (0.5, "0.5"),
    ],
    ids=str,
)
def test_latex_sets_any_text_as_it_is(plain, shown):
    assert escape(plain) == shown and shown.isascii()


def test_a_narrow_table_keeps_its_cells_on_a_line():
    text = latex(pd.DataFrame({"a": ["x"], "b": ["y z"]}), "Two.", "tab:two")
    assert r"\begin{tabular}{ll}" in text and text.count(r"\begin{table}") == 1 and r"\small" in text


def test_a_wide_table_is_broken_into_columns_that_fill_the_page_and_hold_their_words():
    text = latex(pd.DataFrame({"a": ["word " * 30], "bcdefgh": ["x"]}), "Wide.", "tab:wide")
    widths = [float(part.split("pt")[0]) for part in text.split(r"\begin{tabular}{")[1].split("p{")[1:3]]
    assert sum(widths) + 2 * 6 == pytest.approx(WIDTH, abs=1) and widths[1] >= 7 * 5


def test_a_long_table_goes_on_on_the_next_page_without_losing_a_row():
    rows = [f"row{n}" for n in range(120)]
    text = latex(pd.DataFrame({"a": rows}), "Long.", "tab:long")
    assert text.count(r"\begin{table}") == text.count("(continued)") + 1 == -(-120 * 11 // (HEIGHT - 23))
    assert text.count(r"\label{") == 1 and all(f"\n{row} " in text for row in rows)


@pytest.mark.skipif(not PDFLATEX, reason="no pdflatex with booktabs here")
def test_every_published_table_fits_a_page(tmp_path):
    floats = "\n\\clearpage\n".join(file.read_text() for file in PUBLISHED)
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{floats}\n\\end{{document}}\n"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert found.returncode == 0, found.stdout[-2000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    wrong = [line for line in log.splitlines() if "Overfull \\hbox" in line or "Float too large" in line]
    assert wrong == []
