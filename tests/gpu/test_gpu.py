"""A CUDA GPU gives what the processor gives: `./run_all.sh --test gpu`.

Without a GPU these tests are skipped; with MODALITY_GAP_GPU_DRY=1 they compare the processor with
itself, on a smaller model, so that their own code has run before a GPU is at hand. What was
measured is in the properties of pytest's --junitxml.

The bounds leave room for rounding alone. For a random ViT-B/32, float32 and float64 differ by 1e-6
in an embedding and by 1e-4 in a loss after 150 updates; TensorFloat-32 by 1e-3 in an embedding.
"""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from lib import paths
from lib.encoders import registry, towers
from lib.methods import inversion
from workflow import speed

pytestmark = pytest.mark.gpu
DRY = not torch.cuda.is_available() and bool(os.environ.get("MODALITY_GAP_GPU_DRY"))
FULL = {"vit": "ViT-B-32-quickgelu", "resnet": "RN50-quickgelu"}
ARCHS = {"vit": "ViT-S-32-alt"} if DRY else FULL
CLOSE, CLOSE_LOSS = 1e-4, 1e-3  # between unit vectors; between losses
STEPS = {"oti": 10, "ovi": 3} if DRY else {"oti": 150, "ovi": 50}
TEXTS = [
    "a photo of a dog",
    "two men play chess in a park near a lake",
    "red",
    "the blue house by the sea, with a small garden and an old tree behind it",
    "",
]


@pytest.fixture(scope="session")
def device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    if DRY:
        return "cpu"
    pytest.skip("PyTorch sees no CUDA GPU here (MODALITY_GAP_GPU_DRY=1 tries the tests without).")


@pytest.fixture(scope="module")
def models(device):
    """Kind of architecture -> random weights on the processor, and the same on the GPU."""
    made = {}

    def of(kind: str) -> tuple[towers.Model, towers.Model]:
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                spec = registry.Spec(arch=ARCHS[kind], trained=False)
                patch.setitem(registry.REGISTRY, kind, spec)
                made[kind] = registry.load(kind, "cpu"), registry.load(kind)
        assert made[kind][1].device.type == device  # where public models go by default
        return made[kind]

    return of


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)


def pictures(n: int) -> list[Image.Image]:
    """Coarse patterns, as a photo is coarse: fine noise looks all the same to a random encoder."""
    drawn = (np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8) for i in range(n))
    return [Image.fromarray(each).resize((224, 224)) for each in drawn]


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest distance between corresponding rows."""
    return (a - b).norm(dim=-1).max().item()


def nearest(x: torch.Tensor) -> float:
    """The smallest distance between two rows: what an error has to be small against."""
    return functional.pdist(x).min().item()


@pytest.mark.parametrize("kind", ARCHS)
def test_embeddings_are_those_of_the_processor(kind, models, record_property):
    cpu, gpu = models(kind)
    images = pictures(6)
    for what, ask in (("encode_image", images), ("encode_text", TEXTS)):
        expected, found = (getattr(model, what)(ask) for model in (cpu, gpu))
        record_property(f"{kind}: {what}, distance of embeddings", apart(found, expected))
        assert apart(found, expected) <= CLOSE < nearest(expected)


def test_no_tensorfloat(models, device):
    """Neither by PyTorch's default for convolutions nor by a variable of the environment."""
    assert models("vit")[1].clip  # the settings are made when the weights arrive
    assert not torch.backends.cuda.matmul.allow_tf32
    assert device == "cpu" or not torch.backends.cudnn.allow_tf32
    third = torch.full((64, 64), 1 / 3, device=device)
    product = (third @ torch.eye(64, device=device)).cpu()
    assert torch.equal(product, third.cpu())  # a number of 10 bits would come back rounded


