"""The kernels on a GPU: as on the CPU, the same bytes twice, and without waiting for it batch by batch."""

import copy

import pytest
import torch
from tiny import convnet, fitted, floats, pixels, same_weights, settings_of_cuda
from torch.nn import functional as F

from unsir_utils.audit.gradcam import gradcam
from unsir_utils.engine.forward import forward
from unsir_utils.engine.precision import device, precision, uses_bfloat16
from unsir_utils.engine.samples import Samples
from unsir_utils.engine.state import seeded
from unsir_utils.engine.training import adam, one_epoch
from unsir_utils.impair import impair, mixed
from unsir_utils.methods.baselines import MaskedLogits, finetune, fisher_forgetting, neggrad
from unsir_utils.methods.fisher import fisher_information
from unsir_utils.metrics import evaluate, logits, relearn_epochs, relearn_steps, weight_distance
from unsir_utils.noise import learn_noise, unlearned_noise
from unsir_utils.unsir import released, unsir
from unsir_utils.workshop import models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
GPU = "cuda"
QUICK = dict(noise_per_class=3, noise_steps=2, copies=2, batch_size=8)
UNLEARN = {
    "unsir": lambda m, s: unsir(m, [1], s.without([1]), **QUICK).model,
    "unsir, BatchNorm on the noise": lambda m, s: unsir(m, [1], s.without([1]), **QUICK, batchnorm="train").model,
    "released": lambda m, s: released(m, [1], s.without([1]), learned=8, per_class=4).model,
    "finetune": lambda m, s: finetune(m, s.without([1]), epochs=2, batch_size=8),
    "neggrad": lambda m, s: neggrad(m, s.only([1]), batch_size=4),
    "fisher": lambda m, s: fisher_forgetting(m, s.without([1]), [1]),
}
EVERY_METHOD = pytest.mark.parametrize("name", UNLEARN)


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setenv("UNSIR_PRECISION", "float32")


@pytest.fixture(params=[floats((3, 8, 8), 40), pixels(40)], ids=["floats", "pixels"])
def both(request) -> tuple[Samples, Samples]:
    return request.param, request.param.to(GPU)


@EVERY_METHOD
def test_a_gpu_unlearns_as_a_cpu_does(name, both, in_float32):
    start = fitted(convnet(), floats((3, 8, 8), 40), 10)
    here, there = (UNLEARN[name](copy.deepcopy(start).to(s.device), s) for s in both)
    z, expected = logits(there, both[1]).cpu(), logits(here, both[0])
    assert (z - expected).abs().max() < 0.02 * expected.abs().max()
    assert next(there.parameters()).is_cuda


def test_measures_and_maps_are_those_of_a_cpu(both, in_float32):
    here, there = convnet(), convnet().to(GPU)
    assert evaluate(there, both[1]) == pytest.approx(evaluate(here, both[0]), rel=1e-4)
    expected = fisher_information(here, both[0])
    for name, information in fisher_information(there, both[1]).items():
        torch.testing.assert_close(information.cpu(), expected[name], rtol=1e-3, atol=1e-7)
    masked = MaskedLogits(there, [1])
    assert (logits(masked, both[1])[:, 1] == -torch.inf).all()
    maps = [gradcam(m, s, 0, "0").cpu() for m, s in zip((there, here), reversed(both), strict=True)]
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-6)
    assert weight_distance(there, convnet(seed=1).to(GPU)) == pytest.approx(weight_distance(here, convnet(seed=1)))


@pytest.mark.parametrize(
    "relearn, settings", [(relearn_epochs, {"per_epoch": 200, "lr": 0.05}), (relearn_steps, {"lr": 0.01})]
)
def test_the_relearn_time_is_that_of_a_cpu(relearn, settings, in_float32):
    train = floats((3, 8, 8), 40)
    original = fitted(convnet(), train, 10)
    lost = neggrad(original, train.only([1]), lr=0.02, epochs=2, batch_size=4)
    times = [relearn(lost.to(d), original.to(d), train.to(d), train.only([1]).to(d), **settings) for d in ("cpu", GPU)]
    assert times[0] == times[1] > 0


@EVERY_METHOD
@pytest.mark.parametrize("setting", ["auto", "float32"])
def test_the_same_seed_gives_the_same_bytes(name, setting, monkeypatch):
    monkeypatch.setenv("UNSIR_PRECISION", setting)
    samples = pixels(40).to(GPU)
    one, other = (UNLEARN[name](convnet().to(GPU), samples) for _ in range(2))
    assert same_weights(one, other)


@pytest.mark.parametrize("architecture", ["ResNet18", "AllCNN-0.125", "MobileNetV2"])
@pytest.mark.parametrize("setting", ["auto", "float32"])
def test_training_a_network_twice_gives_the_same_bytes(architecture, setting, monkeypatch):
    monkeypatch.setenv("UNSIR_PRECISION", setting)
    images = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    samples = Samples(images, torch.arange(128) % 10, 10).to(GPU)

    def trained():
        model = models.build(architecture, 10).to(GPU, memory_format=torch.channels_last)
        with seeded(3, GPU):
            losses = one_epoch(model, samples.shuffled(32), adam(model, 0.01))
        return model, losses

    (one, losses), (other, same) = trained(), trained()
    assert losses == same and same_weights(one, other)


