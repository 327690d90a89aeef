"""What a reader types in JupyterLab meets a check in the line after the parameters cell; nothing is trained here."""

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from unsir_utils.data.paths import published_root, results_root
from unsir_utils.report.judge import UNDEFINED, Criterion
from unsir_utils.report.judge import Test as ClaimTest
from unsir_utils.report.tables import Results
from unsir_utils.workshop import parameters, profiles
from unsir_utils.workshop.parameters import ParameterError, checked

PATHS = sorted(profiles.NOTEBOOKS.glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
RATES = {"impair_lr": 0.001, "repair_lr": 0.001}
WRONG = [  # in every notebook that has the parameter, of the type that it has there
    ("profile", "../results/quick", "choose one of quick, mine"),
    ("profile", "my tweaks", "choose one of quick, mine"),
    ("profile", None, "choose one of quick, mine"),
    ("forget", 3, "expected a list, such as [3], and not int"),
    ("forget", [10**6], "out of range: expected whole numbers in 0.."),
    ("forget", ["3"], "out of range: expected whole numbers in 0.."),
    ("forget", [], "name at least one"),
    ("requests", [[10**6]], "out of range"),
    ("n_forget", {"ResNet10": [10**6]}, "at most"),
    ("n_forget", {"ResNet10": []}, "it is empty: name at least one"),
    ("numbers", [], "it is empty: name at least one"),
    ("data", "cifar1000", "unknown data set"),
    ("data", {"name": "shapes", "classes": 3}, "unknown settings of the data: classes; choose among"),
    ("data", "shapes", "expected a dict"),
    ("batch_size", 1, "at least 2"),
    ("retain_per_class", 10**6, "at most"),
    ("retain_per_class", 0, "at least 1"),
    ("copies", 0, "at least 1"),
    ("copies", 2.5, "expected an int, such as 3, and not float"),
    ("seeds", [0, 0], "twice"),
    ("seeds", ["0"], "a whole number"),
    ("seeds", [], "it is empty: name at least one"),
    ("retrainings", [], "it is empty: name at least one"),
    ("requests", [], "it is empty: name at least one"),
    ("relearning", {"per_epoch": None, "cap": 1, "watched": 3}, "per_epoch is None"),
    ("shadows", 4, "at least 6"),
    ("shadows", 7, "expected an even number"),
    ("relearning", {"epochs": 3}, "unknown settings of relearning: epochs"),
    ("replicates", [0, 1], "expected a list of pairs"),
    ("replicates", [[0, 1], [0, 1]], "a pair stands there twice"),
    ("rates", [0.001], "is no pair of rates"),
    ("rates", [{**RATES, "repair_lr": -1}], "out of range"),
    ("impair_rates", [], "it is empty"),
    ("impair_rates", ["0.02"], "out of range"),
    ("recipe", {"architecture": "ResNet10", "epoch": 3, "lr": 0.1}, "unknown settings of the recipe: epoch"),
    ("fisher_alphas", [0.0], "out of range"),
    ("recipe", {"architecture": "ResNet10", "epochs": "3", "lr": 0.1}, "expected a whole number"),
    ("recipe", {"epochs": 3}, "the recipe lacks architecture"),
    ("recipes", {}, "it is empty"),
    ("recipes", {"ResNet10": 3}, "ResNet10 has 3: expected a recipe"),
    ("data", {}, "the data lacks name"),
    ("data", {"nme": "shapes"}, "unknown settings of the data: nme"),
    ("relearning", {"per_epoch": 3, "watched": 3}, "relearning lacks cap"),
    ("rates", [{**RATES, "typo": 0.1}], "unknown options of UNSIR: typo"),
    ("finetune", {"epocs": 1}, "unknown options of FineTune: epocs"),
    ("finetune", {"epochs": 0}, "epochs is 0"),
    ("neggrad", {"impair_lr": 0.1}, "unknown options of NegGrad: impair_lr"),
    ("fisher", {}, "Fisher lacks per_class"),
    ("fisher", {"per_clas": 2}, "unknown options of Fisher: per_clas"),
    ("candidates", {"UNSI": [{}]}, "'UNSI' has no settings to try: choose among"),
    ("candidates", {"Original": [{}]}, "'Original' has no settings to try"),
    ("candidates", {"UNSIR": []}, "UNSIR has []: expected a list of its options"),
    ("candidates", {"DELETE": [{"impair_lr": 0.1}]}, "unknown options of DELETE: impair_lr"),
    ("architectures", ["Nope"], "unknown architecture 'Nope'"),
    ("networks", [], "it is empty"),
    ("networks", [{"data": {"name": "shapes"}}], "a network lacks recipe"),
    ("networks", [{"data": {"name": "shapes"}, "recipe": {"architecture": "Nope", "epochs": 1}}], "unknown architecture"),
    (
        "networks",
        [{"data": {"nme": "shapes"}, "recipe": {"architecture": "ViT", "epochs": 1}}],
        "unknown settings of the data",
    ),
    ("networks", ["ViT"], "'ViT' holds no options of a network: expected a dict"),
    ("asked", [1], "expected a list of class numbers"),
    ("elsewhere", [{"recipe_seed": 1}], "a place lacks forget"),
    ("elsewhere", [{"recipe_seed": 1, "forget": [10**6]}], "out of range"),
    ("pictured", [], "it is empty"),
    ("base", {"architecture": "AllCNN", "image_size": 32, "retain": 80}, "the stand-in lacks n_forget"),
    ("points", {"n_forgot": [1]}, "unknown options of the stand-in: n_forgot"),
    ("points", {"retain": [40, 0]}, "retain is 0"),
    ("scaled", {"noise_total": 8, "copies": 4}, "the scaling lacks batch_size"),
    ("scaled", {"noise_total": 8, "copies": 0, "batch_size": 4}, "copies is 0"),
    ("auditing", {"shoots": 5}, "unknown options of the audit: shoots; choose among lost, lr, per_class, shots, steps"),
    ("auditing", {"lr": -0.1}, "lr is -0.1"),
    ("changes", [{"noise_step": 5}], "unknown options of UNSIR and its subset: noise_step"),
    ("changes", [5], "5 holds no options of UNSIR"),
    ("passes", {"noise_step": 5}, "unknown options of UNSIR and its subset: noise_step"),
    ("reduced", {"noise_step": 5}, "unknown options of UNSIR and its subset: noise_step"),
    ("many_rates", {"in all": RATES}, "many_rates lacks a class"),
    ("many_rates", {"in all": RATES, "a class": {"impair_lr": 0.1}}, "is no pair of rates"),
    ("training", {"epochs": 6, "lr": 0.2}, "the training lacks batch_size"),
    ("training", {"epochs": 6, "lr": 0.2, "batch_size": 4, "momentum": 0.9}, "unknown options of the training: momentum"),
    ("data", {"name": 3}, "unknown data set"),
    ("relearning", {"per_epoch": 3, "watched": 3, "cap": 1, "steps_cap": 1, "lr": 0.0}, "lr is 0.0"),
    ("shares", [1.5], "out of range"),
    ("shadow_per_class", -1, "number of images is -1"),
    ("folds", [0, 0], "twice"),
    ("ports", {"mine": {"impair_rate": 0.1}}, "unknown options of UNSIR: impair_rate"),
]
OFF_THE_GRID = [
    ("01_cifar10", {"finetune": {"other": {"epochs": 1}}}, "it has no options for ResNet10, which has a recipe"),
    ("01_cifar10", {"requests": {"ResNet10": [[0], [1]]}}, "two requests have as many classes"),
    ("01_cifar10", {"requests": {"ResNet10": [[0, 1], [1, 0]]}}, "a request stands there twice"),
    ("01_cifar10", {"neggrad": {"lr": 0.1}}, "lr come.* from neggrad_rates"),
    ("07_sequential", {"requests": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]}, "all 10 classes are to be forgotten"),
    ("16_does_the_noise_matter", {"requests": [[0], [1]]}, "two requests have as many classes"),
    ("02_cifar100", {"rates": {"other": [RATES]}}, "it has no pairs for ResNet10, which has a recipe"),
    ("02_cifar100", {"rates": {"ResNet10": [0.001]}}, "0.001 is no pair of rates"),
    ("02_cifar100", {"rates": {"ResNet10": []}}, "name at least one pair"),
    ("02_cifar100", {"replicates": {"other": [[0, 0]]}}, "it has no replicates for ResNet10, which has a recipe"),
    ("02_cifar100", {"replicates": {"ResNet10": [[0, 0], [0, 0]]}}, "a pair stands there twice"),
    ("02_cifar100", {"replicates": {"ResNet10": [0]}}, "expected a list of pairs"),
    ("02_cifar100", {"replicates": {"ResNet10": 0}}, "expected a list of pairs"),
    ("05_weight_distance", {"replicates": [[1, 0], [1, 1]]}, "it names one network"),
    ("06_efficiency", {"numbers": [1, 10]}, "10: there are 9 at most"),
    ("06_efficiency", {"numbers": [1, 3]}, "the 28 images of noise_total cannot be shared evenly by 3 classes"),
    ("09_learning_rates", {"impair_rates": [0.1]}, "0.02 must be in it"),
    ("09_learning_rates", {"repair_rates": [0.1]}, "0.01 must be in it"),
    ("10_gold_standard", {"replicates": [[0, 0]]}, "name two or more"),
    ("11_retain_share", {"shares": [0.3]}, "0.1 must be in it"),
    ("12_noise_penalty", {"penalties": [0.1]}, "0 must be in it"),
    ("13_repair_steps", {"passes": [0, 5]}, "1 and 2 must be in it"),
    ("15_how_little", {"relearning": {"per_epoch": 1, "cap": 0, "watched": 5}}, "relearning lacks steps_cap"),
    ("17_benchmark", {"rates": {"ResNet18": [RATES]}}, "is no pair of rates"),
    (
        "17_benchmark",
        {"relearning": {"per_epoch": 1, "cap": 0, "watched": 5, "steps_cap": 1}},
        "unknown settings of relearning: steps_cap",
    ),
    ("18_what_is_left", {"sweep_replicates": [[2, 0]]}, r"network 2 is none of those in replicates, \[0\]"),
    ("18_what_is_left", {"retrainings": [1, 0]}, "0 is the seed of an original"),
    ("21_fisher_forgetting", {"fisher_alphas": [0.1]}, "1e-06 must be in it"),
    ("21_fisher_forgetting", {"recipes": {"ViT": {"epochs": 1}}}, "ViT: no BatchNorm follows a convolution"),
]


