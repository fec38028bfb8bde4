"""The README's findings and tables, and `models/README.md`, from what the repository holds."""

import json
from collections.abc import Iterable
from dataclasses import fields

import yaml

from docs import pages, results
from lib import paths, profiles
from lib.claims import evidence, findings
from mini import recipes
from workflow import catalogue

MANY = 8  # notebooks that a cell of a table can name

# Coverage -----------------------------------------------------------------------------------------


def coverage() -> str:
    """A Markdown table of all items, then of what is left out and why, for the README."""
    rows = []
    for item in catalogue.load().values():
        link = pages.link(item.title, item.notebook, paths.ROOT) if item.written else item.title
        rows.append({"Paper": pages.heading(item.paper), "Where": item.where, "Notebook": link})
    for each in left_out():
        why = f"Left out: {each['why']}"
        rows.append(
            {"Paper": pages.heading(each["paper"]), "Where": each["where"], "Notebook": why}
        )
    return "\n".join(pages.table(rows)) + "\n"


def left_out() -> list[dict[str, str]]:
    """The papers' figures and tables that have no notebook: `paper`, `where`, `why`."""
    return yaml.safe_load((paths.NOTEBOOKS / "left_out.yaml").read_text(encoding="utf-8"))


MAIN_MODELS = (
    *("mini-clip", "mini-clip-seed1", "mini-clip-seed2", "mini-clip-untrained", "mini-rn"),
    *("mini-shared", "mini-align", "mini-slip"),
)


def shipped_models(names: Iterable[str]) -> str:
    """A Markdown table of models in this repository, from the reports of their training."""
    return (
        "\n".join(pages.table([_figures(_training(name)) for name in names if _training(name)]))
        + "\n"
    )


def _training(name: str) -> dict:
    """The report of a shipped model's training; empty if it is not there."""
    file = paths.MODELS / name / "recipe.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _figures(report: dict) -> dict:
    test = {name: f"{value:.2f}" for name, value in report["test"].items()}
    accuracies = {k.removesuffix("_accuracy"): v for k, v in test.items() if "accuracy" in k}
    return (
        {"Model": f"`{report['name']}`", "Parameters": f"{report['parameters']:,}"}
        | {"R@1 (I2T / T2I)": f"{test['i2t_r1']} / {test['t2i_r1']}"}
        | {"Centroid distance": test["centroid_distance"]}
        | {f"Zero-shot {name}": value for name, value in accuracies.items()}
    )


def models_md() -> str:
    """The page of `models/`: every shipped model, how its recipe differs, and who uses it."""
    lines = [
        "# Models",
        "",
        "Each folder is a model in open_clip's own format (`open_clip.create_model_from_pretrained("
        '"local-dir:models/mini-clip")`) with the recipe, the training curve and the test metrics '
        "in `recipe.json`. The recipes are data in `mini/recipes.py`; `./run_all.sh --retrain "
        "NAME` trains one again. Written by `./run_all.sh --record`.",
        "",
        "Where a model has I0T's final normalisation, it is in `normalisation.safetensors`, which "
        "`lib.encoders.registry` applies; plain open_clip loads such a model without it. "
        "SharedCLIP's one transformer is in the file twice, under the names of both towers. The "
        "metrics are for 1,000 test pairs (full captions) and 2,000 labelled test pictures.",
        "",
        "*Recipe* lists only the differences from `mini-clip`. Two of its terms need a word. After "
        "100 contrastive steps, most batches consist of groups of 16 similar scenes: "
        "`shared_from = 0` uses such batches from the first step, `group = 8` makes groups of 8.",
        "",
        *pages.table([_model_line(name) for name in recipes.RECIPES if _training(name)]),
    ]
    return "\n".join(lines) + "\n"


def _model_line(name: str) -> dict:
    roles = [role for role, model in profiles.load("mini").models.items() if model == name]
    users = [
        item.name
        for item in catalogue.load().values()
        if {*item.models} & {*roles} and item.written
    ]
    base, own = recipes.RECIPES["mini-clip"], recipes.RECIPES[name]
    differs = {
        field.name: getattr(own, field.name)
        for field in fields(own)
        if getattr(own, field.name) != getattr(base, field.name)
    }
    recipe = ", ".join(f"{key} = {_plainly(value)}" for key, value in differs.items())
    used = ", ".join(users) if len(users) <= MANY else f"{len(users)} notebooks"
    return _figures(_training(name)) | {"Recipe": recipe, "Used by": used}


def _plainly(value: object) -> str:
    """A recipe's value in words; of a table, its entries."""
    if isinstance(value, dict):
        return " ".join(f"{key} {entry}" for key, entry in value.items())
    if isinstance(value, tuple):
        return " + ".join(map(_part, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _part(part: object) -> str:
    """A term of a loss and its weight, attributes that a group shares, or one name."""
    if not isinstance(part, tuple):
        return str(part)
    *names, last = part
    return f"{last:g} {names[0]}" if isinstance(last, float) else " ".join(part)


def readme(text: str) -> str:
    """The text of the README, renewed between `<!-- NAME -->` and `<!-- end -->`."""
    parts = {
        "gap": f"{pages.sentence(paths.NOTEBOOKS / '00_start_here.ipynb')}\n",
        "findings": results.in_five_lines(findings.collect(evidence.read()), paths.ROOT),
        "models": shipped_models(MAIN_MODELS),
        "coverage": coverage(),
    }
    for name, part in parts.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise ValueError(f"README.md lacks the lines {start.strip()} and {end}.")
        text = before + start + part + rest[rest.index(end) :]
    return text
