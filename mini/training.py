"""Training of the mini models on the embedded world.

`python -m mini.training NAME` rebuilds `models/NAME`. Everything random depends on the seed and the
step alone, so a run that was killed goes on from its checkpoint and ends with the same weights.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.loss import SigLipLoss
from safetensors.torch import load_file, save_file
from scipy.linalg import orthogonal_procrustes
from tqdm.auto import tqdm

from lib import files, paths
from lib.encoders import registry, towers
from lib.methods import losses
from lib.suggestions import unknown
from mini import named, world
from mini.batches import (
    FACTORS,
    Batches,
    Pool,
    caption_similarity,
    drawn_again,
    load_pool,
    words,
    write_tokenizer,
)
from mini.recipes import CONTEXT, KEPT, LONG_CONTEXT, RECIPES, Recipe, described

MEAN = STD = (0.5, 0.5, 0.5)
CHECKPOINT_STEPS = 100
CURVE_STEPS = 250
AMENDING = 1000  # pairs that the amended start is fitted on
# A rebuilt model may differ from the shipped one by this much: rounding differs between
# machines and thread counts, and training amplifies it to the spread between seeds.
ZERO_SHOT = ("shape", "colour", "texture", "background")
TOLERANCE = {"r1": 0.08, "accuracy": 0.12, "distance": 0.08, "cosine": 0.08}


# --- the model ------------------------------------------------------------------------------


def config(recipe: Recipe) -> dict:
    """open_clip's configuration file of a recipe's model."""
    size = {"context_length": context(recipe), "vocab_size": len(words())}
    parts = {
        "embed_dim": recipe.embed_dim,
        "vision_cfg": recipe.vision,
        "text_cfg": size | recipe.text | {"hf_tokenizer_name": "mini-world"},
    }
    if recipe.logit_bias is not None:
        parts["init_logit_bias"] = recipe.logit_bias
    if recipe.decoder:
        parts |= {"multimodal_cfg": size | recipe.decoder, "custom_text": True}
    return {
        "model_cfg": parts,
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def context(recipe: Recipe) -> int:
    return LONG_CONTEXT if recipe.long_captions else CONTEXT


def build(recipe: Recipe) -> torch.nn.Module:
    """The model of a recipe before its first step: random weights, or those it starts from."""
    torch.manual_seed(recipe.seed)
    kind = open_clip.CoCa if recipe.decoder else open_clip.CLIP
    parts = config(recipe)["model_cfg"].items()
    model = kind(**{k: _plain(v) for k, v in parts if k != "custom_text"})
    if recipe.decoder:
        # open_clip leaves this one as the memory was; drawn as its other projections are.
        projection = model.text_decoder.text_projection
        torch.nn.init.normal_(projection, std=len(projection) ** -0.5)
    if recipe.tied:
        tie(model)
    if recipe.start:
        _start_from(model, recipe.start)
    model.logit_scale.data.fill_(math.log(recipe.logit_scale))
    model.logit_scale.requires_grad_(recipe.learn_scale)
    for block in model.modules():
        if isinstance(block, torch.nn.MultiheadAttention):
            block.dropout = recipe.dropout
    return model


def _plain(value):
    # open_clip would load the tokenizer's config by name; the model itself needs none.
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k != "hf_tokenizer_name"}
    return value


def tie(model: open_clip.CLIP) -> None:
    """Make a CLIP a SharedCLIP: one transformer, final norm and projection for both modalities.

    Not shared: stems, positions, and the norm before the transformer, which only images have.
    A saved model holds the shared weights under both towers' names, so that plain open_clip loads
    it.
    Source: AlignCLIP section 3.1 and its code (align_clip/model.py).
    """
    model.visual.transformer = model.transformer
    model.visual.ln_post = model.ln_final
    model.visual.proj = model.text_projection


def _start_from(model: torch.nn.Module, name: str) -> None:
    """Load a shipped model's weights; more text positions than it has are interpolated."""
    weights = {k: v.float() for k, v in load_file(_shipped(name)).items()}
    positions, wanted = weights["positional_embedding"], len(model.positional_embedding)
    if wanted > len(positions):
        weights["positional_embedding"] = stretched(positions, wanted)
    model.load_state_dict(weights)


