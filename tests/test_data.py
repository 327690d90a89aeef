import hashlib
import importlib.util
import pickle
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.io
import sklearn.datasets._olivetti_faces
import torch
import torchvision
from PIL import Image
from tiny import pixels

from unsir_utils.data import cifar as cifar_module
from unsir_utils.data import sets as data_module
from unsir_utils.data.sets import CIFAR10_MEAN, CIFAR10_STD, Data, load, shapes


def rows(samples) -> set[bytes]:
    return {image.numpy().tobytes() for image in samples.images}


@pytest.mark.parametrize(
    "arguments, sizes",
    [
        (dict(name="digits"), (1295, 143, 359)),
        (dict(name="digits", per_class=20), (180, 20, 359)),
        (dict(name="shapes", n_classes=3, per_class=20), (54, 6, 150)),
        (dict(name="faces", n_classes=3, per_class=20), (54, 6, 150)),
    ],
    ids=str,
)
def test_data_without_network_are_split_evenly_and_the_same_every_time(arguments, sizes):
    data, again = load(**arguments), load(**arguments)
    parts = data.train, data.validation, data.test
    assert tuple(map(len, parts)) == sizes
    for part, same in zip(parts, (again.train, again.validation, again.test), strict=True):
        assert part.images.dtype == torch.uint8 and part.shape == (3, 32, 32)
        assert part.labels.dtype == torch.int64 and part.n_classes == data.n_classes
        assert torch.equal(part.images, same.images) and torch.equal(part.labels, same.labels)
        counts = part.labels.bincount(minlength=data.n_classes)
        assert counts.max() <= 1.2 * counts.min()
        assert (part.mean, part.std) == (data.train.mean, data.train.std)
    assert data.id == again.id


def test_digits_are_scikit_learns_each_in_one_part():
    from sklearn.datasets import load_digits

    data = load("digits")
    parts = data.train, data.validation, data.test
    assert sum(map(len, parts)) == len(load_digits().target)
    assert torch.equal(sum(p.labels.bincount() for p in parts), torch.tensor(load_digits().target).bincount())
    unique = len({image.tobytes() for image in load_digits().images})
    assert sum(len(rows(p)) for p in parts) == len(set.union(*map(rows, parts))) == unique


def test_shapes_parts_share_no_image():
    data = load("shapes", n_classes=4, per_class=20)
    assert data.classes == tuple(shapes.class_names(4)) and data.name == "shapes4"
    parts = [rows(p) for p in (data.train, data.validation, data.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 80 + 200


def test_inputs_have_mean_zero_and_deviation_one():
    x = load("shapes", n_classes=4, per_class=100).train.inputs()
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)


def data_of(**parts) -> Data:
    return Data("made", tuple("abcd"), **(dict(train=pixels(9), validation=pixels(5), test=pixels(7)) | parts))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("what", ["one pixel", "one label", "order", "mean", "size", "shape"])
def test_an_id_follows_all_that_a_number_may_depend_on(part, what):
    whole = data_of()
    samples = getattr(whole, part)
    images, labels = samples.images.clone(), samples.labels.clone()
    images[-1, -1, -1, -1] ^= 1
    labels[-1] ^= 1
    changed = {
        "one pixel": lambda: replace(samples, images=images),
        "one label": lambda: replace(samples, labels=labels),
        "order": lambda: samples[torch.tensor([1, 0, *range(2, len(samples))])],
        "mean": lambda: replace(samples, mean=(0.5, 0.4, 0.31)),
        "size": lambda: samples[:-1],
        "shape": lambda: replace(samples, images=samples.images.view(len(samples), 3, 4, 16)),
    }[what]()
    assert replace(whole, **{part: changed}).id != whole.id


def test_an_id_says_which_part_holds_what_and_leaves_class_names_aside():
    whole = data_of(validation=pixels(7, seed=1))
    assert whole.id == data_of(validation=pixels(7, seed=1)).id == replace(whole, classes=tuple("efgh")).id
    assert whole.id != replace(whole, validation=whole.test, test=whole.validation).id
    strided = replace(whole.test, images=whole.test.images.contiguous(memory_format=torch.channels_last))
    assert whole.id == replace(whole, test=strided).id


def test_nothing_slow_is_imported_before_it_is_needed(monkeypatch):
    for slow in ("torchvision", "PIL", "sklearn"):
        monkeypatch.setitem(sys.modules, slow, None)  # to import it fails
    spec = importlib.util.spec_from_file_location("unsir_utils.data.copy_of_sets", data_module.__file__)
    copy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, copy)
    spec.loader.exec_module(copy)
    assert len(copy.load("shapes", n_classes=2, per_class=2).train) == 2


