"""Is there a trace of the very images? Of those that a network was trained on, beside those of the class that it never saw.

Two attacks that others report are left out, as they ask something else. One learns from p(true class) of retain images who
was trained on: it calls a forget image a member where its class is still answered, which is A_Df once more. The other
compares the entropy on forget images with that on retain images: it depends on how sure a network is of anything, and
retrained networks do not stand at one end of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.distributions import Normal

from .features import AtHead
from .recovered import recall_at

SMALLEST = 1e-6  # standard deviation, in nats: shadow networks that agree to the last digit divide nothing by zero


def margins(of: AtHead, forget: Sequence[int]) -> Tensor:
    """float64 [n]: log(p / (1 - p)), p the probability of an image's class among it and the retain classes.

    That is its logit less the logsumexp of the retain logits. It orders the images as the loss log(1 + exp(-margin)) does.
    """
    return of.logits.gather(1, of.labels[:, None])[:, 0] - of.logits[:, of.others(forget)].logsumexp(1)


def by_loss(train: AtHead, test: AtHead, forget: Sequence[int]) -> float:
    """AUC of telling forget training images (members) by their lower loss; 0.5 tells nothing.

    By their larger `margins`, whose order no shift of the class's logit changes.
    """
    return _auc(margins(train.only(forget), forget), margins(test.only(forget), forget))


def by_entropy(train: AtHead, test: AtHead, forget: Sequence[int]) -> float:
    """AUC of telling forget training images by the lower entropy of their retain classes' probabilities."""

    def sureness(of: AtHead) -> Tensor:
        log_p = of.logits[:, of.others(forget)].log_softmax(1)
        return (log_p.exp() * log_p).sum(1)

    return _auc(sureness(train.only(forget)), sureness(test.only(forget)))


def log_ratios(target: Tensor, seen: Tensor, unseen: Tensor) -> Tensor:
    """float64 [n]: by how much likelier an image's margin is if the network was trained on the image, in nats.

    log N(m; mean, sd of `seen`) - log N(m; mean, sd of `unseen`). A mean is the image's own. A standard deviation is shared
    by all images, as few shadow networks give none an image (Carlini et al. 2022); at least `SMALLEST`.

    target: margins [n] of the network that is attacked. seen, unseen: [s, n] each, s at least 2, of shadow networks that
    were trained on the image and that were not. Raises ValueError for other shapes.
    """
    if seen.shape != unseen.shape or seen.dim() != 2 or seen.shape[1:] != target.shape or len(seen) < 2:
        shapes = ", ".join(str([*part.shape]) for part in (target, seen, unseen))
        raise ValueError(f"margins are {shapes}: expected [n], [s, n] and [s, n], s at least 2")
    target, seen, unseen = (part.double() for part in (target, seen, unseen))
    likely = [
        Normal(of.mean(0), of.var(0).mean().sqrt().clamp(min=SMALLEST), validate_args=False).log_prob(target)
        for of in (seen, unseen)
    ]
    return likely[0] - likely[1]


def u_lira(margins: Tensor, member: Tensor) -> list[dict[str, float]]:
    """U-LiRA of a forgotten class: each network in turn is attacked, and the others but its twin are its shadow networks.

    All networks were trained on the retain classes and on a half of the forget classes' images, a pair of twins on opposite
    halves; then the same method unlearned the classes from each. So an image's two Gaussians differ in nothing but whether
    the image was in training: that is the trace that is asked for. Networks retrained without the whole class would be other
    strangers. From these an unlearned network differs by what the method did to the class, which is no trace of an image
    (`told_apart` measures it), and which members and held-out images share. To networks retrained without the class the
    halves are alike: their AUC is 0.5 in the mean. Networks that nothing unlearned show what there was to find. Leaving out
    the twin leaves each image as many shadow networks on either side.

    margins: [2p, n] of all the classes' n training images, p at least 3. member: bool [2p, n], whether the network was
    trained on the image; rows 2k and 2k + 1 are opposite.

    A dict a network. AUC: of telling members by `log_ratios`. right: % of images whose sign tells. found: % of members that
    stand out where 1 % of the others do, at most. nan where a margin is, as of a network that diverged.

    Source: Hayes et al. 2024, "Inexact unlearning needs more careful evaluations", there of single images among others
    that stay. Halves and turns are those of LiRA (Carlini et al. 2022). Raises ValueError where twins are not opposite.
    """
    if len(member) % 2 or not (member[::2] ^ member[1::2]).all():
        raise ValueError("the networks are no pairs of opposite halves: one of each two must be trained on an image")
    if len(member) < 6:
        raise ValueError(f"{len(member)} networks are given: give six or more, as each is attacked with the other pairs")
    one, two = margins[::2], margins[1::2]
    seen, unseen = torch.where(member[::2], one, two), torch.where(member[::2], two, one)
    found = []
    for i, (target, mine) in enumerate(zip(margins, member, strict=True)):
        others = torch.arange(len(seen)) != i // 2
        found.append(_success(log_ratios(target, seen[others], unseen[others]), mine))
    return found


def _success(scores: Tensor, member: Tensor) -> dict[str, float]:
    if not scores.isfinite().all():
        return dict.fromkeys(["AUC", "right", "found"], math.nan)
    right = 100 * ((scores > 0) == member).double().mean().item()
    return {
        "AUC": _auc(scores[member], scores[~member]),
        "right": right,
        "found": recall_at(scores[member], scores[~member], 0.01),
    }


def _auc(members: Tensor, strangers: Tensor) -> float:
    scores = [*members.tolist(), *strangers.tolist()]
    return float(roc_auc_score([1] * len(members) + [0] * len(strangers), scores))
