import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.stats import ortho_group

from lib.measures import gap
from lib.methods import standardise
from lib.methods.standardise import Standardiser

quick = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**20)


def cloud(n, d, seed=0, offset=0.0):
    points = np.random.default_rng(seed).standard_normal((n, d))
    points[:, 0] += offset
    return torch.from_numpy(points).float()


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


X, Y = cloud(40, 6, 0, 2), cloud(50, 6, 1, -1)

# --- I0T_post ------------------------------------------------------------------------------------


@quick
@given(seeds, st.integers(3, 9), st.integers(2, 6))
def test_i0t_post_against_a_loop(seed, n, d):
    x, y = cloud(n, d, seed, 1), cloud(n + 1, d, seed + 1)
    standardiser = Standardiser.fit(x, y)
    for rows, apply in ((x, standardiser.image), (y, standardiser.text)):
        mean = sum(unit(row) for row in rows) / len(rows)
        expected = np.stack([unit(unit(row) - mean) for row in rows])
        found = apply(rows)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_allclose(found.norm(dim=1), 1, atol=1e-6)


def test_means_are_those_of_normalised_embeddings_and_no_spread_is_divided_out():
    standardiser = Standardiser.fit(X, Y)
    np.testing.assert_allclose(standardiser.image_mean, unit(X).mean(0), atol=1e-7)
    np.testing.assert_allclose(standardiser.text_mean, unit(Y).mean(0), atol=1e-7)
    assert standardiser.image_mean.dtype == torch.float64
    assert (standardiser.image_count, standardiser.text_count) == (40, 50)
    wide = X.clone()
    wide[:, 3] *= 30
    spread = Standardiser.fit(wide, Y).image(wide).std(0)
    assert spread[3] > 5 * spread[[1, 2, 4, 5]].max()


def test_i0t_post_with_own_means_is_a_fit_on_the_same_rows():
    fitted = Standardiser.fit(X, Y)
    for rows, expected in zip(
        standardise.i0t_post(X, Y), (fitted.image(X), fitted.text(Y)), strict=True
    ):
        torch.testing.assert_close(rows, expected)


def test_the_gap_closes_and_a_single_sample_is_treated_alike():
    standardiser = Standardiser.fit(X, Y)
    x, y = standardiser.image(X), standardiser.text(Y)
    assert gap.centroid_distance(x, y) < 0.2 < 1 < gap.centroid_distance(X, Y)
    assert standardiser.image(X[7]).shape == (6,)
    np.testing.assert_allclose(standardiser.image(X[7]), x[7], atol=1e-6)
    np.testing.assert_allclose(standardiser.text(Y[7].numpy() * 5), y[7], atol=1e-6)


@quick
@given(seeds)
def test_order_changes_nothing_and_rotation_turns_the_result(seed):
    rng = np.random.default_rng(seed)
    order, turn = rng.permutation(len(X)), ortho_group.rvs(6, random_state=seed)
    expected = Standardiser.fit(X, Y).image(X)
    np.testing.assert_allclose(Standardiser.fit(X[order], Y).image(X), expected, atol=1e-5)
    turned = Standardiser.fit(X @ turn, Y @ turn).image(X @ turn)
    np.testing.assert_allclose(turned, expected.double() @ turn, atol=1e-5)


def test_fit_on_n_samples():
    x, y = X, Y[:40]
    some = Standardiser.fit(x, y, n=8, seed=3)
    assert (some.image_count, some.text_count) == (8, 8)
    again, other = Standardiser.fit(x, y, n=8, seed=3), Standardiser.fit(x, y, n=8, seed=4)
    assert torch.equal(some.image_mean, again.image_mean)
    assert not torch.equal(some.image_mean, other.image_mean)
    all_of_them, plain = Standardiser.fit(x, y, n=40), Standardiser.fit(x, y)
    np.testing.assert_allclose(all_of_them.image_mean, plain.image_mean, atol=1e-12)
    same = Standardiser.fit(x, x, n=8)
    assert torch.equal(same.image_mean, same.text_mean)  # pairs stay pairs
    for n in (0, 41):
        with pytest.raises(ValueError, match="n must be between 1 and the 40 rows"):
            Standardiser.fit(x, y, n=n)


@quick
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), seeds)
def test_streaming_gives_the_same_numbers(sizes, seed):
    """In batches of any size, images and texts together or apart, equal a fit on everything."""
    x, y = cloud(sum(sizes), 5, seed, 1), cloud(sum(sizes), 5, seed + 1)
    together = apart = Standardiser.empty(5)
    for part in torch.split(torch.arange(len(x)), sizes):
        together = together.update(x[part], y[part])
        apart = apart.update(x=x[part])
    apart = apart.update(y=y)
    whole = Standardiser.fit(x, y)
    for found in (together, apart):
        np.testing.assert_allclose(found.image_mean, whole.image_mean, atol=1e-14)
        np.testing.assert_allclose(found.text_mean, whole.text_mean, atol=1e-14)
        assert (found.image_count, found.text_count) == (len(x), len(y))


def test_update_leaves_the_old_one_alone():
    first = Standardiser.fit(X, Y)
    before = first.image_mean.clone()
    assert first.update(X + 1, Y).image_count == 80
    assert torch.equal(first.image_mean, before)
    assert first.image_count == 40


def test_save_and_load(tmp_path):
    standardiser = Standardiser.fit(X, Y)
    path = tmp_path / "means.safetensors"
    standardiser.save(path)
    loaded = Standardiser.load(path)
    assert torch.equal(loaded.image_mean, standardiser.image_mean)
    assert torch.equal(loaded.text_mean, standardiser.text_mean)
    assert torch.equal(loaded.text(Y), standardiser.text(Y))
    more = loaded.update(X)
    assert (more.image_count, more.text_count) == (80, 50)
    assert sorted(load_file(path)) == ["counts", "image_mean", "text_mean"]
    assert [p.name for p in tmp_path.iterdir()] == ["means.safetensors"]


