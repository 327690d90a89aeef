import dataclasses
import json
import threading
import time

import pytest
import torch
from safetensors.torch import save_file
from tiny import convnet, floats, pixels, same_weights

from unsir_utils.data.sets import Data
from unsir_utils.engine.samples import Samples
from unsir_utils.metrics import evaluate
from unsir_utils.workshop import models, store
from unsir_utils.workshop.provenance import listening
from unsir_utils.workshop.store import Recipe, trained

ONECYCLE = Recipe("tiny", epochs=4, batch_size=8)
RELEASED = Recipe("tiny", epochs=4, training="released", lr=0.01, batch_size=8)
AUGMENTED = dataclasses.replace(ONECYCLE, augment=True)
BOTH = pytest.mark.parametrize("recipe", [ONECYCLE, RELEASED], ids=lambda recipe: recipe.training)
ALL = pytest.mark.parametrize("recipe", [ONECYCLE, RELEASED, AUGMENTED], ids=["onecycle", "released", "augmented"])


def data(seed: int = 0, name: str = "tiny") -> Data:
    return Data(name, tuple("abcd"), pixels(33, seed=seed), pixels(8, seed=seed + 1), pixels(20, seed=seed + 2))


@pytest.fixture(autouse=True)
def epochs_run(monkeypatch):
    """A tiny architecture, and the number of epochs trained so far as the length of a list of their samples."""
    monkeypatch.setitem(models.ARCHITECTURES, "tiny", convnet)
    run, one_epoch = [], store.one_epoch

    def counted(model, batches, *rest, **options):
        labels = []
        losses = one_epoch(model, (labels.append(y) or (x, y) for x, y in batches), *rest, **options)
        run.append(torch.cat(labels))
        return losses

    monkeypatch.setattr(store, "one_epoch", counted)
    return run


@BOTH
def test_a_model_is_trained_once(recipe, tmp_path, epochs_run):
    first, second = (trained(recipe, data(), tmp_path) for _ in range(2))
    assert len(epochs_run) == recipe.epochs
    assert same_weights(first.model, second.model) and not same_weights(first.model, models.build("tiny", 4))
    assert (first.history, first.seconds, first.recipe) == (second.history, second.seconds, recipe)
    assert [record["epoch"] for record in first.history] == [1, 2, 3, 4]
    assert not first.model.training
    assert {p.suffix for p in tmp_path.iterdir()} <= {".safetensors", ".json", ".lock"}


@ALL
def test_training_gives_the_same_bytes_whatever_the_random_state(recipe, tmp_path):
    for folder in "ab":
        torch.manual_seed(torch.seed())
        random = torch.get_rng_state()
        trained(recipe, data(), tmp_path / folder)
        assert torch.equal(torch.get_rng_state(), random)
    one, other = (next((tmp_path / folder).glob("*.safetensors")) for folder in "ab")
    assert one.name == other.name and one.read_bytes() == other.read_bytes()


@ALL
@pytest.mark.parametrize("stops", [(1,), (3,), (1, 2)], ids=str)
def test_an_interrupted_training_goes_on_as_if_it_never_stopped(recipe, stops, tmp_path, monkeypatch, epochs_run):
    whole, stops = trained(recipe, data(), tmp_path / "whole"), list(stops)
    epochs_run.clear()
    monkeypatch.setattr(store, "SAVE_EVERY_S", 0)
    one_epoch = store.one_epoch

    def interrupted(*args, **options):
        if stops and len(epochs_run) == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        return one_epoch(*args, **options)

    monkeypatch.setattr(store, "one_epoch", interrupted)
    for _ in list(stops):
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, data(), tmp_path / "parts")
    parts = trained(recipe, data(), tmp_path / "parts")
    assert len(epochs_run) == recipe.epochs
    assert same_weights(parts.model, whole.model)
    assert parts.history == whole.history
    assert not list((tmp_path / "parts").glob("*.partial"))
    one, other = (next((tmp_path / folder).glob("*.safetensors")).read_bytes() for folder in ("whole", "parts"))
    assert one == other


