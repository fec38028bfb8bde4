"""Bundles of a run's findings, with what they rest on, to be kept as the record."""

import datetime
import json
import platform
import subprocess
from pathlib import Path

from lib import files, paths, profiles
from lib.claims import evidence, findings
from lib.data import published, sources
from lib.encoders import registry
from lib.encoders.download import available

ABOUT = {
    "mini": "Small models of this repository, of up to {millions:.1f} million parameters, trained "
    "on drawn scenes with captions.",
    "real": "Public weights on public data sets.",
    "toy": "Computations without a trained model: random networks, free vectors, spheres.",
    "published": "Embeddings that others published: OpenAI's CLIP ViT-B/16 on 500 pairs of COCO "
    "with their human captions, OpenCLIP's ViT-B/32 on 848 images of CIFAR-10, and VideoCLIP, "
    "ConVIRT and CLASP on 99 to 500 pairs; most also with random weights.",
}


def make(profile_name: str, made: list[dict]) -> list[dict]:
    """The bundles of a run's findings (`findings.made`), one per source."""
    which = profiles.load(profile_name)
    run = {
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "versions": findings.versions(),
    }
    by_source: dict[str, list[dict]] = {}
    for finding in made:
        by_source.setdefault(evidence.source(finding, profile_name), []).append(finding)
    return [
        {
            "schema": evidence.SCHEMA,
            "source": source,
            "kind": its[0]["kind"],
            "about": (ABOUT.get(source) or ABOUT[its[0]["kind"]]).format(millions=_millions()),
            **run,
            **rests_on(source, which),
            "findings": [{k: v for k, v in each.items() if k != "kind"} for each in its],
        }
        for source, its in by_source.items()
    ]


def _millions() -> float:
    """Parameters of the largest shipped model, in millions."""
    reports = (json.loads(file.read_text()) for file in paths.MODELS.glob("*/recipe.json"))
    return max(report["parameters"] for report in reports) / 1e6


def rests_on(source: str, which: profiles.Profile) -> dict:
    """Models with their fingerprints, and data sets with their revisions, of a source."""
    if source == "published":
        captions = {"name": "captions_val2017.json", "revision": published.CAPTIONS}
        return {"models": _named(published_files()), "data": [captions]}
    if source == "toy":
        return {"models": [], "data": []}
    return {"models": _named(models(which)), "data": revisions(which)}


def _named(about: dict[str, dict]) -> list[dict]:
    return [{"name": name} | about[name] for name in sorted(about)]


def models(which: profiles.Profile) -> dict[str, dict]:
    """Model -> what tells it from others of its name, of those of a profile that are there."""
    names = dict.fromkeys([*which.models.values(), *which.also, *which.survey])
    return available(_about, [*names])[0]


def _about(name: str) -> dict:
    model = registry.load(name)
    about = {"fingerprint": model.fingerprint, "parameters": model.parameters}
    commit = registry.revision(name)  # of some models, the one of their first use here
    return about | ({"revision": commit} if commit else {})


def _public(name: str) -> dict:
    """The commit that fixes public weights; empty for other models."""
    spec = registry.REGISTRY.get(name)
    return {"revision": spec.revision} if spec and spec.revision else {}


def known() -> dict[str, dict]:
    """Model -> what is known of it, for all that others can get: see `evidence.check`.

    Of public weights, that are not here, their commit and the size of their architecture.
    """
    public = {
        name: _public(name) | ({"parameters": spec.parameters} if spec.parameters else {})
        for name, spec in registry.REGISTRY.items()
    }
    here = models(profiles.load(profiles.FULL)).items()
    shipped = {name: {"fingerprint": about["fingerprint"]} for name, about in here}
    return public | shipped | published_files()


def published_files() -> dict[str, dict]:
    """What published embeddings are of -> SHA-256 of their file."""
    named = {f"published {name}": sha for name, sha in published.PUBLISHED.items()}
    named[published.OPENCLIP] = published.CIFAR10
    return {name: {"fingerprint": sha} for name, sha in named.items()}


def revisions(which: profiles.Profile) -> list[dict]:
    """Data sets of a profile with their commits; of the world, the SHA-256 of its code."""
    names = [which.pairs, which.pairs_2, *which.targets]
    names += [*which.labelled.values(), *which.shifted.values()]
    found = {}
    for name in filter(None, names):
        if name.startswith("world"):
            found["world"] = _world()
        elif name in sources.PAIRS:
            for split, source in sources.PAIRS[name].items():
                if source.commit:
                    found[name if split == "test" else f"{name} {split}"] = source.commit
        else:
            found[name] = sources.LABELLED[name].revision
    return [{"name": name, "revision": revision} for name, revision in sorted(found.items())]


def _world() -> str:
    code = sorted((paths.ROOT / "mini" / "world").glob("*.py"))
    return files.sha256(b"".join(file.read_bytes() for file in code))


def commit() -> str:
    """The commit of the code; empty without git."""
    return _git("rev-parse", "HEAD").strip()


def processor() -> str:
    """The processor's name, for results that depend on it by rounding."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def since(made: list[dict]) -> dict[str, str]:
    """Rule -> commit and date of the record in which it first was, word for word.

    Looked up in the history of RESULTS.md and evidence/; a rule that is new is left out.
    """
    asked = {finding["rule"] for finding in made}
    kept = ("RESULTS.md", *(f"evidence/{name}.json" for name in ("mini", "published", "toy")))
    found: dict[str, str] = {}
    for line in _git("log", "--reverse", "--format=%h %as", "--", *kept).splitlines():
        texts = "".join(_git("show", f"{line.split()[0]}:{file}") for file in kept)
        found |= {rule: line for rule in asked - set(found) if rule in texts}
    return found


def _git(*arguments: str) -> str:
    """What git says; empty where it fails or is not there."""
    command = ["git", *arguments]
    try:
        return subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True).stdout
    except OSError:
        return ""
