"""Training of the mini models on the embedded world.

`python -m lib.train NAME` rebuilds `models/NAME`. Everything random depends on the seed and the
step alone, so a run that was killed goes on from its checkpoint and ends with the same weights.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tqdm.auto import tqdm

from lib import paths, world
from lib.losses import clip_loss
from lib.names import unknown
from lib.world.captions import captions, vocabulary
from lib.world.render import render

CONTEXT = 32  # tokens; the longest short caption has 31
MEAN = STD = (0.5, 0.5, 0.5)
CHECKPOINT_STEPS = 100
CURVE_STEPS = 250
FACTORS = ("shape", "colour", "texture", "size", "background", "style", "n_objects")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a model's weights."""

    seed: int
    vision: dict  # open_clip's vision_cfg
    text: dict  # open_clip's text_cfg, less vocabulary and tokenizer
    embed_dim: int = 128
    logit_scale: float = 100.0  # fixed where CLIP's learnable scale ends
    steps: int = 800
    tagging_steps: int = 450  # before them: the image tower alone learns to tag (see `_tagging`)
    batch: int = 128
    learning_rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 0.1
    pool: int = 50_000  # training pairs
    caption_weights: tuple = (1, 1, 1, 2, 2)  # how often each of the five captions is drawn
    # Most batches consist of groups of pairs that agree in some attributes, so that the others
    # must tell them apart; otherwise background, style and colour identify a picture, and shape
    # and texture hardly matter.
    shared: tuple = (
        ("colour", "texture", "background", "n_objects"),
        ("shape", "colour", "background", "n_objects"),
        ("background", "style"),
        ("colour", "background"),
    )
    shared_share: float = 0.6
    shared_from: int = 100  # too early they stall learning
    group: int = 16


_TEXT = {"width": 96, "heads": 3, "layers": 3}
_VIT = {
    "image_size": 48,
    "patch_size": 8,
    "width": 96,
    "head_width": 32,
    "layers": 4,
    "pos_embed_type": "sin_cos_2d",  # shapes are learned sooner than from random positions
}
_RESNET = {"image_size": 48, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32}
RECIPES = {
    "mini-clip": Recipe(0, _VIT, _TEXT),
    "mini-clip-seed1": Recipe(1, _VIT, _TEXT),
    "mini-clip-seed2": Recipe(2, _VIT, _TEXT),
    "mini-clip-untrained": Recipe(0, _VIT, _TEXT, steps=0),
    "mini-rn": Recipe(0, _RESNET, _TEXT),
}
# A rebuilt model may differ from the shipped one by this much: rounding differs between
# machines and thread counts, and training amplifies it to the spread between seeds.
ZERO_SHOT = ("shape", "colour", "texture", "background")
TOLERANCE = {"r1": 0.08, "accuracy": 0.12, "distance": 0.08, "cosine": 0.08}


# --- the training pairs ---------------------------------------------------------------------


def words() -> list[str]:
    return ["<pad>", "<start>", "<unk>", *vocabulary(), "<end>"]


def write_tokenizer(folder: Path) -> None:
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
        "model_max_length": CONTEXT,
        "padding_side": "right",
        "truncation_side": "right",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def _tokens(texts: list[str], ids: dict[str, int]) -> np.ndarray:
    out = np.zeros((len(texts), CONTEXT), np.int16)
    for row, text in zip(out, texts, strict=True):
        inner = [ids[w] for w in text.split()][: CONTEXT - 2]
        row[: len(inner) + 2] = [ids["<start>"], *inner, ids["<end>"]]
    return out


def _render_chunk(span: tuple[int, int]):
    ids = {w: i for i, w in enumerate(words())}
    number, _, options = world.SPLITS["train"]
    images, tokens, factors = [], [], []
    for i in range(*span):
        scene, draw = world.scene_and_stream(number, i, options)
        images.append(render(scene, draw))
        tokens.append(_tokens(captions(scene, draw), ids))
        values = world.attributes(scene)
        factors.append([values[f] for f in FACTORS])
    return np.stack(images), np.stack(tokens), np.array(factors, np.int16)


@dataclass(frozen=True)
class Pool:
    """Rendered training pairs: images (n, 48, 48, 3) uint8, tokens (n, 5, 32), factors (n, 7)."""

    images: np.ndarray
    tokens: np.ndarray
    factors: np.ndarray
    sha256: str


