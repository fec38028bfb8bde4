"""Models of other sizes and lengths of training: their recipes, and the rows of their table."""

import dataclasses

import pytest

from lib import profiles
from mini import scale, training
from mini.recipes import FAMILIES, described


def test_a_setting_differs_from_the_base_in_what_it_says():
    base = described(dataclasses.replace(FAMILIES["mini-clip"], embed_dim=96))
    assert described(scale.Setting().recipe("clip")) == base
    longer = described(scale.Setting(samples=4.0, seed=1).recipe("clip"))
    assert {k: v for k, v in longer.items() if v != base[k]} == {"seed": 1, "steps": 3200}
    tried = described(scale.Setting(tried="gain 4 of the last norms").recipe("clip"))
    assert {k: v for k, v in tried.items() if v != base.get(k)} == {"norm_gain": 4.0}


@pytest.mark.parametrize("width", [64, 96, 192])
def test_towers_are_as_wide_as_the_embedding_has_dimensions(width):
    model = training.build(scale.Setting(width=width).recipe("shared"))
    assert model.text_projection.shape == (width, width)
    assert model.visual.conv1.weight.shape[0] == width
    assert model.transformer is model.visual.transformer


def test_the_last_norms_start_at_their_gain():
    model = training.build(scale.Setting(tried="gain 4 of the last norms").recipe("clip"))
    assert {*model.ln_final.weight.tolist(), *model.visual.ln_post.weight.tolist()} == {4.0}


def test_the_table_has_every_setting_in_their_order():
    table = scale.read()
    key = ["samples", "width", "seed", "tried"]
    runs = [*table[key].drop_duplicates().itertuples(index=False, name=None)]
    assert len(runs) == 22
    assert runs == [tuple(s.key.values()) for s in scale.settings()]  # none of them twice
    assert not table.duplicated([*key, "model", "measure"]).any()


def test_rows_of_a_setting_and_what_is_there_is_not_made_again(monkeypatch, tmp_path):
    load, made = profiles.load, []
    monkeypatch.setattr(profiles, "load", lambda name: load(name, small=True))
    monkeypatch.setattr(scale, "FILE", tmp_path / "scale.csv")
    monkeypatch.setattr(scale, "settings", lambda: [scale.Setting(0.5)])
    monkeypatch.setattr(scale.shutil, "rmtree", lambda folder: None)

    def shipped(setting, family, folder):
        made.append(family)
        return f"mini-{family}"

    monkeypatch.setattr(scale, "trained", shipped)
    scale.main()
    table = scale.read()
    rows = table.set_index(["model", "measure"])
    assert made == ["clip", "shared", "align"]
    assert (table.samples == 0.5).all() and (table.width == 96).all()
    assert rows.value["clip", "centroid distance"] > rows.value["align", "centroid distance"] > 0
    assert rows.value["clip", "AUC of the modality"] == 1
    assert rows.error["", "cross_the_gap-1"] > 0 and "i0t-6" not in table.measure.tolist()
    both = rows.value["", "cross_the_gap-1"], rows.value["clip", "OTI: mAP"]
    assert both[0] == pytest.approx(both[1], abs=1e-3)
    scale.main()
    assert made == ["clip", "shared", "align"]


def test_larger_models_answer_a_claim_with_both_errors(monkeypatch, tmp_path):
    lines = ["samples,width,seed,tried,model,measure,value,error"]
    lines += ["4,96,0,,,i0t-1,1.0,0.3", "4,96,1,,,i0t-1,2.0,0.5", "1,192,0,,,i0t-1,7,1"]
    lines += ["1,96,0,,,i0t-3,1,1", "1,96,1,,,i0t-3,1,1"]
    lines += ["4,96,0,d = 512,,i0t-1,9,9", "4,96,1,,clip,i0t-1,9,9"]
    monkeypatch.setattr(scale, "FILE", tmp_path / "scale.csv")
    scale.FILE.write_text("\n".join(lines))
    found = scale.larger("i0t-1")  # of width 192 there is one seed: none of its spread is known
    assert list(found) == ["4 x samples"] and scale.larger("i0t-2") == {}
    assert list(scale.larger("i0t-3")) == ["d = width"]
    error = (0.4**2 + 0.5 / 2) ** 0.5
    assert found["4 x samples"].value == 1.5
    assert found["4 x samples"].high == pytest.approx(1.5 + 1.96 * error, abs=1e-3)
