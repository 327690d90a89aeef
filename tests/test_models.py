from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from tiny import same_weights, untouched
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from unsir_utils.engine.samples import Samples
from unsir_utils.unsir import unsir
from unsir_utils.workshop import models

HEADS = {"ResNet18": "fc", "MobileNetV2": "classifier.1"}
WEIGHTS_FILE = "mobilenet_v2-b0353104.pth"


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """An empty checkpoint folder of torch.hub's, without a network."""

    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("architecture", [name for name in models.ARCHITECTURES if name != "ViT-B/16"])
def test_every_architecture_is_built_from_its_seed(architecture):
    random = torch.get_rng_state()
    one, same, other = (models.build(architecture, 3, seed) for seed in (1, 1, 2))
    assert same_weights(one, same) and not same_weights(one, other)
    assert torch.equal(torch.get_rng_state(), random)
    assert one.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_vit_b_16_is_torchvisions():
    with torch.device("meta"):
        model = models.build("ViT-B/16", 3)
    assert models.n_parameters(model) == 86_567_656 - 997 * 769  # torchvision's, with 3 classes in place of 1000


@pytest.mark.parametrize("architecture, n", [("ResNet18", 11_689_512), ("MobileNetV2", 3_504_872)])
def test_the_others_are_torchvisions_too(architecture, n):
    assert models.n_parameters(models.build(architecture, 1000)) == n


@pytest.mark.parametrize(
    "name, n, millions, first, last",
    [
        ("ResNet18", 11_181_642, 37, 8, 1),
        ("ResNet18-3x3", 11_173_962, 555, 32, 4),
        ("ResNet18-3x3-0.5", 2_797_610, 139, 32, 4),
        ("ResNet20", 269_722, 41, 32, 8),
        ("ResNet20-B", 272_474, 41, 32, 8),
        ("ResNet56", 853_018, 125, 32, 8),
    ],
)
def test_a_residual_network_has_the_known_size_and_cost_and_maps(name, n, millions, first, last):
    """Table 6 of He et al.: 0.27 and 0.85 million weights; to the last one, those of public code for CIFAR-10."""
    model, sizes = models.build(name, 10).eval(), []
    for block in model.modules():
        if isinstance(block, torchvision.models.resnet.BasicBlock):
            block.register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[-1]))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert models.n_parameters(model) == n and round(counted.get_total_flops() / 2e6) == millions
    assert (sizes[0], sizes[-1]) == (first, last)


def test_a_shortcut_without_weights_takes_each_second_pixel_and_pads_channels():
    x = torch.rand(2, 3, 4, 4)
    found = models._HalvedAndPadded(3)(x)
    assert found.shape == (2, 6, 2, 2) and torch.equal(found[:, 1:4], x[:, :, ::2, ::2])
    assert not found[:, 0].any() and not found[:, 4:].any()


def test_a_keras_stride_of_two_meets_an_even_map_at_its_first_pixel():
    """As TensorFlow's padding "same" does: the windows of an even map start at 0, those of an odd one a pixel before it."""
    model = models.build("MobileNetV2-Keras", 3).eval()
    stem, x = model.features[0][0], torch.randn(2, 3, 8, 7)
    by_hand = F.conv2d(F.pad(x, (1, 1, 0, 1)), stem.weight, stride=2)
    assert by_hand.shape[2:] == (4, 4)
    torch.testing.assert_close(stem(x), by_hand)
    halving = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert len(halving) == 5
    for layer in halving:
        with torch.no_grad():
            layer.weight.zero_()[:, :, 0, 0] = 1 / layer.weight.shape[1]
        x = torch.rand(1, layer.in_channels, 4, 4)
        first = x if layer.groups > 1 else x.mean(1, keepdim=True)
        torch.testing.assert_close(layer(x), first[:, :, ::2, ::2].expand(-1, layer.out_channels, -1, -1))
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.fixture
def features(tmp_path):
    """A file of all but the head of a MobileNetV2."""
    path, state = tmp_path / "features.safetensors", models.build("MobileNetV2", 3, seed=5).state_dict()
    save_file({name: value for name, value in state.items() if name.startswith("features.")}, path)
    return path


@pytest.mark.parametrize("architecture", ["MobileNetV2", "MobileNetV2-Keras"])
def test_a_file_may_hold_the_body(architecture, features, monkeypatch):
    monkeypatch.setenv("UNSIR_DATA", str(features.parent))
    model = models.build(architecture, 3, seed=1, weights=f"file:{features.name}")
    drawn, stored = models.build(architecture, 3, seed=1).state_dict(), load_file(features)
    assert same_weights(model, {name: stored.get(name, value) for name, value in drawn.items()})
    assert same_weights(model, models.build(architecture, 3, seed=1, weights=f"file:{features}"))


def test_a_file_of_another_architecture_is_told_by_its_keys_or_its_shapes(features):
    with pytest.raises(RuntimeError, match=r"of ResNet18: Missing key.*conv1.* \.\.\.; Unexpected key.*features.0"):
        models.build("ResNet18", 3, weights=f"file:{features}")
    save_file(load_file(features) | {"features.0.0.weight": torch.zeros(16, 3, 3, 3)}, features)
    with pytest.raises(RuntimeError, match=r"not those of MobileNetV2: size mismatch for features.0.0.weight.*\[16, 3"):
        models.build("MobileNetV2", 3, weights=f"file:{features}")


def test_a_damaged_or_absent_file_of_weights_is_named(features):
    features.write_bytes(features.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match=r"features.safetensors is no safetensors file, or a damaged one"):
        models.build("MobileNetV2", 3, weights=f"file:{features}")
    features.unlink()
    with pytest.raises(FileNotFoundError, match=r"are not at .*features.safetensors: put the safetensors file there"):
        models.build("MobileNetV2", 3, weights=f"file:{features}")