def load_pool(n: int) -> Pool:
    """The first `n` pairs of the training split, rendered once and kept in the cache."""
    folder = paths.CACHE / "training" / f"pairs-{world.VERSION}-{n}"
    if not folder.is_dir():
        _write_pool(folder, n)
    arrays = [np.load(folder / f"{k}.npy", mmap_mode="r") for k in ("images", "tokens", "factors")]
    return Pool(*arrays, (folder / "sha256").read_text())


def _write_pool(folder: Path, n: int) -> None:
    spans = [(k, min(k + 500, n)) for k in range(0, n, 500)]
    with ProcessPoolExecutor() as workers:
        done = workers.map(_render_chunk, spans)
        parts = list(tqdm(done, "rendering training pairs", len(spans), mininterval=5))
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    digest = hashlib.sha256()
    for k, name in enumerate(("images", "tokens", "factors")):
        array = np.concatenate([p[k] for p in parts])
        digest.update(array.tobytes())
        np.save(partial / f"{name}.npy", array)
    (partial / "sha256").write_text(digest.hexdigest())
    os.replace(partial, folder)


class Batches:
    """Indices of the pairs of each step's batch, and which of their captions it shows."""

    def __init__(self, recipe: Recipe, pool: Pool):
        self.recipe, self.n = recipe, len(pool.images)
        weights = np.array(recipe.caption_weights, float)
        self.caption_share = weights / weights.sum()
        self.sorted = [self._by(pool.factors, names) for names in recipe.shared]
        # Tags belong to the only object of a picture.
        self.lone = np.flatnonzero(pool.factors[:, FACTORS.index("n_objects")] == 1)

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
            index = rng.integers(0, self.n, r.batch)
        else:
            index = self._groups(rng)
        return index, rng.choice(len(self.caption_share), r.batch, p=self.caption_share)

    def _groups(self, rng) -> np.ndarray:
        r = self.recipe
        code, order, ordered = self.sorted[rng.integers(len(self.sorted))]
        groups = []
        for anchor in rng.integers(0, self.n, r.batch // r.group):
            low, high = np.searchsorted(ordered, [code[anchor], code[anchor] + 1])
            some = rng.choice(high - low, r.group, replace=high - low < r.group)
            groups.append(order[low + some])
        return np.concatenate(groups)


# --- the model ------------------------------------------------------------------------------


def config(recipe: Recipe) -> dict:
    """open_clip's configuration file of a recipe's model."""
    text = {"context_length": CONTEXT, "vocab_size": len(words())}
    return {
        "model_cfg": {
            "embed_dim": recipe.embed_dim,
            "vision_cfg": recipe.vision,
            "text_cfg": text | recipe.text | {"hf_tokenizer_name": "mini-world"},
        },
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def build(recipe: Recipe) -> open_clip.CLIP:
    """The untrained model of a recipe, its logit scale fixed."""
    torch.manual_seed(recipe.seed)
    model = open_clip.CLIP(**{k: _plain(v) for k, v in config(recipe)["model_cfg"].items()})
    model.logit_scale.data.fill_(math.log(recipe.logit_scale))
    model.logit_scale.requires_grad_(False)
    return model


def _plain(value):
    # open_clip would load the tokenizer's config by name; the model itself needs none.
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k != "hf_tokenizer_name"}
    return value


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """(n, 48, 48, 3) uint8 to normalised (n, 3, 48, 48) float32, as the model's preprocessing."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    return (x / 255 - MEAN[0]) / STD[0]


def encode_tokens(model, tokens: torch.Tensor) -> torch.Tensor:
    """Unit text embeddings (n, d). The mask is causal: columns after the last token are cut."""
    length = int((tokens != 0).sum(1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    pooled = x[torch.arange(len(x)), tokens.argmax(1)]
    return F.normalize(pooled @ model.text_projection, dim=-1)


def _encode_by_length(model, tokens: torch.Tensor) -> torch.Tensor:
    """Short and long texts apart, so that the short ones are not padded to the longest."""
    order = (tokens != 0).sum(1).argsort(stable=True)
    half = len(order) // 2
    parts = [encode_tokens(model, tokens[o]) for o in (order[:half], order[half:]) if len(o)]
    return torch.cat(parts)[order.argsort()]


# --- the loop -------------------------------------------------------------------------------


TAGS = {name: len(world.ATTRIBUTES[name]) for name in FACTORS if name in world.ATTRIBUTES}


@dataclass
class State:
    """What a checkpoint holds."""

    model: torch.nn.Module
    tags: torch.nn.ModuleDict  # one linear classifier per attribute, thrown away in the end
    optimiser: torch.optim.Optimizer
    step: int = 0
    curve: list = field(default_factory=list)

    @classmethod
    def start(cls, recipe: Recipe) -> "State":
        model = build(recipe).train()
        tags = torch.nn.ModuleDict(
            {name: torch.nn.Linear(recipe.embed_dim, n) for name, n in TAGS.items()}
        )
        free = [p for p in [*model.parameters(), *tags.parameters()] if p.requires_grad]
        groups = [
            {"params": [p for p in free if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in free if p.ndim < 2], "weight_decay": 0.0},
        ]
        rate = recipe.learning_rate
        return cls(model, tags, torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6))

    def save(self, path: Path) -> None:
        parts = ("model", "tags", "optimiser")
        content = {name: getattr(self, name).state_dict() for name in parts}
        partial = path.with_suffix(".partial")
        torch.save(content | {"step": self.step, "curve": self.curve}, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        for name in ("model", "tags", "optimiser"):
            getattr(self, name).load_state_dict(saved[name])
        self.step, self.curve = saved["step"], saved["curve"]


def _rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, for tagging and again for the contrastive steps; those follow a cosine."""
    contrastive = step - recipe.tagging_steps  # negative while tagging
    since_start = step if contrastive < 0 else contrastive
    warm = min(1.0, (since_start + 1) / recipe.warm_up)
    cosine = 1.0 if contrastive < 0 else (1 + math.cos(math.pi * contrastive / recipe.steps)) / 2
    return recipe.learning_rate * warm * (0.01 + 0.99 * cosine)


def run(recipe: Recipe, checkpoint: Path) -> State:
    """Train to the end, from `checkpoint` if there is one."""
    state = State.start(recipe)
    if recipe.steps == 0:
        return state
    pool = load_pool(recipe.pool)
    if checkpoint.is_file():
        state.load(checkpoint)
    batches, losses = Batches(recipe, pool), []
    total = recipe.tagging_steps + recipe.steps
    bar = tqdm(total=total, initial=state.step, desc="training", mininterval=5)
    while state.step < total:
        losses.append(_step(state, recipe, pool, batches))
        bar.update()
        if state.step % CURVE_STEPS == 0 or state.step == total:
            loss = round(float(np.mean(losses[-100:])), 4)
            state.curve.append({"step": state.step, "loss": loss} | validate(state.model, recipe))
            bar.write(json.dumps(state.curve[-1]), file=sys.stderr)
        if state.step % CHECKPOINT_STEPS == 0:
            state.save(checkpoint)
    bar.close()
    return state


def _step(state: State, recipe: Recipe, pool: Pool, batches: Batches) -> float:
    for group in state.optimiser.param_groups:
        group["lr"] = _rate(recipe, state.step)
    part = _tagging if state.step < recipe.tagging_steps else _contrastive
    loss = part(state, pool, *batches(state.step))
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    return loss.item()


def _tagging(state: State, pool: Pool, index: np.ndarray, which) -> torch.Tensor:
    """Cross-entropy of the main object's and the picture's attributes from the image tower.

    From random weights the contrastive loss alone does not find shape within half an hour of two
    cores: both towers first agree to ignore it. ConVIRT and LiT, too, start from a classifier.
    """
    features = state.model.encode_image(to_pixels(pool.images[index]))
    loss = features.new_zeros(())
    for name, classifier in state.tags.items():
        target = torch.from_numpy(pool.factors[index, FACTORS.index(name)].astype(np.int64))
        loss = loss + F.cross_entropy(classifier(features), target)
    return loss


def _contrastive(state: State, pool: Pool, index: np.ndarray, which) -> torch.Tensor:
    tokens = torch.from_numpy(pool.tokens[index, which].astype(np.int64))
    image = F.normalize(state.model.encode_image(to_pixels(pool.images[index])), dim=-1)
    text = _encode_by_length(state.model, tokens)
    return clip_loss(image, text, state.model.logit_scale.exp())


def validate(model, recipe: Recipe) -> dict[str, float]:
    """Figures on the validation split, on the way."""
    with tempfile.TemporaryDirectory() as folder:
        export(model, recipe, Path(folder) / "model")
        return measure(Path(folder) / "model", "val", 500)


# --- what is kept ---------------------------------------------------------------------------


def export(model, recipe: Recipe, folder: Path) -> None:
    """Write the model as an open_clip folder, in half precision."""
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config(recipe), indent=1) + "\n")
    weights = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    write_tokenizer(folder)


