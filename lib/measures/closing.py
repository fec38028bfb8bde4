"""What changes when a gap is closed: search, clusters, hubs, ranks and agreement of one set.

A set is images x (n, d), texts c (m, d), and for each image the row of its text (n,). In pairs,
every image has a text of its own; in classes, there are fewer texts. A map that moves one half of
the items is fitted on the other half, and a query searches in its own half.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.stats import skew
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from lib import validation
from lib.measures import agreement, bootstrap, gap, hubness
from lib.measures.bootstrap import Estimate

NOISE, DRAWS = 0.2, 5  # length of the noise, relative to an embedding, and how often it is drawn
STARTS = 5  # of k-means
LEVELS = 255  # steps of 8 bits
OF_RAW = "residual", "chance"  # measures of embeddings as they are
LESS = (  # of these, less is better
    *("search: flips by noise", "classes: flips by noise", "search: flips by 8 bits"),
    *("classes: flips by 8 bits", "hubs: skewness"),
)


def halves(n: int, seed: int = 0) -> np.ndarray:
    """(n,) 0 or 1 at random, as often as each other."""
    return np.random.default_rng(seed).permutation(n) % 2


def moved(method: str, z: np.ndarray, clean: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Images and texts z (2, n, d), moved by means of the other half of `clean`; unit rows.

    "I0T_post" subtracts each modality's mean, "shift" half of the difference of the means from
    images, and adds it to texts; any other method leaves them as they are.
    """
    mean = np.stack([clean[:, half == other].mean(1) for other in (1, 0)], axis=1)[:, half]
    step = {"shift": (mean - mean[::-1]) / 2, "I0T_post": mean}.get(method, 0)
    return np.stack([*map(validation.unit, z - step)])


def measured(method: str, x, c, row, n_bootstrap: int = 1000, seed: int = 0) -> dict:
    """Measures of a set after a method, as `bootstrap.Resampled` by name, for paired differences.

    For pairs, both ways:
    - R@1;
    - flips (queries whose first hit changes) by noise and by rounding to 8 bits, before the method;
    - skewness of the 10-occurrence, and effective rank;
    - agreement of the modalities above chance;
    - "residual": the effective rank of image minus text over that of isotropic noise;
    - how much more of CKA than of shared neighbours is chance.

    For classes: accuracy and flips of the images, and NMI and ARI of k-means over both modalities.
    All are in points, except skewness, ranks, and shares.
    """
    row, half = np.asarray(row), halves(len(x), seed)
    clean, of_pairs = np.stack([x, c[row]]).astype(np.float64), len(c) == len(x)
    z = moved(method, clean, clean, half)
    each = _searched(method, clean, row, half, of_pairs, seed)
    found = {what: bootstrap.resampled_mean(e, n_bootstrap, seed) for what, e in each.items()}
    statistics = _shape(z, half) if of_pairs else _clusters(z, row, seed)
    return found | bootstrap.by_blocks(statistics, len(x), n_bootstrap, seed)


def distances(method: str, x, c, row, seed: int = 0) -> dict[str, float]:
    """How far apart a set's modalities are after a method: "means", the centroid distance, and
    "distributions", MMD^2 once each modality's mean is removed."""
    clean = np.stack([x, c[np.asarray(row)]]).astype(np.float64)
    z = moved(method, clean, clean, halves(len(x), seed))
    apart = agreement.distance_of_distributions(*(z - z.mean(1, keepdims=True)))
    return {"means": gap.centroid_distance(*z), "distributions": apart}


def gain(found: Mapping, kind: str, method: str, measure: str, reference: str = "") -> Estimate:
    """A measure of a method, minus that of a reference, its sign turned so that more is better.

    `found` has what `measured` gives by (kind, method, training seed from 0). Over the seeds where
    there are several, paired by seed (`bootstrap.over_seeds`). Without a reference, the measure.
    """
    each = [its[measure] for key, its in found.items() if key[:2] == (kind, method)]
    if reference:
        each = [one - found[kind, reference, k][measure] for k, one in enumerate(each)]
    estimate = bootstrap.over_seeds(each) if len(each) > 1 else each[0].estimate()
    return -estimate if reference and measure in LESS else estimate