@pytest.mark.parametrize(
    "architecture, file", [("ResNet18", "resnet18-f37072fd.pth"), ("MobileNetV2", WEIGHTS_FILE)], ids=lambda name: name
)
def test_the_body_is_the_files_and_the_head_is_new(architecture, file, checkpoints):
    stored = models.build(architecture, 1000, seed=5).state_dict()
    torch.save(stored, checkpoints / file)
    random = torch.get_rng_state()
    one, same, other = (models.build(architecture, 3, seed, weights="IMAGENET1K_V1") for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), random)
    head, drawn = HEADS[architecture], models.build(architecture, 3, seed=1).state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, (drawn if name.startswith(f"{head}.") else stored)[name]), name
    assert one.get_submodule(head).weight.shape[0] == 3
    assert same_weights(one, same) and not same_weights(one, other)


def test_a_vit_keeps_its_body_too(checkpoints, monkeypatch):
    """On a small ViT under the large one's name: its file has the older names of the MLPs' layers, as torchvision's."""
    monkeypatch.setitem(models.ARCHITECTURES, "ViT-B/16", models.vit)
    stored = models.build("ViT", 1000, seed=5).state_dict()
    older = {name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for name, v in stored.items()}
    assert older.keys() != stored.keys()
    torch.save(older, checkpoints / "vit_b_16-c867db91.pth")
    model = models.build("ViT-B/16", 3, weights="IMAGENET1K_V1")
    body = {name: value for name, value in model.state_dict().items() if not name.startswith("heads.")}
    assert len(body) == len(stored) - 2
    assert same_weights(body, {name: stored[name] for name in body})
    assert model.heads.head.weight.shape[0] == 3


def test_the_head_is_the_last_linear_layer():
    for architecture, head in (HEADS | {"ViT": "heads.head"}).items():
        assert isinstance(models.build(architecture, 3).get_submodule(head), nn.Linear)


def test_absent_weights_are_named_with_their_place(checkpoints):
    with pytest.raises(FileNotFoundError) as error:
        models.build("MobileNetV2", 3, weights="IMAGENET1K_V1")
    url = f"https://download.pytorch.org/models/{WEIGHTS_FILE}"
    for part in ("IMAGENET1K_V1 of MobileNetV2", url, str(checkpoints / WEIGHTS_FILE), "TORCH_HOME", "no network"):
        assert part in str(error.value)


def test_a_download_is_held_against_its_hash(checkpoints, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, to, prefix, progress: asked.append((to, prefix)))
    with pytest.raises(FileNotFoundError):
        models.build("MobileNetV2", 3, weights="IMAGENET1K_V1")
    assert asked == [(str(checkpoints / WEIGHTS_FILE), "b0353104")]


class Payload:
    def __reduce__(self):
        return print, ("run",)


def test_a_file_that_holds_code_is_not_run(checkpoints, capsys):
    torch.save({"classifier.1.bias": Payload()}, checkpoints / WEIGHTS_FILE)
    with pytest.raises(Exception, match="[Ww]eights.only"):
        models.build("MobileNetV2", 3, weights="IMAGENET1K_V1")
    assert "run" not in capsys.readouterr().out


def test_another_architectures_weights_are_refused(checkpoints):
    torch.save(models.build("AllCNN-0.125", 1000).state_dict(), checkpoints / WEIGHTS_FILE)
    with pytest.raises(RuntimeError, match="Missing key"):
        models.build("MobileNetV2", 3, weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    "architecture, weights, message",
    [
        ("LeNet", None, "unknown architecture 'LeNet': choose one of ResNet18, MobileNetV2"),
        ("LeNet", "IMAGENET1K_V1", "unknown architecture 'LeNet'"),
        ("ViT", "IMAGENET1K_V1", "ViT has no pretrained weights: choose one of ResNet18, MobileNetV2, ViT-B/16"),
        ("AllCNN", "IMAGENET1K_V1", "AllCNN has no pretrained weights"),
        ("MobileNetV2", "V3", "unknown weights 'V3' of MobileNetV2: choose one of IMAGENET1K_V1, IMAGENET1K_V2$"),
        ("MobileNetV2", "", "unknown weights ''"),
        ("ViT-B/16", "IMAGENET1K_SWAG_E2E_V1", "choose one of IMAGENET1K_V1, IMAGENET1K_SWAG_LINEAR_V1$"),  # 384 pixels
    ],
)
def test_a_bad_name_lists_the_choices(architecture, weights, message, checkpoints):
    with pytest.raises(ValueError, match=message):
        models.build(architecture, 3, weights=weights)


@pytest.mark.parametrize("architecture", ["MobileNetV2", "ViT"])
def test_unsir_runs_without_special_cases(architecture):
    model = models.build(architecture, 3, seed=1)
    nn.init.normal_([module for module in model.modules() if isinstance(module, nn.Linear)][-1].weight, std=0.1)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    retain = Samples(images, torch.arange(8) % 2, 3, (0.5,) * 3, (0.3,) * 3)
    with untouched(model):
        result = unsir(model, [2], retain, noise_per_class=2, noise_steps=2, copies=2, batch_size=6)
    assert result.noise.losses[1] < result.noise.losses[0]
    assert result.samples == {"noise": 4, "impair": 12, "repair": 8}
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())
    after, before = dict(result.model.named_parameters()), dict(model.named_parameters())
    assert not any(torch.equal(after[name], before[name]) for name in before)