def _shipped(name: str) -> Path:
    return paths.MODELS / name / registry.WEIGHTS


def stretched(positions: torch.Tensor, n: int) -> torch.Tensor:
    """Positions (m, d) -> (n, d): the first KEPT as they are, the others interpolated linearly.

    Source: Long-CLIP (arXiv 2403.15378) section 3.1, which keeps 20 of 77.
    """
    others = F.interpolate(positions[KEPT:].T[None], size=n - KEPT, mode="linear")[0].T
    return torch.cat([positions[:KEPT], others])


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """(n, 48, 48, 3) uint8 to normalised (n, 3, 48, 48) float32, as the model's preprocessing."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    return (x / 255 - MEAN[0]) / STD[0]


def encode_tokens(model, tokens: torch.Tensor) -> torch.Tensor:
    """Unit text embeddings (n, d). The mask is causal: columns after the last token are cut."""
    length = int((tokens != 0).sum(1).max())
    return F.normalize(towers.encode_cut(model, tokens[:, :length]), dim=-1)


def _encode_by_length(model, tokens: torch.Tensor) -> torch.Tensor:
    """Short and long texts apart, so that the short ones are not padded to the longest."""
    order = (tokens != 0).sum(1).argsort(stable=True)
    half = len(order) // 2
    parts = [encode_tokens(model, tokens[o]) for o in (order[:half], order[half:]) if len(o)]
    return torch.cat(parts)[order.argsort()]


def _amend(model: open_clip.CLIP, pool: Pool) -> None:
    """Turn the text projection so that texts lie on their images, as far as a rotation can do it.

    Orthogonal Procrustes on the first pairs: the amended start of Mind the Gap's section on
    initialisation against optimisation.
    """
    with torch.no_grad():
        image = model.encode_image(to_pixels(pool.images[:AMENDING]), normalize=True)
        tokens = torch.from_numpy(pool.tokens[:AMENDING, 3].astype(np.int64))
        text = encode_tokens(model, tokens)
        turn, _ = orthogonal_procrustes(text.double().numpy(), image.double().numpy())
        model.text_projection.data = model.text_projection @ torch.from_numpy(turn).float()


# --- the loss -------------------------------------------------------------------------------


class Pairs:
    """The pairs of one step, encoded as far as the loss asks for; embeddings are unit rows."""

    def __init__(self, state: "State", pool: Pool, index: np.ndarray, which: np.ndarray):
        self.model, self.heads, self.recipe = state.model, state.heads, state.recipe
        self.pool, self.index, self.which, self.step = pool, index, which, state.step

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(self.recipe.trains != "normalisation"):
            rows = self.model.encode_image(pixels, normalize=True)
        return self._normalised(rows, "image")

    def _texts(self, tokens: np.ndarray) -> torch.Tensor:
        tokens = torch.from_numpy(tokens.astype(np.int64))
        with torch.set_grad_enabled(self.recipe.trains != "normalisation"):
            rows = _encode_by_length(self.model, tokens)
        return self._normalised(rows, "text")

    def _normalised(self, rows: torch.Tensor, modality: str) -> torch.Tensor:
        layer = self.heads["normalise"]
        return F.normalize(layer[modality](rows), dim=-1) if layer else rows

    def combinations(self):
        """(image, text) embeddings (n, d) each: with two passes (MCSIE), all four combinations."""
        if self.recipe.decoder:
            return [(self.captioned["image_features"], self.captioned["text_features"])]
        passes = range(self.recipe.passes)
        images = [self._images(self.pixels) for _ in passes]
        texts = [self._texts(self._tokens) for _ in passes]
        return product(images, texts)

    @cached_property
    def pixels(self) -> torch.Tensor:
        return to_pixels(self.pool.images[self.index])

    @cached_property
    def captioned(self) -> dict[str, torch.Tensor]:
        """A CoCa's embeddings, the logits of each caption's next word, and that word."""
        return self.model(self.pixels, torch.from_numpy(self._tokens.astype(np.int64)))

    @property
    def _tokens(self) -> np.ndarray:
        if self.recipe.long_captions:
            return self.pool.long_tokens[self.index]
        return self.pool.tokens[self.index, self.which]

    @property
    def scale(self) -> torch.Tensor:
        return self.model.logit_scale.exp()

    @cached_property
    def similarity(self) -> torch.Tensor:
        """Of the captions' content, (n, n); see `caption_similarity`."""
        return torch.from_numpy(caption_similarity(self.pool.factors[self.index]))

    @cached_property
    def content(self) -> torch.Tensor:
        """(n,), equal where captions say the same."""
        return torch.from_numpy(self.pool.content[self.index])

    @cached_property
    def short_text(self) -> torch.Tensor:
        return self._texts(self.pool.tokens[self.index, self.which])

    @cached_property
    def other_text(self) -> torch.Tensor:
        """Another caption of the same scenes."""
        return self._texts(self.pool.tokens[self.index, (self.which + 2) % 5])

    @cached_property
    def other_image(self) -> torch.Tensor:
        """Another picture of the same scenes."""
        return self._images(to_pixels(drawn_again(self.index)))

    def views(self) -> list[torch.Tensor]:
        """Two random views of each picture, from before the projection, through SLIP's own head."""
        generator = torch.Generator().manual_seed(hash_seed(self.recipe.seed, self.step))
        return [
            F.normalize(self.heads["views"](self._unprojected(augmented(self.pixels, generator))))
            for _ in range(2)
        ]

    def _unprojected(self, pixels: torch.Tensor) -> torch.Tensor:
        caught = []
        hook = self.model.visual.ln_post.register_forward_hook(lambda *a: caught.append(a[-1]))
        self.model.encode_image(pixels)
        hook.remove()
        return caught[0][:, 0] if caught[0].ndim == 3 else caught[0]