@pytest.mark.parametrize("name", ["mnist", "", "folder", "folder:", "digits:here", None, 10])
def test_an_unknown_name_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match="choose digits, shapes, faces, cifar10, cifar100, olivetti or folder:PATH"):
        load(name)


@pytest.mark.parametrize(
    "name, argument, value, message",
    [
        ("shapes", "per_class", 1, "per_class is 1: at least 2"),
        ("shapes", "per_class", 0, "per_class is 0: expected a whole number"),
        ("shapes", "per_class", 1.5, "per_class is 1.5: expected a whole number"),
        ("digits", "per_class", "20", "per_class is 20: expected a whole number"),
        ("faces", "per_class", True, "per_class is True: expected a whole number"),
        ("shapes", "n_classes", 0, "2 to 100 classes, not 0"),
        ("shapes", "n_classes", 101, "2 to 100 classes, not 101"),
        ("faces", "n_classes", "ten", "2 to 40 classes, not 'ten'"),
        ("cifar10", "n_classes", 5, "cifar10 takes no n_classes, only shapes, faces do"),
        ("digits", "n_classes", 10, "digits takes no n_classes"),
        ("folder:here", "n_classes", 3, "folder takes no n_classes"),
        ("shapes", "image_size", 64, "shapes takes no image_size, only cifar10, cifar100, olivetti, folder do"),
        ("cifar10", "image_size", 0, "image_size is 0: expected a whole number"),
        ("folder:here", "image_size", 32.5, "image_size is 32.5: expected a whole number"),
        ("digits", "root", "here", "digits takes no root, only cifar10, cifar100, olivetti do"),
        ("cifar100", "root", 5, "root is 5: expected the path of a folder"),
        ("cifar10", "fold", 0, "cifar10 takes no fold, only olivetti do"),
        ("olivetti", "fold", 5, "fold is 5: expected a whole number from 0 to 4"),
        ("olivetti", "fold", True, "fold is True: expected a whole number"),
        ("olivetti", "n_classes", 40, "olivetti takes no n_classes"),
        ("digits", "keras_inputs", 1, "keras_inputs is 1: expected True or False"),
        ("digits", "imagenet_statistics", "no", "imagenet_statistics is 'no': expected True or False"),
    ],
)
def test_an_argument_that_cannot_be_is_named_before_any_work(name, argument, value, message):
    with pytest.raises(ValueError, match=message):
        load(name, **{argument: value})


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="per_clas"):
        load("digits", per_clas=20)


CIFAR = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
PARTS = {
    "cifar10": (("data_batch_1", "data_batch_2"), ("test_batch",), "batches.meta", "labels", "label_names"),
    "cifar100": (("train",), ("test",), "meta", "fine_labels", "fine_label_names"),
}


@pytest.fixture(params=CIFAR)
def cifar(request, tmp_path, monkeypatch):
    """(name, root, root/base_folder) of files with 20 images each, in two classes, out of reach of any network."""
    name, source = request.param, CIFAR[request.param]
    train, test, meta, labels, names = PARTS[name]
    base = tmp_path / source.base_folder
    base.mkdir()
    random = np.random.default_rng(0)

    def write(file: str, content: dict) -> list[str]:
        (base / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((base / file).read_bytes()).hexdigest()]

    def batch(file: str) -> list[str]:
        pixels = random.integers(0, 256, (20, 3072), dtype=np.uint8)
        pixels[:, 0], pixels[:, 1024] = [0, 200] * 10, range(20)
        return write(file, {"data": pixels, labels: [0, 1] * 10})

    def no_network(self):
        raise OSError("network is unreachable")

    monkeypatch.setattr(source, "train_list", [batch(file) for file in train])
    monkeypatch.setattr(source, "test_list", [batch(file) for file in test])
    file, md5 = write(meta, {names: ["cat", "dog"]})
    monkeypatch.setattr(source, "meta", {"filename": file, "key": names, "md5": md5})
    monkeypatch.setattr(source, "download", no_network)
    return name, tmp_path, base


