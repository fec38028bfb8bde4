"""`models/README.md`: the shipped models by family, each with its recipe in words."""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from docs import pages
from lib import paths, profiles
from lib.claims import papers
from mini import recipes
from workflow import catalogue

MANY = 4  # notebooks that a cell of a table can name
MAIN = "mini-clip"


class Family(NamedTuple):
    """Models that belong together.

    Attributes:
        title: its heading.
        about: what it is for.
        base: the model from which the others of the family differ by what their rows say.
        names: a pattern of the names of its models.
    """

    title: str
    about: str
    base: str
    names: str


FAMILIES = (
    Family(
        "CLIP",
        "The main model and two more training seeds of it, its random weights, another image "
        "tower, and an embedding no wider than the towers.",
        MAIN,
        r"mini-clip(-seed\d|-untrained|-full-rank)?|mini-rn",
    ),
    Family(
        "SharedCLIP and AlignCLIP",
        "SharedCLIP puts patches and words through one transformer. AlignCLIP adds a loss that "
        "pushes images away from each other (IMSep); its variants change what is pushed.",
        "mini-shared",
        r"mini-(shared|align)(-text|-both|-plain|-seed\d)?|mini-clip-imsep",
    ),
    Family(
        "Other objectives, from random weights",
        "What the papers compare CLIP with, on the same pairs in the same order.",
        MAIN,
        r"mini-slip.*|mini-(cyclip|siglip|coca|clip-learned)",
    ),
    Family(
        "Contrastive from the first step",
        "Does the gap come from the initialisation or from the optimisation? Mind the Gap asks it "
        "of models that start with the gap open, and with it amended away.",
        "mini-scratch",
        r"mini-(scratch|amended).*",
    ),
    Family(
        "Embedding dimensions",
        "Mind the Gap, Figure 16: the gap at five dimensions d.",
        "mini-clip-d128",
        r"mini-clip-d\d+",
    ),
    Family(
        "Temperatures",
        "Mind the Gap, Figure 8: fine-tuning at six fixed temperatures. The number in a name is "
        "the logit scale, which is 1 / temperature.",
        "mini-clip-t100",
        r"mini-clip-t\d+",
    ),
    Family(
        "Losses that I0T compares",
        "Fine-tuned like `mini-clip-t100`, with other losses.",
        "mini-clip-t100",
        r"mini-(cloob|unif-align|pac)",
    ),
    Family(
        "Fine-tuned for retrieval",
        "AlignCLIP, Table 5: CLIP, SharedCLIP and AlignCLIP, fine-tuned on the two target sets, "
        "*heldout* (combinations that training leaves out) and *rendition* (other drawing styles).",
        "mini-clip-on-heldout",
        r".*-on-(heldout|rendition)",
    ),
    Family(
        "Long captions: the first stage of I0T_async",
        "I0T names its steps by letters. *LC* is Long-CLIP's recipe: long captions, and short ones "
        "beside them. *LCO* is long captions only. *LCCO* adds CyCLIP's two terms. *LCCOM* adds "
        "MCSIE, which encodes each batch twice with dropout. `-ln` and `-bn` add a normalisation "
        "that is trained with the towers; a style's name means that only its pictures are used.",
        "mini-lco",
        r"mini-(lco?|lcco|lccom)(-.*)?",
    ),
    Family(
        "I0T_async: the second stage",
        "The towers of `mini-lccom` stay as they are; a normalisation on each embedding is "
        "trained, in batches of several sizes.",
        "mini-async",
        r"mini-async.*",
    ),
    Family(
        "What makes the gap",
        "Models that differ in one thing: what captions name, and whether the temperature is "
        "learned. A control counts captions that say the same as positives.",
        "mini-gap-mix-fixed",
        r"mini-gap-.*",
    ),
)


def families() -> dict[Family, list[str]]:
    """Family -> its shipped models, in the order of the recipes; without empty families."""
    of = {name: family(name) for name in recipes.RECIPES if report(name)}
    found = {one: [name for name, its in of.items() if its == one] for one in FAMILIES}
    return {one: names for one, names in found.items() if names}


