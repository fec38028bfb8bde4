"""The audit of the negatives: its rule, its data, and the second implementations behind it."""

import math

import numpy as np
import pytest
from torch.nn.functional import normalize

from lib import profiles
from lib.claims import audit, papers
from lib.claims.audit import ABSENT, CONTRADICTS, SCALE, UNDERPOWERED, classify
from lib.claims.verdicts import CLASSES
from lib.measures import bootstrap, cones, gap, retrieval, scores, zeroshot
from lib.measures.bootstrap import Estimate, Resampled
from lib.methods import losses, standardise
from mini import remeasured

ENTRIES, NEEDS, TOLERANCE = audit.read()
ABOVE, BELOW, OPEN = Estimate(1, 0.5, 1.5), Estimate(-1, -1.5, -0.5), Estimate(0, -1, 1)


# The rule -----------------------------------------------------------------------------------------


def test_the_classes_are_those_of_the_verdicts():
    assert {ABSENT, SCALE, CONTRADICTS, UNDERPOWERED} == set(CLASSES)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"value": -1.0, "error": 0.1}, CONTRADICTS),  # the whole interval below 0
        ({"value": -0.1, "error": 0.1}, UNDERPOWERED),  # without the paper's effect
        ({"value": -0.1, "error": 0.1, "effect": 0.5}, CONTRADICTS),  # it would have been seen
        ({"value": 0.1, "error": 0.1, "effect": 0.5}, CONTRADICTS),
        ({"value": 0.1, "error": 0.1, "effect": 0.2}, UNDERPOWERED),  # could not be seen
        ({"value": 0.1, "error": 0.1, "effect": 0.25}, UNDERPOWERED),  # in the interval
        ({"value": 1.0, "error": 0.1, "effect": 5.0}, ""),  # as claimed
        ({"value": 1.0, "error": 0.1, "present": 0.0}, ""),
    ],
)
def test_a_class_from_the_comparison_alone(given, wanted):
    assert classify(**given) == wanted


def test_a_missing_precondition_comes_before_everything_else():
    below = {"value": -1.0, "error": 0.1, "effect": 2.0}
    assert classify(**below, present=0.49, others=[ABOVE]) == ABSENT
    assert classify(**below, present=-1.0) == ABSENT
    assert classify(**below, present=0.5, others=[ABOVE]) == SCALE
    assert classify(**below, present=math.nan) == CONTRADICTS  # no real value: not applied


def test_scale_comes_before_contradiction_and_needs_a_whole_interval():
    below = {"value": -1.0, "error": 0.1}
    assert classify(**below, others=[BELOW, ABOVE]) == SCALE
    assert classify(**below, others=[OPEN]) == CONTRADICTS
    assert classify(value=0.0, error=1.0, others=[ABOVE]) == SCALE
    assert classify(value=0.0, error=1.0, others=[BELOW]) == UNDERPOWERED


def test_presence_is_a_share_of_what_the_claim_needs():
    assert audit.presence(0.1, 0.4, "high") == pytest.approx(0.25)
    assert audit.presence(0.4, 0.1, "low") == pytest.approx(0.25)
    assert audit.presence(-1.0, 2.0, "high") < 0


def test_the_smallest_effect_has_a_power_of_80_percent():
    rng, error = np.random.default_rng(0), 0.2
    means = audit.smallest_effect(error) + error * rng.normal(size=100_000)
    seen = np.abs(means) > 1.96 * error
    assert seen.mean() == pytest.approx(0.8, abs=0.005)


def test_the_smallest_effect_of_samples_and_their_bootstrap():
    rng, n = np.random.default_rng(1), 100
    effect, seen = audit.smallest_effect(1 / math.sqrt(n)), []
    for _ in range(1000):
        seen.append(audit.estimate(*_mean_and_error(rng.normal(effect, 1, n))).above())
    assert np.mean(seen) == pytest.approx(0.8, abs=0.04)


def _mean_and_error(x):
    return x.mean(), x.std(ddof=1) / math.sqrt(len(x))


def test_the_standard_error_has_items_and_seeds_in_it():
    draws = np.random.default_rng(2).normal(0, 0.1, 100_000)
    one = Resampled(0.0, draws)
    assert audit.standard_error([one]) == pytest.approx(0.1, rel=0.02)
    three = [Resampled(value, draws + value) for value in (-1.0, 0.0, 1.0)]
    assert audit.standard_error(three) == pytest.approx(math.sqrt(0.01 + 1 / 3), rel=0.02)
    assert audit.standard_error(three, lone=True) == pytest.approx(
        math.sqrt(0.01 + 1 / 3 + 1), rel=0.02
    )


def test_seeds_that_err_apart_have_less_item_error():
    rng = np.random.default_rng(3)
    apart = [Resampled(0.0, rng.normal(0, 1, 50_000)) for _ in range(3)]
    assert audit.standard_error(apart) == pytest.approx(1 / math.sqrt(3), rel=0.02)