@pytest.mark.parametrize("operation", ["product", "convolution"])
def test_float32_is_no_tf32(operation, in_float32, fast_cuda):
    """TF32 keeps ten bits of a fraction; errors of it would be a hundred times as large, forward and backward."""
    if operation == "product":
        model, x = torch.nn.Linear(512, 64, bias=False), torch.randn(64, 512)
    else:
        conv = torch.nn.Conv2d(64, 64, 3, bias=False)
        model, x = torch.nn.Sequential(conv, torch.nn.Flatten()), torch.randn(16, 64, 10, 10)
    exact = copy.deepcopy(model).double()
    z = exact(x.double())
    z.square().mean().backward()
    model = model.to(GPU)
    found = forward(model, x.to(GPU)).cpu().double()
    assert (found - z).abs().max() < 1e-5 * z.abs().max()
    before = next(model.parameters()).detach().clone()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    one_epoch(model, [(x.to(GPU), None)], sgd, objective=lambda z, _: z.square().mean())
    gradient, expected = (before - next(model.parameters())).cpu().double(), next(exact.parameters()).grad
    assert (gradient - expected).abs().max() < 5e-5 * expected.abs().max()
    assert settings_of_cuda() == fast_cuda


@pytest.fixture
def no_waiting():
    """Batches between whose first and last nothing may wait for the GPU."""

    def watched(batches):
        for batch in batches:
            torch.cuda.set_sync_debug_mode("error")
            yield batch
        torch.cuda.set_sync_debug_mode("default")

    yield watched
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("source", [floats((3, 8, 8), 40), pixels(40)], ids=["floats", "pixels"])
@pytest.mark.parametrize("batches", ["impair", "shuffled"])
def test_no_batch_waits_for_the_gpu(source, batches, no_waiting):
    model, retain = convnet().to(GPU), source.without([1]).to(GPU)
    noise = unlearned_noise([1], retain.shape, per_class=3)
    noise = type(noise)(noise.images.to(GPU), noise.labels.to(GPU), [], 0.0, 0)
    taken = mixed(retain, noise, 60, 8) if batches == "impair" else retain.shuffled(8)
    one_epoch(model, no_waiting(taken), adam(model, 0.01), clip_value=0.1)


def test_the_watch_notices_a_wait(no_waiting):
    x = torch.zeros(8, 3, 8, 8, device=GPU)
    with pytest.raises(RuntimeError, match="synchroniz"):
        for _ in no_waiting([x, x]):
            x.sum().item()


def test_learning_noise_waits_at_its_end_only(monkeypatch):
    model, waits = convnet().to(GPU), []
    monkeypatch.setattr("unsir_utils.noise.accumulate_gradient", _without_waiting(waits))
    learn_noise(model, [1, 2], (3, 8, 8), per_class=3, steps=4)
    assert len(waits) == 4


def _without_waiting(waits: list):
    from unsir_utils.noise import accumulate_gradient

    def watched(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        try:
            waits.append(accumulate_gradient(*arguments))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return waits[-1]

    return watched


@pytest.mark.parametrize("name", ["cpu", GPU])
def test_the_random_state_of_every_device_comes_back(name):
    torch.cuda.manual_seed_all(11)
    cpu, gpu = torch.get_rng_state(), torch.cuda.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(5, name):
            drawn.append(torch.cat([torch.rand(3), torch.rand(3, device=GPU if name == GPU else "cpu").cpu()]))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), cpu) and torch.equal(torch.cuda.get_rng_state(), gpu)


def test_unlearning_leaves_the_random_state_of_the_gpu():
    gpu = torch.cuda.get_rng_state()
    impair(convnet().to(GPU), pixels(20).to(GPU), None, batch_size=8)
    assert torch.equal(torch.cuda.get_rng_state(), gpu)


def test_bfloat16_is_used_where_the_gpu_has_it(monkeypatch):
    has = torch.cuda.is_bf16_supported(including_emulation=False)
    assert uses_bfloat16(GPU) is has
    assert precision(convnet(), GPU) is (torch.bfloat16 if has else torch.float32)
    assert forward(convnet().to(GPU), torch.zeros(2, 3, 8, 8, device=GPU)).dtype == torch.float32
    monkeypatch.setenv("UNSIR_PRECISION", "float32")
    assert precision(convnet(), GPU) is torch.float32


def test_the_gpu_is_the_default_device():
    assert device().type == GPU


def test_a_model_trained_on_a_gpu_learns():
    samples = floats((3, 8, 8), 64).to(GPU)
    model = convnet().to(GPU)
    before = F.cross_entropy(logits(model, samples), samples.labels)
    for _ in range(4):
        one_epoch(model, samples.shuffled(16), adam(model, 0.02))
    assert F.cross_entropy(logits(model, samples), samples.labels) < 0.7 * before