def test_augmentation_moves_the_training_images_alone_and_anew_in_every_epoch(tmp_path, monkeypatch):
    seen, one_epoch = [], store.one_epoch

    def watched(model, batches, *rest, **options):
        seen.append([])
        return one_epoch(model, (seen[-1].append(x) or (x, y) for x, y in batches), *rest, **options)

    monkeypatch.setattr(store, "one_epoch", watched)
    plain, moved = (trained(recipe, data(), tmp_path) for recipe in (ONECYCLE, AUGMENTED))
    assert not same_weights(plain.model, moved.model)
    epochs = [torch.cat(batches) for batches in seen]
    unmoved = {image.numpy().tobytes() for image in data().train.inputs()}
    found = [sum(image.numpy().tobytes() in unmoved for image in epoch) for epoch in epochs]
    assert found[:4] == [33] * 4 and max(found[4:]) < 5
    assert not torch.equal(epochs[4].sum((1, 2, 3)).sort().values, epochs[5].sum((1, 2, 3)).sort().values)


def test_label_smoothing_spreads_a_share_of_the_target_over_all_classes(tmp_path, monkeypatch):
    objectives, one_epoch = [], store.one_epoch
    monkeypatch.setattr(store, "one_epoch", lambda *a, **o: objectives.append(o["objective"]) or one_epoch(*a, **o))
    for share in (0.0, 0.2):
        trained(dataclasses.replace(ONECYCLE, epochs=1, label_smoothing=share), data(), tmp_path)
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    surprise = -logits.log_softmax(1)[0]
    plain, smooth = (objective(logits, torch.tensor([0])) for objective in objectives)
    torch.testing.assert_close(plain, surprise[0])
    torch.testing.assert_close(smooth, 0.8 * surprise[0] + 0.2 * surprise.mean())


def test_weights_that_have_decayed_to_nothing_are_stored_as_zero(tmp_path, monkeypatch):
    def decay(model, *_, **__):
        with torch.no_grad():
            next(model.parameters()).fill_(1e-35)
        return [0.0]

    monkeypatch.setattr(store, "one_epoch", decay)
    assert not next(trained(Recipe("AllCNN-0.125", epochs=1), data(), tmp_path).model.parameters()).any()


def test_a_damaged_file_is_set_aside_and_trained_again(tmp_path, epochs_run):
    before = trained(ONECYCLE, data(), tmp_path).model
    file = next(tmp_path.glob("*.safetensors"))
    damaged = file.read_bytes()[:-1] + b"?"
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match="fails its checksum"):
        after = trained(ONECYCLE, data(), tmp_path).model
    assert same_weights(before, after) and len(epochs_run) == 2 * ONECYCLE.epochs
    assert file.with_name(f"{file.name}.damaged").read_bytes() == damaged


def test_a_damaged_record_vouches_for_nothing(tmp_path, epochs_run):
    before = trained(ONECYCLE, data(), tmp_path).model
    next(tmp_path.glob("*.json")).write_text("{")
    with pytest.warns(UserWarning, match="trained again"):
        after = trained(ONECYCLE, data(), tmp_path).model
    assert same_weights(before, after) and len(epochs_run) == 2 * ONECYCLE.epochs


@pytest.mark.parametrize("content", [b"", b"PK\x03"])
def test_a_damaged_state_of_an_interrupted_training_is_set_aside(content, tmp_path, epochs_run):
    partial = tmp_path / f"{ONECYCLE.name(data())}.partial"
    partial.write_bytes(content)
    with pytest.warns(UserWarning, match="cannot be gone on from .*; the training starts anew"):
        trained(ONECYCLE, data(), tmp_path)
    assert len(epochs_run) == ONECYCLE.epochs and not partial.exists()
    assert partial.with_name(f"{partial.name}.damaged").read_bytes() == content


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_file_is_trained_again(suffix, tmp_path, epochs_run):
    trained(ONECYCLE, data(), tmp_path)
    next(tmp_path.glob(f"*{suffix}")).unlink()
    trained(ONECYCLE, data(), tmp_path)
    assert len(epochs_run) == 2 * ONECYCLE.epochs


@BOTH
def test_left_out_classes_are_neither_trained_on_nor_watched(recipe, tmp_path, epochs_run, monkeypatch):
    watched, evaluate = [], store.evaluate
    monkeypatch.setattr(store, "evaluate", lambda model, samples: watched.append(samples) or evaluate(model, samples))
    trained(dataclasses.replace(recipe, left_out=(1, 3)), data(), tmp_path)
    for labels in [*epochs_run, *(samples.labels for samples in watched)]:
        assert set(labels.tolist()) == {0, 2}
    assert len(watched) == (recipe.epochs if recipe is RELEASED else 0)