def own(notebook: str) -> dict:
    return profiles.parameters(notebook, "quick") | {"profile": "mine"}


@EACH
def test_wrong_values_are_refused_in_a_sentence(path):
    usual = own(path.stem)
    tried = [(n, v, words) for n, v, words in WRONG if n in usual and not (path.stem == "00_start_here" and v == "shapes")]
    if "data" not in usual:  # how many images there are is known after they were read
        tried = [wrong for wrong in tried if wrong[:2] != ("retain_per_class", 10**6)]
    for name, value, words in tried:
        with pytest.raises(ParameterError) as found:
            checked(path.stem, {**usual, name: value})
        told = str(found.value)
        echo = f"{name} = {value!r}: "
        assert told.startswith(echo) and "Change the parameters cell" in told and ".. Change" not in told
        told = told.removeprefix(echo)
        wrong_type = "expected a" in told and "such as" in told
        assert words in told or wrong_type, told


@pytest.mark.parametrize("notebook, given, words", OFF_THE_GRID)
def test_a_grid_holds_what_the_verdict_is_on(notebook, given, words):
    with pytest.raises(ParameterError, match=words):
        checked(notebook, own(notebook) | given)


@EACH
@pytest.mark.parametrize("profile", ["quick", "smoke"])
def test_the_profiles_own_values_pass_and_are_no_change(path, profile):
    values = profiles.parameters(path.stem, profile) | {"profile": profile}
    assert checked(path.stem, values) == values and profiles.changed(path.stem, values) == {}
    assert profiles.folder_of(path.stem, values) == results_root() / profile


