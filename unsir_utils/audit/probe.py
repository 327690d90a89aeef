"""Are the features of a class still there? Two readers of frozen features that no head can hide.

A retrained network does not score 0 here: features that were never trained on a class tell it apart from the others, too.
What counts is how far above the retrained networks a network lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from .features import AtHead

PENALTY = 0.1  # C of a logistic regression times its number of samples


def classifier(n: int) -> Pipeline:
    """Standardised features, then a logistic regression whose C is PENALTY over the n images that it learns from."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY / n, max_iter=1000))


def linear_probe(train: AtHead, test: AtHead, forget: Sequence[int]) -> float:
    """Recall in % of the forget classes' test images by a logistic regression on the training images' features.

    It is trained on all classes, so `train` should hold as many images of each, with standardised features. By a fixed rule
    C is 0.1 over the number of training images: the strongest penalty of 0.01 to 100 that cost the retain classes nothing on
    the test images of four networks on drawn shapes, no unlearned one in view. Source: the probe of CMF unlearning (2026),
    there by SGD. A weaker penalty finds more of the class in retrained and unlearned networks: all lie nearer together.
    """
    probe, there = classifier(len(train)).fit(train.features, train.labels), test.only(forget)
    return 100 * float(np.mean(probe.predict(there.features) == there.labels.numpy()))


def nearest_mean(train: AtHead, test: AtHead, forget: Sequence[int]) -> float:
    """Recall in % of the forget classes' test images, each image being of the class whose mean training feature lies nearest
    (Euclidean). Nothing is trained."""
    present = train.labels.unique()
    means = torch.stack([train.features[train.labels == c].mean(0) for c in present])
    there = test.only(forget)
    nearest = present[torch.cdist(there.features, means).argmin(1)]
    return 100 * (nearest == there.labels).double().mean().item()