def test_every_epoch_sees_every_training_sample_once_in_another_order(tmp_path, epochs_run):
    trained(ONECYCLE, data(), tmp_path)
    assert all(torch.equal(labels.sort().values, data().train.labels.sort().values) for labels in epochs_run)
    assert not torch.equal(epochs_run[0], epochs_run[1])


def test_a_name_covers_every_field_and_the_data():
    others = dict(architecture="ResNet18", epochs=5, training="released", lr=0.06, batch_size=9, left_out=(1,), seed=1)
    others |= dict(weights="IMAGENET1K_V1", head_factor=10.0, augment=True, label_smoothing=0.1)
    assert others.keys() == {field.name for field in dataclasses.fields(Recipe)}
    recipes = [ONECYCLE, *(dataclasses.replace(ONECYCLE, **{field: value}) for field, value in others.items())]
    names = [recipe.name(data()) for recipe in recipes]
    names += [ONECYCLE.name(data(seed=1)), ONECYCLE.name(data(name="other"))]
    relabelled = data()
    relabelled.train.labels[0] = 3
    names.append(ONECYCLE.name(relabelled))
    renormalised = dataclasses.replace(data().train, mean=(0.1, 0.1, 0.1))
    names.append(ONECYCLE.name(dataclasses.replace(data(), train=renormalised)))
    names.append(ONECYCLE.name(dataclasses.replace(data(), test=pixels(20, seed=77))))  # what RELEASED's rate follows
    assert len(set(names)) == len(names)
    assert ONECYCLE.name(data()) == names[0]


NAMES = {  # as networks were stored under before there was an `augment` or a `label_smoothing`
    Recipe("ResNet18", 4): "tiny-ResNet18-onecycle-4ep-seed0-f948eb8e",
    Recipe(
        "ViT", 4, "released", lr=0.01, batch_size=256, left_out=(1, 2), seed=3
    ): "tiny-ViT-released-4ep-without-1-2-seed3-9a1c9744",
    Recipe("ViT-B/16", 2, weights="IMAGENET1K_V1", head_factor=10): "tiny-ViT-B16-onecycle-2ep-seed0-1bbc9867",
}


@pytest.mark.parametrize("recipe", NAMES, ids=lambda recipe: recipe.architecture)
def test_stored_networks_keep_their_names(recipe):
    """Of data that need no random numbers."""
    flat = Samples(torch.arange(4 * 3 * 64).remainder(256).to(torch.uint8).view(4, 3, 8, 8), torch.arange(4), 4)
    assert recipe.name(Data("tiny", tuple("abcd"), flat, flat, flat)) == NAMES[recipe]


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "weights" / "body.safetensors"
    path.parent.mkdir()
    save_file({name: value for name, value in convnet(seed=7).state_dict().items() if not name.startswith("5.")}, path)
    return path


def test_a_file_of_weights_counts_by_its_content_and_not_by_its_path(weights_file, tmp_path):
    one = dataclasses.replace(ONECYCLE, weights=f"file:{weights_file}")
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(weights_file.read_bytes())
    assert one.name(data()) == dataclasses.replace(one, weights=f"file:{moved}").name(data()) != ONECYCLE.name(data())
    save_file(convnet(seed=8).state_dict(), moved)
    assert one.name(data()) != dataclasses.replace(one, weights=f"file:{moved}").name(data())


