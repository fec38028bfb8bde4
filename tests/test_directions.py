from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.methods import directions
from lib.validation import unit

X = unit(np.random.default_rng(0).normal(size=(60, 8)) * np.arange(1, 9) + 1)


def cosines(rows):
    rows = unit(rows)
    return rows @ rows.T


def test_repairs_that_keep_everything_are_the_mean_subtracted_or_whitened():
    each = directions.of_images(X)
    assert tuple(each) == directions.IMAGES_ONLY
    centred = X - X.mean(0)
    for name in ("mean subtracted", "principal components"):
        np.testing.assert_allclose(cosines(each[name].moved(X)), cosines(centred), atol=1e-5)
    np.testing.assert_allclose(np.cov(each["whitening"].moved(X).T), np.eye(8), atol=1e-4)
    first, last = each["principal components"].ranges[0]
    assert (first, last) == (0, 4) and each["principal components"].ranges[-1] == (0, 8)
    moved = each["principal components"].moved(X)
    assert (np.diff(moved.var(0)) <= 1e-9).all()


def test_fewer_images_than_dimensions_have_fewer_components():
    few = directions.of_images(X[:5])
    assert few["whitening"].ranges == ((0, 4),)
    np.testing.assert_allclose(
        cosines(few["principal components"].moved(X[:5])), cosines(X[:5] - X[:5].mean(0)), atol=1e-5
    )


def test_the_columns_with_the_best_score_are_chosen():
    its = directions.of_images(X)["principal components"]
    assert its.chosen(X, lambda rows: -rows.shape[1]) == slice(0, 4)
    assert its.chosen(X, lambda rows: rows.shape[1]) == slice(0, 8)


def test_directions_of_texts_are_those_in_which_texts_differ():
    texts = np.zeros((20, 8)) + np.eye(8)[0]
    texts[:, 3] = np.linspace(-1, 1, 20)
    found = directions.of_texts(texts)
    assert abs(found.matrix[3, 0]) > 0.9
    np.testing.assert_allclose(found.moved(X), X @ found.matrix, atol=1e-6)


def test_all_singular_directions_compare_images_before_the_projection():
    rng = np.random.default_rng(0)
    image, text = (torch.nn.Parameter(torch.tensor(rng.normal(size=(12, 12)))) for _ in range(2))
    clip = SimpleNamespace(visual=SimpleNamespace(proj=image), text_projection=text)
    found = directions.of_projections(SimpleNamespace(clip=clip))
    assert found.ranges[0] == (0, 12) and all(a < b for a, b in found.ranges)
    inner = rng.normal(size=(5, 12))
    moved = found.moved(inner @ image.detach().numpy())
    np.testing.assert_allclose(cosines(moved), cosines(inner), atol=1e-4)
    with pytest.raises(ValueError, match="a matrix each"):
        directions.of_projections(SimpleNamespace(clip=SimpleNamespace()))