def test_cifar_files_are_read_channels_first(cifar):
    name, root, _ = cifar
    data = load(name, root=root)
    n = 20 * len(PARTS[name][0])
    assert data.classes == ("cat", "dog")
    assert (len(data.train) + len(data.validation), len(data.test)) == (n, 20)
    assert data.train.shape == (3, 32, 32) and data.train.images.dtype == torch.uint8
    assert torch.equal(data.test.images[:, 0, 0, 0], torch.tensor([0, 200] * 10, dtype=torch.uint8))
    assert data.test.images[:, 1, 0, 0].tolist() == list(range(20))
    assert torch.equal(data.train.images[:, 0, 0, 0], (200 * data.train.labels).to(torch.uint8))
    if name == "cifar10":
        assert (data.train.mean, data.train.std) == (CIFAR10_MEAN, CIFAR10_STD)


def test_cifar_is_enlarged_and_normalised_as_imagenet_weights_expect(cifar):
    name, root, _ = cifar
    small, large = load(name, root=root), load(name, root=root, image_size=64, imagenet_statistics=True)
    assert large.train.shape == (3, 64, 64) and large.test.images.dtype == torch.uint8
    assert torch.equal(large.test.labels, small.test.labels) and large.train.mean == (0.485, 0.456, 0.406)
    for image, enlarged in zip(small.test.images, large.test.images, strict=True):
        by_pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.abs(enlarged.permute(1, 2, 0).numpy().astype(int) - np.asarray(by_pillow)).max() <= 1


def test_the_environment_names_the_folder_and_an_argument_overrides_it(cifar, monkeypatch, tmp_path):
    name, root, _ = cifar
    monkeypatch.setenv("UNSIR_DATA", str(root))
    assert len(load(name).test) == 20
    with pytest.raises(FileNotFoundError):
        load(name, root=tmp_path / "elsewhere")


def test_absent_cifar_that_cannot_be_downloaded_says_how_to_place_it(cifar, tmp_path):
    name, _, base = cifar
    with pytest.raises(FileNotFoundError) as error:
        load(name, root=tmp_path / "empty")
    for word in (str(tmp_path / "empty"), "network is unreachable", CIFAR[name].url, base.name, "UNSIR_DATA"):
        assert word in str(error.value)


def test_who_comes_second_waits_for_the_download(cifar, tmp_path, monkeypatch):
    name, _, base = cifar
    source, there, calls = CIFAR[name], tmp_path / "there", []

    def slow_download(self):
        calls.append(1)
        (there / base.name).mkdir()  # half unpacked for a while
        time.sleep(0.3)
        for file in base.iterdir():
            shutil.copy(file, there / base.name)

    monkeypatch.setattr(source, "download", slow_download)
    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(load, name, root=there), time.sleep(0.1) or pool.submit(load, name, root=there)]
        assert len(first.result().test) == len(second.result().test) == 20
    assert len(calls) == 1


@pytest.fixture
def read_only_disk(monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cifar_module.FileLock, "acquire", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)


def test_sound_cifar_files_are_read_from_a_read_only_disk_beside_a_stale_lock(cifar, read_only_disk):
    name, root, base = cifar
    (root / f"{base.name}.lock").touch()
    assert len(load(name, root=root).test) == 20