def test_a_model_starts_from_its_file_and_is_another_when_the_file_is(weights_file, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    monkeypatch.setattr(store, "one_epoch", lambda *_, **__: [0.0])  # nothing is learned
    recipe = dataclasses.replace(ONECYCLE, epochs=1, weights=f"file:{weights_file}")
    first = trained(recipe, data())
    assert torch.equal(first.model[0].weight, convnet(seed=7)[0].weight)
    assert store.checksum(first.name) == first.sha256
    save_file(convnet(seed=8).state_dict(), weights_file)
    assert store.checksum(first.name) is None  # a kept case that used it is no longer what its arguments say
    assert torch.equal(trained(recipe, data()).model[0].weight, convnet(seed=8)[0].weight)


def test_the_order_of_the_left_out_classes_does_not_matter():
    one, other = (dataclasses.replace(ONECYCLE, left_out=order) for order in [(2, 1), (1, 2)])
    assert one == other and one.name(data()) == other.name(data())


@pytest.mark.parametrize("architecture", ["AllCNN-0.125", "ResNet18"])
def test_a_name_is_readable(architecture):
    name = Recipe(architecture, 1, left_out=(1, 2)).name(data())
    assert name.startswith(f"tiny-{architecture}-onecycle-1ep-without-1-2-seed0-")


def test_the_record_says_how_the_model_was_made(tmp_path):
    result = trained(RELEASED, data(), tmp_path)
    record = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert record["recipe"] == dataclasses.asdict(RELEASED) | {"left_out": []}
    assert record["history"] == result.history and record["data"] == data().id
    assert record["precision"] in ("torch.float32", "torch.bfloat16")
    assert result.history[-1]["test_accuracy"] == evaluate(result.model, data().test)[1]


def test_released_clips_gradients_and_halves_the_rate_when_the_test_loss_stalls(tmp_path, monkeypatch):
    clips, kept = [], lambda clip_value, schedule, **_: clips.append((clip_value, schedule))
    monkeypatch.setattr(store, "one_epoch", lambda *_, **options: kept(**options) or [1.0])
    monkeypatch.setattr(store, "evaluate", lambda *_: (1.0, 50.0))
    history = trained(dataclasses.replace(RELEASED, epochs=7), data(), tmp_path).history
    assert [record["lr"] for record in history] == [0.01] * 5 + [0.005] * 2
    assert set(clips) == {(0.1, None)}


def test_onecycle_peaks_at_its_rate_and_ends_near_zero(tmp_path):
    recipe = dataclasses.replace(ONECYCLE, epochs=10)
    rates = [record["lr"] for record in trained(recipe, data(), tmp_path).history]
    assert max(rates) == pytest.approx(ONECYCLE.lr, rel=0.1)
    assert rates[0] < max(rates) and rates[-1] < 0.002 * ONECYCLE.lr


def test_a_network_that_no_one_keeps_is_none_that_a_case_rests_on(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path / "store")
    with listening() as heard:
        trained(ONECYCLE, data(), tmp_path / "apart")
        assert not heard["networks"]
        kept = trained(ONECYCLE, data())
    assert [*heard["networks"]] == [kept.name]


def test_concurrent_callers_train_once(tmp_path, monkeypatch, epochs_run):
    one_epoch = store.one_epoch
    monkeypatch.setattr(store, "one_epoch", lambda *args, **options: time.sleep(0.02) or one_epoch(*args, **options))
    results, shared = [], data()
    callers = [threading.Thread(target=lambda: results.append(trained(ONECYCLE, shared, tmp_path).model)) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(epochs_run) == ONECYCLE.epochs
    assert len(results) == 3 and all(same_weights(results[0], model) for model in results)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": "3"}, "epochs is '?3"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"training": "lion"}, "unknown training 'lion': choose one of onecycle, adamw, released"),
        ({"left_out": range(4)}, "all 4 classes"),
        ({"left_out": (9,)}, "class 9 is out of range"),
        ({"left_out": 1}, "left_out class is given as 1: expected a list"),
        ({"left_out": "1"}, "left_out class is given as '1': expected a list"),
        ({"left_out": ["a"]}, "left_out class 'a' is out of range"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0.0}, "lr is 0"),
        ({"lr": "0.1"}, "lr is '0.1': expected a number"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"head_factor": -1}, "head_factor is -1"),
        ({"seed": "x"}, "seed is x: expected a whole number"),
        ({"seed": -1}, "seed is -1: expected a whole number of at least 0"),
        ({"label_smoothing": 1.1}, "label_smoothing is 1.1: expected a share"),
        ({"label_smoothing": "0.1"}, "label_smoothing is '0.1': expected a number"),
        ({"augment": 1}, "augment is 1: expected True or False"),
        ({"weights": 1}, "architecture and weights are 'tiny' and 1"),
        ({"architecture": "LeNet"}, "unknown architecture 'LeNet': choose one of ResNet18"),
    ],
    ids=str,
)
def test_a_bad_recipe_is_named(setting, message, tmp_path, epochs_run):
    with pytest.raises(ValueError, match=message):
        trained(Recipe(**{"architecture": "tiny", "epochs": 1, **setting}), data(), tmp_path)
    assert not epochs_run


def test_an_absent_file_of_weights_is_named_before_any_work(tmp_path, epochs_run):
    with pytest.raises(FileNotFoundError, match="the weights file:nowhere are not at .*nowhere: put the safetensors file"):
        trained(dataclasses.replace(ONECYCLE, weights="file:nowhere"), data(), tmp_path)
    assert not epochs_run


