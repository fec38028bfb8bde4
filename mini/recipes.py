"""The recipes of the mini models: every number that decides a model's weights, as plain data.

`./run_all.sh --retrain NAME` trains a recipe again (`mini.training`). All of them see the same
world, in the same order; a family differs from `mini-clip` in what its entry says and in nothing
else.
"""

from dataclasses import asdict, dataclass, fields, replace

from mini.world.scenes import STYLES

CONTEXT = 32  # tokens; the longest short caption has 28
LONG_CONTEXT = 104  # four times the positions after the first KEPT, as Long-CLIP stretches CLIP's
KEPT = 8


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a model's weights."""

    seed: int
    vision: dict  # open_clip's vision_cfg
    text: dict  # open_clip's text_cfg, less vocabulary and tokenizer
    embed_dim: int = 128
    decoder: dict | None = None  # open_clip's multimodal_cfg: a CoCa, which captions as well
    tied: bool = False  # SharedCLIP: one transformer, final norm and projection for both towers
    start: str = ""  # the model to fine-tune; otherwise random weights
    amended: bool = False  # the text projection turned at the start so that the gap nearly closes
    # What is minimised: names of `mini.training.TERMS` and their weights.
    loss: tuple = (("clip", 1.0),)
    logit_scale: float = 100.0  # 1 / temperature; 100 is where CLIP's learnable scale ends
    learn_scale: bool = False  # from `logit_scale`, kept at 100 or less
    # 0: the learnable scale is one more weight, and 800 steps at `learning_rate` hardly move it.
    # Otherwise an Adam of its own at this rate, warmed up and cooled down like the other.
    scale_rate: float = 0.0
    logit_bias: float | None = None  # SigLIP's, learnable
    norm_gain: float = 1.0  # at the start, of the last norm of each tower
    dropout: float = 0.0  # in every attention; MCSIE needs it
    passes: int = 1  # MCSIE: encode each batch twice, average the loss over the combinations
    normalise: str = ""  # "batch" or "layer": one more layer on each tower's normalised embedding
    trains: str = "all"  # or "normalisation" (I0T_async), "projections" (PAC-S)
    steps: int = 800
    tagging_steps: int = 450  # before them: the image tower alone learns to tag (`mini.training`)
    batch: int = 128
    learning_rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 0.1
    pool: int = 50_000  # training pairs
    split: str = "train"  # of the world that they come from
    styles: tuple = ()  # use the pairs of these styles only
    long_captions: bool = False  # the long caption, in a context of LONG_CONTEXT
    captions: str = ""  # a kind of `mini.named`; empty: the world's own five
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


LATER = ("scale_rate", "captions", "norm_gain")  # fields that models from before do not record


def described(recipe: Recipe) -> dict:
    """A recipe as plain values; fields that came later only where they are not the default."""
    default = {field.name: field.default for field in fields(recipe)}
    return {k: v for k, v in asdict(recipe).items() if k not in LATER or v != default[k]}


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
_CLIP = Recipe(0, _VIT, _TEXT)

# --- from random weights ----------------------------------------------------------------------

# The shared transformer has the depth of the image tower, for texts too.
_SHARED = replace(_CLIP, text=_TEXT | {"layers": 4}, tied=True)


def _align(*terms: str, base: Recipe = _SHARED) -> Recipe:
    """AlignCLIP's total: its cross-modal loss is a sum, "clip" a mean of the same two parts."""
    return replace(base, loss=(("clip", 2.0), *((term, 0.5) for term in terms)))


_CYCLIC = (("cyclic_in", 0.25), ("cyclic_cross", 0.25))
# open_clip's CoCa needs texts, decoder and embedding of one width.
_WIDE_TEXT = {"width": 128, "heads": 4}
_POOL = {"attentional_pool": True, "attn_pooler_queries": 37, "attn_pooler_heads": 4}
_COCA = replace(
    _CLIP,
    vision=_VIT | _POOL | {"output_tokens": True},
    text=_WIDE_TEXT | {"layers": 3, "embed_cls": True, "output_tokens": True},
    decoder=_WIDE_TEXT | {"layers": 2, "attn_pooler_heads": 4},
    loss=(("clip", 1.0), ("caption", 2.0)),
)
FAMILIES = {
    "mini-clip": _CLIP,
    "mini-shared": _SHARED,
    "mini-align": _align("separate_images"),
    "mini-slip": replace(_CLIP, loss=(("clip", 1.0), ("two_views", 1.0))),
}
_ONE_SEED = {
    "mini-rn": replace(_CLIP, vision=_RESNET),
    "mini-align-text": _align("separate_texts"),
    "mini-align-both": _align("separate_images", "separate_texts"),
    "mini-align-plain": _align("separate_images_plainly"),
    "mini-clip-imsep": _align("separate_images", base=_CLIP),
    "mini-cyclip": replace(_CLIP, loss=(("clip", 1.0), *_CYCLIC)),
    "mini-clip-learned": replace(_CLIP, logit_scale=1 / 0.07, learn_scale=True),
    "mini-siglip": replace(
        _CLIP, loss=(("siglip", 1.0),), logit_scale=10.0, learn_scale=True, logit_bias=-10.0
    ),
    "mini-coca": _COCA,
    # Elsewhere d = 128 is more than a tower's width of 96, so that all texts lie in a subspace.
    "mini-clip-full-rank": replace(_CLIP, embed_dim=96),
}