@pytest.mark.parametrize("there", ["damaged", "absent"])
def test_on_a_read_only_disk_the_fault_is_told_with_the_disk(cifar, read_only_disk, there):
    name, root, base = cifar
    (root / f"{base.name}.lock").touch()
    file = base / CIFAR[name].test_list[0][0]
    if there == "damaged":
        file.write_bytes(b"")
    else:
        shutil.rmtree(base)
    with pytest.raises(RuntimeError if there == "damaged" else FileNotFoundError) as error:
        load(name, root=root)
    for word in (there.replace("absent", "missing"), "Read-only file system", CIFAR[name].url, "UNSIR_DATA"):
        assert word in str(error.value)


@pytest.mark.parametrize("which", [0, -1])
def test_a_missing_cifar_file_is_named_with_its_checksum(cifar, which):
    name, root, base = cifar
    file, md5 = (CIFAR[name].train_list + CIFAR[name].test_list)[which]
    (base / file).unlink()
    with pytest.raises(FileNotFoundError) as error:
        load(name, root=root)
    for word in (str(base / file), md5, CIFAR[name].url, "UNSIR_DATA"):
        assert word in str(error.value)


def test_a_truncated_cifar_file_is_named_with_both_checksums(cifar):
    name, root, base = cifar
    file, md5 = CIFAR[name].test_list[0]
    (base / file).write_bytes((base / file).read_bytes()[:1000])
    with pytest.raises(RuntimeError) as error:
        load(name, root=root)
    found = hashlib.md5((base / file).read_bytes()).hexdigest()
    for word in (str(base / file), md5, found, "1000 bytes", CIFAR[name].url, "UNSIR_DATA"):
        assert word in str(error.value)


def test_inputs_may_reach_from_minus_one_to_one():
    data = load("digits", keras_inputs=True)
    x = data.train.inputs()
    assert (x.min(), x.max()) == (-1, 1)
    torch.testing.assert_close(x, data.train.images / 127.5 - 1)
    with pytest.raises(ValueError, match="imagenet_statistics and keras_inputs cannot both be true"):
        load("digits", keras_inputs=True, imagenet_statistics=True)


@pytest.fixture
def orl(tmp_path, monkeypatch):
    """root/olivetti of a file in scikit-learn's form, without a network: picture p of person c is grey, 6 c + p."""

    def no_network(*_, **__):
        raise OSError("network is unreachable")

    monkeypatch.setattr(sklearn.datasets._olivetti_faces, "_fetch_remote", no_network)
    folder = tmp_path / "olivetti"
    folder.mkdir()
    level = 6 * np.arange(40)[:, None] + np.arange(10)
    faces = np.repeat(level.reshape(400, 1), 4096, 1).astype(np.uint8)
    faces[0, :3], faces[-1, 0] = [0, 0, 9], 255  # columns are joined first: the third is two pixels down
    joblib.dump(faces, folder / "olivetti_py3.pkz")
    return folder


def test_orl_faces_come_upright_in_three_equal_channels(orl):
    data = load("olivetti", root=orl.parent, image_size=64)
    assert data.name == "ORL-faces" and data.classes[::39] == ("person 1", "person 40")
    assert (len(data.train), len(data.validation), len(data.test)) == (240, 80, 80)
    assert data.train.shape == (3, 64, 64) and data.train.images.dtype == torch.uint8
    whole = torch.cat([part.images for part in (data.train, data.validation, data.test)])
    assert (whole == whole[:, :1]).all()
    assert [image[0, :3, 0].tolist() for image in whole if image.min() == 0] == [[0, 0, 9]]
    assert load("olivetti", root=orl.parent).train.shape == (3, 32, 32)


def test_over_the_folds_every_picture_is_tested_once_and_in_no_other_part(orl):
    tested, validated = [], []
    for fold in range(5):
        data = load("olivetti", root=orl.parent, image_size=2, fold=fold)
        parts = [data.train, data.validation, data.test]
        assert [part.labels.bincount().unique().tolist() for part in parts] == [[6], [2], [2]]
        pictures = [_pictures(part) for part in parts]
        assert len(set.union(*pictures)) == sum(map(len, pictures)) == 400
        tested += pictures[2]
        validated += pictures[1]
        assert data.id == load("olivetti", root=orl.parent, image_size=2, fold=fold).id
    assert len(set(tested)) == len(tested) == 400 and set(validated) == set(tested)
    assert load("olivetti", root=orl.parent, image_size=2).id == load("olivetti", root=orl.parent, image_size=2, fold=0).id


