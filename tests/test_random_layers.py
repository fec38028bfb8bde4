import numpy as np
import pytest
import torch

from lib.methods import random_layers


def test_hidden_vectors_are_unit_rows_of_inputs_and_layers():
    found = list(random_layers.hidden(torch.relu, 5, 8, 3))
    assert [h.shape for h in found] == [(5, 8)] * 4
    for h in found:
        np.testing.assert_allclose(np.linalg.norm(h, axis=1), 1)
    assert all((h >= 0).all() for h in found[1:])


def test_a_seed_decides_the_network_and_the_bias_can_be_left_away():
    first, again, other = (
        list(random_layers.hidden(torch.tanh, 4, 6, 2, seed=seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    odd = list(random_layers.hidden(torch.tanh, 4, 6, 2, bias=False, seed=1))
    np.testing.assert_array_equal(first[0], odd[0])
    assert not np.allclose(first[1], odd[1])


def test_the_condition_is_that_of_the_theorem():
    assert random_layers.is_met(0.999, 1) and not random_layers.is_met(1.0, 1)
    assert random_layers.is_met(0.79, 2) and not random_layers.is_met(0.8, 2)
    assert random_layers.is_met(0.79, 0.5)


@pytest.mark.parametrize(("cosine", "ratio"), [(0.0, 1), (0.3, 2), (0.9, 3)])
def test_wide_layers_come_near_the_limit(cosine, ratio):
    found = random_layers.after_relu(cosine, ratio, 20_000, 20)
    assert found.mean() == pytest.approx(random_layers.relu_limit(cosine, ratio), abs=0.01)
    assert found.shape == (20,)


def test_the_limit_raises_the_cosine_where_the_condition_is_met():
    cosines = np.linspace(-1, 0.99, 200)
    for ratio in (1, 2, 3):
        met = random_layers.is_met(cosines, ratio)
        assert (random_layers.relu_limit(cosines, ratio) > cosines)[met].all()
