"""Can an unlearned network be told from one that never saw the class, by answers to the class's images and by features?

The class's own logit is dropped and the rest made probabilities anew, as A_Df says whether the class itself is answered.
Two retrained networks differ as well, so hold every number against that of a retrained network and another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special
from sklearn.metrics import roc_auc_score
from torch import Tensor

from .features import AtHead
from .probe import classifier

FOLDS = 5


def remaining(images: AtHead, forget: Sequence[int]) -> Tensor:
    """float64 [n, K_r]: log probabilities of the retain classes, once the forget logits are dropped."""
    return images.logits[:, images.others(forget)].log_softmax(1)


def by_classifier(one: AtHead, other: AtHead, forget: Sequence[int]) -> float:
    """AUC of a logistic regression that tells from `remaining` which of two networks answered; 0.5 tells nothing.

    one, other: the same images in the same order. Cross-fitted in five folds by image: no answer is judged by a classifier
    that saw either network's answer to this image. Standardised, C by the rule of `probe.linear_probe`. nan for one image.
    """
    n = len(one)
    if n < 2:
        return math.nan
    answers = np.concatenate([remaining(images, forget).numpy() for images in (one, other)])
    which, fold, scores = np.repeat([1, 0], n), np.tile(np.arange(n) % FOLDS, 2), np.zeros(2 * n)
    for k in range(min(FOLDS, n)):
        judge = classifier(sum(fold != k)).fit(answers[fold != k], which[fold != k])
        scores[fold == k] = judge.decision_function(answers[fold == k])
    return float(roc_auc_score(which, scores))


def jensen_shannon(one: AtHead, other: AtHead, forget: Sequence[int]) -> float:
    """Mean over the same images of the Jensen-Shannon divergence of two networks' `remaining`, in bits: 0 to 1."""
    p, q = (remaining(images, forget).exp().numpy() for images in (one, other))
    middle = (p + q) / 2
    return float((special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(1).mean() / (2 * math.log(2)))


def cka(one: AtHead, other: AtHead) -> float:
    """Linear centred kernel alignment of two networks' features of the same images, 0 to 1 (Kornblith et al. 2019).

    |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms of centred features X, Y [n, d], by their Gram matrices [n, n]. 1 where they
    agree but for rotation and scale; nan where a network's features are all the same.
    """
    k, m = (x @ x.T for x in (of.features - of.features.mean(0) for of in (one, other)))
    return ((k * m).sum() / (k.norm() * m.norm())).item()
