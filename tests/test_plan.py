"""What `--plan` says of a profile, without a network and without measuring for long."""

import argparse
import os
import shutil
from collections import Counter
from types import SimpleNamespace

import open_clip
import pytest
import torch
from huggingface_hub import constants

from lib import files, paths, profiles
from lib.data import sources
from lib.encoders import registry
from workflow import catalogue, cli, plan, speed

GB = 10**9
MEASURED = {"image": [0.1, 1e6], "text": [0.01, 1e5], "oti": [0.001, 1e6], "ovi": [0.2, 2e7]}
ITEM, OTHER = "cross_the_gap/table1_image_retrieval", "mind_the_gap/fig1_modality_gap"


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Exit code and output of the plan of some items, on a large machine with an empty cache."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(plan, "online", lambda: True)
    measured = Counter()

    def measure(arch, device):
        measured[arch] += 1
        return MEASURED

    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(speed, "memory", lambda *_: 600_000_000)  # not this process's own

    def of(profile, *items, jobs=2, disk=1000 * GB, memory=1000 * GB):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk))
        monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": memory}.get)
        items = items or [name for name, item in catalogue.load().items() if item.written]
        code = plan.show(argparse.Namespace(profile=profile, items=items, jobs=jobs))
        return code, capsys.readouterr().out

    of.measured = measured
    return of


def lacking(output: str) -> list[str]:
    """The names under "is not here"."""
    lines = output.split("* is not here:\n")[1].split("\n\n")[0].splitlines()
    return [line[9:].strip().split(" (")[0] for line in lines]


def test_mini_downloads_nothing_and_knows_earlier_runs(told):
    files.write_json(paths.CACHE / f"done/mini/{OTHER}.0123456789ab", {"seconds": 90})
    code, output = told("mini")
    assert code == 0
    assert "Nothing has to be downloaded." in output
    assert not told.measured
    rows = {line.split()[0]: line.split() for line in output.splitlines() if " - " in line}
    assert rows[OTHER][-1] == "1.5"
    assert rows[ITEM][-1] == "unknown"
    assert "hours or more" in output


def test_clip_names_every_missing_download_once(told):
    which = profiles.load("clip")
    code, output = told("clip")
    assert code == 0
    names = lacking(output)
    assert len(names) == len(set(names))
    public = {name for name in (*which.models.values(), *which.also) if "untrained" not in name}
    sets = {which.pairs, which.pairs_2, *which.labelled.values(), *which.shifted.values()}
    assert public | {f"{name} test" for name in sets} <= set(names)
    assert "flickr30k train" in names
    assert set(which.judgements.values()) <= set(names)


def test_what_is_in_the_hub_cache_is_here(told):
    spec = registry.REGISTRY["openai-vit-b-32"]
    folder = f"{constants.HF_HUB_CACHE}/models--some--name/snapshots/{spec.revision}"
    os.makedirs(folder)
    assert "openai-vit-b-32" in lacking(told("clip", OTHER)[1])
    for name in (registry.CONFIG, registry.WEIGHTS):
        open(f"{folder}/{name}", "w").close()
    output = told("clip", OTHER)[1]
    assert "openai-vit-b-32" not in lacking(output)
    assert "clip: openai-vit-b-32;" in output
    assert output.splitlines()[1].split()[1] == "2/3"


def test_roles_without_published_weights_are_named(told):
    output = " ".join(told("clip", "mind_the_gap/fig8_temperature")[1].split())
    assert "no published weights: fixed temperatures" in output
    assert "no published weights" not in told("mini", "mind_the_gap/fig8_temperature")[1]
    output = told("clip", "i0t/table2_main_comparison")[1]
    assert (
        "openai-vit-b-32-async (train it by `./run_all.sh --profile clip --train async`" in output
    )


def test_a_data_set_in_the_hub_cache_is_here(told):
    source = sources.LABELLED["cifar100"]
    folder = f"{constants.HF_HUB_CACHE}/datasets--some--name/snapshots/{source.revision}/x"
    os.makedirs(folder)
    open(f"{folder}/test-00000-of-00001.parquet", "w").close()
    names = lacking(told("clip", "alignclip/table3_linear_probe")[1])
    assert "cifar100 test" not in names
    assert "cifar100 train" in names


def test_sizes_of_data_sets_are_those_of_the_sources(told):
    output = told("clip", "i0t/table3_sample_size")[1]
    assert all(size in output for size in ("0.8 GB  coco test", "4.4 GB  flickr30k train"))
    assert "1.5 GB  coco train" in output  # ten shards of 114
    # 0.6 GB of a model, 6.9 GB of data sets, and these a second time as `datasets` keeps them
    assert "7.5 GB to download, 14.4 GB of disk" in output


def test_unknown_sizes_are_said_to_be_unknown(told):
    output = told("clip", "alignclip/table2_zero_shot")[1]
    assert "  unknown  cifar100 test" in output
    sets = len(profiles.load("clip").labelled)
    assert f"0.6 GB + {sets} unknown to download, 0.6 GB or more of disk" in output
    assert f"0.6 GB + {sets} unknown" in output.splitlines()[1]


@pytest.mark.parametrize("parameters", [0, 151_277_313])
def test_a_models_size_is_that_of_its_parameters(parameters, monkeypatch):
    spec = registry.Spec(arch="A", tag="b", revision="0" * 40, parameters=parameters)
    monkeypatch.setitem(registry.REGISTRY, "some", spec)
    assert plan.model("some").size == (4 * parameters or None)


