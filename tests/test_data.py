import hashlib
import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from unsir_utils import shapes
from unsir_utils.data import CIFAR10_MEAN, CIFAR10_STD, load


def rows(samples) -> set[bytes]:
    return {image.numpy().tobytes() for image in samples.images}


@pytest.mark.parametrize(
    "arguments, sizes",
    [
        (dict(name="digits"), (1295, 143, 359)),
        (dict(name="digits", per_class=20), (180, 20, 359)),
        (dict(name="shapes", n_classes=3, per_class=20), (54, 6, 300)),
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
    assert len(set.union(*parts)) == sum(map(len, parts)) == 80 + 400


def test_inputs_have_mean_zero_and_deviation_one():
    x = load("shapes", n_classes=4, per_class=100).train.inputs()
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)


def test_an_id_follows_the_training_data():
    ids = [load("shapes", n_classes=n, per_class=m).id for n, m in [(2, 10), (3, 10), (2, 12)]] + [load("digits").id]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("name", ["mnist", "", "folder", "folder:", "digits:here"])
def test_an_unknown_name_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match="choose digits, shapes, faces, cifar10, cifar100 or folder:PATH"):
        load(name)


@pytest.mark.parametrize("arguments", [dict(per_class=1), dict(per_class=0), dict(n_classes=1), dict(n_classes=101)])
def test_impossible_sizes_are_named(arguments):
    with pytest.raises(ValueError, match="per_class is|2 to 100 classes"):
        load("shapes", **arguments)


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
    monkeypatch.delenv("UNSIR_DATA", raising=False)
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


def paint(folder, n, colour, size=(40, 30)):
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("RGB", size, colour).save(folder / f"{i}.png")


def test_a_folder_without_a_split_gives_a_fifth_to_the_test(tmp_path):
    paint(tmp_path / "red", 10, (255, 0, 0))
    paint(tmp_path / "blue", 20, (0, 0, 255))
    Image.new("L", (9, 50), 0).convert("1").save(tmp_path / "blue" / "grey.PNG")
    (tmp_path / "blue" / "notes.txt").write_text("not an image")
    data = load(f"folder:{tmp_path}", image_size=16)
    assert data.classes == ("blue", "red")
    assert data.test.labels.bincount().tolist() == [4, 2]
    assert (data.train.labels.bincount() + data.validation.labels.bincount()).tolist() == [17, 8]
    assert data.train.shape == (3, 16, 16)
    red = data.train.only([1]).images
    assert (red[:, 0] == 255).all() and (red[:, 1:] == 0).all()


def test_a_folder_with_a_split_keeps_it(tmp_path):
    for part, n in (("train", 5), ("test", 3)):
        paint(tmp_path / part / "a", n, (n, 0, 0))
        paint(tmp_path / part / "b", n, (n, 9, 0))
    data = load(f"folder:{tmp_path}")
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 2, 6)
    assert (data.test.images[:, 0] == 3).all() and (data.train.images[:, 0] == 5).all()


def test_a_folder_is_known_by_its_last_name(tmp_path):
    deep = tmp_path.joinpath(*["a-long-directory-name"] * 12, "mine")
    for name in "ab":
        paint(deep / name, 5, (0, 0, 0))
    data = load(f"folder:{deep}", image_size=8)
    assert data.name == "folder-mine"
    assert len(data.id) < 40


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
    with pytest.raises(ValueError, match="hollow holds no image"):
        load(f"folder:{tmp_path}")


def test_one_class_is_not_enough(tmp_path):
    paint(tmp_path / "a", 3, (0, 0, 0))
    with pytest.raises(ValueError, match="holds 1 sub-folders: at least two classes"):
        load(f"folder:{tmp_path}")


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(f"folder:{tmp_path / 'nowhere'}")


def test_parts_with_different_classes_are_refused(tmp_path):
    for folder in ("train/a", "train/b", "test/a", "test/c"):
        paint(tmp_path / folder, 2, (0, 0, 0))
    with pytest.raises(ValueError, match="different classes"):
        load(f"folder:{tmp_path}")


def test_the_environment_names_the_device_and_an_argument_overrides_it(monkeypatch):
    monkeypatch.setenv("UNSIR_DEVICE", "mps")
    with pytest.raises(ValueError, match="device mps is not supported"):
        load("shapes", n_classes=2, per_class=4)
    assert load("shapes", n_classes=2, per_class=4, device="cpu").train.device.type == "cpu"
