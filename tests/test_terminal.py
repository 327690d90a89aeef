"""python -m unsir_utils forget"""

import json
import shutil
import subprocess
import sys

import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.own import choose, forgetting, images, networks, terminal

CLASSES = ("ant", "bee", "cat")


def net(n_classes: int = 3) -> nn.Module:
    return tiny.convnet(n_classes)


def no_net() -> str:
    return "none"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with images, a checkpoint, and short steps; what is relative lies in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choose, "STAND_INS", 2)
    for part, n in (("train", 12), ("val", 3)):
        for c, name in enumerate(CLASSES):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (9, 8), (80 * c, 10 * i, 40)).save(folder / f"{i}.png")
    save_file(net().state_dict(), tmp_path / "net.safetensors")
    return tmp_path


def asked(**changed) -> list[str]:
    given = {
        "network": f"{__name__}:net", "weights": "net.safetensors", "classes": "bee", "out": "out", "image-size": "8",
        "budget": "9", "device": "cpu", **{name.replace("_", "-"): value for name, value in changed.items()},
    }  # fmt: skip
    options = [[f"--{name}", *([] if value is True else value.split())] for name, value in given.items() if value]
    return [
        "forget",
        given.pop("folder", "photos"),
        *(word for option in options for word in option if option[0] != "--folder"),
    ]


ANY = pytest.mark.filterwarnings("ignore:no try:UserWarning", "ignore:A_D:UserWarning")


@ANY
def test_weights_and_a_report_come_out(place, capsys):
    assert terminal.main(asked()) == 0
    weights = load_file(place / "out" / "unlearned.safetensors")
    net().load_state_dict(weights)
    assert not tiny.same_weights(net(), weights)
    about = json.loads((place / "out" / "report.json").read_text())
    assert about["classes"] == [*CLASSES] and about["forget"] == ["bee"] and about["A_Df"] is not None
    assert [row["images"] for row in about["by_class"]] == [3, 3, 3]
    printed = capsys.readouterr().out
    assert (place / "out" / "report.md").read_text().strip() in printed and "Forgetting bee by" in printed
    assert "A_Df" not in about["tried"][0]


@ANY
def test_with_look_the_images_decide_and_classes_may_be_numbers(place):
    assert terminal.main(asked(classes="1", look=True, grey=False)) == 0
    about = json.loads((place / "out" / "report.json").read_text())
    assert about["forget"] == ["bee"] and "A_Df" in about["tried"][0]


@ANY
def test_one_channel_and_its_statistics(place, monkeypatch):
    grey = nn.Sequential(nn.Conv2d(1, 3, 1), net())
    monkeypatch.setattr(sys.modules[__name__], "net", lambda: grey)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in grey.state_dict().items()}}, "grey.pt")
    assert terminal.main(asked(weights="grey.pt", grey=True, mean="0.5", std="0.25", look=True)) == 0
    _, held = images.read_images("photos", 8, [0.5], [0.25], grey=True)
    assert (held.mean, held.std) == ((0.5,), (0.25,)) and held.shape == (1, 8, 8)
    files = [place / "photos" / "val" / name / f"{i}.png" for name in CLASSES for i in range(3)]
    expected = [Image.open(file).convert("L").getpixel((0, 0)) for file in files]  # Pillow weighs red, green and blue
    assert held.images[:, 0, 0, 0].tolist() == expected and len(set(expected)) == 9


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"budget": None}, {"look": False, "retain_per_class": 300, "batch_size": None, "budget": 5.0, "seed": 0}),
        (
            {"look": True, "retain_per_class": "7", "batch_size": "4", "budget": "2.5", "seed": "3"},
            {"look": True, "retain_per_class": 7, "batch_size": 4, "budget": 2.5, "seed": 3},
        ),
    ],
    ids=["defaults", "others"],
)
def test_every_option_reaches_forget(given, expected, place, monkeypatch):
    calls = []

    def noted(*arguments, **options):
        calls.append((arguments, options))
        raise ValueError("that is enough")

    monkeypatch.setattr(forgetting, "forget", noted)
    terminal.main(asked(mean="0.1 0.2 0.3", std="0.4 0.5 0.6", **given))
    (((_, classes, retain, validation), options),) = calls
    assert classes == ["bee"] and options.pop("held_out_forget").labels.tolist() == [1] * 3
    assert [samples.labels.bincount().tolist() for samples in (retain, validation)] == [[12, 0, 12], [3, 0, 3]]
    assert (retain.mean, retain.std) == (validation.mean, validation.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert options == expected


@ANY
def test_a_folder_without_a_split_is_warned_of(place):
    with pytest.warns(UserWarning, match="has no val/ or test/"):
        assert terminal.main(asked(folder="photos/train")) == 0


def test_nothing_is_overwritten(place, capsys):
    (place / "out").mkdir()
    assert terminal.main(asked()) == 1
    assert "nothing is overwritten" in capsys.readouterr().err and not list((place / "out").iterdir())


def scripted(place) -> None:
    module = nn.Linear(2, 2)
    torch.jit.trace(module, torch.zeros(1, 2)).save(str(place / "net.pt"))


def pickled(place) -> None:
    torch.save(net(), place / "net.pt")


def other(place) -> None:
    torch.save(net(7).state_dict(), place / "net.pt")


def deeper(place) -> None:
    torch.save(nn.Sequential(net(), net(2), net(2)).state_dict(), place / "net.pt")


def text(place) -> None:
    (place / "net.pt").write_text("no weights")


def tensors(place) -> None:
    torch.save([1, 2], place / "net.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "make, message",
    [
        (scripted, "is TorchScript, a program"),
        (pickled, "without unpickling, which could run code"),
        (other, "it has 7 outputs, the network here 3: name all 7 classes in their order (--names)"),
        (deeper, "and 29 more differ: build the network that it was saved from"),
        (text, "cannot be read"),
        (tensors, "holds no state_dict"),
        (lambda place: None, "no file net.pt"),
    ],
    ids=["TorchScript", "pickle", "other classes", "another network", "text", "no weights", "no file"],
)
def test_a_checkpoint_that_cannot_be_taken_is_refused(make, message, place, capsys):
    make(place)
    assert terminal.main(asked(weights="net.pt")) == 1
    assert message in capsys.readouterr().err and not (place / "out").exists()


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"network": "resnet1"}, "'resnet1' is no network of torchvision's"),
        ({"network": "nowhere:net"}, "nowhere:net cannot be imported"),
        ({"network": f"{__name__}:no_net"}, "returns a str"),
        ({"arguments": '{"width":2}'}, "cannot be called with {'width': 2}"),
        ({"arguments": "[3]"}, "expected a JSON object"),
        ({"classes": "dog"}, "'dog': choose among ant, bee, cat"),
        ({"classes": "ant bee cat"}, "all 3 classes are to be forgotten"),
        ({"classes": "5"}, "class 5 is out of range"),
        ({"mean": "0.5"}, "mean and std belong together"),
        ({"mean": "0.5", "std": "0.5"}, "expected 3 numbers each"),
        ({"image_size": "0"}, "image_size is 0"),
        ({"folder": "nowhere"}, "no folder"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
    ],
)
def test_what_cannot_be_done_is_said(changed, message, place, capsys):
    assert terminal.main(asked(**changed)) == 1
    assert message in capsys.readouterr().err and not (place / "out").exists()


