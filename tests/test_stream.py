"""Reading shards and summing over them: the same numbers in every format, in one piece or many."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score

from lib.data import embedded_pairs
from lib.data.embedded_pairs import Held, Pairs
from lib.data.embedding_files import Rows, read_owner
from lib.measures import bootstrap, card, gap, hubness, retrieval, scores, stream
from lib.measures.stream import Sums
from lib.methods import standardise


def cloud(n, d=12, seed=0):
    """Pairs (n, d each) with a gap and something in common, of any length."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, d))
    x, y = (shared + rng.standard_normal((n, d)) for _ in range(2))
    x[:, 0] += 4
    y[:, 1] += 4
    return (rng.uniform(0.5, 2, (n, 1)) * x).astype(np.float32), y.astype(np.float32)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# Files --------------------------------------------------------------------------------------------


def save_list(file, x, kind=None):
    kind = kind or pa.list_(pa.float32())
    pq.write_table(
        pa.table({"id": range(len(x)), "emb": pa.array(list(x), kind)}), file, row_group_size=7
    )


def save_columns(file, x):
    pq.write_table(pa.table({f"d{k}": x[:, k] for k in range(x.shape[1])}), file)


WRITERS = {
    "one.npy": np.save,
    "half.npy": lambda file, x: np.save(file, x.astype(np.float16)),
    "big_endian.npy": lambda file, x: np.save(file, x.astype(">f4")),
    "one.npz": lambda file, x: np.savez(file, emb=x),
    "packed.npz": lambda file, x: np.savez_compressed(file, emb=x.astype(np.float64)),
    "one.safetensors": lambda file, x: save_file({"emb": x}, file),
    "bfloat.safetensors": lambda file, x: save_tensors(
        {"emb": torch.from_numpy(x).bfloat16()}, file
    ),
    "lists.parquet": save_list,
    "fixed.parquet": lambda file, x: save_list(file, x, pa.list_(pa.float32(), x.shape[1])),
    "columns.parquet": save_columns,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_its_rows_in_order(name, tmp_path):
    x, _ = cloud(50)
    WRITERS[name](tmp_path / name, x)
    rows = Rows(str(tmp_path / name))
    assert (rows.n, rows.d) == x.shape
    found = np.concatenate([rows.take(k) for k in (1, 30, 19)])
    assert found.dtype == np.float32
    tolerance = {"half.npy": 1e-3, "bfloat.safetensors": 1e-2}.get(name, 0)
    np.testing.assert_allclose(found, x, rtol=tolerance, atol=tolerance)


def test_shards_follow_their_numbers_and_may_be_of_several_formats(tmp_path):
    x, _ = cloud(60)
    (tmp_path / "notes.txt").write_text("no shard")
    np.save(tmp_path / "part-10.npy", x[40:])
    np.savez(tmp_path / "part-9.npz", emb=x[25:40])
    save_list(tmp_path / "part-2.parquet", x[:25])
    np.save(tmp_path / ".part-1.npy", x)
    rows = Rows(str(tmp_path))
    np.testing.assert_array_equal(np.concatenate([rows.take(7), rows.take(53)]), x)
    assert rows.place(24) == f"Row 24 of {tmp_path / 'part-2.parquet'}"
    assert rows.place(25) == f"Row 0 of {tmp_path / 'part-9.npz'}"


def test_an_array_is_chosen_by_its_key(tmp_path):
    x, y = cloud(9)
    np.savez(tmp_path / "both.npz", image=x, text=y)
    save_file({"image": x, "text": y}, tmp_path / "both.safetensors")
    pq.write_table(pa.table({"a": list(x), "b": list(y)}), tmp_path / "both.parquet")
    for source in ("both.npz:text", "both.safetensors:text", "both.parquet:b"):
        np.testing.assert_array_equal(Rows(str(tmp_path / source)).take(9), y)


# Sums ---------------------------------------------------------------------------------------------


def summed(x, y, owner=None, **options):
    return Pairs(Held(x, "images"), Held(y, "texts"), owner).summed(**options)


@pytest.mark.parametrize("n", [60, 1000, 2357])
def test_sums_are_those_of_the_measures_in_memory(n):
    x, y = cloud(n)
    sums, _ = summed(x, y)
    told, each = sums.estimates(200), scores.cosine_with_others(x, y)
    assert sums.pairs.sum() == n
    mean_x, mean_y = sums.means()
    assert np.linalg.norm(mean_x - mean_y) == pytest.approx(gap.centroid_distance(x, y), abs=1e-6)
    assert told["pair cosine"].value == pytest.approx(gap.alignment(x, y), abs=1e-6)
    assert told["random cosine"].value == pytest.approx(each.mean(), abs=1e-6)
    assert told["peak share, images"].value == pytest.approx(gap.peak_share(x), abs=1e-6)
    assert told["peak share, texts"].value == pytest.approx(gap.peak_share(y), abs=1e-6)
    for images, rows in ((True, x), (False, y)):
        np.testing.assert_allclose(sums.profile(images), gap.activation_profile(rows), atol=1e-6)


def test_intervals_of_sums_are_those_of_a_bootstrap_over_the_pairs():
    x, y = cloud(400)
    told = summed(x, y)[0].estimates(1000, 5)
    known = {
        "centroid distance": gap.centroid_distance_interval(x, y, 1000, 5),
        "pair cosine": bootstrap.mean_interval(scores.cosine(x, y), 1000, 5),
        "peak share, texts": gap.peak_share_interval(y, 1, 1000, 5),
    }
    for name, other in known.items():
        found = told[name]
        assert (found.value, found.low, found.high) == pytest.approx(
            (other.value, other.low, other.high), abs=2e-3
        ), name


def test_the_interval_of_the_random_cosine_holds_that_of_all_pairs():
    x, y = cloud(20_000)
    truth = scores.cosine_with_others(x, y).mean()
    drawn = [summed(x[i : i + 100], y[i : i + 100])[0] for i in range(0, 20_000, 100)]
    told = [each.estimates(200)["random cosine"] for each in drawn]
    assert np.mean([e.low <= truth <= e.high for e in told]) > 0.88
    assert np.mean([e.value for e in told]) == pytest.approx(truth, abs=3e-3)


@pytest.mark.parametrize("shard", [1, 64, 700])
@pytest.mark.parametrize("form", ["npy", "safetensors", "parquet", "npz"])
def test_shards_of_any_size_and_format_give_the_same_numbers(shard, form, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_pairs, "PIECE", 100)
    monkeypatch.setattr(stream, "BLOCKS", 40)
    n = 2357 if shard > 1 else 90
    x, y = cloud(n)
    write = {
        "npy": np.save,
        "npz": WRITERS["one.npz"],
        "safetensors": WRITERS["one.safetensors"],
        "parquet": save_list,
    }[form]
    for name, rows, size in (("images", x, shard), ("texts", y, 3 * shard)):
        (tmp_path / name).mkdir()
        for k, first in enumerate(range(0, n, size)):
            write(tmp_path / name / f"{k}.{form}", rows[first : first + size])
    found, sample = Pairs(Rows(str(tmp_path / "images")), Rows(str(tmp_path / "texts"))).summed()
    monkeypatch.setattr(embedded_pairs, "PIECE", 10_000)
    whole, same = summed(x, y)
    for name in ("image", "text", "image_square", "text_square", "cosine", "pairs"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-5)
    for name, estimate in found.estimates(100).items():
        other = whole.estimates(100)[name]
        assert estimate.value == pytest.approx(other.value, abs=1e-6), name
        assert (estimate.low, estimate.high) == pytest.approx((other.low, other.high), abs=1e-6)
    np.testing.assert_array_equal(sample.image, same.image)
    np.testing.assert_array_equal(sample.text, same.text)


def test_parts_summed_elsewhere_are_added():
    x, y = cloud(3000)
    whole, edges = Sums.empty(3000, 12), stream.blocks(3000)
    whole.add(edges, 0, x, y)
    first, second = Sums.empty(3000, 12), Sums.empty(3000, 12)
    first.add(edges, 0, x[:1234], y[:1234])
    second.add(edges, 1234, x[1234:], y[1234:])
    both = (second + first).estimates(100)
    assert first.pairs.sum() == 1234
    for name, estimate in whole.estimates(100).items():
        assert both[name].value == pytest.approx(estimate.value, abs=1e-6)
        assert both[name].high == pytest.approx(estimate.high, abs=1e-6)


def test_means_can_leave_a_sample_out():
    x, y = cloud(500)
    sums, sample = summed(x, y)
    rows = Pairs(Held(x, ""), Held(y, "")).rows()
    others = np.setdiff1d(np.arange(500), rows)
    assert len(rows) == 250
    np.testing.assert_array_equal(sample.image, x[rows])
    for found, known in zip(
        sums.means(without=Sums.of(sample.image, sample.text)), (x, y), strict=True
    ):
        np.testing.assert_allclose(found, unit(known[others]).mean(0), atol=1e-6)


@pytest.mark.parametrize("sorted_owner", [True, False])
def test_texts_with_owners(sorted_owner, monkeypatch):
    monkeypatch.setattr(embedded_pairs, "PIECE", 16)
    x, _ = cloud(100)
    owner = np.concatenate([np.arange(100), np.random.default_rng(1).integers(0, 100, 130)])
    if sorted_owner:
        owner.sort()
    y = cloud(230, seed=2)[1]
    sums, sample = summed(x, y, owner)
    first = np.array([np.flatnonzero(owner == i)[0] for i in range(100)])
    found = sums.estimates(100)["pair cosine"].value
    assert found == pytest.approx(gap.alignment(x, y[first]), abs=1e-6)
    rows = Pairs(Held(x, ""), Held(y, ""), owner).rows()
    np.testing.assert_array_equal(sample.image, x[rows])
    assert len(sample.text) == np.isin(owner, rows).sum()
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(sample.text[sample.owner == i], y[owner == row])


def test_owners_are_read_from_every_format(tmp_path):
    owner = np.array([0, 0, 2, 1])
    np.save(tmp_path / "a.npy", owner.astype(np.int32))
    np.savez(tmp_path / "a.npz", owner=owner)
    save_file({"owner": owner}, tmp_path / "a.safetensors")
    pq.write_table(pa.table({"owner": owner}), tmp_path / "a.parquet")
    for name in ("a.npy", "a.npz", "a.safetensors", "a.parquet"):
        np.testing.assert_array_equal(read_owner(str(tmp_path / name)), owner)


# What a card measures -----------------------------------------------------------------------------


def test_occurrences_against_sorting():
    x, y = cloud(80)
    cosines = unit(x) @ unit(y).T
    nearest = np.argsort(-cosines, axis=1)[:, :10]
    known = np.array([(nearest == j).sum() for j in range(80)])
    np.testing.assert_array_equal(hubness.occurrences(x, y), known)
    deviation = known - known.mean()
    skew = np.mean(deviation**3) / np.mean(deviation**2) ** 1.5
    found = hubness.skewness(x, y, n_bootstrap=100)
    assert found.value == pytest.approx(skew)
    assert found.low < found.value
    assert np.isnan(hubness.skewness(x[:5], y[:5], k=5, n_bootstrap=100).value)
    with pytest.raises(ValueError, match="between 1 and the 80 items"):
        hubness.occurrences(x, y, 81)


def test_a_hub_is_seen():
    x, y = cloud(300)
    even = hubness.skewness(x, y, n_bootstrap=100)
    y[7] = x.mean(0)  # near to everything
    assert hubness.occurrences(x, y)[7] > 100
    assert hubness.skewness(x, y, n_bootstrap=100).value > even.value


def test_intervals_of_separability_against_scikit_learn():
    x, y = cloud(120)
    y[:, 1] -= 3.5  # not told apart without fail
    linear, auc = gap.linear_separability_interval(x, y), gap.auc_interval(x, y)
    fit, test = np.split(np.random.default_rng(0).permutation(120), [84])
    rows = {name: np.concatenate([unit(x)[i], unit(y)[i]]) for name, i in
        (("fit", fit), ("test", test))}  # fmt: skip
    label = {name: np.arange(len(each)) >= len(each) / 2 for name, each in rows.items()}
    regression = LinearRegression().fit(rows["fit"], label["fit"])
    error = np.mean((regression.predict(rows["test"]) - label["test"]) ** 2)
    assert linear.value == pytest.approx(1 - error, abs=1e-5)
    classifier = LogisticRegression(max_iter=1000).fit(12**0.5 * rows["fit"], label["fit"])
    decision = classifier.decision_function(12**0.5 * rows["test"])
    assert auc.value == pytest.approx(roc_auc_score(label["test"], decision), abs=1e-3)
    assert 0.5 < auc.low < auc.value < auc.high < 1
    assert linear.low < linear.value < linear.high


def test_modalities_that_lie_alike_are_told_apart_by_chance():
    """An image whose text was learnt would be taken for a text."""
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        shared = rng.standard_normal((200, 40))
        x, y = (shared + 0.2 * rng.standard_normal((200, 40)) for _ in range(2))
        found.append((gap.auc_interval(x, y, 100).value, gap.modality_classifier(x, y)["auc"]))
    whole, one_by_one = np.mean(found, axis=0)
    assert abs(whole - 0.5) < 0.05
    assert one_by_one < 0.45


def test_the_interval_of_uniformity_is_that_of_a_bootstrap_of_all_couples():
    x, _ = cloud(150)
    kernel = np.exp(2 * 2.0 * (unit(x) @ unit(x).T - 1))
    np.fill_diagonal(kernel, 0)
    rng, draws = np.random.default_rng(0), []
    for _ in range(2000):
        weights = np.bincount(rng.integers(0, 150, 150), minlength=150)
        couples = weights.sum() ** 2 - (weights**2).sum()
        draws.append(np.log(weights @ kernel @ weights / couples))
    found = gap.uniformity_interval(x)
    assert found.value == pytest.approx(gap.uniformity(x))
    spread = found.high - found.low
    assert spread == pytest.approx(np.subtract(*np.quantile(draws, [0.975, 0.025])), rel=0.15)


def test_a_sample_is_measured_by_the_measures_of_the_notebooks():
    x, y = cloud(90)
    found = card.of_sample(x, y, n_bootstrap=100)
    i2t, t2i = retrieval.recall(x, y)
    assert found["pair cosine"].value == pytest.approx(gap.alignment(x, y), abs=1e-6)
    assert found["uniformity, texts"].value == pytest.approx(gap.uniformity(y))
    assert found["hubness, images"].value == pytest.approx(stats.skew(hubness.occurrences(y, x)))
    for k in card.KS:
        assert found[f"R@{k}, image to text"].value == i2t[k].mean()
        assert found[f"R@{k}, text to image"].value == t2i[k].mean()


def test_permuted_pairs_share_nothing():
    x, y = cloud(200)
    order = card.permutation(200)
    assert sorted(order) == list(range(200))
    assert (order != np.arange(200)).all()
    found, permuted = card.of_sample(x, y, None, 100), card.of_permuted(x, y, None, 100)
    assert found["pair minus random"].above(0.1)
    assert permuted["pair minus random"].within(-0.1, 0.1)
    assert permuted["R@10, image to text"].value < 0.2 < found["R@10, image to text"].value


def test_recall_of_an_images_texts_is_one_number():
    x, y = cloud(60)
    owner = np.repeat(np.arange(60), 2)
    texts = np.repeat(y, 2, axis=0)
    texts[1::2] = np.roll(y, 1, axis=0)
    found = card.of_sample(x, texts, owner, 100)
    known = retrieval.recall_by_image(x, texts, owner)
    assert found["R@1, text to image"].value == pytest.approx(known.t2i.mean())
    assert found["R@1, image to text"].value == pytest.approx(known.i2t.mean())


def test_a_shift_along_the_gap_of_others():
    x, y = cloud(100)
    vector = gap.centroid_gap(x, y)
    for found, known in zip(
        standardise.shift(x, y, 0.5, unit=False, vector=vector),
        standardise.shift(x, y, 0.5, unit=False),
        strict=True,
    ):
        torch.testing.assert_close(found, known)
    moved, _ = standardise.shift(x, y, 0.5, unit=False, vector=np.zeros(12))
    np.testing.assert_allclose(moved.numpy(), unit(x), atol=1e-6)


def test_noise_is_taken_off_as_with_the_rows_at_hand():
    rows = np.random.default_rng(0).standard_normal((300, 20)) + 0.05
    found = bootstrap.less_noise(bootstrap.resampled_length(rows, 1000, 1))
    known = bootstrap.length_of_mean(rows, 1000, 1)
    assert (found.value, found.low, found.high) == pytest.approx(
        (known.value, known.low, known.high), abs=0.02
    )


def test_reading_takes_bounded_memory(tmp_path):
    """Rows are read as they are asked for: the rest of the file may be anything."""
    x, _ = cloud(1000)
    np.save(tmp_path / "x.npy", x)
    rows = Rows(str(tmp_path / "x.npy"))
    head = rows.take(10)
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(20_000)
    np.testing.assert_array_equal(head, x[:10])
    with pytest.raises(ValueError, match="cut off"):
        rows.take(900)
    shutil.rmtree(tmp_path)
