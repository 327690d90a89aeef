"""`forget` from a terminal: a folder of images and a checkpoint in, the unlearned weights and a report out."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

EPILOG = """\
FOLDER holds one sub-folder of images a class, or train/ and val/ (or test/) that do. Classes are numbered in the order of
their names, as torchvision's ImageFolder does. val/ (else test/, else a fifth of each class) is held out: rates are chosen
and accuracies measured there. The passes see train/ without the classes to forget, and so does the choice: their held-out
images only say at the end what came of it. With --look they decide. Images are turned upright by their EXIF data, laid
on white where they are transparent, and scaled to 8 bits a channel. torchvision's ImageFolder does none of these: a network
that it trained on such images saw them otherwise.

OUT is a new folder: unlearned.safetensors, report.json, report.md. Nothing is ever overwritten.

example:
  python -m unsir_utils forget photos --network resnet18 --weights cats.safetensors --classes tabby siamese --out forgotten
"""


def main(arguments: Sequence[str] | None = None) -> int:
    sys.path.insert(0, os.getcwd())  # for module:function
    asked = _parser().parse_args(arguments)
    try:
        _forget(asked)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"python -m unsir_utils forget: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("python -m unsir_utils forget: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m unsir_utils", description="UNSIR on a network of your own.")
    commands = parser.add_subparsers(required=True, metavar="forget")
    raw = argparse.RawDescriptionHelpFormatter
    forget = commands.add_parser(
        "forget", help="unlearn classes of your own network", epilog=EPILOG, formatter_class=raw,
        description="Unlearns classes of a trained network, at rates chosen on held-out images of the other classes.",
    )  # fmt: skip
    add = forget.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the images; see below")
    add("--network", required=True, metavar="NAME", help="module:function that returns it, or torchvision's name of it")
    add("--arguments", type=_as_json, default=None, metavar="JSON",
        help='what it is called with; default for torchvision: {"num_classes": sub-folders}, else none')  # fmt: skip
    add("--weights", required=True, type=Path, metavar="FILE", help=".safetensors, or a state_dict that torch.save wrote")
    add("--classes", required=True, nargs="+", metavar="CLASS", help="to forget: names of sub-folders, or numbers")
    add("--names", nargs="+", default=(), metavar="CLASS",
        help="of all the network's classes, in its order, where some have no sub-folder any more")  # fmt: skip
    add("--out", required=True, type=Path, metavar="OUT", help="a new folder for what comes out")
    add("--image-size", type=int, default=224, metavar="PIXELS", help="images are resized and cropped to it (%(default)s)")
    add("--mean", type=float, nargs="+", default=None, help="of each channel, as trained with; default: ImageNet's")
    add("--std", type=float, nargs="+", default=None, help="the same")
    add("--grey", action="store_true", help="the network takes one channel")
    add("--retain-per-class", type=int, default=300, metavar="N", help="images a class that the passes see (%(default)s)")
    add("--batch-size", type=int, default=None, metavar="N", help="default: by the number of images")
    add("--budget", type=float, default=5.0, metavar="RUNS", help="image passes in all, in runs of UNSIR (%(default)s)")
    add("--look", action="store_true", help="held-out images of the classes to forget may decide")
    add("--device", default=None, help="cpu, cuda or cuda:1; default: the GPU where there is one")
    add("--seed", type=int, default=0)
    return parser


EXAMPLE = '{"num_classes": 3}'


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: expected such as {EXAMPLE}") from error


def _forget(asked: argparse.Namespace) -> None:
    from ..engine import precision
    from .images import read_images
    from .networks import check_file

    device = precision.device(asked.device)
    if asked.out.resolve().is_relative_to(asked.folder.resolve()):
        raise ValueError(f"{asked.out} lies in {asked.folder}, where it would count as a class: name a folder elsewhere")
    check_file(asked.weights)
    with _new_folder(asked.out):
        train, held_out = read_images(asked.folder, asked.image_size, asked.mean, asked.std, asked.grey, asked.names)
        model = _network(asked, train.n_classes).to(device)
        found = _unlearned(model, asked, train, held_out)
        _write(found, asked, held_out.names)
    print(found.report)
    print(f"\nWritten: {asked.out}/unlearned.safetensors, report.json, report.md")


@contextmanager
def _new_folder(path: Path) -> Iterator[None]:
    """Made before any work, so that what cannot be written is said at once; what was made is gone again where the work
    fails."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise ValueError(f"{path} is there already: name a new folder, nothing is overwritten") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be made ({error.strerror}): name a folder elsewhere") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # one that holds something stays, and so do those that hold it
            for folder in made:
                folder.rmdir()
        raise


def _network(asked: argparse.Namespace, n_classes: int) -> Any:
    from .networks import load

    if asked.arguments is not None and not isinstance(asked.arguments, dict):
        raise ValueError(f"--arguments is {asked.arguments!r}: expected a JSON object")
    return load(asked.network, asked.arguments, asked.weights, n_classes)


def _unlearned(model: Any, asked: argparse.Namespace, train: Any, held_out: Any) -> Any:
    from .forgetting import forget

    classes = [c if c in train.names or not c.isdecimal() else int(c) for c in asked.classes]
    gone = held_out.only(classes)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # the report says all that `forget` warns of
        return forget(
            model, classes, train.without(classes), held_out.without(classes),
            held_out_forget=gone if len(gone) else None, look=asked.look,
            retain_per_class=asked.retain_per_class, batch_size=asked.batch_size, budget=asked.budget, seed=asked.seed,
        )  # fmt: skip


def _write(found: Any, asked: argparse.Namespace, names: tuple[str, ...]) -> None:
    from safetensors.torch import save_model

    save_model(found.model.cpu(), str(asked.out / "unlearned.safetensors"))
    about = {"network": asked.network, "weights": str(asked.weights), "classes": list(names), **found.report.as_dict()}
    (asked.out / "report.json").write_text(json.dumps(about, indent=1))
    (asked.out / "report.md").write_text(f"{found.report}\n", encoding="utf-8")
