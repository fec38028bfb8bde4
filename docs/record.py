"""Make the last run the record, on purpose: evidence/, RESULTS.md, outputs of notebooks, tables.

`python -m docs.record` is for maintainers. An item whose code, verdicts and numbers are those of
the record already keeps its committed outputs: rewriting them all costs the history 20 MB.
`python -m docs.record --add FILE` checks a bundle that somebody else's run made, and adds it;
`--pages` only writes anew what follows from the record, the models and `CITATION.cff`.
"""

import argparse
import json
import sys
from pathlib import Path

from docs import bundles, models, readme, results
from lib import files, paths, profiles
from lib.claims import evidence, findings
from workflow import catalogue, freshness, notebooks


def record(profile_name: str) -> list[str]:
    """Write the record from the last run; returns what was done, in sentences.

    Raises: ValueError if an item was not run from its present sources, or if a finding of the
        record was not made.
    """
    which = profiles.load(profile_name)
    items = [item for item in catalogue.load().values() if item.written]
    if missing := freshness.missing(which, [item.name for item in items]):
        raise ValueError(f"{missing[0]} was not run from its present sources: ./run_all.sh first.")
    made = findings.made(which.name, [item.name for item in items])
    before = evidence.of_sources(made, which.name)
    lost = evidence.compare(made, before).not_made
    for reason, names in lost.items():
        raise ValueError(f"{names[0]} is in the record, and was not made by this run: {reason}")
    renewed = [item.name for item in items if _write_back(which, item, made, before)]
    evidence.write(_dated(bundles.make(which.name, made)))
    for item in items:
        its = [finding for finding in made if finding["item"] == item.name]
        notebooks.write_evidence(item.notebook, evidence_line(item.notebook, its))
    pages()
    return [f"Record: {len(made)} findings. Outputs renewed: {len(renewed)} notebooks.", *renewed]


# What a notebook's findings rest on.
RESTS_ON = {
    "real": "embeddings of real models that others published",
    "mini": "small models trained here on drawn scenes",
    "toy": "computations without a trained model",
}


def evidence_line(notebook: Path, its: list[dict]) -> str:
    """One line on what a notebook rests on: from its findings, or from its data if it has none."""
    kinds = {finding["kind"] for finding in its if finding["measured"] is not None}
    if not kinds:
        used = freshness.imported(notebooks.code(notebook))
        real = {"lib.data.published", "lib.claims.evidence"} & used
        kinds = {"mini", "real"} if real else {"mini"}
    said = "; ".join(RESTS_ON[kind] for kind in RESTS_ON if kind in kinds)
    return f"*Evidence, in the outputs below: {said}.*"


def _dated(made: list[dict]) -> list[dict]:
    """The bundles, each rule with the commit and date of the record in which it first was."""
    since = bundles.since([finding for bundle in made for finding in bundle["findings"]])
    for bundle in made:
        new = f"{bundle['commit'][:7]} {bundle['date']}" if bundle["commit"] else ""
        for finding in bundle["findings"]:
            if first := since.get(finding["rule"], new):
                finding["since"] = first
    return made


def add(file: Path) -> str:
    """Check a contributed bundle and put it into the record; returns what was done.

    Raises: ValueError if the bundle cannot count (`evidence.check`, `evidence.add`).
    """
    try:
        bundle = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}.") from None
    if not isinstance(bundle, dict):
        raise ValueError(f"{file} is not a bundle: make one by a run, figures/PROFILE/evidence/.")
    try:
        evidence.check(bundle, evidence.read(), bundles.known())
        n = evidence.add(bundle)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return f"Added {n} of {len(bundle['findings'])} findings as evidence/{bundle['source']}.json."


def pages() -> None:
    """Write what follows from the record, the models and CITATION.cff: RESULTS.md, both READMEs."""
    made = evidence.read()
    found, beyond = findings.collect(made), findings.beyond(made)
    text = results.results_md(found, beyond, results.about(evidence.bundles()), paths.ROOT)
    files.write_text(paths.ROOT / "RESULTS.md", text)
    page = paths.ROOT / "README.md"
    files.write_text(page, readme.readme(page.read_text(encoding="utf-8")))
    files.write_text(paths.MODELS / "README.md", models.page())


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
    parser.add_argument("--add", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--pages", action="store_true")
    options = parser.parse_args(arguments)
    try:
        if options.add or options.pages:
            print("".join(f"{add(file)}\n" for file in options.add or ()), end="")
            pages()
        else:
            print("\n".join(record(options.profile)))
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