def test_too_small_a_disk_is_one_sentence_and_a_failure(told):
    code, output = told("clip", OTHER, disk=GB // 2)
    assert code == 1
    assert sum("0.5 GB free" in line for line in output.splitlines()) == 1
    assert "HF_HOME" in output
    assert told("clip", OTHER)[0] == 0


def test_too_little_memory_is_one_sentence_and_a_failure(told):
    code, output = told("clip", ITEM, OTHER, memory=GB)
    assert code == 1
    assert f"too little for {ITEM}" in output
    code, output = told("clip", ITEM, OTHER, memory=9 * GB)
    assert code == 1
    assert "use a smaller --jobs" in output
    assert told("clip", ITEM, OTHER, memory=9 * GB, jobs=1)[0] == 0


def test_without_a_network_what_is_missing_is_said_to_stay_so(told, monkeypatch):
    monkeypatch.setattr(plan, "online", lambda: False)
    code, output = told("clip", OTHER)
    assert code == 0
    assert output.count("There is no network here") == 1
    assert "no network" not in told("mini", OTHER)[1]


def test_the_option_plans_and_runs_nothing(monkeypatch):
    seen = []
    monkeypatch.setattr(plan, "show", lambda options: seen.append(options.items) or 1)
    monkeypatch.setattr("workflow.run.run", lambda *_: pytest.fail("something ran"))
    assert cli.main(["--plan", "--profile", "clip", "--only", ITEM]) == 1
    assert seen == [[ITEM]]


def test_no_question_is_asked_where_downloads_are_forbidden():
    assert not plan.online()  # the tests' own HF_HUB_OFFLINE


def test_the_measured_seconds_are_kept(told):
    first = told("clip", ITEM)[1]
    archs = {"ViT-B-32", "ViT-L-14", "RN50", "ViT-B-16-SigLIP", "ViT-B-16"}
    assert told.measured == dict.fromkeys(archs, 1)  # two models of an architecture: once
    assert told("clip", ITEM)[1] == first
    assert told.measured == dict.fromkeys(archs, 1)


def test_what_is_not_reached_in_time_is_left_to_the_next_plan(told, monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", -1)
    output = told("clip", OTHER)[1]
    assert output.splitlines()[1].split()[-1] == "unknown"
    assert "Not measured within -1 seconds: openai-vit-b-32, " in output
    assert not told.measured


def test_shared_work_counts_once_in_the_total(told):
    asked = plan.asked(profiles.load("clip"), OTHER)
    alone = sum(n * MEASURED[way][0] for (way, *_), n in asked.work.items())
    output = told("clip", OTHER, "i0t/fig1_scored_pairs", jobs=1)[1]
    assert f"{alone / 3600:.1f} hours with" in output  # the second encodes a part of the same
    assert f"{alone / 3600:.1f} hours with" in told("clip", OTHER, jobs=8)[1]  # it is one notebook


def test_work_is_rows_times_models_and_queries_times_updates():
    work = plan.asked(profiles.load("clip"), ITEM).work
    assert work["image", "openai-rn50", "cifar100", "test"] == 2000  # n_images
    assert work["oti", "siglip-vit-b-16", "dtd", 150.0] == 400 * 150  # n_queries x steps
    work = plan.asked(profiles.load("clip"), OTHER).work
    assert work["image", "openai-vit-b-32", "coco", "test"] == 5000
    assert work["text", "openai-vit-b-32", "coco", "test"] == 25_000
    work = plan.asked(profiles.load("clip"), "cross_the_gap/tableA_text_only_sets").work
    assert work["ovi", "openai-vit-b-32", "coco"] == 100 * 200


def test_rows_that_are_not_known_are_marked(told):
    rows = told("clip", "alignclip/table2_zero_shot", OTHER)[1].splitlines()
    assert rows[1].endswith("+")
    assert not next(row for row in rows if row.startswith(OTHER)).endswith("+")


def test_an_architecture_is_measured():
    threads = torch.get_num_threads()
    try:
        found = speed.measure("ViT-S-32-alt")
    finally:
        torch.set_num_threads(threads)
    assert set(found) == {"image", "text", "oti", "ovi"}
    assert all(seconds > 0 and size >= 0 for seconds, size in found.values())


def test_a_text_encoder_of_another_kind_is_measured_without_oti(monkeypatch):
    """A CoCa's, as one of the models of `clip` has it: here a small one."""
    text = {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 24, "patch_size": 12, "width": 32, "layers": 1, "head_width": 16}
    vision |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    config = {"embed_dim": 32, "vision_cfg": vision, "custom_text": True}
    config |= {"text_cfg": text | {"embed_cls": True, "output_tokens": True}}
    config |= {"multimodal_cfg": text | {"attn_pooler_heads": 2}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "coca_tiny", config)
    threads = torch.get_num_threads()
    try:
        assert set(speed.measure("coca_tiny")) == {"image", "text", "ovi"}
    finally:
        torch.set_num_threads(threads)


def test_a_model_whose_commit_is_not_fixed_yet_is_not_here(told):
    """Of what others have in the hub's cache, nothing counts for it."""
    folder = f"{constants.HF_HUB_CACHE}/models--some--name/snapshots/{'a' * 40}"
    os.makedirs(folder)
    for name in (registry.CONFIG, registry.WEIGHTS):
        open(f"{folder}/{name}", "w").close()
    assert not plan.model("metaclip-vit-b-32").here


@pytest.mark.parametrize("name", ["openai-rn50", "datacomp-vit-b-32"])
def test_parameters_of_the_registry_are_those_of_the_architecture(name):
    clip = open_clip.create_model(registry.REGISTRY[name].arch, device="meta")
    assert registry.REGISTRY[name].parameters == sum(p.numel() for p in clip.parameters())