# Mind the Gap's two questions to training from scratch: contrastive from the first step.
_SCRATCH = replace(_CLIP, tagging_steps=0, steps=400)
_AMENDED = replace(_SCRATCH, amended=True)
_DIMENSIONS = {
    f"mini-clip-d{d}": replace(_CLIP, embed_dim=d, steps=400) for d in (32, 64, 128, 256, 512)
}

# --- fine-tuned -------------------------------------------------------------------------------

_TUNED = replace(
    _CLIP,
    start="mini-clip",
    tagging_steps=0,
    steps=300,
    learning_rate=3e-4,
    warm_up=30,
    shared_from=0,
)
_TEMPERATURES = {
    f"mini-clip-t{scale}": replace(_TUNED, logit_scale=float(scale))
    for scale in (1, 10, 20, 30, 50, 100)
}
_COMPARED = {
    "mini-cloob": replace(_TUNED, loss=(("cloob", 1.0),), logit_scale=1 / 0.07),
    "mini-unif-align": replace(
        _TUNED,
        loss=(("clip", 1.0), ("align", 1.0), ("uniform_images", 1.0), ("uniform_texts", 1.0)),
    ),
    "mini-pac": replace(
        _TUNED,
        loss=(("clip", 1.0), ("other_images", 0.05), ("other_texts", 0.1)),
        trains="projections",
    ),
}
# For retrieval on the two target data sets, from each of AlignCLIP's models.
_TARGETS = {
    f"{name}-on-{target}": replace(
        recipe,
        start=name,
        split=f"{target}_train",
        pool=10_000,
        tagging_steps=0,
        steps=100,
        learning_rate=3e-4,
        warm_up=10,
        shared_from=0,
    )
    for name, recipe in list(FAMILIES.items())[:3]
    for target in ("heldout", "rendition")
}
# I0T's first stage on long captions (LC = with Long-CLIP's short-caption branch), and its second:
# a normalisation on each frozen encoder.
_LCO = replace(
    _TUNED, loss=(("smooth_clip", 1.0),), long_captions=True, batch=64, steps=200, group=8
)
_LC = replace(_LCO, loss=(("smooth_clip", 1.0), ("short_captions", 1.0)))
_LCCO = replace(_LCO, loss=(("clip", 1.0), *_CYCLIC))
_LCCOM = replace(_LCCO, dropout=0.1, passes=2)
_ASYNC = replace(_LCCOM, start="mini-lccom", trains="normalisation", normalise="batch")
_LONG = {
    "mini-lc": _LC,
    "mini-lco": _LCO,
    "mini-lcco": _LCCO,
    "mini-lccom": _LCCOM,
    "mini-lccom-ln": replace(_LCCOM, normalise="layer"),
    "mini-lccom-bn": replace(_LCCOM, normalise="batch"),
    "mini-async-ln": replace(_ASYNC, normalise="layer"),
    "mini-async": _ASYNC,
    "mini-async-one-pass": replace(_ASYNC, passes=1, dropout=0.0),
    **{f"mini-async-b{n}": replace(_ASYNC, batch=n) for n in (32, 128, 256)},
    **{f"mini-lc-{style}": replace(_LC, styles=(style,)) for style in STYLES},
    **{f"mini-lco-{style}": replace(_LCO, styles=(style,)) for style in STYLES},
}

# --- the laboratory: what makes the gap -------------------------------------------------------

# d = width, as in published CLIPs. Every model of this family sees the same pairs in the same
# batches: of the base recipe's groups, those that fix shape and colour are left out, because
# captions that name nothing else would be the same for the whole group.
_GAP = replace(_CLIP, embed_dim=96, shared=tuple(s for s in _CLIP.shared if "shape" not in s))
_SETTINGS = {
    "fixed": (("shape", "shape-colour", "all", "two", "mix"), {}),
    "learned": (
        ("shape", "all"),
        {"logit_scale": 1 / 0.07, "learn_scale": True, "scale_rate": 0.03},
    ),
    # Poor captions repeat: here captions that say the same are not negatives of each other.
    "positives": (("shape",), {"loss": (("multi_positive", 1.0),)}),
}


def _named(kind: str, **changes) -> Recipe:
    own = {} if kind == "mix" else {"captions": kind, "caption_weights": (1, 1)}
    return replace(_GAP, **own, **changes)


_LABORATORY = {
    f"mini-gap-{kind}-{setting}": _named(kind, **changes)
    for setting, (kinds, changes) in _SETTINGS.items()
    for kind in kinds
}


def _seeds(name: str, recipe: Recipe, others: tuple = (1, 2)) -> dict[str, Recipe]:
    """A recipe under its name, and with other training seeds."""
    return {name: recipe} | {f"{name}-seed{seed}": replace(recipe, seed=seed) for seed in others}


RECIPES: dict[str, Recipe] = {
    **{name: recipe for family in FAMILIES.items() for name, recipe in _seeds(*family).items()},
    "mini-clip-untrained": replace(_CLIP, steps=0),
    **_ONE_SEED,
    **_seeds("mini-scratch", _SCRATCH),
    **_seeds("mini-amended", _AMENDED),
    **_DIMENSIONS,
    **_TEMPERATURES,
    **_COMPARED,
    **_TARGETS,
    **_LONG,
    **{name: recipe for each in _LABORATORY.items() for name, recipe in _seeds(*each).items()},
}