def family(name: str) -> Family:
    """The family of a model. Raises: ValueError if it is in none, or in several."""
    found = [one for one in FAMILIES if re.fullmatch(one.names, name)]
    if len(found) != 1:
        said = ", ".join(one.title for one in found) or "none"
        raise ValueError(f"{name} must be in one family of docs.models.FAMILIES, not in {said}.")
    return found[0]


# Tables -------------------------------------------------------------------------------------------


def table(names: Iterable[str]) -> str:
    """A Markdown table of shipped models: their size and test metrics."""
    return "\n".join(pages.table([metrics(report(name)) for name in names if report(name)])) + "\n"


def report(name: str) -> dict:
    """The report of a shipped model's training; empty if it is not there."""
    file = paths.MODELS / name / "recipe.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def metrics(made: dict) -> dict:
    """The row of a report: name, parameters, and metrics on the test split."""
    test = {name: f"{value:.2f}" for name, value in made["test"].items()}
    accuracies = {k.removesuffix("_accuracy"): v for k, v in test.items() if "accuracy" in k}
    return (
        {"Model": f"`{made['name']}`", "Parameters": f"{made['parameters']:,}"}
        | {"R@1 (I2T / T2I)": f"{test['i2t_r1']} / {test['t2i_r1']}"}
        | {"Centroid distance": test["centroid_distance"]}
        | {f"Zero-shot {name}": value for name, value in accuracies.items()}
    )


def page() -> str:
    """The text of `models/README.md`."""
    lines = [
        "# Models",
        "",
        "Each folder is a model in open_clip's own format (`open_clip.create_model_from_pretrained("
        '"local-dir:models/mini-clip")`) with the recipe, the training curve and the test metrics '
        "in `recipe.json`. The recipes are data in `mini/recipes.py`; `./run_all.sh --retrain "
        "NAME` trains one again. Written by `./run_all.sh --record`.",
        "",
        "Some models have I0T's final normalisation, in `normalisation.safetensors`. "
        "`lib.encoders.registry` applies it; plain open_clip loads such a model without it. "
        "SharedCLIP's one transformer is in the file twice, under the names of both towers. The "
        "metrics are for 1,000 test pairs (full captions) and 2,000 labelled test pictures.",
        "",
        "A *role* is what a model is in an experiment: `clip` is the model that everything is "
        "about, `untrained` its random weights. A notebook asks for roles, and a profile says "
        "which model has each: `profiles/mini.yaml` names those below.",
        "",
        "Training has two stages. In the first, the image tower alone learns to name the "
        "attributes of single objects. The second is contrastive. After its first 100 steps, most "
        "batches consist of groups of 16 similar scenes, which differ in few attributes; "
        "otherwise background, style and colour would be enough to tell a picture from the rest. "
        f"Every recipe is `{MAIN}`'s except for what is said here.",
    ]
    for one, names in families().items():
        lines += ["", f"## {one.title}", "", one.about]
        if one.base != MAIN:
            lines += ["", f"`{one.base}`, compared with `{MAIN}`: {in_words(one.base, MAIN)}."]
        lines += ["", *pages.table([_row(name, one.base) for name in names])]
    return "\n".join(lines) + "\n"


def _row(name: str, base: str) -> dict:
    roles = [role for role, model in profiles.load("mini").models.items() if model == name]
    items = catalogue.load().values()
    users = [item for item in items if {*item.models} & {*roles} and item.written]
    links = (pages.link(_where(item), item.notebook, paths.MODELS) for item in users)
    return (
        {"Model": f"`{name}`", "Role": ", ".join(f"`{role}`" for role in roles)}
        | {f"Compared with `{base}`": in_words(name, base) or "the same"}
        | {key: value for key, value in metrics(report(name)).items() if key != "Model"}
        | {"Used by": "; ".join(links) if len(users) <= MANY else f"{len(users)} notebooks"}
    )


def _where(item: catalogue.Item) -> str:
    """Where in a paper an item is; its title where it is in none."""
    if item.paper in papers.KEYS:
        return f"{pages.heading(item.paper)}, {item.where}"
    return item.title


# Recipes in words ---------------------------------------------------------------------------------