@EACH
@pytest.mark.parametrize("profile", ["laptop", "paper", "bench"])
def test_values_of_profiles_on_real_data_pass(path, profile, monkeypatch):
    monkeypatch.setattr(parameters, "_data", lambda value: {})  # nothing is read
    values = profiles.parameters(path.stem, profile) | {"profile": profile}
    assert checked(path.stem, values) == values


@pytest.mark.parametrize("penalty", [0, 0.0, 0.1])
def test_noise_may_be_learned_without_a_penalty(penalty):
    values = own("15_how_little") | {"changes": [{"penalty": penalty}]}
    assert checked("15_how_little", values) == values
    with pytest.raises(ParameterError, match="penalty is -0.1"):
        checked("15_how_little", values | {"changes": [{"penalty": -0.1}]})


def test_an_absent_parameter_is_named():
    with pytest.raises(ParameterError, match="forget: not set; run the parameters cell"):
        checked("00_start_here", {k: v for k, v in own("00_start_here").items() if k != "forget"})


def test_a_notebook_shows_the_sentence_alone(capsys):
    shell = InteractiveShell.instance()
    shell.run_cell("from unsir_utils.workshop.parameters import ParameterError\nraise ParameterError('forget = 3: no')")
    assert capsys.readouterr().out.strip() == "ParameterError: forget = 3: no"


