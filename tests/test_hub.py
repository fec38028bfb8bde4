"""Downloads by the real client from a hub on loopback, and what goes wrong with one."""

import errno
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import standins
import torch
from datasets import Dataset
from huggingface_hub import constants, file_download
from safetensors import SafetensorError

from lib import files, paths, profiles
from lib.data.labelled import load_labelled
from lib.data.pairs import load_pairs
from lib.data.sources import LABELLED, PAIRS
from lib.encoders import registry
from lib.encoders.download import NotAvailable
from lib.encoders.registry import PICKLE, REGISTRY, WEIGHTS
from workflow import downloads, notebooks

sys.path.insert(0, str(Path(__file__).parent / "rehearsal"))
import project
import repositories
from hub import GATED, GONE, Altered, Dropped, Hub, Refused

CLIP = REGISTRY["openai-vit-b-32"]
CIFAR10 = LABELLED["cifar10"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub, and a machine with an empty cache that asks it."""
    with Hub(tmp_path / "hub") as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
        yield served


def repository(hub: Hub, source, commit: str = "") -> Path:
    kind = "models" if isinstance(source, registry.Spec) else "datasets"
    folder = hub.folder / kind / source.repo / (commit or source.revision)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def clip(hub):
    """The folder of a small model in the repository of OpenAI's ViT-B/32."""
    return standins.tiny_openai(repository(hub, CLIP), quick_gelu=True)


def refused(match: str, load, *arguments) -> None:
    """What cannot be had says so in one sentence."""
    with pytest.raises(NotAvailable, match=match) as caught:
        load(*arguments)
    assert "\n" not in str(caught.value)


# Models -------------------------------------------------------------------------------------------


def test_a_model_is_asked_for_by_its_commit_and_once(hub, clip):
    loaded = registry.load("openai-vit-b-32")
    assert loaded.encode_text(["a red star"]).shape == (1, 8)
    asked = hub.asked(part=CLIP.repo)
    assert len(asked) >= 6
    assert all(CLIP.revision in line.path and line.status == 200 for line in asked)
    hub.log.clear()
    assert registry.load("openai-vit-b-32").fingerprint == loaded.fingerprint
    assert not hub.log


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, clip):
    hub.faults[f"{CLIP.repo}/{WEIGHTS}"] = Dropped(2)
    registry.load("openai-vit-b-32")
    starts = [line.start for line in hub.asked("GET", WEIGHTS)]
    size = (clip / WEIGHTS).stat().st_size
    assert len(starts) == 3
    assert starts[0] == 0
    assert size / 2 < starts[1] < starts[2] < size
    assert {line.status for line in hub.asked("GET", WEIGHTS)[1:]} == {206}


@pytest.mark.parametrize(
    ("place", "fault", "match"),
    [
        ("", GATED, "is gated: accept its terms on https://huggingface.co, then run `hf auth"),
        ("/api", GATED, "is gated"),
        ("", GONE, "no public repository timm/vit_base_patch32_clip_224.openai on https"),
        ("/api", GONE, "no public repository"),
        ("/api", Refused(401, "RepoNotFound"), "no public repository"),
        ("/api", Refused(503), r"is not available \(HfHubHTTPError: Server error '503"),
        (f"/{WEIGHTS}", Altered(), f"{WEIGHTS} came damaged; run it again"),
        (f"/{WEIGHTS}", Altered(lambda content: content[:-9]), "broke off: run it again"),
        (f"/{WEIGHTS}", Dropped(10**6), "broke off: run it again"),
    ],
)
def test_a_model_that_cannot_be_had(hub, clip, place, fault, match):
    hub.faults[CLIP.repo + place] = fault
    refused(match, registry.load, "openai-vit-b-32")
    hub.faults.clear()
    registry.load("openai-vit-b-32")  # nothing is left behind that keeps it away