def hash_seed(*parts: int) -> int:
    """A seed for torch that belongs to these numbers alone."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def augmented(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random view of each picture (n, 3, h, w): SLIP's crop, mirror, colours, and gray.

    Crops hold 40 to 100 % of the area; brightness, contrast and saturation change by up to 40 %;
    one picture in five is gray. Sizes are smaller than SimCLR's, as are the pictures.
    """

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    n = len(pixels)
    side = (0.4 + 0.6 * draw(n)).sqrt()
    centre = (2 * draw(n, 2) - 1) * (1 - side)[:, None]
    mirror = torch.where(draw(n) < 0.5, -1.0, 1.0)
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = side * mirror, side, centre
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    view = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    gray = view.mean(1, keepdim=True)
    colourful = torch.where(draw(n) < 0.2, 0.0, 0.6 + 0.8 * draw(n)).view(n, 1, 1, 1)
    view = gray + colourful * (view - gray)
    mean = view.mean((1, 2, 3), keepdim=True)
    contrast, light = ((0.6 + 0.8 * draw(n)).view(n, 1, 1, 1) for _ in range(2))
    return ((mean + contrast * (view - mean) + 1) * light - 1).clamp(-1, 1)


def _caption_loss(pairs: Pairs) -> torch.Tensor:
    """Cross-entropy of the next word of a caption given the picture: CoCa's second term."""
    logits, labels = pairs.captioned["logits"], pairs.captioned["labels"]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0)


def _short_captions(pairs: Pairs, image: torch.Tensor) -> torch.Tensor:
    """Long-CLIP's second branch: coarse image features with short captions."""
    coarse = losses.principal_components(image, 32)
    return losses.clip_loss(coarse, pairs.short_text, pairs.scale, smoothing=0.1)


