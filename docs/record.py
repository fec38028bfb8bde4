"""Make the last run the record, on purpose: evidence/, RESULTS.md, outputs of notebooks, tables.

`python -m docs.record` is for maintainers. An item whose code, verdicts and numbers are those of
the record already keeps its committed outputs: rewriting them all costs the history 20 MB.
"""

import argparse
import sys

from docs import readme, report
from lib import files, paths, profiles
from lib.claims import evidence, findings
from workflow import catalogue, freshness, notebooks

INTRO = (
    "Every claim of the four papers, and what became of it. This page is made from the record in "
    "[evidence/](evidence): findings on the published embeddings of real CLIP and others, and on "
    "small models that were trained on drawn scenes (profile `mini`). For programs, the files "
    "there."
)


def record(profile_name: str) -> list[str]:
    """Write the record from the last run; returns what was done, in sentences.

    Raises: ValueError if an item was not run from its present sources, or if a finding of the
        record was not made.
    """
    which = profiles.load(profile_name)
    items = [item for item in catalogue.load().values() if item.written]
    if missing := freshness.missing(which, [item.name for item in items]):
        raise ValueError(f"{missing[0]} was not run from its present sources: ./run_all.sh first.")
    before = evidence.read()
    made = findings.made(which.name, [item.name for item in items])
    lost = evidence.compare(made, before).not_made
    for reason, names in lost.items():
        raise ValueError(f"{names[0]} is in the record, and was not made by this run: {reason}")
    renewed = [item.name for item in items if _write_back(which, item, made, before)]
    evidence.write(made)
    found = findings.collect(evidence.read())
    text = report.results_md(found, which.models["clip"], INTRO, paths.ROOT)
    files.write_text(paths.ROOT / "RESULTS.md", text)
    page = paths.ROOT / "README.md"
    files.write_text(page, readme.readme(page.read_text(encoding="utf-8")))
    files.write_text(paths.MODELS / "README.md", readme.models_md())
    return [f"Record: {len(made)} findings. Outputs renewed: {len(renewed)} notebooks.", *renewed]


def _write_back(which: profiles.Profile, item, made: list[dict], before: list[dict]) -> bool:
    """Give a notebook its new outputs, unless its code and findings are as they were."""
    its = [[f for f in some if f["item"] == item.name] for some in (made, before)]
    if notebooks.outputs_are_of(item.notebook) and evidence.agrees(*its):
        return False
    stamp = freshness.stamp(which, item.name)
    return notebooks.write_back(item.notebook, notebooks.executed(which.name, stamp))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.record", description=__doc__)
    parser.add_argument("--profile", default="mini")
    try:
        print("\n".join(record(parser.parse_args(arguments).profile)))
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
