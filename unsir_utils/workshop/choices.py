"""The choice that `forget` makes without any image of the class, as a case of the study."""

from __future__ import annotations

import warnings

from ..methods.baselines import MaskedLogits
from ..own.forgetting import forget
from .study import measure, scenario


def choices(network: str, asked: int, **request) -> list[dict]:
    """A case: the original, a masked logit and `forget`, each with its A_Dr and A_Df on the test set.

    network, asked: a name of the network and the number of its request, which stand in the records. request: arguments of
    `scenario`. `forget` gets D_r, of which it draws retain_per_class images a class, and the validation part without the
    forget classes; no image of these. Its record tells, too, whether noise was chosen (noise), at which impair_lr, the
    margin on stand-ins, and whether that called the class forgotten. images: of the forget classes, in the test set.
    """
    s = scenario(**request)
    validation = s.loaded.validation.without(s.forget)
    with warnings.catch_warnings(action="ignore"):  # a goal that was missed stands in the records
        found = forget(s.original, s.forget, s.retain, validation, retain_per_class=s.retain_per_class, seed=s.seed)
    (chosen,) = (record for record in found.tried if record["chosen"])
    about = {"images": len(s.loaded.test.only(s.forget))}
    told = {name: chosen[name] for name in ("noise", "impair_lr", "margin", "forgotten")}
    models = {"Original": s.original, "Masked logits": MaskedLogits(s.original, s.forget), "forget()": found.model}
    return [
        {"method": name, **about, **measure(model, s), **(told if model is found.model else dict.fromkeys(told))}
        for name, model in models.items()
    ]