# Its data -----------------------------------------------------------------------------------------


def test_entries_name_claims_measures_roles_and_preconditions():
    for claim, entry in ENTRIES.items():
        papers.claim(claim)
        assert callable(getattr(remeasured.Bench, entry.measure[0].replace(" ", "_"))), claim
        assert {entry.model, entry.minus or entry.model} <= set(profiles.roles()), claim
        assert entry.sign in (-1, 1)
        assert entry.effect is None or {*entry.effect} == {"value", "where"}
        assert entry.precondition is None or entry.precondition in NEEDS, claim
    assert set(TOLERANCE) <= {entry.unit for entry in ENTRIES.values()}
    assert {entry.precondition for entry in ENTRIES.values()} - {None} == set(NEEDS)
    assert {need["wanted"] for need in NEEDS.values()} == {"high", "low"}


def of(name, row, column, by="model"):
    return papers.table(name).set_index(by).loc[row, column]


def change(name, row, base, column):
    return of(name, row, column) - of(name, base, column)


def test_effects_are_those_of_the_papers_tables():
    table4 = papers.table("i0t/table4").set_index(["data", "recipe"]).t2i_r1
    lco_minus_lc = table4.xs("LCO", level="recipe") - table4.xs("LC", level="recipe")
    shift = papers.table("mind_the_gap/table1").set_index("dataset")
    areas = (
        papers.table("cross_the_gap/fig2c_overlap").set_index("series").loc["OTI-Image step1000"]
    )
    ap = papers.table("cross_the_gap/table4").set_index(["temperature", "query"]).average
    sketch = change("alignclip/table4", "AlignCLIP", "CLIP", "imagenet_sketch")
    sketch -= change("alignclip/table7", "CyCLIP", "CLIP", "imagenet_sketch")
    cone = papers.table("mind_the_gap/fig2a").set_index(["encoder", "weights"]).min_cosine
    wanted = {
        "mind_the_gap-2": cone["ViT-B/32", "pretrained"].item(),
        "mind_the_gap-13": 100 * (shift.modified - shift.original)["CIFAR100"],
        "i0t-6": change("i0t/table2", "I0T_async", "CLIP", "t2i_r1"),
        "i0t-7": change("i0t/table2", "I0T_async", "CLIP", "cifar100") + 2,
        "i0t-9": 0.1 - abs(change("i0t/table2", "I0T_async", "CLOOB", "centroid_distance")),
        "i0t-12": lco_minus_lc.min() + 2,
        "i0t-17": change("i0t/table2", "I0T_post", "PAC-S", "cifar100"),
        "cross_the_gap-1": of("cross_the_gap/table1", "CLIP B/32", "delta"),
        "cross_the_gap-3": of("cross_the_gap/table2_left", "CLIP B/32", "delta"),
        "cross_the_gap-4": -of("cross_the_gap/table2_right", "SigLIP B/16", "delta"),
        "cross_the_gap-9": areas.image_image - areas.text_image,
        "cross_the_gap-10": of("cross_the_gap/table1", "CLIP B/32", "delta")
        - of("cross_the_gap/table3", "SLIP B/16", "delta"),
        "cross_the_gap-11": ap[0.01, "OTI"] - ap[0.01, "native"],
        "alignclip-5": change("alignclip/table2", "AlignCLIP", "CLIP", "cifar10_top1"),
        "alignclip-7": of("alignclip/table3", "AlignCLIP - CLIP", "cifar100"),
        "alignclip-8": change("alignclip/table4", "AlignCLIP", "CLIP", "imagenet_sketch"),
        "alignclip-9": 1.5,  # in words: "R@1 margins of 1-2 points"
        "alignclip-13": sketch,
    }
    written = {claim: entry.effect["value"] for claim, entry in ENTRIES.items() if entry.effect}
    assert written == pytest.approx(wanted)


def test_preconditions_of_the_papers_are_in_their_tables():
    loss = papers.table("cross_the_gap/fig2a_at_steps").set_index("pseudo_tokens")
    texts = papers.table("mind_the_gap/fig2a").set_index(["encoder", "weights", "inputs"])
    wanted = {
        "inversion": loss.step_150[1],
        "inversion, τ = 0.01": loss.step_150[1],
        "inversion, four tokens": loss.step_500[4],
        "gain of OTI": of("cross_the_gap/table1", "CLIP B/32", "delta"),
        "narrow cones": texts.mean_cosine["text transformer", "random", "real"],
        "unaligned pairs": 1 - of("alignclip/table1", "CLIP", "one_cell"),
    }
    assert {k: n["paper"] for k, n in NEEDS.items() if "paper" in n} == pytest.approx(wanted)


# The second implementations agree with the library ------------------------------------------------


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 12)) + 1
    y = x + 0.7 * rng.normal(size=x.shape) - np.linspace(0, 2, 12)
    return remeasured.unit(x).astype(np.float32), remeasured.unit(y).astype(np.float32)


