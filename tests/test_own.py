"""A folder of one's own, a checkpoint trained and loaded, and the choice as a case of the study."""

import pytest
import torch
from tiny import K, convnet, floats, same_weights

from unsir_utils.audit.what_is_left import recall
from unsir_utils.data.sets import load
from unsir_utils.metrics import evaluate
from unsir_utils.own import example, images, networks
from unsir_utils.workshop import choices, models, store

ANY = pytest.mark.filterwarnings("ignore:no try:UserWarning", "ignore:A_D:UserWarning")


def net(n_classes: int = K) -> torch.nn.Module:
    return convnet(n_classes, seed=torch.randint(1000, ()).item())


def test_what_is_written_is_read_again(tmp_path):
    data = load("shapes", n_classes=3, per_class=10)
    folder = images.write_images(data, tmp_path / "shapes")
    train, held_out = images.read_images(folder, 32)
    assert train.names == held_out.names == tuple(sorted(data.classes))
    for read, was in ((train, data.train), (held_out, data.test)):
        for c, name in enumerate(train.names):
            assert torch.equal(read.only([c]).images, was.only([data.classes.index(name)]).images)
    with pytest.raises(FileExistsError):
        images.write_images(data, tmp_path / "shapes")


def test_a_few_of_each_class_may_be_written(tmp_path):
    data = load("shapes", n_classes=3, per_class=10)
    train, held_out = images.read_images(images.write_images(data, tmp_path / "few", 2), 8)
    assert [len(train), len(held_out)] == [6, 6] and train.shape == (3, 8, 8)


def test_a_checkpoint_is_of_its_seed_and_has_learned(tmp_path):
    samples, name = floats((3, 8, 8), 64), f"{__name__}:net"
    ways = {"epochs": 15, "lr": 0.1, "batch_size": 16}

    def trained(seed: int) -> torch.nn.Module:
        return networks.load(
            name, None, example.train_checkpoint(name, None, samples, tmp_path / "net.safetensors", seed=seed, **ways), K
        )

    one, again, other = trained(0), trained(0), trained(1)
    assert same_weights(one, again) and not same_weights(one, other)
    assert evaluate(one, samples)[1] > 90 and not one.training
    with pytest.raises(ValueError, match="epochs is 0"):
        example.train_checkpoint(name, None, samples, tmp_path / "net.safetensors", epochs=0, lr=0.1, batch_size=16)


def test_recall_is_that_of_the_audits_tests():
    samples = floats((3, 8, 8), 60)
    model = networks.build(f"{__name__}:net", None, K).eval()
    found = recall(model, samples, samples, [1])
    assert list(found) == ["linear probe", "nearest class mean", "logit recovered"]
    assert found["nearest class mean"] > 50
    with pytest.raises(ValueError, match=r"the test data has no image of the forget classes \[1\]"):
        recall(model, samples, samples.without([1]), [1])
    model[0].weight.data.fill_(torch.nan)
    assert all(value != value for value in recall(model, samples, samples, [1]).values())


@ANY
def test_the_choice_is_made_without_the_class_and_measured_on_the_test_set(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    monkeypatch.setitem(models.ARCHITECTURES, "tiny", lambda n: convnet(n))
    seen = []
    unlearn = choices.forget
    monkeypatch.setattr(choices, "forget", lambda *given, **named: seen.extend(given[2:]) or unlearn(*given, **named))
    request = {"data": {"name": "shapes", "n_classes": 3, "per_class": 20}, "recipe": {"architecture": "tiny", "epochs": 1}}
    first, masked, chosen = choices.choices(2, 0, forget=[1], retain_per_class=5, **request)
    assert len(seen) == 2 and all(1 not in samples.labels for samples in seen)
    assert [r["method"] for r in (first, masked, chosen)] == ["Original", "Masked logits", "forget()"]
    assert {r["images"] for r in (first, masked, chosen)} == {50} and masked["A_Df"] == 0
    assert chosen["noise"] in (True, False) and first["noise"] is None