def test_other_batches_give_the_same_embeddings(models, monkeypatch, record_property):
    _, gpu = models("vit")
    images = pictures(7)
    whole = gpu.encode_image(images), gpu.encode_text(TEXTS)
    monkeypatch.setattr(towers, "BATCH_IMAGES", 3)
    monkeypatch.setattr(towers, "BATCH_TEXTS", 2)
    found = gpu.encode_image(images), gpu.encode_text(TEXTS)
    differences = [*map(apart, found, whole)]
    record_property("vit: other batches, distance of embeddings", max(differences))
    assert max(differences) <= CLOSE


@pytest.fixture(scope="module")
def searched(models):
    """Method -> the search of five items on the processor, and on the GPU."""
    kept = {}

    def of(method: str) -> tuple[inversion.Inversion, inversion.Inversion]:
        if method not in kept:
            cpu, gpu = models("vit")
            given = cpu.encode_image(pictures(5)) if method == "oti" else cpu.encode_text(TEXTS)
            search = getattr(inversion, method)
            kept[method] = [search(model, given, steps=STEPS[method]) for model in (cpu, gpu)]
        return kept[method]

    return of


@pytest.mark.parametrize("method", STEPS)
def test_losses_are_those_of_the_processor(method, searched, record_property):
    cpu, gpu = searched(method)
    record_property(f"{method}: losses, all updates", (cpu.loss - gpu.loss).abs().max().item())
    torch.testing.assert_close(gpu.loss, cpu.loss, rtol=0, atol=CLOSE_LOSS)
    assert (gpu.loss[0] - gpu.loss[-1]).min() > 10 * CLOSE_LOSS  # there is a curve to compare


@pytest.mark.parametrize("method", STEPS)
def test_other_batches_give_the_same_losses(method, models, searched, record_property):
    cpu, gpu = models("vit")
    given = cpu.encode_image(pictures(5)) if method == "oti" else cpu.encode_text(TEXTS)
    found = getattr(inversion, method)(gpu, given, steps=STEPS[method], batch=2)
    whole = searched(method)[1]
    difference = (found.loss - whole.loss).abs().max().item()
    record_property(f"{method}: other batches, losses", difference)
    assert difference <= CLOSE_LOSS


def peak(device: str, run) -> int:
    """Bytes that a call takes at its worst, beyond what was taken before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    before = speed.memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    run()
    return speed.memory("VmHWM", trim=False) - before


def test_memory_does_not_grow_with_the_number_of_images(models, device, record_property):
    _, gpu = models("vit")
    batch, picture = (8 if DRY else towers.BATCH_IMAGES), pictures(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(towers, "BATCH_IMAGES", batch)
        gpu.encode_image(picture * batch)  # the first call takes work space for good
        few = peak(device, lambda: gpu.encode_image(2 * batch * picture))
        many = peak(device, lambda: gpu.encode_image(8 * batch * picture))
    record_property("MiB to encode 2 batches of images", few / 2**20)
    record_property("MiB to encode 8 batches of images", many / 2**20)
    assert many <= 1.1 * few + 2**20 * (20 if DRY else 1)


def test_a_full_gpu_searches_fewer_at_a_time(
    models, device, tmp_path, monkeypatch, record_property
):
    """Where a batch is too much for the memory that is left, half of it is not."""
    if device == "cpu":
        pytest.skip("Only the memory of a GPU can be given a limit.")
    cpu, gpu = models("vit")
    given = cpu.encode_text(TEXTS).repeat(52, 1)[:256]

    def search(cache: str) -> inversion.Inversion:
        monkeypatch.setattr(paths, "CACHE", tmp_path / cache)
        return inversion.ovi(gpu, given, steps=2, batch=256)

    used, plenty = peak(device, lambda: search("plenty")), search("plenty")
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 0.6 * used
    asked, real = [], inversion._search
    monkeypatch.setattr(inversion, "_search", lambda *a: asked.append(len(a[1])) or real(*a))
    try:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(room / total)
        found = search("little")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    record_property("items at a time in 60 % of the memory", asked[-1])
    assert asked[0] == 256 > max(asked[1:])
    torch.testing.assert_close(found.loss, plenty.loss, rtol=0, atol=CLOSE_LOSS)