def _pictures(part) -> set[tuple]:
    """(person, grey in a corner) of each picture."""
    greys = part.images[:, 0, -1, -1].tolist()
    return set(zip(part.labels.tolist(), greys, strict=True))


def test_absent_orl_faces_that_cannot_be_downloaded_say_how_to_place_them(orl, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load("olivetti", root=tmp_path / "empty")
    for word in (str(tmp_path / "empty" / "olivetti" / "olivetti_py3.pkz"), "network is unreachable", "UNSIR_DATA"):
        assert word in str(error.value)


def test_orl_faces_are_downloaded_once_and_whole(orl, monkeypatch, capsys):
    file, fetched = orl / "olivetti_py3.pkz", []
    content = joblib.load(file)
    file.unlink()

    def fetch(*_, dirname, **__):
        fetched.append(dirname)
        assert not file.exists()
        path = Path(dirname) / "olivettifaces.mat"
        scipy.io.savemat(path, {"faces": content.T})
        return path

    monkeypatch.setattr(sklearn.datasets._olivetti_faces, "_fetch_remote", fetch)
    one, other = (load("olivetti", root=orl.parent) for _ in range(2))
    assert one.id == other.id and len(fetched) == 1 and not capsys.readouterr().out
    assert {f.name for f in orl.iterdir()} <= {file.name, f"{file.name}.lock"}


def test_damaged_orl_faces_are_named(orl):
    (orl / "olivetti_py3.pkz").write_bytes(b"no faces")
    with pytest.raises(RuntimeError, match=r"olivetti_py3.pkz is damaged .*: delete it to have it downloaded anew"):
        load("olivetti", root=orl.parent)


def paint(folder, n, colour, size=(40, 30)):
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("RGB", size, colour).save(folder / f"{i}.png")


def test_a_folder_without_a_split_gives_a_fifth_to_the_test(tmp_path):
    paint(tmp_path / "red", 10, (255, 0, 0))
    paint(tmp_path / "blue", 20, (0, 0, 255))
    Image.new("L", (9, 50), 0).convert("1").save(tmp_path / "blue" / "grey.PNG")
    data = load(f"folder:{tmp_path}", image_size=16)
    assert data.classes == ("blue", "red")
    assert data.test.labels.bincount().tolist() == [4, 2]
    assert (data.train.labels.bincount() + data.validation.labels.bincount()).tolist() == [17, 8]
    assert data.train.shape == (3, 16, 16)
    red = data.train.only([1]).images
    assert (red[:, 0] == 255).all() and (red[:, 1:] == 0).all()


def tree(top, *folders, n=5):
    """Folders of n images each, all of one colour: 10, 20 and so on in red."""
    for i, folder in enumerate(folders, 1):
        paint(top / folder, n, (10 * i, 0, 0), size=(8, 8))


@pytest.mark.parametrize(
    "train, test", [("train", "test"), ("Train", "TEST"), ("training", "testing"), ("train", "val"), ("TRAIN", "Valid")]
)
def test_a_split_in_two_keeps_its_test_part(tmp_path, train, test):
    tree(tmp_path, f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b", n=10)
    data = load(f"folder:{tmp_path}", image_size=8)
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 20)
    assert data.train.images[:, 0].unique().tolist() == data.validation.images[:, 0].unique().tolist() == [10, 20]
    assert data.test.images[data.test.labels == 1][:, 0].unique().tolist() == [40]


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_a_split_in_three_keeps_all_its_parts(tmp_path, val):
    tree(tmp_path, "train/a", "train/b", f"{val}/a", f"{val}/b", "test/a", "test/b")
    data = load(f"folder:{tmp_path}", image_size=8)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 10, 10)
    for part, red in ((data.train, [10, 20]), (data.validation, [30, 40]), (data.test, [50, 60])):
        assert part.images[:, 0].flatten(1).unique(dim=1).flatten().tolist() == [r for r in red for _ in range(5)]
        assert part.mean == data.train.mean
    assert len(load(f"folder:{tmp_path}", image_size=8, per_class=3).validation) == 10


