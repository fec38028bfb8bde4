"""The training pairs of the mini models: tokens, pictures drawn once, and each step's batch."""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tqdm.auto import tqdm

from lib import files, paths
from mini import named, world
from mini.recipes import CONTEXT, LONG_CONTEXT, Recipe
from mini.world.captions import captions, long_caption, vocabulary
from mini.world.render import render
from mini.world.scenes import Stream

FACTORS = ("shape", "colour", "texture", "size", "background", "style", "n_objects")
_ARRAYS = ("images", "tokens", "factors", "long_tokens")
_HASHED = _ARRAYS[:3]


# --- tokens ---------------------------------------------------------------------------------


def words() -> list[str]:
    return ["<pad>", "<start>", "<unk>", *vocabulary(), "<end>"]


def write_tokenizer(folder: Path, context: int = CONTEXT) -> None:
    """A word-level tokenizer in Hugging Face's format; the end token has the highest id."""
    ids = {w: i for i, w in enumerate(words())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", ids["<start>"]), ("<end>", ids["<end>"])],
    )
    tokenizer.add_special_tokens(["<pad>", "<start>", "<unk>", "<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<start>",
        "eos_token": "<end>",
        "unk_token": "<unk>",
        "model_max_length": context,
        "padding_side": "right",
        "truncation_side": "right",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def _tokens(texts: list[str], ids: dict[str, int], context: int = CONTEXT) -> np.ndarray:
    out = np.zeros((len(texts), context), np.int16)
    for row, text in zip(out, texts, strict=True):
        inner = [ids[w] for w in text.split()][: context - 2]
        row[: len(inner) + 2] = [ids["<start>"], *inner, ids["<end>"]]
    return out


# --- pictures -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Rendered training pairs.

    Attributes:
        images: (n, 48, 48, 3) uint8.
        tokens, long_tokens: the five captions (n, 5, 32), and the long one (n, 104), int16.
        factors: (n, 7), the values of FACTORS.
        sha256: of images, tokens and factors.
        content: (n,), equal where captions say the same; None where that is not known.
    """

    images: np.ndarray
    tokens: np.ndarray
    factors: np.ndarray
    long_tokens: np.ndarray
    sha256: str
    content: np.ndarray | None = None


def load_pool(n: int, split: str = "train", kind: str = "") -> Pool:
    """The first `n` pairs of a split of the world, rendered once and kept in the cache.

    With a `kind` of `mini.named`, the tokens (n, 2, 32) are those of its captions.
    """
    if kind:
        return _with_named(load_pool(n, split), split, kind)
    folder = paths.CACHE / "training" / f"pairs-{world.VERSION}-{split}-{n}"
    if not folder.is_dir():
        _write_pool(folder, n, split)
    arrays = [np.load(folder / f"{k}.npy", mmap_mode="r") for k in _ARRAYS]
    return Pool(*arrays, (folder / "sha256").read_text())


def _with_named(pool: Pool, split: str, kind: str) -> Pool:
    """The same pairs with captions of a kind, written once and kept in the cache."""
    n = len(pool.images)
    folder = paths.CACHE / "training" / f"captions-{world.VERSION}-{split}-{n}-{kind}"
    if not folder.is_dir():
        ids = {w: i for i, w in enumerate(words())}
        tokens = np.stack([_tokens(named.of_scene(kind, split, i), ids) for i in range(n)])
        said = range(n) if kind == "two" else [named.content(kind, split, i) for i in range(n)]
        with files.put(folder) as unfinished:
            unfinished.mkdir()
            np.save(unfinished / "tokens.npy", tokens)
            np.save(unfinished / "content.npy", np.unique(said, return_inverse=True)[1])
    tokens, content = (np.load(folder / f"{k}.npy") for k in ("tokens", "content"))
    digest = hashlib.sha256(pool.sha256.encode() + tokens.tobytes()).hexdigest()
    content = None if kind == "two" else content
    return replace(pool, tokens=tokens, sha256=digest, content=content)


def _render_chunk(split: str, span: tuple[int, int]) -> list[np.ndarray]:
    ids = {w: i for i, w in enumerate(words())}
    rows = []
    for i in range(*span):
        scene, draw = _scene(split, i)
        image, short, long = render(scene, draw), captions(scene, draw), long_caption(scene, draw)
        values = world.attributes(scene)
        rows.append(
            (
                image,
                _tokens(short, ids),
                np.array([values[f] for f in FACTORS], np.int16),
                _tokens([long], ids, LONG_CONTEXT)[0],
            )
        )
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _scene(split: str, i: int):
    number, _, options = world.SPLITS[split]
    return world.scene_and_stream(number, i, options)


def _write_pool(folder: Path, n: int, split: str) -> None:
    spans = [(k, min(k + 500, n)) for k in range(0, n, 500)]
    with ProcessPoolExecutor() as workers:
        done = workers.map(partial(_render_chunk, split), spans)
        parts = list(tqdm(done, "rendering training pairs", len(spans), mininterval=5))
    digest = hashlib.sha256()
    with files.put(folder) as unfinished:
        unfinished.mkdir()
        for k, name in enumerate(_ARRAYS):
            array = np.concatenate([p[k] for p in parts])
            if name in _HASHED:
                digest.update(array.tobytes())
            np.save(unfinished / f"{name}.npy", array)
        (unfinished / "sha256").write_text(digest.hexdigest())


def drawn_again(index: np.ndarray) -> np.ndarray:
    """Other pictures (n, 48, 48, 3) of scenes of the training split: new noise, same content."""
    some = ((_scene("train", int(i))[0], Stream(world.VERSION, 30, int(i))) for i in index)
    return np.stack([render(scene, draw) for scene, draw in some])


def caption_similarity(factors: np.ndarray) -> np.ndarray:
    """How alike scenes are, (n, n) in [0, 1]: the share of the seven FACTORS that agree.

    It replaces the cosine of a frozen sentence encoder's embeddings (AlignCLIP uses SBERT's). Like
    that cosine, it is 1 for captions that say the same, and does not depend on the model in
    training.
    """
    return (factors[:, None] == factors[None]).mean(-1, dtype=np.float32)


# --- batches --------------------------------------------------------------------------------


class Batches:
    """Indices of the pairs of each step's batch, and which of their captions it shows."""

    def __init__(self, recipe: Recipe, pool: Pool):
        self.recipe = recipe
        style = pool.factors[:, FACTORS.index("style")]
        wanted = [world.ATTRIBUTES["style"].index(name) for name in recipe.styles]
        self.rows = np.flatnonzero(np.isin(style, wanted) if wanted else style >= 0)
        factors = pool.factors[self.rows]
        weights = np.array(recipe.caption_weights, float)
        self.caption_share = weights / weights.sum()
        self.sorted = [self._by(factors, names) for names in recipe.shared]
        # Tags belong to the only object of a picture.
        self.lone = np.flatnonzero(factors[:, FACTORS.index("n_objects")] == 1)

    @staticmethod
    def _by(factors: np.ndarray, names: tuple) -> tuple:
        code = np.zeros(len(factors), np.int64)
        for name in names:
            code = code * 16 + factors[:, FACTORS.index(name)]
        order = np.argsort(code, kind="stable")
        return code, order, code[order]

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        r = self.recipe
        rng = np.random.default_rng([r.seed, step])
        if step < r.tagging_steps:
            index = rng.choice(self.lone, r.batch)
        elif step < r.tagging_steps + r.shared_from or rng.random() >= r.shared_share:
            index = rng.integers(0, len(self.rows), r.batch)
        else:
            index = self._groups(rng)
        which = rng.choice(len(self.caption_share), r.batch, p=self.caption_share)
        return self.rows[index], which

    def _groups(self, rng) -> np.ndarray:
        r = self.recipe
        code, order, ordered = self.sorted[rng.integers(len(self.sorted))]
        groups = []
        for anchor in rng.integers(0, len(self.rows), r.batch // r.group):
            low, high = np.searchsorted(ordered, [code[anchor], code[anchor] + 1])
            some = rng.choice(high - low, r.group, replace=high - low < r.group)
            groups.append(order[low + some])
        return np.concatenate(groups)