def _siglip(pairs: Pairs, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return SigLipLoss()(image, text, pairs.scale, pairs.model.logit_bias)


# What a recipe's loss may consist of: functions of the pairs and one combination of embeddings.
CLOOB_BETA = 14.3  # I0T's code
TERMS: dict[str, Callable[[Pairs, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "clip": lambda p, x, y: losses.clip_loss(x, y, p.scale),
    "multi_positive": lambda p, x, y: losses.multi_positive_loss(x, y, p.scale, p.content),
    "smooth_clip": lambda p, x, y: losses.clip_loss(x, y, p.scale, smoothing=0.1),
    "separate_images": lambda p, x, y: losses.separation_loss(x, y, p.scale, p.similarity),
    "separate_texts": lambda p, x, y: losses.separation_loss(y, x, p.scale, p.similarity),
    "separate_images_plainly": lambda p, x, y: losses.separation_loss(x, y, p.scale),
    "cyclic_in": lambda p, x, y: losses.cyclic_in_modal_loss(x, y),
    "cyclic_cross": lambda p, x, y: losses.cyclic_cross_modal_loss(x, y),
    "cloob": lambda p, x, y: losses.cloob_loss(x, y, p.scale, CLOOB_BETA),
    "align": lambda p, x, y: losses.alignment_loss(x, y),
    "uniform_images": lambda p, x, y: losses.uniformity_loss(x),
    "uniform_texts": lambda p, x, y: losses.uniformity_loss(y),
    "two_views": lambda p, x, y: losses.two_view_loss(*p.views()),
    "other_images": lambda p, x, y: losses.clip_loss(p.other_image, y, p.scale),
    "other_texts": lambda p, x, y: losses.clip_loss(x, p.other_text, p.scale),
    "short_captions": lambda p, x, y: _short_captions(p, x),
    "siglip": _siglip,
    "caption": lambda p, x, y: _caption_loss(p),
}


# --- the loop -------------------------------------------------------------------------------


TAGS = {name: len(world.ATTRIBUTES[name]) for name in FACTORS if name in world.ATTRIBUTES}


@dataclass
class State:
    """What a checkpoint holds.

    `heads` are modules beside the model: "tags", one linear classifier per attribute, and "views",
    SLIP's head, are thrown away in the end; "normalise" is kept.
    """

    recipe: Recipe
    model: torch.nn.Module
    heads: torch.nn.ModuleDict
    optimiser: torch.optim.Optimizer
    step: int = 0
    curve: list = field(default_factory=list)

    @classmethod
    def start(cls, recipe: Recipe) -> "State":
        model = build(recipe).train()
        d, hidden = recipe.embed_dim, 4 * recipe.vision["width"]
        tags = torch.nn.ModuleDict({name: torch.nn.Linear(d, n) for name, n in TAGS.items()})
        heads = torch.nn.ModuleDict({"tags": tags, "normalise": torch.nn.ModuleDict()})
        if "two_views" in dict(recipe.loss):
            heads["views"] = _view_head(recipe.vision["width"], hidden)
        if recipe.normalise:
            heads["normalise"] = registry.normalisation(recipe.normalise, d)
        return cls(recipe, model, heads, _optimiser(recipe, model, heads))

    def save(self, path: Path) -> None:
        parts = ("model", "heads", "optimiser")
        content = {name: getattr(self, name).state_dict() for name in parts}
        with files.put(path) as part:
            torch.save(content | {"step": self.step, "curve": self.curve}, part)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; a head that only one of the two has stays as it is."""
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        heads = self.heads.state_dict()
        heads |= {k: v for k, v in saved["heads"].items() if k in heads}
        self.heads.load_state_dict(heads)
        own, theirs = (o["param_groups"] for o in (self.optimiser.state_dict(), saved["optimiser"]))
        saved["optimiser"]["param_groups"] = theirs[: len(own)] + own[len(theirs) :]
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.curve = saved["step"], saved["curve"]


def _view_head(width: int, hidden: int) -> torch.nn.Sequential:
    """SLIP's three-layer head, at a mini size."""
    layers = []
    for a, b in ((width, hidden), (hidden, hidden)):
        layers += [torch.nn.Linear(a, b), torch.nn.BatchNorm1d(b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(hidden, 64))


def _optimiser(recipe: Recipe, model, heads) -> torch.optim.Optimizer:
    """AdamW over what the recipe trains; weights decay, biases, norms and scales do not.

    Parameters that only some losses have are in groups of their own, at the end. So a stage that
    several recipes share can be loaded into all of them.
    """
    scales = {"logit_scale", "logit_bias"}
    apart = {"logit_scale"} if recipe.scale_rate else set()
    if recipe.trains == "all":
        common = [p for name, p in model.named_parameters() if name not in scales]
        own = [p for name, p in model.named_parameters() if name in scales - apart]
    elif recipe.trains == "projections":
        common, own = [model.visual.proj, model.text_projection], []
    else:
        common, own = [], []
    common = [*common, *heads["tags"].parameters()]
    own += [p for name in heads if name != "tags" for p in heads[name].parameters()]
    groups = []
    for part in (common, own):
        free = [p for p in part if p.requires_grad]
        groups += [
            {"params": [p for p in free if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in free if p.ndim < 2], "weight_decay": 0.0},
        ]
    groups = [g for k, g in enumerate(groups) if g["params"] or k < 2]
    if recipe.scale_rate:
        its = {"params": [model.logit_scale], "weight_decay": 0.0, "rate": recipe.scale_rate}
        groups.append(its)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6)


def _rate(recipe: Recipe, step: int, peak: float | None = None) -> float:
    """Linear warm-up, for tagging and again for the contrastive steps; those follow a cosine.

    `peak` is the largest rate, by default the recipe's.
    """
    contrastive = step - recipe.tagging_steps  # negative while tagging
    since_start = step if contrastive < 0 else contrastive
    warm = min(1.0, (since_start + 1) / recipe.warm_up)
    cosine = 1.0 if contrastive < 0 else (1 + math.cos(math.pi * contrastive / recipe.steps)) / 2
    return (peak or recipe.learning_rate) * warm * (0.01 + 0.99 * cosine)


def untrained(name: str) -> torch.nn.Module:
    """A recipe's model as it is before its first step: its random weights, amended if it asks so.

    Raises: ValueError for an unknown recipe, or one that starts from another model.
    """
    recipe = _recipe(name)
    if recipe.start:
        raise ValueError(
            f"{name} does not start from random weights: it starts from {recipe.start}."
        )
    model = build(recipe)
    if recipe.amended:
        _amend(model, load_pool(AMENDING, recipe.split))
    return model.eval()


def untrained_model(name: str) -> towers.Model:
    """`untrained` with everything around it, to encode with: a model of its own fingerprint.

    Raises: ValueError as `untrained`.
    """
    clip, trained = untrained(name), registry.load(name)
    parts = towers.Parts(clip, trained.preprocess, trained.tokenizer)
    weights = b"".join(each.numpy().tobytes() for each in clip.state_dict().values())
    fingerprint = files.sha256(trained.fingerprint.encode() + weights)
    return replace(trained, fingerprint=fingerprint, build=lambda: parts)


def run(recipe: Recipe, checkpoint: Path) -> State:
    """Train to the end, from `checkpoint` if there is one."""
    state = State.start(recipe)
    if recipe.steps == 0:
        return state
    pool = load_pool(recipe.pool, recipe.split, recipe.captions)
    if recipe.amended:
        _amend(state.model, pool)
    tagged = _tagged_file(recipe)
    found = next((file for file in (checkpoint, tagged) if file.is_file()), None)
    if found:
        state.load(found)
    batches, values = Batches(recipe, pool), []
    total = recipe.tagging_steps + recipe.steps
    bar = tqdm(total=total, initial=state.step, desc="training", mininterval=5)
    while state.step < total:
        values.append(_step(state, pool, batches))
        bar.update()
        if state.step % CURVE_STEPS == 0 or state.step == total:
            loss = round(float(np.mean(values[-100:])), 4)
            state.curve.append({"step": state.step, "loss": loss} | validate(state))
            bar.write(json.dumps(state.curve[-1]), file=sys.stderr)
        if state.step == recipe.tagging_steps:
            state.save(tagged)
        if state.step % CHECKPOINT_STEPS == 0:
            state.save(checkpoint)
    bar.close()
    return state


def _tagged_file(recipe: Recipe) -> Path:
    """Where the end of the tagging stage is kept: the same for all recipes that begin alike."""
    later = ("loss", "steps", "captions", "caption_weights", "shared")  # of the contrastive steps
    begins = {k: v for k, v in described(recipe).items() if k not in later}
    digest = hashlib.sha256(json.dumps(begins | {"world": world.VERSION}).encode()).hexdigest()
    return paths.CACHE / "training" / "tagged" / f"{digest[:16]}.pt"


def _step(state: State, pool: Pool, batches: Batches) -> float:
    recipe = state.recipe
    for group in state.optimiser.param_groups:
        group["lr"] = _rate(recipe, state.step, group.get("rate"))
    part = _tagging if state.step < recipe.tagging_steps else _contrastive
    torch.manual_seed(hash_seed(recipe.seed, state.step))  # of dropout
    loss = part(state, pool, *batches(state.step))
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimiser.step()
    if recipe.learn_scale:
        state.model.logit_scale.data.clamp_(0, math.log(100))
    state.step += 1
    return loss.item()


def _tagging(state: State, pool: Pool, index: np.ndarray, which) -> torch.Tensor:
    """Cross-entropy of the main object's and the picture's attributes from the image tower.

    From random weights the contrastive loss alone does not find shape within half an hour of two
    cores: both towers first agree to ignore it. ConVIRT and LiT, too, start from a classifier.
    """
    features = state.model.encode_image(to_pixels(pool.images[index]), normalize=False)
    loss = features.new_zeros(())
    for name, classifier in state.heads["tags"].items():
        target = torch.from_numpy(pool.factors[index, FACTORS.index(name)].astype(np.int64))
        loss = loss + F.cross_entropy(classifier(features), target)
    return loss


def _contrastive(state: State, pool: Pool, index: np.ndarray, which) -> torch.Tensor:
    """The recipe's loss, averaged over the combinations of passes."""
    pairs = Pairs(state, pool, index, which)
    every = [
        sum(weight * TERMS[term](pairs, image, text) for term, weight in state.recipe.loss)
        for image, text in pairs.combinations()
    ]
    return sum(every) / len(every)


def validate(state: State) -> dict[str, float]:
    """Metrics on the validation split, during training."""
    with tempfile.TemporaryDirectory() as folder:
        export(state, Path(folder) / "model")
        return measure(Path(folder) / "model", "val", 500, state.recipe.captions)


# --- what is kept ---------------------------------------------------------------------------


def export(state: State, folder: Path) -> None:
    """Write the model as an open_clip folder, in half precision."""
    folder.mkdir(parents=True)
    recipe = state.recipe
    (folder / registry.CONFIG).write_text(json.dumps(config(recipe), indent=1) + "\n")
    weights = {k: v.half().contiguous() for k, v in state.model.state_dict().items()}
    save_file(weights, folder / registry.WEIGHTS)
    if recipe.normalise:
        # In full precision: a variance of 1e-4 would lose digits.
        layers = {k: v.contiguous() for k, v in state.heads["normalise"].state_dict().items()}
        save_file(layers, folder / registry.NORMALISATION, {"kind": recipe.normalise})
    write_tokenizer(folder, context(recipe))


def measure(
    folder: Path, split: str = "test", n: int | None = None, kind: str = ""
) -> dict[str, float]:
    """Metrics of an exported model: recall@1 (full captions), gap, zero-shot accuracies.

    With a `kind` of `mini.named`, captions and prompts are those that the model was trained on.
    """
    from lib.measures import gap, retrieval, zeroshot

    model = registry.load(f"local-dir:{folder}")
    pairs = world.pairs(split, n)
    image = model.encode_image(pairs["image"][:])
    full = [five[3] for five in pairs["captions"]]
    asked = [named.of_scene(kind, split, i)[0] for i in range(len(full))] if kind else full
    text = model.encode_text(asked)
    recall = retrieval.recall(image, text, ks=(1,))
    metrics = {
        "i2t_r1": float(recall.i2t[1].mean()),
        "t2i_r1": float(recall.t2i[1].mean()),
        "centroid_distance": gap.centroid_distance(image, text),
        "mean_paired_cosine": gap.alignment(image, text),
    }
    labelled = {name: world.labelled(name, split, n) for name in ZERO_SHOT}
    lone = model.encode_image(labelled["shape"]["image"][:])  # the same pictures for every label
    for name, rows in labelled.items():
        classes = zeroshot.class_embeddings(model.encode_text, *named.prompts(kind, name))
        right = zeroshot.classify(lone, classes) == np.array(rows["label"])
        metrics[f"{name}_accuracy"] = float(right.mean())
    return {k: round(v, 4) for k, v in metrics.items()}


def _tolerance(metric: str) -> float:
    return next(v for k, v in TOLERANCE.items() if metric.endswith(k))


def train(name: str) -> dict[str, float]:
    """Rebuild models/NAME; returns its test metrics. An older model is replaced at the end only."""
    recipe = _recipe(name)
    if recipe.start and not _shipped(recipe.start).is_file():
        train(recipe.start)
    work = paths.CACHE / "training" / name
    work.mkdir(parents=True, exist_ok=True)
    note = json.loads(json.dumps(described(recipe) | {"world": world.VERSION}))
    _same_recipe(work, note)
    started = time.monotonic()
    state = run(recipe, work / "checkpoint.pt")
    built = work / "model"
    shutil.rmtree(built, ignore_errors=True)
    export(state, built)
    metrics = measure(built, kind=recipe.captions)
    report = {
        "name": name,
        "recipe": note,
        "training_pairs_sha256": load_pool(recipe.pool, recipe.split, recipe.captions).sha256
        if recipe.steps
        else None,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "seconds_of_last_run": round(time.monotonic() - started),
        "curve": state.curve,
        "test": metrics,
        "tolerance": TOLERANCE,
    }
    (built / "recipe.json").write_text(json.dumps(report, indent=1) + "\n")
    _compare(paths.MODELS / name, metrics)
    _put(built, paths.MODELS / name)
    shutil.rmtree(work)
    return metrics


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[name]


def _same_recipe(work: Path, wanted: dict) -> None:
    """A checkpoint of another recipe is not a start for this one."""
    note = work / "recipe.json"
    if not note.is_file() or json.loads(note.read_text()) != wanted:
        (work / "checkpoint.pt").unlink(missing_ok=True)
        note.write_text(json.dumps(wanted))


def _put(built: Path, target: Path) -> None:
    """Copied first: the cache may be on another file system."""
    with files.put(target) as part:
        shutil.copytree(built, part)


def _compare(shipped: Path, metrics: dict[str, float]) -> None:
    note = shipped / "recipe.json"
    if not note.is_file():
        return
    before = json.loads(note.read_text())["test"]
    for name, value in metrics.items():
        if name in before:
            apart, allowed = abs(value - before[name]), _tolerance(name)
            verdict = "within" if apart <= allowed else "OUTSIDE"
            print(f"{name:20} {value:.3f}  shipped {before[name]:.3f}  {verdict} {allowed}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="mini.training", description=__doc__)
    parser.add_argument("name", nargs="+", help=f"one of {', '.join(RECIPES)}")
    for name in parser.parse_args().name:
        try:
            metrics = train(name)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        print(name, json.dumps(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