def test_rankings(embeddings):
    (x, y), labels = embeddings, np.arange(150) % 5
    found = [remeasured.ranked(x, y, labels, labels, first) for first in (True, False)]
    for each, measure in zip(found, (_first, retrieval.average_precision), strict=True):
        items = retrieval.precision_by_class(x, y, labels, labels, measure)
        assert each.items == pytest.approx(100 * items)
        assert each.plain == pytest.approx(100 * items.mean())


def _first(ranks):
    return retrieval.recall_at(ranks, 1)


def test_accuracies_and_shifts(embeddings):
    x, y = embeddings
    own = np.arange(150) % 10
    for delta in (-1.0, 0.0, 0.4):
        right = zeroshot.evaluate(*standardise.shift(x, y[:10], delta), own).top1
        plain = remeasured.plain_accuracy(*remeasured.plain_shift(x, y[:10], delta), own)
        assert plain == pytest.approx(100 * right.mean())


def test_losses(embeddings):
    both = [normalize(z, dim=1) for z in standardise.shift(*embeddings, 0.3)]
    found = losses.pair_losses(*both, 100.0, 50, 4, 7).mean()
    plain = remeasured.plain_loss(*remeasured.plain_shift(*embeddings, 0.3), 7)
    assert plain == pytest.approx(found, rel=1e-4)


def test_cosines_with_others(embeddings):
    (x, y), own = embeddings, np.arange(150)
    found = scores.cosine(x, y[own]) - scores.cosine_with_others(x, y, own)
    assert remeasured.plain_own_minus_others(x, y, own) == pytest.approx(found.mean(), abs=1e-6)


def test_the_auc_of_separate_and_of_mixed_modalities():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2000, 4))
    assert remeasured.plain_auc(x, y) == pytest.approx(0.5, abs=0.06)
    assert remeasured.plain_auc(x + 3, y - 3) == 1
    assert remeasured.plain_auc(x + 0.4, y) == pytest.approx(
        gap.modality_classifier(x + 0.4, y)["auc"], abs=0.05
    )


def test_shared_areas():
    rng, edges = np.random.default_rng(0), np.linspace(-1, 1, 41)
    a, b = rng.uniform(-0.5, 0.5, (20, 50)), rng.uniform(0, 0.8, (20, 60))
    h = [scores.densities(s, edges).mean(0) for s in (a, b)]
    assert remeasured.plain_shared_area(a, b, edges) == pytest.approx(np.minimum(*h).sum() * 0.05)
    assert remeasured.plain_shared_area(a, a, edges) == pytest.approx(1)


def test_cone_margins_are_above_0_where_cones_are_disjoint():
    rng, axes = np.random.default_rng(0), np.eye(6)
    for spread, disjoint in ((0.05, True), (2.0, False)):
        sets = [remeasured.unit(axis + spread * rng.normal(size=(50, 6))) for axis in axes]
        assert cones.disjoint(sets) == disjoint
        found = remeasured.cone_margin(sets, 100)
        assert (found.plain > 0) == disjoint and found.plain == found.items.value
        low, high = np.quantile(found.items.draws, [0.01, 0.99])
        assert low <= found.plain <= high


def test_two_cones_at_a_right_angle():
    angle = np.radians(10)
    one = np.array([[np.cos(angle), np.sin(angle), 0], [np.cos(angle), -np.sin(angle), 0]])
    assert remeasured.cone_margin([one, one[:, [2, 1, 0]]], 100).plain == pytest.approx(70)


def test_what_claims_presuppose(embeddings):
    x, _ = embeddings
    assert remeasured.mistaken(x, x) == 0
    assert remeasured.mistaken(x, np.roll(x, 1, axis=0)) == 1
    same = [["a red dog"] * 5, ["two cats"] * 5]
    assert remeasured.agreement(same) == pytest.approx(1)
    assert remeasured.agreement([["dog", "cat", "bird", "fish", "cow"]]) == 0
    flat = x[:, :6] @ np.eye(6, 12)
    assert remeasured.outside(x, x) == (12, pytest.approx(0, abs=1e-9))
    rank, share = remeasured.outside(x, flat)
    assert rank == 6 and share == pytest.approx(np.sum(x[:, 6:] ** 2) / len(x), abs=1e-5)


def test_d_is_turned_and_moved():
    class Fixed(remeasured.Bench):
        def fixed(self, name, value):
            return remeasured.Twice(np.full(10, value + (name == "mini-slip")), value)

    p = profiles.load("mini", small=True)
    entry = audit.Entry("", ["fixed", 3.0], "clip", "points", None, None, False, sign=-1, margin=2)
    found, plain, lone = Fixed(p, list).by_seed(entry)
    assert [d.value for d in found] == [-1] * 3 == plain and not lone
    assert isinstance(found[0], bootstrap.Resampled) and (found[0].draws == -1).all()
