"""`./run_all.sh --test rehearsal`: all of `--profile clip`, from the first download, on stand-ins.

The code is the real one, in a copy of the project; what it downloads are small models and pictures
from a hub on loopback. A second rehearsal runs only what changed.
"""

import json
from collections import Counter

import project
import pytest
from hub import Dropped, Hub

from docs import bundles
from lib.claims import evidence
from lib.encoders.registry import PICKLE, REGISTRY

pytestmark = pytest.mark.rehearsal
JUDGED = 40  # of about 90 findings, at least; 46 were judged on 2026-11-28
RUN = ("./run_all.sh", "--profile", "clip", "--jobs", "2")
LARGE = REGISTRY["datacomp-vit-l-14"]


@pytest.fixture(scope="module")
def rehearsed():
    """The folders of a rehearsal that was run, whether it failed, and the hub that it asked."""
    where = project.folders()
    models = project.prepare(where)
    with Hub(where.hub, {f"{LARGE.repo}/{PICKLE}": Dropped()}) as hub:
        for command in project.first_steps(where, models):
            assert project.call(where, hub.address, *command) == 0
        code = project.call(where, hub.address, *RUN)
        table = project.table(where)
        (where.root / "table.md").write_text(table)
        print(f"\n{table}\nAlso in {where.root}/table.md")
        yield where, code, hub


def test_every_item_runs(rehearsed):
    where, code, _ = rehearsed
    failed = {name: project.failure(where, name) for name in project.findings(where)}
    assert not {name: said for name, said in failed.items() if said}
    assert None not in project.findings(where).values()
    assert code == 0


def test_every_finding_is_judged_or_says_why_not(rehearsed):
    found = [one for some in project.findings(rehearsed[0]).values() for one in some or ()]
    assert not [one for one in found if not project.is_judged(one) and not project.reason(one)]
    assert sum(map(project.is_judged, found)) >= JUDGED, Counter(one["verdict"] for one in found)


def test_downloads_are_pinned_and_go_on_where_they_broke_off(rehearsed):
    where, _, hub = rehearsed
    commits = {folder.name for folder in where.hub.glob("*/*/*/*")}
    for line in hub.asked(part="/resolve/"):
        assert line.path.partition("/resolve/")[2].split("/")[0] in commits
    broken = [line.status for line in hub.asked("GET", PICKLE) if LARGE.repo in line.path]
    assert broken in ([], [200, 206])  # nothing, where it was downloaded by an earlier rehearsal


def test_a_second_run_has_nothing_to_do_and_asks_nobody(rehearsed):
    where, _, hub = rehearsed
    before = len(hub.log)
    assert project.call(where, hub.address, *RUN) == 0
    assert len(hub.log) == before


def test_its_evidence_counts_where_its_models_are_known_alone(rehearsed):
    where, _, hub = rehearsed
    (file,) = (where.figures / "clip" / "evidence").glob("clip.json")
    bundle = json.loads(file.read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="stand-in"):
        evidence.check(bundle, evidence.read(), bundles.known())
    rules = {one["rule"] for one in evidence.read()}  # a few name sizes, and here the small ones
    bundle["findings"] = [one for one in bundle["findings"] if one["rule"] in rules]
    assert len(bundle["findings"]) >= JUDGED / 2
    file = where.root / "bundle.json"
    file.write_text(json.dumps(bundle))
    assert project.call(where, hub.address, "./run_all.sh", "--add-evidence", str(file)) == 0
    assert (where.project / "evidence" / "clip.json").is_file()
