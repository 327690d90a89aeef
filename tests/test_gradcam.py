import pytest
import tiny
import torch
from captum.attr import LayerGradCam
from torch import nn
from torchvision.models import SwinTransformer

from unsir_utils.audit.gradcam import gradcam
from unsir_utils.workshop import models


def one_by_one(inplace: bool = True) -> nn.Module:
    """Two channels, +red and -red, averaged after a ReLU; the class 0 sums them with 3 and -2, the class 1 with -1 and 4."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace=inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        model[4].weight.copy_(torch.tensor([[3.0, -2.0], [-1.0, 4.0]]))
    return model


@pytest.mark.parametrize(
    "model, shape, layer",
    [
        (models.build("ResNet18", 5), (3, 32, 32), "layer2"),
        (models.build("AllCNN-0.125", 5), (3, 32, 32), "features.4.0"),
        (tiny.convnet(5), (3, 8, 8), "0"),
        (tiny.half_frozen(5), (3, 8, 8), "0"),
    ],
    ids=["ResNet18", "AllCNN", "convnet", "half_frozen"],
)
def test_captum_agrees(model, shape, layer):
    x, classes = torch.randn(6, *shape), torch.tensor([0, 1, 2, 3, 4, 0])
    with tiny.untouched(model):
        maps = gradcam(model, x, classes, layer)
    reference = LayerGradCam(model.eval(), model.get_submodule(layer))
    theirs = reference.attribute(x, target=classes, relu_attributions=True).detach().squeeze(1)
    assert maps.dtype == torch.float32 and not maps.requires_grad and maps.max() > 0
    torch.testing.assert_close(maps, theirs, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_map_is_as_computed_by_hand(inplace, frozen):
    model = one_by_one(inplace).requires_grad_(not frozen)
    red = torch.zeros(4, 4)
    red[0], red[1, :2] = 2.0, -5.0  # the channel +red passes the ReLU in 4 of 16 cells, -red in 2 of 16
    x = red[None, None].repeat(2, 1, 1, 1)
    maps = gradcam(model, x, torch.tensor([0, 1]), "0")
    weights = torch.tensor([[3 * 4, -2 * 2], [-1 * 4, 4 * 2]]) / 16 / 16
    torch.testing.assert_close(maps, torch.stack([(a * red - b * red).relu() for a, b in weights]))
    assert torch.equal(gradcam(model, x, 1, "0")[1], maps[1])
    assert torch.equal(x[0, 0], red)


def test_under_no_grad_and_autocast_the_maps_are_the_same():
    model, samples = tiny.convnet(), tiny.pixels(6)
    maps = gradcam(model, samples, samples.labels, "0")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gradcam(model, samples, samples.labels, "0"), maps)
    with torch.inference_mode():
        assert torch.equal(gradcam(model, samples, samples.labels, "0"), maps)
    assert torch.equal(gradcam(model, samples.inputs(), samples.labels, "0"), maps)


def test_a_map_depends_on_its_own_input_alone():
    model, samples = tiny.convnet().train(), tiny.pixels(6)
    maps = gradcam(model, samples, samples.labels, "1")
    one = samples[torch.tensor([4])]
    torch.testing.assert_close(gradcam(model, one, one.labels, "1"), maps[4:5])
    assert gradcam(model, samples[:0], samples.labels[:0], "1").shape == (0, 4, 4)


def swin() -> nn.Module:
    return SwinTransformer([4, 4], 24, [2], [2], [4, 4], num_classes=4)


def test_a_layer_may_be_the_module_itself():
    model, samples = swin(), tiny.floats((3, 32, 32), 2)
    maps = gradcam(model, samples, 1, model.permute)
    assert maps.shape == (2, 8, 8) and torch.equal(maps, gradcam(model, samples, 1, "permute"))


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (30, 41)])
def test_channels_last_are_not_taken_for_height(size):
    with pytest.raises(ValueError, match=r"layer 'features' gives .* looks like \[n, h, w, K\].*permutation"):
        gradcam(swin(), torch.randn(1, 3, *size), 0, "features")


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.spare = tiny.convnet(), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize(
    "model, classes, layer, message",
    [
        (models.build("ResNet18", 4), 0, "layer_2", r"unknown layer 'layer_2' \(near: .*layer2.*named_modules"),
        (tiny.convnet(), 0, "conv", "unknown layer 'conv'.*named_modules"),
        (tiny.convnet(), 0, nn.Conv2d(3, 6, 1), "unknown layer 'Conv2d'"),
        (tiny.convnet(), 0, 5, "unknown layer 5"),
        (tiny.convnet(), 0, "5", r"layer '5' gives \[2, 4\], not \[n, K, h, w\]"),
        (tiny.convnet(), 0, "3", r"gives \[2, 6, 2, 2\].* at least 4x4 cells:.*earlier.*larger images"),
        (tiny.convnet(), 4, "0", r"class 4 is out of range: expected 0\.\.3"),
        (tiny.convnet(), torch.tensor([0, -1]), "0", r"class \[0, -1\] is out of range: expected 0\.\.3"),
        (tiny.convnet(), torch.tensor([0, 1, 2]), "0", r"torch.int64 \[3\]: expected .*int64 \[2\]"),
        (tiny.convnet(), 1.0, "0", "expected a whole number"),
        (Unused(), 0, "spare", "layer 'spare' does not run"),
        (tiny.mlp(), 0, "0", r"does not take images of shape \[3, 8, 8\]"),
    ],
    ids=["near", "unknown", "foreign", "number", "vector", "coarse", "high", "low", "length", "float", "unused", "shape"],
)
def test_what_cannot_be_is_named_and_leaves_the_model_as_it_was(model, classes, layer, message):
    model.train()
    with tiny.untouched(model), pytest.raises(ValueError, match=message):
        gradcam(model, tiny.pixels(2), classes, layer)
    assert not any(m._forward_hooks for m in model.modules())