def _searched(method, clean, row, half, of_pairs: bool, seed: int) -> dict[str, np.ndarray]:
    """Right first hits and flips for each item, in points; of pairs, the mean of both ways."""
    rng, ways = np.random.default_rng(seed), (1, 0) if of_pairs else (1,)

    def first(z: np.ndarray) -> np.ndarray:
        x, y = moved(method, z, clean, half)
        score = np.where(half[:, None] != half, -2, x @ y.T)
        return np.stack([row[score.argmax(way)] for way in ways])

    usual = first(clean)
    changed = np.zeros(len(row))
    for _ in range(DRAWS):
        own = rng.normal(size=(2, *clean.shape[1:]))
        own[1] = own[1, row]  # a text of several images has one noise
        changed += (first(clean + NOISE * own / np.sqrt(own.shape[2])) != usual).mean(0) / DRAWS
    task, right = ("search", "R@1") if of_pairs else ("classes", "accuracy")
    items = {right: (usual == row).mean(0), "flips by noise": changed}
    items["flips by 8 bits"] = (first(rounded(clean)) != usual).mean(0)
    return {f"{task}: {what}": 100.0 * each for what, each in items.items()}


def rounded(z: np.ndarray) -> np.ndarray:
    """Each dimension of (…, n, d) rounded to one of 256 equal steps between its ends."""
    low, high = z.min(-2, keepdims=True), z.max(-2, keepdims=True)
    width = np.where(high > low, high - low, 1) / LEVELS
    return low + np.round((z - low) / width) * width


def _clusters(z, row, seed: int) -> Callable:
    """What gives NMI and ARI of some items' images and texts, clustered together, with classes."""
    both, n, true = np.concatenate(z), len(row), np.tile(row, 2)
    k, scores = len(np.unique(row)), (normalized_mutual_info_score, adjusted_rand_score)
    means = [KMeans(k, n_init=1, random_state=s) for s in range(seed, seed + STARTS)]
    starts = [one.fit_predict(both) for one in means]

    def statistics(i: np.ndarray) -> dict[str, float]:
        i = np.concatenate([i, i + n])
        nmi, ari = (np.mean([score(true[i], each[i]) for each in starts]) for score in scores)
        return {"clusters: NMI": 100 * nmi, "clusters: ARI": 100 * ari}

    return statistics


def _shape(z, half) -> Callable:
    """What gives hubs, ranks and agreement of some pairs."""
    (x, y), count, apart = z, np.zeros((2, len(half))), z[0] - z[1]
    for rows in (half == 0, half == 1):
        count[0, rows] = hubness.occurrences(x[rows], y[rows])
        count[1, rows] = hubness.occurrences(y[rows], x[rows])
    near, luck = agreement.shared_neighbours(x, y), agreement.K / (len(x) - 1)

    def statistics(i: np.ndarray) -> dict[str, float]:
        ranks, cka = [agreement.effective_rank(each[i]) for each in z], agreement.cka(x[i], y[i])
        chance = agreement.chance_cka(*ranks, len(i))
        isotropic = agreement.isotropic_rank(len(i), x.shape[1])
        return {
            "hubs: skewness": skew(count[:, i], axis=1).mean(),
            "effective rank": np.mean(ranks),
            "agreement: CKA": 100 * agreement.above_chance(cka, chance),
            "agreement: neighbours": 100 * agreement.above_chance(near[i].mean(), luck),
            "residual": agreement.effective_rank(apart[i], unit=False) / isotropic,
            "chance": chance / cka - luck / near[i].mean(),
        }

    return statistics
