"""What others report: on claims that are there, from a fixed place, with numbers that follow."""

import re

import pandas as pd
import pytest
import yaml

from lib import paths
from lib.claims import papers
from lib.claims.elsewhere import elsewhere, of

ENTRIES = elsewhere()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    text = (paths.ROOT / "lib" / "claims" / "elsewhere.yaml").read_text(encoding="utf-8")
    spec = yaml.safe_load(text)["few_dimensions"]
    return pd.DataFrame(spec["rows"], columns=spec["columns"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.claim)
def test_entry_is_one_sentence_on_a_claim_from_a_fixed_place(entry):
    assert papers.claim(entry.claim).id == entry.claim
    assert entry.text.endswith(".") and not re.search(r"[.!?]\s+[A-Z]", entry.text)
    assert entry.says in ("agrees", "contradicts", "mixed") and entry.source
    if "/issues/" in entry.address:
        assert not entry.commit and not entry.file and entry.link == entry.address
    else:
        assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", entry.address)
        assert re.fullmatch(r"[0-9a-f]{40}", entry.commit) and entry.file
        assert entry.link.endswith(f"/tree/{entry.commit}/{entry.file}")


def test_entries_are_in_the_order_of_the_claims():
    order = [claim.id for claim in papers.claims()]
    assert [e.claim for e in ENTRIES] == sorted((e.claim for e in ENTRIES), key=order.index)


def test_entries_of_a_claim():
    assert of("i0t-5") == [entry for entry in ENTRIES if entry.claim == "i0t-5"] != []
    assert of("i0t-4") == []


def said(low: float, high: float, to=" to ", spec=".1f") -> str:
    return f"{low:{spec}}{to}{high:{spec}}"


def test_numbers_follow_from_the_table(table):
    """Every range of the entries on "Few dimensions", recomputed from its table."""
    fall = {m: table.r1 - table[f"r1_{m}"] for m in ("i0t", "realign", "shift")}
    on = {data: table.data == data for data in table.data.unique()}
    falls = {d: said(fall["i0t"][k].min(), fall["i0t"][k].max()) for d, k in on.items()}
    images = on["Flickr30k"] | on["MSCOCO"]
    before = said(table.cd.min(), table.cd.max(), "-", ".2f")
    shifted = said(fall["shift"].min(), fall["shift"].max())
    closed = table[["cd_i0t", "cd_realign"]].to_numpy()
    gain = table.vm_shift - table.vm
    expected = {
        "mind_the_gap-1": [before.replace("-", " to ")],
        "i0t-5": [f"{before} to {said(table.cd_i0t.min(), table.cd_i0t.max(), '-', '.2f')}"],
        "i0t-6": [falls["Flickr30k"], falls["MSCOCO"], f"{-fall['i0t'][on['MSR-VTT']].item():.1f}"],
        "i0t-8": [
            said(table.cd_shift.min(), table.cd_shift.max(), "-", ".2f"), shifted, falls["MSCOCO"]
        ],
        "i0t-18": [f"to {table.cd_i0t[on['Flickr30k']].mean():.2f}", falls["Flickr30k"]],
        "i0t-20": [said(closed.min(), closed.max(), "-", ".2f")]
        + [said(fall[m][images].min(), fall[m][images].max()) for m in ("i0t", "realign")],
        "alignclip-12": [shifted, said(gain.min(), gain.max())],
    }  # fmt: skip
    assert set(expected) == {e.claim for e in ENTRIES if "Few dimensions" in e.source}
    for entry in ENTRIES:
        for part in expected.get(entry.claim, []):
            assert part in entry.text, (entry.claim, part)


def test_what_the_entries_say_in_words(table):
    """Five models; GR-CLIP is I0T_post; the shift costs every model more than I0T_post."""
    assert table.model.nunique() == 5 and set(table.data) == {"Flickr30k", "MSCOCO", "MSR-VTT"}
    assert (abs(table.r1_grclip - table.r1_i0t) < 0.1).all()
    coco = table[table.data == "MSCOCO"]
    assert (coco.r1_shift < coco.r1_i0t).all() and (coco.vm_shift > coco.vm).all()
    assert (table[table.data != "MSR-VTT"].r1_i0t < table[table.data != "MSR-VTT"].r1).all()
