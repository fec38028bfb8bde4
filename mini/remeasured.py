"""The comparisons of the audit, each measured twice: by the library, and by plain arithmetic.

The second way is NumPy in float64 (or scikit-learn, or a plain loop of torch.optim.AdamW), from the
same embeddings, and shares no code with the first. Measures give `Twice`; `lib.claims.audit` says
which of them decides a claim.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn.functional import normalize

from lib.claims import audit
from lib.claims.audit import Entry
from lib.data import labelled, pairs, tasks
from lib.encoders import embeddings, registry
from lib.encoders.towers import Model
from lib.measures import bootstrap, cones, gap, probe, retrieval, scores, zeroshot
from lib.measures.bootstrap import Estimate, Resampled
from lib.methods import inversion, losses, standardise
from lib.profiles import Profile

FIVE = ("shape_colour_texture", "shape_colour", "shape", "colour", "background")
SHORT, USUAL, OVI = (0, 5, 10), (0, 10, 20, 50, 100, 150), (0, 20, 50, 100, 200)
FINE = (*range(11), 12, 14, 17, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 250, 350, 500)
GRID = sorted(np.arange(-5, 5, 0.25), key=abs)  # shifts: of equally good ones the smallest first
BATCH, DIVISIONS = 50, 4  # of the contrastive loss

# Kept: the measures ask for the same models and data again and again.
load, rows_of = cache(registry.load), cache(labelled.load_labelled)
images_of = cache(embeddings.embed_images)


class Twice(NamedTuple):
    """A number per item (n,) or a `Resampled`, by the library; and the same number, plainly."""

    items: np.ndarray | Resampled
    plain: float

    def minus(self, other: "Twice") -> "Twice":
        return Twice(self.items - other.items, self.plain - other.plain)


def mean(each: Sequence[Twice]) -> Twice:
    """Item by item, of measures of the same items."""
    items, plain = zip(*each, strict=True)
    return Twice(np.mean(items, axis=0), float(np.mean(plain)))


# Plain arithmetic ---------------------------------------------------------------------------------


def unit(z) -> np.ndarray:
    """Rows (n, d) of length 1, in float64."""
    z = np.asarray(z, np.float64)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def plain_ranking(query, gallery, own, others) -> tuple[float, float]:
    """R@1 and mAP in points, from sorted cosines; an item is right if its label is the query's."""
    order = np.argsort(-unit(query) @ unit(gallery).T, axis=1, kind="stable")
    right = np.asarray(others)[order] == np.asarray(own)[:, None]
    precision = right * right.cumsum(1) / np.arange(1, len(gallery) + 1)
    average = precision.sum(1) / np.maximum(right.sum(1), 1)
    return 100 * float(right[:, 0].mean()), 100 * float(average.mean())


def plain_accuracy(images, classes, own) -> float:
    """Share of images, in percent, whose nearest class is their own."""
    return 100 * float(np.mean((unit(images) @ unit(classes).T).argmax(1) == own))