LOSSES = {  # terms of `mini.training.TERMS`
    "clip": "CLIP's loss",
    "multi_positive": "CLIP's loss with equal captions as positives",
    "smooth_clip": "CLIP's loss with smoothed labels",
    "separate_images": "separation of images",
    "separate_texts": "separation of texts",
    "separate_images_plainly": "separation of images without rescaling",
    "cyclic_in": "CyCLIP's in-modal term",
    "cyclic_cross": "CyCLIP's cross-modal term",
    "cloob": "CLOOB's loss",
    "align": "alignment",
    "uniform_images": "uniformity of images",
    "uniform_texts": "uniformity of texts",
    "two_views": "two views of an image",
    "other_images": "CLIP's loss of generated images",
    "other_texts": "CLIP's loss of generated captions",
    "short_captions": "CLIP's loss of short captions",
    "siglip": "SigLIP's loss",
    "caption": "captioning",
}


NAMED = {  # kinds of `mini.named.KINDS`
    "shape": "the shape",
    "shape-colour": "shape and colour",
    "all": "every attribute",
    "two": "two attributes, drawn each time",
}


def _loss(terms: tuple) -> str:
    weighted = (
        LOSSES[name] if weight == 1 else f"{weight:g} × {LOSSES[name]}" for name, weight in terms
    )
    return " + ".join(weighted)


def _vision(tower: dict) -> str:
    if "patch_size" not in tower:
        return "a ResNet as image tower"
    return "image tower with attentional pooling" if "attentional_pool" in tower else "a ViT"


# Field of a recipe -> its value in words, in the order of the sentence; empty where other words
# say it already.
WORDS = {
    "seed": lambda n: f"training seed {n}",
    "start": lambda name: f"fine-tuned from `{name}`" if name else "from random weights",
    "vision": _vision,
    "text": lambda tower: f"text tower of width {tower['width']} with {tower['layers']} layers",
    "embed_dim": lambda d: f"d = {d}",
    "decoder": lambda tower: f"a decoder of {tower['layers']} layers that captions",
    "tied": lambda one: "one transformer for both towers" if one else "two towers",
    "amended": lambda _: "text projection turned at the start so that the gap nearly closes",
    "loss": _loss,
    "logit_scale": lambda scale: f"logit scale {scale:.4g}",
    "learn_scale": lambda _: "learned from there",
    "scale_rate": lambda rate: f"at a rate of its own ({rate:g})",
    "logit_bias": lambda bias: f"a learned bias that starts at −{-bias:g}",
    "dropout": lambda share: f"dropout of {share:g}" if share else "no dropout",
    "passes": lambda n: "each batch encoded twice" if n == 2 else "each batch encoded once",
    "normalise": lambda kind: f"{kind} normalisation of each embedding",
    "trains": lambda what: f"trains nothing but the {what}",
    "tagging_steps": lambda n: f"first stage of {n} steps" if n else "no first stage",
    "steps": lambda n: f"{n} contrastive steps" if n else "no training",
    "norm_gain": lambda gain: f"last norms that start at a gain of {gain:g}",
    "learning_rate": lambda rate: f"learning rate {rate:g}",
    "warm_up": lambda n: f"warm-up of {n} steps",
    "split": lambda name: f"pairs of `{name}`",
    "pool": lambda n: f"{n:,} training pairs",
    "styles": lambda names: f"only pictures in the style *{'*, *'.join(names)}*",
    "long_captions": lambda _: "long captions",
    "captions": lambda kind: f"captions that name {NAMED[kind]}",
    "caption_weights": lambda _: "",
    "batch": lambda n: f"batches of {n}",
    "shared": lambda _: "no groups that agree in shape and colour",
    "shared_share": lambda share: f"groups in {share:.0%} of the batches",
    "shared_from": lambda n: f"groups of similar scenes from {f'step {n}' if n else 'the start'}",
    "group": lambda n: f"{n} similar scenes to a group",
    "weight_decay": lambda rate: f"weight decay {rate:g}",
}


def in_words(name: str, base: str) -> str:
    """How a recipe differs from another, in words; empty if it does not."""
    own, other = recipes.RECIPES[name], recipes.RECIPES[base]
    said = (
        words(getattr(own, field))
        for field, words in WORDS.items()
        if getattr(own, field) != getattr(other, field)
    )
    return "; ".join(filter(None, said))