@pytest.mark.parametrize(
    "folders, message",
    [
        (["train/a", "train/b"], "holds train: expected train and test, train and val, or all three"),
        (["val/a", "val/b", "test/a", "test/b"], "holds test, val: expected"),
        (["train/a", "train/b", "Train/a", "Train/b"], "holds Train, train: expected"),
        (
            ["train/a", "train/b", "test/a", "test/b", "val/a", "val/b", "valid/a", "valid/b"],
            "holds test, train, val, valid",
        ),
        (["train/a", "train/b", "extra"], "holds train: expected"),
        (["train", "test"], "test holds 0 sub-folders: at least two classes"),
        (["train/a", "train/b", "test/a", "test/c"], r"test lacks b.*give all the same|train lacks c; .*test lacks b"),
        (["train/a", "train/b", "test/a", "test/b", "val/a", "val/B"], r"train lacks B; .*val lacks b|val lacks b"),
    ],
)
def test_a_split_that_cannot_be_told_is_refused(tmp_path, folders, message):
    tree(tmp_path, *folders, n=2)
    with pytest.raises(ValueError, match=message):
        load(f"folder:{tmp_path}", image_size=8)


def test_a_class_may_be_called_train(tmp_path):
    tree(tmp_path, "bus", "train")
    assert load(f"folder:{tmp_path}", image_size=8).classes == ("bus", "train")


def test_what_lies_beside_a_split_is_named(tmp_path):
    tree(tmp_path, "train/a", "train/b", "test/a", "test/b", "annotations")
    with pytest.warns(UserWarning, match="left out of .*: annotations; "):
        assert load(f"folder:{tmp_path}", image_size=8).classes == ("a", "b")


@pytest.mark.parametrize("part", [".", "train", "a", "a/deeper"])
def test_hidden_files_and_the_litter_of_systems_are_not_read(tmp_path, recwarn, part):
    split = ["train/a", "train/b", "test/a", "test/b"] if part == "train" else ["a", "b"]
    tree(tmp_path, *split, "a/deeper" if part != "train" else "train/a/deeper")
    clean = load(f"folder:{tmp_path}", image_size=8)
    for folder in (".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir"):
        tree(tmp_path / part, folder)
    for file in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
        (tmp_path / part / file).write_bytes(b"no image")
    again = load(f"folder:{tmp_path}", image_size=8)
    assert again.id == clean.id and again.classes == ("a", "b") and not recwarn


def test_a_data_set_may_lie_below_a_hidden_folder(tmp_path):
    tree(tmp_path / ".cache" / "mine", "a", "b")
    assert len(load(f"folder:{tmp_path / '.cache' / 'mine'}", image_size=8).test) == 2


def test_another_image_in_a_folder_gives_another_id(tmp_path):
    tree(tmp_path, "train/a", "train/b", "val/a", "val/b", "test/a", "test/b")
    ids = [load(f"folder:{tmp_path}", image_size=8).id]
    for part in ("train", "val", "test"):
        Image.new("RGB", (8, 8), (99, 9, 9)).save(tmp_path / part / "a" / "new.png")
        ids.append(load(f"folder:{tmp_path}", image_size=8).id)
    Image.new("RGB", (8, 8), (98, 9, 9)).save(tmp_path / "val" / "a" / "new.png")
    ids.append(load(f"folder:{tmp_path}", image_size=8).id)
    assert len(set(ids)) == 5


def first_pixels(tmp_path, write, file: str) -> torch.Tensor:
    """[3, 2, 2]: the image that `write` puts into a class of its own."""
    tree(tmp_path, "a", "b")
    (tmp_path / "c").mkdir()
    for i in range(3):
        write(tmp_path / "c" / f"{i}{file}")
    return load(f"folder:{tmp_path}", image_size=2).test.only([2]).images[0]