@pytest.mark.parametrize("profile", ["mine", "quick"])
def test_tweaks_have_folders_of_their_own_and_the_parameters_in_them(profile, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    usual = profiles.parameters("00_start_here", profile) | {"profile": profile}
    books = [Results.of("00_start_here", {**usual, **tweak}) for tweak in ({}, {"copies": 4}, {"copies": 4, "forget": [5]})]
    assert books[0].folder == tmp_path / profile and len({book.folder for book in books}) == 3
    assert books[1].folder.name.startswith("copies=4-") and books[1].folder.parent == tmp_path / profile
    for book in books:
        said = book.closed(A_Dr_after=1.0).data
        assert book.folder.name in said and "results/quick/00_start_here.ipynb" in said
        assert '"copies": ' in (book.folder / "numbers" / "00_start_here.json").read_text()
    assert "Changed from profile quick: `forget = [5], copies = 4`" in said


def test_mine_stands_beside_published_and_differences_are_marked(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    book = Results.of("11_retain_share", own("11_retain_share"))
    published = published_root() / "quick" / "tables" / "11_retain_share.csv"
    (book.folder / "tables").mkdir(parents=True)
    lines = published.read_text().splitlines()
    header, first = lines[0].split(","), lines[1].split(",")
    changed = ["-77.0" if name == "A_Dr (%)" else cell for name, cell in zip(header, first, strict=True)]
    (book.folder / "tables" / published.name).write_text("\n".join([lines[0], ",".join(changed), *lines[2:]]) + "\n")
    (book.folder / "tables" / "11_retain_share.md").touch()
    said = book.compare().data
    assert f"**-77.0 ({first[header.index('A_Dr (%)')]})**" in said and said.count("**-77") == 1


def test_a_replaced_grid_makes_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    index = pd.MultiIndex.from_product([[0, 1, 2], [0]], names=["trained", "seed"])
    test = ClaimTest("E", "a pair", [Criterion("A_Df", pd.Series([0.1, 0.2, 0.1], index), "at most", 1)])
    for grid, verdict in (([0.0003, 0.001, 0.02], "holds"), ([0.02, 0.1, 1.0], UNDEFINED)):
        book = Results.of("09_learning_rates", {**own("09_learning_rates"), "impair_rates": grid})
        book.judged([test], "E.")
        line = pd.read_csv(book.folder / "tables" / "09_learning_rates_findings.csv").iloc[0]
        assert line.verdict == verdict
    assert line.measured == "no verdict: impair_rates replaced"
