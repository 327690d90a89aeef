"""Is there a trace of the very images? A class's training images against its test images, which no network was trained on.

Two attacks that others report are left out, as they ask something else. One learns from p(true class) of retain images who
was trained on: it calls a forget image a member where its class is still answered, which is A_Df once more. The other
compares the entropy on forget images with that on retain images: it depends on how sure a network is of anything, and
retrained networks do not stand at one end of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import roc_auc_score
from torch import Tensor

from .features import AtHead


def by_loss(train: AtHead, test: AtHead, forget: Sequence[int]) -> float:
    """AUC of telling forget training images (members) by their lower loss; 0.5 tells nothing.

    The loss is log(1 + exp(-m)), m the class's logit less the logsumexp of the retain logits. So m orders the images as the
    loss does, and no shift of the class's logit changes the order.
    """

    def margin(of: AtHead) -> Tensor:
        return of.logits.gather(1, of.labels[:, None])[:, 0] - of.logits[:, of.others(forget)].logsumexp(1)

    return _auc(margin(train.only(forget)), margin(test.only(forget)))


def by_entropy(train: AtHead, test: AtHead, forget: Sequence[int]) -> float:
    """AUC of telling forget training images by the lower entropy of their retain classes' probabilities."""

    def sureness(of: AtHead) -> Tensor:
        log_p = of.logits[:, of.others(forget)].log_softmax(1)
        return (log_p.exp() * log_p).sum(1)

    return _auc(sureness(train.only(forget)), sureness(test.only(forget)))


def _auc(members: Tensor, strangers: Tensor) -> float:
    scores = [*members.tolist(), *strangers.tolist()]
    return float(roc_auc_score([1] * len(members) + [0] * len(strangers), scores))