@pytest.mark.parametrize("how", ["cut", "other", "text"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path, how):
    path = tmp_path / "means.safetensors"
    Standardiser.fit(X, Y).save(path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif how == "other":
        save_file({"weight": X}, path)
    else:
        path.write_text("not a tensor")
    with pytest.raises(ValueError, match="is not a saved Standardiser"):
        Standardiser.load(path)
    with pytest.raises(FileNotFoundError):
        Standardiser.load(tmp_path / "nothing")


def test_degenerate_fits():
    one = Standardiser.fit(X[:1], Y[:1])
    with pytest.raises(ValueError, match="Row 0 becomes a zero vector"):
        one.image(X[0])
    same = X[:1].repeat(6, 1)
    with pytest.raises(ValueError, match="fit on more than one"):
        Standardiser.fit(same, Y).image(same)
    assert one.image(X[1:]).isfinite().all()
    with pytest.raises(ValueError, match="has seen no text yet"):
        Standardiser.empty(6).update(x=X).text(Y)
    with pytest.raises(ValueError, match="5 dimensions, the mean 6"):
        one.image(X[:, :5])
    with pytest.raises(ValueError, match="5 dimensions, the mean 6"):
        one.update(X[:, :5])
    with pytest.raises(ValueError, match="6 and 5 dimensions"):
        Standardiser.fit(X, Y[:, :5])
    bad = X.clone()
    bad[2, 1] = torch.nan
    for call in (lambda: Standardiser.fit(bad, Y), lambda: one.image(bad), lambda: one.update(bad)):
        with pytest.raises(ValueError, match=r"Row 2 of \w+ is not finite"):
            call()
    with pytest.raises(ValueError, match="zero vector"):
        one.image(torch.zeros(6))


# --- shifts --------------------------------------------------------------------------------------


@quick
@given(seeds, st.floats(-2, 2))
def test_both_shifts_against_their_formulas(seed, amount):
    x, y = cloud(7, 4, seed, 1), cloud(9, 4, seed + 1)
    a, b = unit(x), unit(y)
    g = a.mean(0) - b.mean(0)
    raw = unit(a - amount * g), unit(b + amount * g)
    code = (
        unit(a - amount / 2 * g / np.linalg.norm(g)),
        unit(b + amount / 2 * g / np.linalg.norm(g)),
    )
    for found, expected in (
        (standardise.shift(x, y, amount, unit=False), raw),
        (standardise.shift(x, y, amount), code),
    ):
        for rows, rows_expected in zip(found, expected, strict=True):
            np.testing.assert_allclose(rows, rows_expected, atol=1e-4)


def symmetric_modalities(distance, n=4000, d=512):
    """Images and texts around +g/2 and -g/2, with g of the given length, on the unit sphere."""
    rest = unit(cloud(2 * n, d - 1))
    offset = np.repeat([distance / 2, -distance / 2], n)[:, None]
    rows = np.concatenate([offset, rest * np.sqrt(1 - offset**2)], 1)
    return rows[:n], rows[n:]


@pytest.mark.parametrize(
    ("lam", "distance"), [(0.375, 0.0291), (0.5, 0.2493), (-0.5, 1.3799)]
)  # I0T Table 2, rows "MG"
def test_the_papers_lambda_is_half_of_delta_along_the_unit_gap(lam, distance):
    x, y = symmetric_modalities(0.7642)  # the CLIP of that table
    assert gap.centroid_distance(x, y) == pytest.approx(0.7642, abs=0.01)
    moved = standardise.shift(x, y, 2 * lam)
    assert gap.centroid_distance(*moved) == pytest.approx(distance, abs=0.03)


def test_the_raw_shift_by_half_makes_symmetric_means_meet():
    x, y = symmetric_modalities(0.7642)
    assert gap.centroid_distance(*standardise.shift(x, y, 0.5, unit=False)) < 0.04
    assert gap.centroid_distance(*standardise.shift(x, y, -0.5, unit=False)) > 1.2


def test_no_shift_is_none_and_bad_shifts_are_refused():
    for unit_vector in (True, False):
        x, y = standardise.shift(X, Y, 0, unit=unit_vector)
        np.testing.assert_allclose(x, unit(X), atol=1e-6)
        np.testing.assert_allclose(y, unit(Y), atol=1e-6)
    with pytest.raises(ValueError, match="the gap has no direction"):
        standardise.shift(X, X, 0.5)
    one, other = torch.tensor([[1.0, 0]]), torch.tensor([[-1.0, 0]])
    with pytest.raises(ValueError, match="Row 0 becomes a zero vector"):
        standardise.shift(one, other, 2)


# --- clipping ------------------------------------------------------------------------------------


def test_clipping():
    found = standardise.clip_activations(X, 0.3)
    for row, expected in zip(found, unit(X), strict=True):
        clipped = np.array([max(-0.3, min(0.3, float(v))) for v in expected])
        np.testing.assert_allclose(row, unit(clipped), atol=1e-6)
    np.testing.assert_allclose(standardise.clip_activations(X, 1), unit(X), atol=1e-6)
    np.testing.assert_allclose(
        standardise.clip_activations(X * 7), standardise.clip_activations(X, 0.1), atol=1e-6
    )
    for bound in (0, -1):
        with pytest.raises(ValueError, match="bound must be positive"):
            standardise.clip_activations(X, bound)