def plain_shift(x, y, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Both modalities moved by delta / 2 along the unit gap vector."""
    x, y = unit(x), unit(y)
    step = x.mean(0) - y.mean(0)
    step = delta / 2 * step / np.linalg.norm(step)
    return unit(x - step), unit(y + step)


def plain_loss(x, y, seed: int = 0) -> float:
    """Contrastive loss at temperature 1/100 over random divisions into batches."""
    rng, each = np.random.default_rng(seed), []
    for _ in range(DIVISIONS):
        order = rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH)
        s = 100 * unit(x)[order] @ unit(y)[order].transpose(0, 2, 1)
        right = np.diagonal(s, axis1=1, axis2=2)
        each += [np.mean(np.log(np.exp(s).sum(axis)) - right) for axis in (1, 2)]
    return float(np.mean(each))


def plain_own_minus_others(x, y, own) -> float:
    """Mean cosine with the own text minus the mean of those with the other texts."""
    s = unit(x) @ unit(y).T
    mine = s[np.arange(len(s)), own]
    return float(np.mean(mine - (s.sum(1) - mine) / (s.shape[1] - 1)))


def plain_auc(x, y) -> float:
    """AUC of a least-squares direction between two modalities: even rows to fit, odd to test."""
    fit = np.concatenate([unit(x)[::2], unit(y)[::2]])
    target = np.repeat([-1.0, 1.0], [len(x[::2]), len(y[::2])])
    weights = np.linalg.lstsq(fit - fit.mean(0), target - target.mean(), rcond=None)[0]
    a, b = unit(x)[1::2] @ weights, unit(y)[1::2] @ weights
    return float(np.mean((b > a[:, None]) + 0.5 * (b == a[:, None])))


def plain_shared_area(a, b, edges) -> float:
    """Area under both of two histograms of cosines."""
    both = (np.histogram(z, edges, density=True)[0] for z in (a, b))
    return float(np.minimum(*both) @ np.diff(edges))


def oti_by_hand(model: Model, images, steps: int, seed: int = 0) -> torch.Tensor:
    """Cross the Gap's Algorithm 1 (n, d), one token: every step through the model's own encoder.

    AdamW (0.02, weight decay 0.01) on the mean loss of a batch of 64, from N(0, 0.02²), the draw of
    an item as `lib.methods.inversion` documents it.
    """
    one, other = model.tokenizer(["a photo of red", "a photo of blue"])
    place, ids = (one != other).nonzero().flatten(), one.expand(len(images), -1)
    width, target = model.clip.token_embedding.embedding_dim, torch.as_tensor(images)
    start = [np.random.default_rng([seed, i]).normal(0, 1, (1, width)) for i in range(len(ids))]
    tokens = torch.tensor(0.02 * np.array(start), dtype=torch.float32, requires_grad=True)
    write = model.clip.token_embedding.register_forward_hook(
        lambda module, given, found: found.index_copy(1, place, tokens)
    )
    optimiser = torch.optim.AdamW([tokens], lr=0.02, weight_decay=0.01)
    try:
        for _ in range(steps):
            optimiser.zero_grad()
            found = normalize(model.clip.encode_text(ids), dim=1)
            ((1 - (found * target).sum(1)).sum() / 64).backward()
            optimiser.step()
        with torch.no_grad():
            return normalize(model.clip.encode_text(ids), dim=1)
    finally:
        write.remove()


# What claims presuppose ---------------------------------------------------------------------------


def mistaken(x: np.ndarray, y: np.ndarray) -> float:
    """Share of queries (pairs, both ways) that are nearer to another item of their batch of 50."""
    x, y = (z[: len(z) // BATCH * BATCH].reshape(-1, BATCH, z.shape[1]) for z in (x, y))
    s = x @ y.transpose(0, 2, 1)
    return float(np.mean([s.argmax(axis) != np.arange(BATCH) for axis in (1, 2)]))


def agreement(captions: Sequence[Sequence[str]]) -> float:
    """Mean overlap of words of two of the first five captions of an image."""
    one = [[[five[k]] for five in captions] for k in range(5)]
    return float(np.mean([scores.overlap(a, b).diagonal().mean() for a, b in combinations(one, 2)]))


def outside(x: np.ndarray, y: np.ndarray) -> tuple[int, float]:
    """Rank of embeddings y (m, d), and the share of the energy of x (n, d) outside their span."""
    _, strength, axes = np.linalg.svd(unit(y), full_matrices=False)
    basis = axes[strength > 1e-4 * strength[0]]
    return len(basis), float(1 - np.sum((unit(x) @ basis.T) ** 2) / len(x))


# On a model ---------------------------------------------------------------------------------------


def ranked(query, gallery, own, others, first: bool) -> Twice:
    """R@1 (`first`) or average precision of each query, in points."""
    measure = partial(retrieval.recall_at, k=1) if first else retrieval.average_precision
    both = (normalize(torch.as_tensor(z), dim=1) for z in (query, gallery))
    items = retrieval.precision_by_class(*both, own, others, measure)
    return Twice(100 * items, plain_ranking(query, gallery, own, others)[0 if first else 1])


def cone_margin(sets: Sequence[np.ndarray], n_bootstrap: int = 1000, seed: int = 0) -> Twice:
    """Angle between the axes of two cones minus their half-angles, in degrees: mean over all pairs.

    `sets` are embeddings (n, d) by several encoders. Only the share of disjoint cones, those with a
    margin above 0, has a function in the library: where the two disagree, the plain mean is nan.
    """
    every = [unit(x) for x in sets]
    axes = unit([x.mean(0) for x in every])
    rims = np.array([np.arccos((x @ axis).min()) for x, axis in zip(every, axes, strict=True)])
    margins = np.degrees(np.arccos(np.clip(axes @ axes.T, -1, 1)) - rims - rims[:, None])
    apart = ~np.eye(len(sets), dtype=bool)
    counts = bootstrap.counts(len(sets), n_bootstrap, seed)
    couples = counts.sum(1) ** 2 - (counts**2).sum(1)
    drawn = np.einsum("bi,ij,bj->b", counts, margins * apart, counts) / np.maximum(couples, 1)
    value, share = margins[apart].mean(), (margins[apart] > 0).mean()
    plain = value if np.isclose(share, cones.disjoint(sets)) else np.nan
    return Twice(Resampled(float(value), drawn), float(plain))


@dataclass(frozen=True)
class Bench:
    """The measures, on the data of a profile that has the drawn world.

    `towers`: model -> its full captions (n, d) by text towers like its own with random weights.
    """

    p: Profile
    towers: Callable[[str], Sequence[np.ndarray]]
    seed: int = 0

    def measure(self, what: Sequence, name: str) -> Twice:
        """`what` is the name of a measure below and its arguments, `name` that of a model."""
        method: Callable = getattr(self, what[0].replace(" ", "_"))
        return method(name, *what[1:])

    def decisive(
        self, entry: Entry, name: str, other: str | None = None
    ) -> tuple[Resampled, float]:
        """D on one model, or one minus another: with its resamples, and plainly."""
        one = self.measure(entry.measure, name)
        d, plain = one.minus(self.measure(entry.measure, other)) if other else one
        if not isinstance(d, Resampled):
            counts = bootstrap.counts(len(d), self.p.n_bootstrap, self.seed)
            d = Resampled(float(d.mean()), counts @ d / len(d))
        value, draws, plain = (entry.sign * z + entry.margin for z in (d.value, d.draws, plain))
        return Resampled(value, draws), plain

    def by_seed(self, entry: Entry) -> tuple[list[Resampled], list[float], bool]:
        """`decisive` on every training seed, and whether one side has a single run for all."""
        names, others = self.p.seeds(entry.model), self.p.seeds(entry.minus) if entry.minus else []
        lone = 0 < len(others) < len(names)
        if len(others) != len(names):
            others = (others[:1] or [None]) * len(names)
        each = [self.decisive(entry, *both) for both in zip(names, others, strict=True)]
        return [d for d, _ in each], [plain for _, plain in each], lone

    def other_sizes(self, entry: Entry) -> dict[str, Estimate]:
        """D by models of the main recipe and another size or architecture, with item error alone.

        Where geometry matters that is the one with d = width, for SharedCLIP's rival, too.
        """
        roles = ("full_rank",) if entry.geometry else ("full_rank", "second_backbone")
        tries = {
            role: (role, None) for role in roles if (entry.model, entry.minus) == ("clip", None)
        }
        if entry.geometry and (entry.model, entry.minus) == ("shared", "clip"):
            tries = {"full_rank": ("shared", "full_rank")}
        found = {}
        for role, names in tries.items():
            d, _ = self.decisive(entry, *(name and self.p.models[name] for name in names))
            found[self.p.models[role]] = audit.estimate(d.value, audit.standard_error([d]))
        return found

    @cached_property
    def world(self) -> Dataset:
        return pairs.load_pairs(self.p.pairs, "test", self.p.n_pairs)

    @property
    def queries(self) -> int:
        return 40 if self.p.small else 400  # of the images of `rows`; the others are the gallery

    def rows(self, key: str, split: str = "test") -> Dataset:
        return rows_of(self.p.labelled[key], split, 240 if self.p.small else 2000)

    def truth(self, key: str, split: str = "test") -> np.ndarray:
        return np.array(self.rows(key, split)["label"][:])

    def images_of(self, name: str, key: str = "shape_colour", split: str = "test") -> np.ndarray:
        return images_of(load(name), self.rows(key, split)).numpy()

    def classes_of(self, name: str, key: str) -> np.ndarray:
        asked = labelled.class_prompts(self.p.labelled[key], self.rows(key))
        encode = embeddings.text_encoder(load(name))
        return zeroshot.class_embeddings(encode, *asked).numpy()

    def pairs_of(self, name: str, caption: int = 3) -> list[np.ndarray]:
        """Images and captions (n, d each): of the full caption, which names everything."""
        both = embeddings.embed_pairs(load(name), self.world, caption)
        return [z.numpy() for z in both]

    def oti_of(self, name: str, tokens: int = 1) -> inversion.Inversion:
        """The queries inverted: as for Tables 1 to 4, or with several tokens as for Figure 2."""
        steps, n = (USUAL, self.queries) if tokens == 1 else (FINE, self.queries // 2)
        steps, x = (SHORT if self.p.small else steps), self.images_of(name)[:n]
        return inversion.oti(load(name), x, tokens=tokens, steps=steps, batch=200)

    # Between modalities

    def classes(self, name: str, key: str, split: str = "test", query=None) -> Twice:
        """Zero-shot accuracy; for LCCOM, that of I0T_post, which starts from it."""
        x, y = (
            self.images_of(name, key, split) if query is None else query,
            self.classes_of(name, key),
        )
        u, v, own = x, y, self.truth(key, split)[: len(x)]
        if name == self.p.models["lccom"]:
            a, b = self.pairs_of(name, 0)
            fitted = standardise.Standardiser.fit(a, b)
            x, y = fitted.image(x), fitted.text(y)
            u, v = unit(u) - unit(a).mean(0), unit(v) - unit(b).mean(0)
        items = 100 * zeroshot.evaluate(x, y, own).top1
        return Twice(items, plain_accuracy(u, v, own))

    def five_sets(self, name: str) -> Twice:
        return mean([self.classes(name, key) for key in FIVE])

    def captions(self, name: str, data: str) -> Twice:
        """R@1 of texts that search images: the first caption of "pairs", else all captions."""
        if data == "pairs":
            x, y = self.pairs_of(name, 0)
            return ranked(y, x, np.arange(len(y)), np.arange(len(x)), first=True)
        some = pairs.load_pairs(data, "test", self.p.n_pairs)
        e = embeddings.embed(load(name), some)
        found = ranked(e.text, e.image, e.owner.numpy(), np.arange(len(e.image)), first=True)
        return found._replace(items=found.items.reshape(len(e.image), -1).mean(1))

    def own_text(self, name: str, key: str) -> Twice:
        x, y, own = self.images_of(name, key), self.classes_of(name, key), self.truth(key)
        items = scores.cosine(x, y[own]) - scores.cosine_with_others(x, y, own)
        return Twice(items, plain_own_minus_others(x, y, own))

    def best_shift(self, name: str, key: str) -> Twice:
        """Gain by the shift with the best accuracy on other images, which are resampled, too."""
        hits, plain, drawn = {}, {}, {}
        for split in ("val", "test"):
            x, y = self.images_of(name, key, split), self.classes_of(name, key)
            own = self.truth(key, split)
            moved = [standardise.shift(x, y, delta) for delta in GRID]
            hits[split] = np.array([100 * zeroshot.evaluate(*z, own).top1 for z in moved])
            plain[split] = [plain_accuracy(*plain_shift(x, y, d), own) for d in GRID]
            counts = bootstrap.counts(len(x), self.p.n_bootstrap, self.seed)
            drawn[split] = counts @ hits[split].T / len(x)
        gains, best = drawn["test"] - drawn["test"][:, :1], drawn["val"].argmax(1)
        means = hits["test"].mean(1)
        value = means[hits["val"].mean(1).argmax()] - means[0]
        found = Resampled(float(value), gains[np.arange(len(gains)), best])
        return Twice(found, plain["test"][np.argmax(plain["val"])] - plain["test"][0])

    def probe(self, name: str, key: str) -> Twice:
        """A linear probe on training images, and once more by scikit-learn in float64."""
        fit = self.rows(key, "train").shuffle(self.seed)
        x = images_of(load(name), fit).numpy()
        y, label, own = self.images_of(name, key), np.array(fit["label"][:]), self.truth(key)
        warnings.filterwarnings("ignore", "The number of unique classes")  # of a small run
        items = 100 * probe.linear_probe(x, label, y, own, self.seed)
        x, y = (unit(z) * z.shape[1] ** 0.5 for z in (x, y))
        order = np.random.default_rng(self.seed).permutation(len(x))
        held, rest = np.split(order, [len(x) // 5])
        trial, score = LogisticRegression(max_iter=300, warm_start=True), {}
        for c in 10.0 ** np.arange(-2, 3):
            trial.set_params(C=c).fit(x[rest], label[rest])
            score[c] = trial.score(x[held], label[held])
        best = LogisticRegression(C=max(score, key=score.get), max_iter=300).fit(x, label)
        return Twice(items, 100 * float(best.score(y, own)))

    def modality(self, name: str) -> Twice:
        """AUC of a classifier that tells images from texts; its splits are the resamples."""
        x, y = self.pairs_of(name)
        auc = gap.separability(x, y, 2 if self.p.small else 10, self.seed)["auc"]
        return Twice(Resampled(float(auc.mean()), auc), plain_auc(x, y))

    def centroids(self, name: str) -> Twice:
        x, y = self.pairs_of(name, 0)
        distance = gap.resampled_centroid_distance(x, y, self.p.n_bootstrap, self.seed)
        return Twice(distance, float(np.linalg.norm(unit(x).mean(0) - unit(y).mean(0))))

    def loss(self, name: str, delta: float) -> Twice:
        """Loss after a shift minus the loss without, at temperature 1/100."""
        both, each = [torch.as_tensor(z) for z in self.pairs_of(name)], []
        for x, y in (standardise.shift(*both, delta), both):
            every = losses.pair_losses(x, y, 100.0, BATCH, DIVISIONS, self.seed).mean(1)
            each.append(Twice(every, 0.0))
        x, y = plain_shift(*both, delta)
        plain = plain_loss(x, y, self.seed) - plain_loss(*both, self.seed)
        return each[0].minus(each[1])._replace(plain=plain)

    # Within a modality

    def cones(self, name: str) -> Twice:
        return cone_margin(self.towers(name), self.p.n_bootstrap, self.seed)

    def smallest_cosine(self, name: str) -> Twice:
        """Of two of 500 images; a resample has the smallest of the pairs that are both drawn."""
        x = self.pairs_of(name)[0][:500]
        first, second = np.triu_indices(len(x), 1)
        s = np.sum(unit(x)[first] * unit(x)[second], axis=1)
        order = s.argsort()[:5000]
        there = bootstrap.counts(len(x), self.p.n_bootstrap, self.seed) > 0
        found = (there[:, first[order]] & there[:, second[order]]).argmax(1)
        value = float(cones.cosines(x).min())
        return Twice(Resampled(value, s[order][found]), float(s.min()))

    def images(self, name: str, way: str, other: str, *keys: str) -> Twice:
        """mAP of images that search images, one way minus another; mean over label sets."""
        return mean(
            [
                self._images(name, way, k).minus(self._images(name, other, k))
                for k in keys or self.p.labelled
            ]
        )

    def _images(self, name: str, way: str, key: str) -> Twice:
        x = self.images_of(name)
        if way == "mean subtracted":
            x = unit(x - self.images_of(name, "shape_colour", "train").mean(0))
        query, gallery = np.split(x, [self.queries])
        if way == "OTI":
            query = self.oti_of(name).embeddings.numpy()
        if way == "adapter":
            query = self._adapted(name, query)
        return ranked(query, gallery, *np.split(self.truth(key), [self.queries]), first=False)

    def _adapted(self, name: str, query: np.ndarray) -> np.ndarray:
        """Ridge regression from training images to the mean of their captions."""
        train = pairs.load_pairs(self.p.pairs, "train", self.p.n_train_pairs)
        e = embeddings.embed(load(name), train)
        x, y = e.image.numpy(), e.text.unflatten(0, (len(e.image), -1)).mean(1).numpy()
        order = np.random.default_rng(self.seed).permutation(len(x))
        held, rest = np.split(order, [len(x) // 5])
        fits = [Ridge(alpha=a).fit(x[rest], y[rest]) for a in 10.0 ** np.arange(-3, 3)]
        best = max(fits, key=lambda fit: scores.cosine(fit.predict(x[held]), y[held]).mean())
        return best.fit(x, y).predict(query)

    def both_inversions(self, name: str, count: int) -> dict[str, float]:
        """The first queries by the library's search and by the plain loop: do they end alike?

        Cosine to the image, gain in mAP on shape, and the smallest cosine of the two ends.
        """
        query, gallery = np.split(self.images_of(name), [self.queries])
        own, others = np.split(self.truth("shape"), [self.queries])
        kept = self.oti_of(name)
        again = oti_by_hand(load(name), query[:count], kept.steps[-1], self.seed)
        ends, about = {"library": kept.embeddings[:count], "plain": again}, {}
        native = plain_ranking(query[:count], gallery, own[:count], others)[1]
        for way, x in ends.items():
            about[f"cosine, {way}"] = float(np.sum(query[:count] * x.numpy(), 1).mean())
            found = plain_ranking(x, gallery, own[:count], others)[1]
            about[f"gain, {way}"] = found - native
        return about | {"of the two": float((ends["library"] * again).sum(1).min())}

    def texts(self, name: str) -> Twice:
        """mAP by OVI minus native, of captions that search the other captions of their image."""
        e, k = embeddings.embed(load(name), self.world), 20 if self.p.small else 100
        native, steps = e.first()[:k], SHORT if self.p.small else OVI
        found = inversion.ovi(load(name), native, tokens=1, steps=steps, batch=100)
        queries = {"OVI": found.embeddings, "native": native}
        items = tasks.text_retrieval(e, queries)
        others = np.arange(len(e.text)) % 5 > 0
        about = e.text[others], np.arange(k), e.owner.numpy()[others]
        plain = [plain_ranking(query, *about)[1] for query in queries.values()]
        return Twice(items["OVI"] - items["native"], plain[0] - plain[1])

    def classes_of_oti(self, name: str) -> Twice:
        """Zero-shot accuracy by OTI minus native, mean over the label sets."""
        oti, native = self.oti_of(name).embeddings.numpy(), self.images_of(name)[: self.queries]
        asked = ([self.classes(name, k, query=z) for k in self.p.labelled] for z in (oti, native))
        a, b = map(mean, asked)
        return a.minus(b)

    def shared_areas(self, name: str) -> Twice:
        """Area that the OTI-image density shares with image-image minus that with text-image."""
        edges, key = np.linspace(-1, 1, 101), next(iter(self.p.labelled))
        x, (query, gallery) = (
            self.oti_of(name, 4).embeddings.numpy(),
            np.split(self.images_of(name), [self.queries]),
        )
        query, names = query[: len(x)], self.rows(key).features["label"].names
        encode = embeddings.text_encoder(load(name))
        prompts = zeroshot.class_embeddings(encode, names, ["a photo of a {}"]).numpy()
        cosines = x @ gallery.T, query @ gallery.T, query @ prompts.T
        weights = bootstrap.counts(len(x), self.p.n_bootstrap, self.seed) / len(x)
        weights = np.concatenate([np.full((1, len(x)), 1 / len(x)), weights])
        h, *both = (weights @ scores.densities(s, edges) for s in cosines)
        within, across = (np.minimum(h, each).sum(1) * np.diff(edges)[0] for each in both)
        s, *both = (
            unit(a) @ unit(b).T for a, b in ((x, gallery), (query, gallery), (query, prompts))
        )
        plain = [plain_shared_area(s, each, edges) for each in both]
        return Twice(
            Resampled(float((within - across)[0]), (within - across)[1:]), plain[0] - plain[1]
        )