def test_another_commit_is_not_taken(hub):
    standins.tiny_openai(repository(hub, CLIP, "a" * 40), quick_gelu=True)
    refused("does not have the revision asked for", registry.load, "openai-vit-b-32")


def test_a_repository_without_weights(hub, clip):
    (clip / WEIGHTS).unlink()
    refused(f"has no {WEIGHTS}", registry.load, "openai-vit-b-32")


def test_nobody_answers(hub, clip):
    hub.__exit__()
    refused("there is no network to download it", registry.load, "openai-vit-b-32")
    hub.__enter__()
    registry.load("openai-vit-b-32")


def test_a_full_disk(hub, clip, monkeypatch):
    def write(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(file_download, "http_get", write)
        refused("disk is too full for timm/", registry.load, "openai-vit-b-32")
    registry.load("openai-vit-b-32")


def test_a_full_disk_for_a_converted_model(hub, monkeypatch):
    spec = REGISTRY["datacomp-vit-l-14"]
    folder = standins.tiny_openai(repository(hub, spec))
    torch.save({"logit_scale": torch.ones(())}, folder / PICKLE)
    published = replace(spec, pickle_sha256=files.sha256_of(folder / PICKLE))
    monkeypatch.setitem(REGISTRY, "datacomp-vit-l-14", published)
    monkeypatch.setattr(sys, "argv", ["", "--convert", "datacomp-vit-l-14"])

    def write(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(registry.safetensors.torch, "save_file", write)
    with pytest.raises(SystemExit, match="disk is too full for datacomp-vit-l-14"):
        registry.main()


def test_a_pickle_that_is_not_the_published_one(hub):
    spec = REGISTRY["datacomp-vit-l-14"]
    folder = standins.tiny_openai(repository(hub, spec))
    (folder / WEIGHTS).rename(folder / PICKLE)
    refused("SHA-256 differs", registry.convert, "datacomp-vit-l-14")


# Data sets ----------------------------------------------------------------------------------------


def expect(monkeypatch, name: str, rows: int) -> None:
    monkeypatch.setitem(LABELLED, name, replace(LABELLED[name], rows=rows))


@pytest.fixture
def cifar10(hub, monkeypatch):
    """The folder of six pictures in the repository of CIFAR-10."""
    expect(monkeypatch, "cifar10", 6)
    folder = repository(hub, CIFAR10)
    file = folder / "plain_text" / "test-00000-of-00001.parquet"
    standins.write_parquet(file, 6, "img", "label", ["plane", "car"])
    return folder


def test_a_data_set_is_asked_for_by_its_commit_and_once(hub, cifar10):
    assert load_labelled("cifar10")["label"][:] == [0, 1, 0, 1, 0, 1]
    asked = hub.asked(part=CIFAR10.repo)
    assert asked
    assert all(CIFAR10.revision in line.path for line in asked)
    hub.log.clear()
    assert len(load_labelled("cifar10")) == 6
    assert not hub.log


def test_shards_that_break_off_and_are_damaged(hub, monkeypatch):
    expect(monkeypatch, "pets", 5)
    source = LABELLED["pets"]
    standins.write_tar(repository(hub, source), "test", 5, ["beagle", "pug"])
    hub.faults[f"{source.repo}/test/0.tar"] = Altered()
    refused(r"0\.tar came damaged", load_labelled, "pets")
    hub.faults[f"{source.repo}/test/0.tar"] = Dropped()
    assert len(load_labelled("pets")) == 5
    assert [line.status for line in hub.asked("GET", "0.tar")] == [200, 200, 206]


def test_a_split_that_is_not_there(hub, cifar10):
    refused(r"cifar10 at revision 0b2714987fa4 has no \*train-\*\.parquet", load_labelled,
            "cifar10", "train")  # fmt: skip


def test_a_column_of_another_name(hub, cifar10):
    (file,) = cifar10.rglob("*.parquet")
    Dataset.from_parquet(str(file)).rename_column("label", "class").to_parquet(file)
    refused("cifar10-test should have one image column and 'label'; it has img, class, extra",
            load_labelled, "cifar10")  # fmt: skip


def test_another_number_of_rows(hub, cifar10, monkeypatch):
    expect(monkeypatch, "cifar10", 10_000)
    refused("cifar10 came with 6 rows instead of 10,000", load_labelled, "cifar10")


@pytest.fixture
def coco(hub, monkeypatch):
    """The folder of seven pictures in the repository of COCO."""
    source = replace(PAIRS["coco"]["test"], rows=7)
    monkeypatch.setitem(PAIRS, "coco", {"test": source})
    folder = repository(hub, source)
    standins.write_captioned(folder, source.table, source.archive, 7)
    return folder


def test_pairs_that_break_off(hub, coco):
    archive = PAIRS["coco"]["test"].archive
    hub.faults[f"{PAIRS['coco']['test'].repo}/{archive}"] = Dropped()
    assert len(load_pairs("coco")) == 7
    assert hub.asked("GET", archive)[-1].status == 206


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("filename,raw", "filename,captions", "coco-test should have .* 'raw'; it has sentids, "),
        (",test,", ",val,", "coco-test has no rows: test_5k_mscoco_2014.csv names none"),
        ("000003.jpg", "000999.jpg", r"coco is not available \(KeyError: '000999\.jpg'"),
    ],
)
def test_a_table_of_pairs_that_is_another_one(coco, old, new, match):
    table = coco / PAIRS["coco"]["test"].table
    table.write_text(table.read_text().replace(old, new))
    refused(match, load_pairs, "coco")


