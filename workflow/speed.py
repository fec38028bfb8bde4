"""How fast this machine encodes and inverts, by architecture: measured once, and kept.

The weights of measured public models are all alike, which makes no difference to the time.
"""

import ctypes
import json
import logging
import platform
import re
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import torch

from lib import files, paths
from lib.encoders import registry
from lib.encoders.towers import Model, Parts

SECONDS = 20  # for measuring; an architecture that is not reached is left to the next plan
BATCH = 64  # items at a time, at most


def speeds(models: set[str]) -> dict[str, dict[str, list[float]]]:
    """Model -> what `measure` says of its architecture here: measured once, and kept."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    file = paths.CACHE / "speed" / f"{platform.node()}-{device}.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    specs = {name: registry.REGISTRY.get(name, registry.Spec()) for name in models}
    archs = {n: s.arch.removesuffix("-quickgelu") for n, s in specs.items() if s.arch}
    size, start = {archs[name]: specs[name].parameters for name in archs}, time.process_time()
    for arch in sorted(size, key=size.get):
        if arch not in kept and time.process_time() - start < SECONDS:
            kept[arch] = measure(arch, device)
            files.write_json(file, kept)
    own = {name: arch for name in models if (arch := _own(name))}
    for name, arch in own.items():  # here as a whole, and the ones that the question is about
        if arch not in kept:
            kept[arch] = measure_model(registry.load(name, device))
            files.write_json(file, kept)
    archs |= own
    return {name: kept[arch] for name, arch in archs.items() if arch in kept}


def _own(name: str) -> str:
    """What tells the architecture of the user's own model, or of its random twin; or empty."""
    name = name.removesuffix(registry.UNTRAINED)
    folder = registry.own(name)
    if not folder:
        return ""
    config = registry.configuration(name, folder)["model_cfg"]
    return files.sha256(json.dumps(config, sort_keys=True).encode())[:12]


def measure(arch: str, device: str = "cpu") -> dict[str, list[float]]:
    """What `measure_model` says of an architecture."""
    return measure_model(_stand_in(arch, torch.device(device)))


def measure_model(made: Model) -> dict[str, list[float]]:
    """Way ("image", "text", "oti", "ovi") -> [seconds, bytes of memory] of one image, text, update.

    On one thread. Without a ViT there is no "ovi", and with a text encoder of another kind no
    "oti".
    """
    from PIL import Image

    from lib.methods import frozen, inversion

    torch.set_num_threads(1)
    picture = Image.effect_noise((640, 480), 50).convert("RGB")
    text = "a man rides a brown horse along the sandy beach"
    # Of the processor, if that does the work: then it makes no difference what else is running.
    clock = time.process_time if made.device.type == "cpu" else time.perf_counter
    _ = made.clip  # built now: that is not part of the time
    found = {"image": _per_item(lambda n: made.encode_image([picture] * n), clock)}
    found["text"] = _per_item(lambda n: made.encode_text([text] * n), clock)

    def update(encode: Callable, width: int) -> list[float]:
        def run(n: int) -> None:
            tokens = torch.full((n, 1, width), 0.02, device=made.device, requires_grad=True)
            torch.autograd.grad(encode(tokens).sum(), tokens)[0].cpu()

        return _per_item(run, clock)

    with suppress(ValueError):
        found["oti"] = update(inversion.text_encoder(made), inversion.token_width(made))
    with suppress(ValueError):
        patches, width = frozen.patch_grid(made)
        encode = frozen.image_encoder(made, 1, patches, made.device, torch.float32)
        found["ovi"] = update(encode, width)
    return found


def _stand_in(arch: str, device: torch.device) -> Model:
    """A model of an architecture, and a tokenizer that makes a number of each word."""
    import open_clip

    logging.disable(logging.WARNING)  # open_clip warns that there are no weights: that is meant
    try:
        clip, _, preprocess = open_clip.create_model_and_transforms(arch, device="meta")
    finally:
        logging.disable(logging.NOTSET)
    clip = clip.to_empty(device=device)
    for tensor in chain(clip.parameters(), clip.buffers()):
        tensor.data.fill_(0.01)
    tower = getattr(clip, "text", clip)
    end, length = tower.vocab_size - 1, tower.context_length

    def tokenizer(texts: list[str]) -> torch.Tensor:
        words = [[end - 1, *(sum(word.encode()) for word in t.split()), end] for t in texts]
        return torch.tensor([(ids + [0] * length)[:length] for ids in words])

    return Model(arch, arch, 1.0, device, lambda: Parts(clip, preprocess, tokenizer))


def _per_item(run: Callable[[int], object], clock: Callable[[], float]) -> list[float]:
    """[seconds, bytes] of one of n items, with more of them, and again, while that is quick."""
    n, took = 1, []
    while not took or (took[-1] < 0.25 and n < BATCH) or (took[-1] < 1 and len(took) < 2):
        n = min(8 * n, BATCH) if took and took[-1] < 0.25 else n
        before = memory("VmRSS")
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = clock()
        run(n)
        took.append(clock() - start)
        peak = memory("VmHWM", trim=False)
    return [took[-1] / n, max(0, peak - before) / n]


def memory(what: str, trim: bool = True) -> int:
    """Bytes of this process, as Linux counts them; 0 elsewhere."""
    with suppress(OSError, AttributeError, TypeError):
        if trim:
            ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back first
        found = re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
        return 1024 * int(found[1])
    return 0
