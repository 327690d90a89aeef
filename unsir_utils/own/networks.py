"""Networks as people have them: made ready for the kernels, or refused with what to do; built and loaded by name."""

from __future__ import annotations

import copy
import importlib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine import checks
from ..engine.forward import called
from ..engine.samples import Samples
from ..engine.state import mode

WRAPPERS = ("module", "_orig_mod")  # where DataParallel and torch.compile keep the network
PREFIXES = (*(f"{name}." for name in WRAPPERS), "model.")  # before every name of a checkpoint; the last is Lightning's
STATES = ("state_dict", "model_state_dict", "model", "network", "net")  # where a checkpoint keeps its weights


def ready(model: nn.Module) -> nn.Module:
    """A copy that the kernels run on.

    It is taken out of DataParallel and torch.compile and brought to float32. Raises ValueError for what can be none.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model is a {type(model).__name__}: expected a torch.nn.Module, with its weights loaded")
    model = unwrapped(model)
    compiled = [layer for layer in model.modules() if isinstance(layer, torch.jit.ScriptModule)]
    if model in compiled or any(layer.state_dict() for layer in compiled):  # a part without weights is a function
        raise ValueError(
            "the model, or a part of it, is TorchScript, whose compiled code may have fixed it in eval mode and cannot be "
            "looked into for its layers: build it from its Python class and load its state_dict()"
        )
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if len(dtypes) > 1:
        found = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"the model's weights are of several types ({found}): bring them to one, as by model.float()")
    checks.unfrozen(model)
    try:
        copied = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the model cannot be copied ({error}): take off what torch.nn.utils.weight_norm or the like put on it, or "
            "keep no outputs and open files in it"
        ) from error
    return copied.float()


def in_precision_of(model: nn.Module, copied: nn.Module) -> nn.Module:
    """`copied` with each weight and buffer in the precision that it has in `model`; one that only came to be with the first
    forward pass stays as it is."""
    own = dict([*model.named_parameters(), *model.named_buffers()])
    for name, theirs in [*copied.named_parameters(), *copied.named_buffers()]:
        if name in own:
            theirs.data = theirs.data.to(own[name].dtype)
    return copied


def unwrapped(model: nn.Module) -> nn.Module:
    kinds = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch._dynamo.eval_frame.OptimizedModule)
    while isinstance(model, kinds):
        model = next(getattr(model, name) for name in WRAPPERS if hasattr(model, name))
    return model


@torch.no_grad()
def of_log_probabilities(model: nn.Module, samples: Samples) -> bool:
    """Whether a LogSoftmax ends the model. The loss does not mind: it normalises once more, which changes nothing.

    Asked in float32 on every machine: in bfloat16 probabilities do not sum to one.
    """
    with mode(model, False):
        return bool(called(model, samples.inputs(slice(0, 2))).logsumexp(1).abs().max() < 1e-3)


def load(name: str, arguments: dict[str, Any] | None, weights: Path | str, n_classes: int) -> nn.Module:
    """A network as `build` makes it, with the weights of a checkpoint as `load_weights` reads it, in eval mode."""
    model = build(name, arguments, n_classes)
    load_weights(model, Path(weights))
    return model.eval()


def build(name: str, arguments: dict[str, Any] | None, n_classes: int) -> nn.Module:
    """A network by "module:function", which is called with the arguments, or by torchvision's name for it.

    arguments: None for {"num_classes": n_classes}, where it is torchvision's, and else for none.
    """
    if arguments is None:
        arguments = {} if ":" in name else {"num_classes": n_classes}
    if ":" not in name:
        import torchvision

        if name not in torchvision.models.list_models():
            raise ValueError(f"{name!r} is no network of torchvision's: expected one, as resnet18, or module:function")
        return _called(name, lambda: torchvision.models.get_model(name, weights=None, **arguments), arguments)
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} cannot be imported ({error}): run where `import {module}` works") from error
    return _called(name, lambda: make(**arguments), arguments)


def _called(name: str, make: Any, arguments: dict[str, Any]) -> nn.Module:
    try:
        with warnings.catch_warnings(action="ignore"):  # of initialisations, which the checkpoint replaces
            model = make()
    except TypeError as error:
        raise ValueError(f"{name} cannot be called with {arguments}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} returns a {type(model).__name__}: expected a torch.nn.Module")
    return model


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads a checkpoint into the model: safetensors, or what torch.save wrote, of which only tensors are read.

    Nothing is unpickled that could run code. Raises ValueError for TorchScript, and for weights of another network.
    """
    found = _weights(path)
    while prefix := _wrapper(found, model):
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    try:
        model.load_state_dict(found := found | _tied(found, model))
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another network: {_misfit(found, model.state_dict())}") from error


def _misfit(found: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> str:
    """What a checkpoint has otherwise than the network, and what to do where that is the number of classes alone."""
    shared = found.keys() & own.keys()
    sizes = {key: (*found[key].shape[:1], *own[key].shape[:1]) for key in shared if found[key].shape != own[key].shape}
    other = sorted({*sizes, *(found.keys() ^ own.keys())})
    if len(other) == len(sizes) <= 2 and len({*sizes.values()}) == 1:  # weight and bias of one layer
        has, here = sizes[other[0]]
        return f"it has {has} outputs, the network here {here}: name all {has} classes in their order (--names)"
    more = f" and {len(other) - 3} more" if len(other) > 3 else ""
    return f"{', '.join(other[:3])}{more} differ: build the network that it was saved from"


def _tied(found: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that the model has under several names and a checkpoint, as safetensors', under one of them."""
    own = model.state_dict(keep_vars=True)
    known = {id(own[name]): value for name, value in found.items() if name in own}
    return {name: known[id(tensor)] for name, tensor in own.items() if name not in found and id(tensor) in known}


def _wrapper(found: dict[str, torch.Tensor], model: nn.Module) -> str | None:
    """What wrapped networks put before every name of a checkpoint; one may wrap another."""
    own = model.state_dict()
    alien = [prefix for prefix in PREFIXES if not any(key.startswith(prefix) for key in own)]
    return next((prefix for prefix in alien if found and all(key.startswith(prefix) for key in found)), None)


def check_file(path: Path) -> None:
    """Raises ValueError where there is no checkpoint."""
    if not path.is_file():
        raise ValueError(f"no file {path}: expected a checkpoint, .safetensors or what torch.save wrote")


def _weights(path: Path) -> dict[str, torch.Tensor]:
    check_file(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read as safetensors ({error})") from error
    if zipfile.is_zipfile(path) and any(n.endswith("constants.pkl") for n in zipfile.ZipFile(path).namelist()):
        raise ValueError(
            f"{path} is TorchScript, a program and not only weights: loading it would run code that it brings. Save "
            "model.state_dict() with torch.save or safetensors"
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what zip, pickle and storage raise
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read without unpickling, which could run code ({why}): save model.state_dict(), not the model"
        ) from error
    while isinstance(found, dict) and (inner := next((found[k] for k in STATES if isinstance(found.get(k), dict)), None)):
        found = inner
    if not (isinstance(found, dict) and found and all(isinstance(v, torch.Tensor) for v in found.values())):
        raise ValueError(f"{path} holds no state_dict: save model.state_dict(), alone or as 'state_dict' in a dict")
    return found
