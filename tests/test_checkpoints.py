"""Trained networks given to others and taken from them."""

import http.server
import threading
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, safe_open
from test_store import data, epochs_run  # noqa: F401
from tiny import same_weights

from unsir_utils.engine import precision
from unsir_utils.report import tables
from unsir_utils.workshop import checkpoints
from unsir_utils.workshop.store import Recipe, trained

RECIPE = Recipe("tiny", epochs=2, batch_size=8)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A network that a notebook asked for, beside another one, and the folder that `gather` made of it."""
    found = trained(RECIPE, data(), tmp_path / "here")
    monkeypatch.setattr(tables, "ASKED_FOR", {found.name: 1.0, "another": 2.0})
    tables.Results("01_x", "smoke").numbers()
    assert checkpoints.gather("smoke", tmp_path / "here", tmp_path / "given") == ([found.name], ["another"])
    return found


def test_what_was_gathered_is_taken_instead_of_training(given, tmp_path, monkeypatch, epochs_run):  # noqa: F811
    monkeypatch.setenv("UNSIR_CHECKPOINTS", str(tmp_path / "given"))
    epochs_run.clear()
    taken = trained(RECIPE, data(), tmp_path / "there")
    assert not epochs_run and same_weights(taken.model, given.model)
    assert (taken.sha256, taken.history, taken.seconds) == (given.sha256, given.history, given.seconds)
    trained(Recipe("tiny", epochs=1, batch_size=8), data(), tmp_path / "there")
    assert len(epochs_run) == 1, "what is not among them is trained"


def test_an_address_does_as_well_as_a_folder(given, tmp_path, monkeypatch, epochs_run):  # noqa: F811
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "given"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("UNSIR_CHECKPOINTS", f"http://127.0.0.1:{server.server_port}/")
        epochs_run.clear()
        assert same_weights(trained(RECIPE, data(), tmp_path / "there").model, given.model)
        assert not epochs_run
        assert checkpoints.fetched("not-there.safetensors") is None
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("name", ["a.safetensors", "folder:My photos-ViT.safetensors"])
def test_an_address_that_does_not_answer_is_named(name, monkeypatch):
    monkeypatch.setenv("UNSIR_CHECKPOINTS", "http://127.0.0.1:9/")
    with pytest.raises(OSError, match=f"{name} could not be fetched from http://127.0.0.1:9/ .*unset UNSIR_CHECKPOINTS"):
        checkpoints.fetched(name)


def test_a_place_that_is_no_folder_is_named(monkeypatch):
    monkeypatch.setenv("UNSIR_CHECKPOINTS", "nowhere")
    with pytest.raises(OSError, match="UNSIR_CHECKPOINTS is 'nowhere', which is no folder"):
        checkpoints.fetched("x.safetensors")


@pytest.mark.parametrize("same, kind", [(True, torch.bfloat16), (False, torch.float32)])
def test_weights_are_halved_where_the_logits_stay(same, kind, given, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_same_logits", lambda *_: same)
    checkpoints.gather("smoke", tmp_path / "here", tmp_path / "given")
    file = tmp_path / "given" / f"{given.name}.safetensors"
    assert {value.dtype for value in load_file(file).values() if value.dim() > 1} == {kind}
    monkeypatch.setenv("UNSIR_CHECKPOINTS", str(tmp_path / "given"))
    taken = trained(RECIPE, data(), tmp_path / "there")
    with safe_open(file, "pt") as opened:
        assert taken.sha256 in opened.metadata()["record"] and (taken.sha256 == given.sha256) != same
    assert f"| {str(kind)[6:]} " in (tmp_path / "given" / "README.md").read_text()


def test_other_logits_are_noticed(given):
    weights = given.model.state_dict()
    record = {"recipe": {"architecture": "tiny"}, "shape": list(data().train.shape), "classes": 4}
    assert checkpoints._same_logits(record, weights, weights)
    assert not checkpoints._same_logits(record, weights, {name: value * 1.01 for name, value in weights.items()})


def test_logits_that_differ_in_float32_alone_are_noticed_on_any_machine(given, monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    weights = given.model.state_dict()
    record = {"recipe": {"architecture": "tiny"}, "shape": list(data().train.shape), "classes": 4}
    halved = {name: value.bfloat16().float() if value.dim() > 1 else value for name, value in weights.items()}
    assert not checkpoints._same_logits(record, weights, halved)


def test_the_place_may_be_named_from_home(given, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UNSIR_CHECKPOINTS", "~/given")
    assert checkpoints.fetched(f"{given.name}.safetensors")


def test_a_record_of_before_shapes_were_kept_stays_in_full_precision(given):
    weights = given.model.state_dict()
    assert not checkpoints._same_logits({"recipe": {"architecture": "tiny"}}, weights, weights)


def test_a_damaged_file_is_named(given, tmp_path, monkeypatch):
    file = tmp_path / "given" / f"{given.name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    monkeypatch.setenv("UNSIR_CHECKPOINTS", str(tmp_path / "given"))
    with pytest.raises(ValueError, match=f"{given.name}.* fails its checksum: fetch it anew"):
        trained(RECIPE, data(), tmp_path / "there")


def test_a_file_of_another_kind_is_named(given, tmp_path, monkeypatch):
    (tmp_path / "given" / f"{given.name}.safetensors").write_bytes(b"no tensors")
    monkeypatch.setenv("UNSIR_CHECKPOINTS", str(tmp_path / "given"))
    with pytest.raises(ValueError, match=f"{given.name}.* is no network of `make models`"):
        trained(RECIPE, data(), tmp_path / "there")


def test_a_profile_without_networks_is_named(tmp_path):
    with pytest.raises(ValueError, match="no notebook of smoke has asked .* make reproduce PROFILE=smoke"):
        checkpoints.gather("smoke", tmp_path, tmp_path / "given")