def measure(folder: Path, split: str = "test", n: int | None = None) -> dict[str, float]:
    """Figures of an exported model: recall@1 (full captions), gap, zero-shot accuracies."""
    from lib import gap, models, retrieval, zeroshot

    model = models.load(f"local-dir:{folder}")
    pairs = world.pairs(split, n)
    image = model.encode_image(pairs["image"][:])
    text = model.encode_text([five[3] for five in pairs["captions"]])
    recall = retrieval.recall(image, text, ks=(1,))
    figures = {
        "i2t_r1": float(recall.i2t[1].mean()),
        "t2i_r1": float(recall.t2i[1].mean()),
        "centroid_distance": gap.centroid_distance(image, text),
        "mean_paired_cosine": gap.alignment(image, text),
    }
    labelled = {name: world.labelled(name, split, n) for name in ZERO_SHOT}
    lone = model.encode_image(labelled["shape"]["image"][:])  # the same pictures for every label
    for name, rows in labelled.items():
        classes = zeroshot.class_embeddings(model, *world.prompts(name))
        right = zeroshot.classify(lone, classes) == np.array(rows["label"])
        figures[f"{name}_accuracy"] = float(right.mean())
    return {k: round(v, 4) for k, v in figures.items()}


def _tolerance(figure: str) -> float:
    return next(v for k, v in TOLERANCE.items() if figure.endswith(k))