# Notebooks ----------------------------------------------------------------------------------------

HERE = ["cars", "caltech101", "cub", "eurosat"]  # of which the number of rows is not checked


@pytest.mark.notebooks
@pytest.mark.parametrize(
    "item", ["alignclip/table3_linear_probe", "cross_the_gap/table1_image_retrieval"]
)
def test_a_notebook_judges_what_the_hub_has(item, tmp_path, monkeypatch):
    with Hub(tmp_path / "hub") as hub:
        repositories.model(repository(hub, CLIP), CLIP, iter(["mini-clip"]))
        for place, name in enumerate(HERE):
            source = LABELLED[name]
            repositories.labelled(repository(hub, source), name, source, place)
        where = project.Folders(tmp_path)
        for name, value in project.surroundings(where, hub.address, HF_HUB_OFFLINE="0").items():
            monkeypatch.setenv(name, value)
        copy = tmp_path / "executed.ipynb"
        parameters = {"profile": "clip", "small": True}
        notebooks.run_notebook(paths.NOTEBOOKS / f"{item}.ipynb", copy, parameters)
        asked = {line.path for line in hub.log if line.status == 200}
    assert any(CLIP.repo in path and CLIP.revision in path for path in asked)
    assert "no public repository uoft-cs/cifar100" in copy.read_text()
    file = where.figures / "clip" / f"{item}.json"
    found = json.loads(file.read_text(encoding="utf-8"))["findings"]
    assert found
    assert all(project.is_judged(one) or project.reason(one) for one in found)


# A run on a cluster -------------------------------------------------------------------------------


def test_a_submitting_host_downloads_what_nodes_use_offline(hub, clip, cifar10, monkeypatch):
    which, items = profiles.load("clip"), ["i0t/table6_prompt_templates"]
    missing = downloads.fetch(which, items)
    assert len(missing) == 13  # all but the model and one of its data sets
    assert any("nlphuji/mscoco" in sentence for sentence in missing)
    hub.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert registry.load("openai-vit-b-32").encode_text(["a red star"]).shape == (1, 8)
    assert len(load_labelled("cifar10")) == 6
    assert not hub.log
    assert "openai-vit-b-32" not in [name for name, _ in downloads.wanted(which, items)]
