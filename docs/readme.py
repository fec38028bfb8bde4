"""Badges, links, findings and tables of the README, from what the repository holds."""

import yaml

from docs import citation, models, pages, results
from lib import paths
from lib.claims import evidence, findings
from workflow import catalogue

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


# The README ---------------------------------------------------------------------------------------

START = "notebooks/00_start_here.ipynb"
ACTIONS = {"tests": "tests.yml", "newest dependencies": "newest.yml"}  # badge -> its workflow
# Colab keeps its own torch and numpy; it needs no JupyterLab, and nothing that runs many notebooks.
COLAB_CELL = r"""```
!git clone -q https://github.com/{where} /content/gap
!cd /content/gap && python -m workflow.environment --missing | grep -vE '^(a|numpy|torch|torchvision|jupyterlab|papermill|snakemake)\b' > missing.txt
!pip install -q -r /content/gap/missing.txt
import sys; sys.path.insert(0, "/content/gap")
```"""  # noqa: E501


def badges(about: dict) -> str:
    """Badges, each a link; until CITATION.cff names the repository, a comment that says so."""
    where = citation.repository(about)
    if where == citation.NOWHERE:
        return "<!-- badges come here once repository-code in CITATION.cff is filled in -->\n"
    actions = f"https://github.com/{where}/actions/workflows"
    made = [
        _badge(said, f"{actions}/{file}/badge.svg", f"{actions}/{file}")
        for said, file in ACTIONS.items()
    ]
    licence = f"https://img.shields.io/badge/licence-{about['license'].replace('-', '--')}-blue"
    made.append(_badge(f"{about['license']} licence", licence, "LICENSE"))
    made.append(_badge("Binder", "https://mybinder.org/badge_logo.svg", _binder(where)))
    colab = "https://colab.research.google.com/assets/colab-badge.svg"
    made.append(_badge("Open in Colab", colab, _colab(where)))
    if doi := about.get("doi"):
        picture = f"https://zenodo.org/badge/DOI/{doi}.svg"
        made.append(_badge("DOI", picture, f"https://doi.org/{doi}"))
    made.append(f"[Website]({citation.website(about)})")
    return "\n".join(made) + "\n"


def _badge(said: str, picture: str, target: str) -> str:
    return f"[![{said}]({picture})]({target})"


def _binder(where: str) -> str:
    return f"https://mybinder.org/v2/gh/{where}/HEAD?urlpath=lab/tree/{START}"


def _colab(where: str) -> str:
    return f"https://colab.research.google.com/github/{where}/blob/main/{START}"


def elsewhere(about: dict) -> str:
    """How to run it on Binder and Colab: with links once CITATION.cff names the repository."""
    where = citation.repository(about)
    here = where != citation.NOWHERE
    binder, colab = (
        f"[{name}]({address})" if here else f"{name}, `{address}`,"
        for name, address in (("Binder", _binder(where)), ("Colab", _colab(where)))
    )
    lines = [
        "In a browser, with nothing to install:"
        if here
        else f"With the address of your copy instead of `{where}` (CONTRIBUTING.md, *Publish*, "
        "fills it in everywhere):",
        "",
        f"- {binder} installs the same packages. They are 6 GB, so the first start takes long, and "
        "a small Binder may refuse it.",
        f"- {colab} needs this cell before the others. It keeps Colab's own torch and numpy.",
        "",
        COLAB_CELL.format(where=where),
    ]
    return "\n".join(lines) + "\n"


def readme(text: str, about: dict | None = None) -> str:
    """The text of the README with what is between `<!-- NAME -->` and `<!-- end -->` renewed.

    Args:
        text: the README as it is.
        about: the fields of a `CITATION.cff`, by default the repository's.
    """
    about = about or citation.read()
    made = {
        "badges": badges(about),
        "gap": f"{pages.sentence(paths.ROOT / START)}\n",
        "findings": results.in_five_lines(findings.collect(evidence.read()), paths.ROOT),
        "elsewhere": elsewhere(about),
        "models": models.table(MAIN_MODELS),
        "coverage": coverage(),
    }
    for name, content in made.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise ValueError(f"README.md lacks the lines {start.strip()} and {end}.")
        text = before + start + content + rest[rest.index(end) :]
    return text