def test_a_whole_rate_and_the_same_as_a_float_are_one_recipe():
    one, other = (dataclasses.replace(ONECYCLE, lr=lr) for lr in (1, 1.0))
    assert one.name(data()) == other.name(data())


def test_another_precision_is_another_model(monkeypatch):
    names = set()
    for setting in ("auto", "", "float32"):
        monkeypatch.setenv("UNSIR_PRECISION", setting)
        names.add(ONECYCLE.name(data()))
    assert len(names) == 2


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_finished_model_may_lie_in_a_folder_that_cannot_be_written(tmp_path, monkeypatch, epochs_run):
    before = trained(ONECYCLE, data(), tmp_path)
    monkeypatch.setattr(store.FileLock, "acquire", refuse)
    monkeypatch.setattr(store, "write", refuse)
    monkeypatch.setattr(store.Path, "mkdir", refuse)
    assert same_weights(trained(ONECYCLE, data(), tmp_path).model, before.model)
    with pytest.raises(OSError, match="is to be trained, but .* cannot be written .*: make it writable, .* UNSIR_MODELS"):
        trained(RELEASED, data(), tmp_path)
    assert len(epochs_run) == ONECYCLE.epochs


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_full_disk_does_not_end_a_training_and_is_named_at_its_end(tmp_path, monkeypatch, epochs_run):
    monkeypatch.setattr(store, "SAVE_EVERY_S", 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.warns(UserWarning, match=r"partial could not be written .*No space left"):
            trained(ONECYCLE, data(), tmp_path)
    assert len(epochs_run) == ONECYCLE.epochs
    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(OSError, match="is trained but could not be stored in .*No space left.* UNSIR_MODELS"):
        trained(RELEASED, data(), tmp_path)
    assert not list(tmp_path.glob("*.tmp"))


def test_an_interruption_says_what_is_kept(tmp_path, monkeypatch, capsys):
    one_epoch, run = store.one_epoch, []

    def interrupted(*args, **options):
        run.append(1)
        if len(run) in (1, 4):
            raise KeyboardInterrupt
        return one_epoch(*args, **options)

    monkeypatch.setattr(store, "one_epoch", interrupted)
    monkeypatch.setattr(store, "SAVE_EVERY_S", 0)
    said = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(ONECYCLE, data(), tmp_path)
        said.append(capsys.readouterr().err)
    name = ONECYCLE.name(data())
    assert f"Training of {name} was interrupted: nothing was kept yet" in said[0]
    assert f"{name} was interrupted: 2 of 4 epochs are kept in" in said[1] and "goes on from there" in said[1]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"a": torch.ones(1)}},
        {"epoch": 4},
        {"epoch": 9},
        {"history": []},
        {"optimiser": {}},
        {"layout": None},
        {"layout": "memory order, cuda"},
    ],
)
def test_another_trainings_state_is_set_aside(change, tmp_path, epochs_run):
    whole = trained(ONECYCLE, data(), tmp_path / "whole").model
    model = convnet(seed=5)
    optimiser, schedule = store.TRAININGS["onecycle"](store.parameter_groups(model, 0.05), 20)
    state = {"epoch": 1, "history": [{}], "seconds": 0.0, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
    partial = tmp_path / f"{ONECYCLE.name(data())}.partial"
    torch.save({**state, "schedule": schedule.state_dict(), "layout": "memory order, cpu", **change}, partial)
    epochs_run.clear()
    with pytest.warns(UserWarning, match="cannot be gone on from .*; the training starts anew"):
        assert same_weights(trained(ONECYCLE, data(), tmp_path).model, whole)
    assert len(epochs_run) == ONECYCLE.epochs and partial.with_name(f"{partial.name}.damaged").exists()


def test_a_case_hears_of_every_model_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    for _ in range(2):
        with listening() as heard:
            found = trained(ONECYCLE, data())
        assert heard["networks"] == {found.name: {"sha256": found.sha256, "seconds": found.seconds}}
    assert store.checksum(found.name) == found.sha256 and store.checksum("another") is None


def test_training_learns(tmp_path):
    learnable = Data("blobs", tuple("abcd"), *(floats((3, 8, 8), 64) for _ in range(3)))
    losses = [record["train_loss"] for record in trained(ONECYCLE, learnable, tmp_path).history]
    assert losses[-1] < 0.7 * losses[0]