HALVES = np.array([[0, 0], [128, 255]])  # black above, grey and white below
DEEP = dict(
    [
        ("I;16.png", Image.fromarray((HALVES * 257).astype(np.uint16))),
        ("I;16.tif", Image.fromarray((HALVES * 257).astype(np.uint16))),
        ("I;16B.tif", Image.fromarray((HALVES * 257).astype(">u2"))),
        ("I.pgm", Image.fromarray((HALVES * 257).astype(np.int32))),
        ("F.tif", Image.fromarray((HALVES / 255).astype(np.float32))),
        ("L.tiff", Image.fromarray(HALVES.astype(np.uint8))),
        ("P.gif", Image.fromarray(HALVES.astype(np.uint8)).convert("P")),
        ("RGB.bmp", Image.fromarray(HALVES.astype(np.uint8)).convert("RGB")),
        ("RGBA.png", Image.fromarray(HALVES.astype(np.uint8)).convert("RGBA")),
        ("CMYK.tif", Image.fromarray(HALVES.astype(np.uint8)).convert("RGB").convert("CMYK")),
        ("RGB.JP2", Image.fromarray(HALVES.astype(np.uint8)).convert("RGB")),
    ]
)


@pytest.mark.parametrize("kind", DEEP)
def test_images_of_every_depth_and_kind_come_as_8_bits(tmp_path, kind):
    image = first_pixels(tmp_path, DEEP[kind].save, kind)
    assert (image.int() - torch.tensor(HALVES)).abs().max() <= 1


def test_16_bits_a_channel_come_as_8_bits(tmp_path):
    def write(path):  # binary PPM with a white of 65535, big-endian
        path.write_bytes(b"P6 2 2 65535\n" + (np.stack([HALVES] * 3, -1) * 257).astype(">u2").tobytes())

    assert torch.equal(first_pixels(tmp_path, write, ".ppm"), torch.tensor(HALVES).to(torch.uint8).expand(3, 2, 2))


@pytest.mark.parametrize("values", [[0, 70000], [-1, 9], [0, 1.5], [0, float("nan")]], ids=str)
def test_values_without_a_known_white_are_refused(tmp_path, values):
    array = np.array([values], dtype=np.int32 if isinstance(values[1], int) else np.float32)
    with pytest.raises(RuntimeError, match=r"c.0\.tif cannot be read as an image \(its values reach from .* expected 0 to"):
        first_pixels(tmp_path, Image.fromarray(array).save, ".tif")


CLEAR = {
    "RGBA": Image.new("RGBA", (2, 2), (255, 0, 0, 0)),
    "LA": Image.new("LA", (2, 2), (0, 0)),
    "P": Image.new("P", (2, 2), 0),
    "RGB": Image.new("RGB", (2, 2), (255, 0, 0)),
}


