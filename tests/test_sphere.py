import numpy as np
import pytest

from lib.measures import sphere


def apart(n=60, d=12, gap=0.0, seed=0):
    """Pairs of unit rows with a common mean and, along one direction, a gap."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, d)) / 4
    x[:, 0] += gap
    y[:, 0] -= gap
    rows = np.concatenate([x, y]) + np.eye(d)[1]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:n], rows[n:]


@pytest.mark.parametrize("centred", [True, False])
def test_a_projection_is_on_the_sphere_with_images_on_the_left(centred):
    for rows, side in zip(sphere.project(*apart(gap=0.6), centred), (-1, 1), strict=True):
        assert rows.shape == (60, 3)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
        assert np.sign(rows[:, 0].mean()) == side


def test_what_has_three_dimensions_keeps_its_angles():
    x, y = apart(d=3, gap=0.5)
    both, drawn = np.concatenate([x, y]), np.concatenate(sphere.project(x, y, centred=False))
    np.testing.assert_allclose(drawn @ drawn.T, both @ both.T, atol=1e-6)
    assert drawn[:, 2].mean() > 0  # the cone lies before the viewer
    assert sphere.angle(*sphere.project(x, y, centred=False)) == pytest.approx(sphere.angle(x, y))
    assert sphere.held(x, y, centred=False) == pytest.approx(1)


def test_centring_drives_two_groups_to_the_poles():
    x, y = apart(gap=0.6)
    assert sphere.angle(*sphere.project(x, y, centred=True)) > 170 > sphere.angle(x, y)


def test_share_of_three_directions():
    x, y = apart(gap=0.5)
    both = np.concatenate([x, y])
    values = np.linalg.eigvalsh(both.T @ both)
    assert sphere.held(x, y, False) == pytest.approx(values[-3:].sum() / values.sum(), rel=1e-5)
    values = np.linalg.eigvalsh(np.cov(both.T))
    assert sphere.held(x, y, True) == pytest.approx(values[-3:].sum() / values.sum(), rel=1e-5)


def test_angle_between_mean_directions():
    assert sphere.angle([[2.0, 0], [4, 0]], [[0, 1.0]]) == pytest.approx(90)


@pytest.mark.slow
def test_umap_is_on_the_sphere_and_repeats_itself():
    pairs = apart(n=40, gap=2)
    first, again = sphere.umap(*pairs, seed=1), sphere.umap(*pairs, seed=1)
    for rows, same in zip(first, again, strict=True):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
        np.testing.assert_array_equal(rows, same)
    assert first[0][:, 0].mean() < 0 < first[1][:, 0].mean()


def test_pairs_are_wanted():
    with pytest.raises(ValueError, match="pairs"):
        sphere.project(np.ones((3, 4)), np.ones((4, 4)), centred=True)
