import numpy as np
import torch
from sklearn.neighbors import NearestCentroid
from tiny import at_head

from unsir_utils.audit import probe
from unsir_utils.audit.probe import classifier, linear_probe, nearest_mean
from unsir_utils.engine.state import seeded

HEAD = [[0.0, 0.0]] * 3  # of no account


def drawn(n: int, seed: int):
    with seeded(seed):
        labels = torch.arange(n) % 3
        return at_head(torch.eye(3, 2)[labels] + 0.6 * torch.randn(n, 2), labels.tolist(), HEAD)


def test_the_probe_by_hand():
    """Two of three images of the class 0 lie on its own side of a line that nothing else decides."""
    train = at_head([[-1.0], [-1.0], [1.0], [1.0]], [0, 0, 1, 1], [[0.0]] * 2)
    test = at_head([[-2.0], [-0.5], [0.5], [0.5]], [0, 0, 0, 1], [[0.0]] * 2)
    assert np.isclose(linear_probe(train, test, [0]), 200 / 3)


def test_the_probe_does_not_mind_the_scale_of_a_feature():
    train, test = drawn(300, 0), drawn(99, 1)
    scale = torch.tensor([1000.0, 0.01], dtype=torch.float64)
    wide = [at_head(of.features * scale + 5, of.labels.tolist(), HEAD) for of in (train, test)]
    assert linear_probe(train, test, [0]) == linear_probe(*wide, [0]) > 60


def test_c_is_a_tenth_over_the_number_of_training_images(monkeypatch):
    asked = []
    monkeypatch.setattr(probe, "classifier", lambda n: asked.append(n) or classifier(n))
    linear_probe(drawn(30, 0), drawn(9, 1), [0])
    assert asked == [30] and classifier(30)[-1].C == 0.1 / 30


def test_sklearns_nearest_centroid_agrees():
    train, test = drawn(60, 0), drawn(99, 1)
    predicted = NearestCentroid().fit(train.features, train.labels).predict(test.features)
    wanted = test.labels.numpy() == 0
    assert np.isclose(nearest_mean(train, test, [0]), 100 * (predicted[wanted] == 0).mean())


def test_classes_keep_their_numbers_where_one_is_absent():
    train = at_head([[0.0], [4.0]], [0, 2], [[0.0]] * 3)
    assert nearest_mean(train, at_head([[3.0], [1.0]], [2, 2], [[0.0]] * 3), [2]) == 50