def train(name: str) -> dict[str, float]:
    """Rebuild models/NAME; returns its test figures. An older model is replaced at the end only."""
    recipe = _recipe(name)
    work = paths.CACHE / "training" / name
    work.mkdir(parents=True, exist_ok=True)
    described = json.loads(json.dumps(asdict(recipe) | {"world": world.VERSION}))
    _same_recipe(work, described)
    started = time.monotonic()
    state = run(recipe, work / "checkpoint.pt")
    built = work / "model"
    shutil.rmtree(built, ignore_errors=True)
    export(state.model, recipe, built)
    figures = measure(built)
    report = {
        "name": name,
        "recipe": described,
        "training_pairs_sha256": load_pool(recipe.pool).sha256 if recipe.steps else None,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "seconds_of_last_run": round(time.monotonic() - started),
        "curve": state.curve,
        "test": figures,
        "tolerance": TOLERANCE,
    }
    (built / "recipe.json").write_text(json.dumps(report, indent=1) + "\n")
    _compare(paths.MODELS / name, figures)
    _put(built, paths.MODELS / name)
    shutil.rmtree(work)
    return figures


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[name]


def _same_recipe(work: Path, described: dict) -> None:
    """A checkpoint of another recipe is no start for this one."""
    note = work / "recipe.json"
    if not note.is_file() or json.loads(note.read_text()) != described:
        (work / "checkpoint.pt").unlink(missing_ok=True)
        note.write_text(json.dumps(described))


def _put(built: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.is_dir():
        os.replace(target, old)
    os.replace(built, target)
    shutil.rmtree(old, ignore_errors=True)


def _compare(shipped: Path, figures: dict[str, float]) -> None:
    note = shipped / "recipe.json"
    if not note.is_file():
        return
    before = json.loads(note.read_text())["test"]
    for name, value in figures.items():
        if name in before:
            apart, allowed = abs(value - before[name]), _tolerance(name)
            verdict = "within" if apart <= allowed else "OUTSIDE"
            print(f"{name:20} {value:.3f}  shipped {before[name]:.3f}  {verdict} {allowed}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="lib.train", description=__doc__)
    parser.add_argument("name", nargs="+", help=f"one of {', '.join(RECIPES)}")
    for name in parser.parse_args().name:
        try:
            figures = train(name)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        print(name, json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