@pytest.mark.parametrize(
    "key, prefix",
    [
        ("state_dict", "module."),
        ("model_state_dict", "_orig_mod."),
        ("model", "model."),
        ("network", "model._orig_mod."),
        ("net", "_orig_mod.module."),
    ],
)
def test_weights_are_found_under_the_names_that_others_give_them(key, prefix, tmp_path):
    saved, model = net(), tiny.convnet(3, seed=1)
    wrapped = {f"{prefix}{name}": value for name, value in saved.state_dict().items()}
    torch.save({"epoch": 3, key: wrapped}, tmp_path / "a.pt")
    networks.load_weights(model, tmp_path / "a.pt")
    assert tiny.same_weights(model, saved)


def test_a_networks_own_names_stay_where_they_look_like_a_wrappers(tmp_path):
    saved, model = (nn.ModuleDict({"model": tiny.convnet(3, seed=seed)}) for seed in (0, 1))
    save_file(saved.state_dict(), tmp_path / "a.safetensors")
    networks.load_weights(model, tmp_path / "a.safetensors")
    assert tiny.same_weights(model, saved)


class Tied(nn.Module):
    """One layer under two names."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.one = nn.Linear(2, 2)
        self.other = self.one


def test_tied_weights_are_loaded_from_what_holds_them_once(tmp_path):
    saved, model = Tied(0), Tied(1)
    save_model(saved, str(tmp_path / "a.safetensors"))
    assert len(load_file(tmp_path / "a.safetensors")) == 2
    networks.load_weights(model, tmp_path / "a.safetensors")
    assert tiny.same_weights(model, saved) and model.other is model.one


def test_a_folder_that_cannot_be_made_is_said_before_any_work(place, capsys, monkeypatch):
    monkeypatch.setattr(images, "read_images", lambda *_: pytest.fail("images were read"))
    (place / "file").write_text("")
    assert terminal.main(asked(out="file/out")) == 1
    assert "file/out cannot be made (Not a directory): name a folder elsewhere" in capsys.readouterr().err
    assert terminal.main(asked(out="photos/out")) == 1
    assert "photos/out lies in photos, where it would count as a class" in capsys.readouterr().err


def test_of_a_run_that_fails_no_folder_stays(place):
    (place / "kept").mkdir()
    assert terminal.main(asked(out="kept/new/out", classes="dog")) == 1
    assert (place / "kept").is_dir() and not (place / "kept" / "new").exists()


def test_a_network_of_torchvisions_by_its_name():
    assert networks.build("squeezenet1_0", None, 3).classifier[1].out_channels == 3


def test_the_help_says_what_goes_in_and_comes_out():
    command = [sys.executable, "-m", "unsir_utils", "forget", "--help"]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert all(word in said for word in ("FOLDER", "--network", "unlearned.safetensors", "Nothing is ever overwritten"))


@ANY
def test_a_class_whose_images_are_gone_is_forgotten_by_the_names_of_all(place, capsys):
    shutil.rmtree(place / "photos/train/bee")
    assert terminal.main(asked()) == 1 and "different classes" in capsys.readouterr().err
    shutil.rmtree(place / "photos/val/bee")
    assert terminal.main(asked(names="ant bee cat")) == 0
    about = json.loads((place / "out" / "report.json").read_text())
    assert about["classes"] == [*CLASSES] and about["A_Df"] is None
    assert [row["images"] for row in about["by_class"]] == [3, 0, 3]
    assert terminal.main(asked(names="ant bee cow", out="again")) == 1
    assert "holds cat, not among the names ant, bee, cow" in capsys.readouterr().err