@pytest.mark.parametrize("mode", CLEAR)
def test_what_is_transparent_becomes_white(tmp_path, mode):
    keys = {"P": 0, "RGB": (255, 0, 0)}
    options = {"transparency": keys[mode]} if mode in keys else {}
    assert (first_pixels(tmp_path, lambda path: CLEAR[mode].save(path, **options), ".png") == 255).all()


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_is_taken(tmp_path, kind):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ((0, 0, 255), (255, 0, 0)))
    options = {"lossless": True} if kind == "webp" else {}
    image = first_pixels(
        tmp_path, lambda path: first.save(path, save_all=True, append_images=[second], **options), f".{kind}"
    )
    assert image[:, 0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
def test_an_image_is_turned_as_its_orientation_says(tmp_path, kind):
    as_stored = Image.fromarray(np.array([[0] * 12 + [255] * 12] * 16, dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6  # its left side is to be shown on top
    image = first_pixels(tmp_path, lambda path: as_stored.save(path, exif=exif), f".{kind}")
    assert (image[:, 0] < 50).all() and (image[:, 1] > 200).all()


def test_files_that_are_not_read_are_named(tmp_path):
    tree(tmp_path, "a", "b")
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    for file in ("photo.HEIC", "notes.txt", "plot.eps", *(f"{i}.raw" for i in range(4))):
        (tmp_path / "b" / file).write_bytes(b"something")
    with pytest.warns(UserWarning, match=r"b/0\.raw, b/1\.raw, b/2\.raw, b/3\.raw, b/notes\.txt and 3 more; only images"):
        data = load(f"folder:{tmp_path}", image_size=8)
    assert len(data.train) + len(data.validation) + len(data.test) == 10


def test_a_loose_image_is_named(tmp_path):
    tree(tmp_path, "a", "b")
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    with pytest.warns(UserWarning, match=r"left out of .*: loose\.png; "):
        load(f"folder:{tmp_path}", image_size=8)


@pytest.mark.parametrize("most", [20, 30])  # 48 pixels: Pillow refuses more than twice as many as it allows, and else warns
def test_a_decompression_bomb_is_named(tmp_path, monkeypatch, most):
    tree(tmp_path, "a", "b")
    Image.new("RGB", (8, 6)).save(tmp_path / "b" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    for file in tmp_path.rglob("[0-9].png"):
        Image.new("RGB", (4, 4)).save(file)
    with pytest.raises(RuntimeError, match=r"bomb\.png cannot be read as an image \(.*decompression bomb"):
        load(f"folder:{tmp_path}", image_size=8)


def test_a_folder_is_known_by_its_last_name(tmp_path):
    deep = tmp_path.joinpath(*["a-long-directory-name"] * 12, "mine")
    for name in "ab":
        paint(deep / name, 5, (0, 0, 0))
    data = load(f"folder:{deep}", image_size=8)
    assert data.name == "folder-mine"
    assert len(data.id) < 40


def test_a_folder_is_known_by_where_it_is_and_not_how_it_is_named(tmp_path, monkeypatch):
    long = tmp_path / ("long" * 50)
    tree(long, "a", "b")
    monkeypatch.chdir(long)
    assert load("folder:.", image_size=8).name == load(f"folder:{long}", image_size=8).name == "folder-" + "long" * 10


@pytest.mark.parametrize("n", [1, 2])
def test_a_class_too_small_to_be_cut_is_named(tmp_path, n):
    paint(tmp_path / "enough", 10, (0, 0, 0))
    paint(tmp_path / "few", n, (0, 0, 0))
    with pytest.raises(ValueError, match="too few images to train and validate on in few"):
        load(f"folder:{tmp_path}", image_size=8)


def test_an_unreadable_image_is_named(tmp_path):
    paint(tmp_path / "a", 3, (0, 0, 0))
    paint(tmp_path / "b", 3, (0, 0, 0))
    (tmp_path / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(RuntimeError, match=r"1\.png cannot be read as an image"):
        load(f"folder:{tmp_path}")


def test_a_truncated_image_is_named(tmp_path):
    paint(tmp_path / "a", 3, (0, 0, 0))
    paint(tmp_path / "b", 2, (0, 0, 0))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b" / "half.png")
    whole = (tmp_path / "b" / "half.png").read_bytes()
    (tmp_path / "b" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match=r"half\.png cannot be read as an image"):
        load(f"folder:{tmp_path}")


def test_an_empty_class_folder_is_named(tmp_path):
    paint(tmp_path / "a", 3, (0, 0, 0))
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ValueError, match="hollow holds no image that Pillow reads, but nothing"):
        load(f"folder:{tmp_path}")
    (tmp_path / "hollow" / "1.heic").write_bytes(b"something")
    with pytest.raises(ValueError, match=r"hollow holds no image that Pillow reads, but \.heic"):
        load(f"folder:{tmp_path}")


def test_one_class_is_not_enough(tmp_path):
    paint(tmp_path / "a", 3, (0, 0, 0))
    with pytest.raises(ValueError, match="holds 1 sub-folders: at least two classes"):
        load(f"folder:{tmp_path}")


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(f"folder:{tmp_path / 'nowhere'}")


def test_the_environment_names_the_device_and_an_argument_overrides_it(monkeypatch):
    monkeypatch.setenv("UNSIR_DEVICE", "mps")
    with pytest.raises(ValueError, match="device mps is not supported"):
        load("shapes", n_classes=2, per_class=4)
    assert load("shapes", n_classes=2, per_class=4, device="cpu").train.device.type == "cpu"
