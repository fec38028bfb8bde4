"""Models of other formats keep their embeddings when they are rewritten for open_clip."""

import json
import os
import shutil
from collections import OrderedDict

import numpy as np
import open_clip
import pytest
import standins
import torch
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from lib import files, paths
from lib.encoders import convert, formats, registry
from lib.encoders.registry import CONFIG, PICKLE, WEIGHTS
from lib.methods import inversion
from workflow import cli

TEXTS = ["a red circle .", "the blue star on a green square .", "zebra"]
PICTURES = [standins.picture(i, size=32) for i in range(3)]
CLOSE = {"rtol": 0, "atol": 1e-5}
GREY_LEVEL = {"rtol": 0, "atol": 1.01 / 255 / 0.26}  # where two ways to resize round differently


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights that leave nothing at zero or one, biases and norms included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
                parameter += parameter.ndim == 1
    return module.eval()


def unit(embeddings: torch.Tensor) -> torch.Tensor:
    return functional.normalize(embeddings, dim=-1).detach()


def refuses(match: str, kind: str, source, target, sha256: str = "") -> None:
    """One sentence, and nothing is written."""
    with pytest.raises(ValueError, match=match) as caught:
        convert.convert(kind, source, target, sha256)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert not target.parent.exists() or not list(target.parent.glob(f".*{target.name}*"))


# AlignCLIP ----------------------------------------------------------------------------------------

WIDTH, HEADS, LAYERS, D, SIZE, PATCH = 128, 2, 2, 48, 32, 16


class Block(nn.Module):
    """ResidualAttentionBlock of the authors' align_clip/transformer.py (commit a18e805)."""

    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS)
        layers = ("c_fc", nn.Linear(WIDTH, 4 * WIDTH)), ("gelu", nn.GELU())
        self.mlp = nn.Sequential(OrderedDict([*layers, ("c_proj", nn.Linear(4 * WIDTH, WIDTH))]))

    def forward(self, x, mask=None):
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Shared(nn.Module):
    """CLIP of the authors' align_clip/model.py: its names, its order of computation."""

    def __init__(self):
        super().__init__()
        self.visual, self.text, self.transformer = nn.Module(), nn.Module(), nn.Module()
        self.visual.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.visual.class_embedding = nn.Parameter(torch.empty(WIDTH))
        self.visual.positional_embedding = nn.Parameter(torch.empty(5, WIDTH))
        self.visual.ln_pre = nn.LayerNorm(WIDTH)
        self.text.text_projection = nn.Parameter(torch.empty(WIDTH, D))  # never used
        self.text.token_embedding = nn.Embedding(49408, WIDTH)
        self.text.positional_embedding = nn.Parameter(torch.empty(77, WIDTH))
        self.transformer.resblocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.ln_post = nn.LayerNorm(WIDTH)
        self.projection = nn.Parameter(torch.empty(WIDTH, D))
        self.logit_scale = nn.Parameter(torch.tensor(2.5))

    def run(self, x, mask=None):
        x = x.permute(1, 0, 2)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        return x.permute(1, 0, 2)

    def encode_image(self, image):
        x = self.visual.conv1(image).flatten(2).permute(0, 2, 1)
        first = self.visual.class_embedding + torch.zeros(len(x), 1, WIDTH)
        x = torch.cat([first, x], dim=1) + self.visual.positional_embedding
        x = self.run(self.visual.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.projection

    def encode_text(self, text):
        x = self.text.token_embedding(text) + self.text.positional_embedding
        mask = torch.full((77, 77), float("-inf")).triu_(1)
        x = self.ln_post(self.run(x, mask))
        return x[torch.arange(len(x)), text.argmax(dim=-1)] @ self.projection


@pytest.fixture(scope="module")
def shared():
    model = drawn(Shared())
    with torch.no_grad():
        model.text.text_projection.fill_(float("nan"))  # torch.empty: anything may be in it
    return model


def checkpoint(file, state: dict):
    """What main/run.py saves; its cosine schedule leaves a number of numpy in the optimizer."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.5 * (1 + np.cos(np.pi * 0.3)) * 1e-3
    assert isinstance(optimizer.param_groups[0]["lr"], np.float64)
    about = {"epoch": 30, "name": "run", "state_dict": state, "scaler": {"scale": 65536.0}}
    torch.save(about | {"optimizer": optimizer.state_dict()}, file)
    return file


@pytest.mark.parametrize("prefix", ["", "module."])
def test_alignclip(shared, tmp_path, capsys, prefix):
    state = {prefix + key: value for key, value in shared.state_dict().items()}
    file = checkpoint(tmp_path / "epoch_30.pt", state)
    convert.main(["alignclip", str(file)])
    folder = paths.CACHE / "converted" / "epoch_30"
    said = capsys.readouterr().out
    assert f"SHA-256 of {file}: {files.sha256_of(file)}" in said
    assert f"local-dir:{folder}" in said
    model = registry.load(f"local-dir:{folder}")
    tokens = open_clip.tokenize(TEXTS)
    assert torch.equal(model.tokenizer(TEXTS), tokens)
    image, text = shared.encode_image(model.pixels(PICTURES)), shared.encode_text(tokens)
    torch.testing.assert_close(model.encode_image(PICTURES), unit(image), **CLOSE)
    torch.testing.assert_close(model.encode_text(TEXTS), unit(text), **CLOSE)
    assert model.logit_scale == pytest.approx(np.exp(2.5))


def test_alignclip_is_stored_as_our_own_shared_models(shared, tmp_path):
    file = checkpoint(tmp_path / "epoch_30.pt", shared.state_dict())
    convert.convert("alignclip", file, tmp_path / "out")
    ours = load_file(paths.MODELS / "mini-shared" / WEIGHTS)
    theirs = load_file(tmp_path / "out" / WEIGHTS)

    def names(tensors):
        return {key for key in tensors if ".resblocks." not in key or ".resblocks.1." in key}

    assert names(theirs) == names(ours)
    for key, value in theirs.items():
        if key.startswith("visual.transformer."):
            assert torch.equal(value, theirs[key.removeprefix("visual.")])


def change(state: dict, **tensors) -> dict:
    """A copy with other tensors; None takes one away, and __ is a dot."""
    state = dict(state)
    for key, value in tensors.items():
        state.pop(key.replace("__", "."), None)
        if value is not None:
            state[key.replace("__", ".")] = value
    return state


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"text__cls_emb": torch.ones(WIDTH)}, r"that SharedCLIP has not: text\.cls_emb"),
        ({"projection": None}, r"not a checkpoint of SharedCLIP or AlignCLIP"),
        ({"ln_post__weight": None}, r"not whole: .* ln_final\.weight, visual"),
        ({"ln_post__bias": torch.ones(3)}, r"ln_(post|final)\.bias gets shape \(3,\)"),
        ({"projection": torch.ones(100, D)}, r"gets shape \(100, 48\), and its settings ask"),
        ({"visual__positional_embedding": torch.ones(4, WIDTH)}, "3 patches"),
        (
            {"transformer__resblocks__0__ls_1__gamma": torch.ones(WIDTH)},
            r"has more than open_clip can hold: .*ls_1",
        ),
        ({"transformer__resblocks__1__ln_1__bias": None}, r"resblocks\.1\.ln_1\.bias"),
    ],
)
def test_alignclip_refuses_another_model(shared, tmp_path, changes, match):
    file = checkpoint(tmp_path / "epoch_30.pt", change(shared.state_dict(), **changes))
    refuses(match, "alignclip", file, tmp_path / "out" / "model")


class Harmful:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_only_tensors_and_plain_values_are_read(tmp_path):
    torch.save({"state_dict": {}, "more": Harmful(tmp_path / "run")}, tmp_path / "harmful.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save({"state_dict": {"projection": 1}}, tmp_path / "numbers.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    for name, match in [
        ("harmful", r"nothing else is read: it asks for \w+\.mkdir\.$"),
        ("text", "damaged or of another kind"),
        ("numbers", "holds no state_dict"),
        ("list", "holds no state_dict"),
    ]:
        refuses(match, "alignclip", tmp_path / f"{name}.pt", tmp_path / "out")
    assert not (tmp_path / "run").exists()
    refuses("is a folder: give the checkpoint", "alignclip", tmp_path, tmp_path / "out")
    refuses(
        "its own is [0-9a-f]{64}", "alignclip", tmp_path / "text.pt", tmp_path / "out", "0" * 64
    )


# transformers -------------------------------------------------------------------------------------

TEXT = {
    "vocab_size": 15,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": standins.CONTEXT,
    "eos_token_id": 14,
}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 24,
    "patch_size": 8,
}
GELU, TANH = {"hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}
CLIPS = {
    "quick gelu": ({}, {}),
    "gelu, other widths": (
        GELU | {"hidden_size": 64, "num_attention_heads": 8, "intermediate_size": 75},
        GELU | {"patch_size": 6, "num_attention_heads": 2, "num_hidden_layers": 3},
    ),
    "tanh, other norm": (
        TANH | {"layer_norm_eps": 1e-3, "eos_token_id": 2},
        GELU | {"patch_size": 12, "layer_norm_eps": 1e-4},
    ),
    "end token in the middle": ({"eos_token_id": 7}, {"intermediate_size": 101}),
    "open_clip's own tokens": ({"vocab_size": 49408, "eos_token_id": 49407}, {}),
}
SIGLIPS = {
    "tanh": ({}, {}),
    "gelu, other widths": (
        GELU | {"intermediate_size": 75},
        GELU | {"intermediate_size": 97, "patch_size": 6},
    ),
}


def clip(folder, text=(), vision=()) -> CLIPModel:
    """A folder as `save_pretrained` of model, tokenizer and image processor leaves it."""
    settings = {"text_config": TEXT | dict(text), "vision_config": VISION | dict(vision)}
    model = drawn(CLIPModel(CLIPConfig(projection_dim=16, **settings)))
    model.save_pretrained(folder)
    square = {"height": 24, "width": 24}
    CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=square).save_pretrained(folder)
    if model.config.text_config.vocab_size != 49408:
        standins.word_tokenizer(folder)
    return model


def siglip(folder, text=(), vision=()) -> SiglipModel:
    size = standins.sentencepiece_tokenizer(folder)
    text = TEXT | {"projection_size": 48, "vocab_size": size} | TANH | dict(text)
    vision = VISION | TANH | dict(vision)
    model = drawn(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 24, "width": 24}).save_pretrained(folder)
    return model


def same_embeddings(theirs, folder) -> None:
    ours = registry.load(f"local-dir:{folder}")
    pixels, tokens = ours.pixels(PICTURES), ours.tokenizer(TEXTS)
    image = theirs.get_image_features(pixels).pooler_output
    text = theirs.get_text_features(tokens).pooler_output
    torch.testing.assert_close(ours.encode_image(PICTURES), unit(image), **CLOSE)
    torch.testing.assert_close(ours.encode_text(TEXTS), unit(text), **CLOSE)
    assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())


def test_long_texts_of_long_clip(tmp_path):
    """Long-CLIP is a CLIP with 248 positions and CLIP's own tokens."""
    long = {"vocab_size": 49408, "eos_token_id": 49407, "max_position_embeddings": 248}
    theirs = clip(tmp_path / "theirs", long)
    convert.convert("transformers", tmp_path / "theirs", tmp_path / "ours")
    ours = registry.load(f"local-dir:{tmp_path / 'ours'}")
    texts = ["a red star on the sea " * 30, "a red star on the sea " * 29 + "in the rain"]
    tokens = ours.tokenizer(texts)
    assert tokens.shape == (2, 248) and (tokens[:, 150] > 0).all()
    text = theirs.get_text_features(tokens).pooler_output
    torch.testing.assert_close(ours.encode_text(texts), unit(text), **CLOSE)
    assert not torch.allclose(*ours.encode_text(texts), atol=1e-3)


def test_a_repository_is_converted(tmp_path, monkeypatch, capsys):
    """`hf-hub:REPOSITORY@COMMIT`: only the files that are needed, from the hub's cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = standins.put_in_hub(tmp_path / "hub", "me/mine", "a" * 40)
    with pytest.raises(SystemExit, match="me/mine is not in the local cache"):
        convert.main(["transformers", f"hf-hub:me/mine@{'a' * 40}"])
    theirs = clip(snapshot)
    convert.main(["transformers", f"hf-hub:me/mine@{'a' * 40}"])
    assert f"Written: {registry.converted('mine')}\n" in capsys.readouterr().out
    same_embeddings(theirs, registry.converted("mine"))
    with pytest.raises(SystemExit, match="name the commit, me/mine@"):
        convert.main(["transformers", "hf-hub:me/mine", "--as", "other"])
    with pytest.raises(SystemExit, match="alignclip is read from a file"):
        convert.main(["alignclip", f"hf-hub:me/mine@{'a' * 40}", "--as", "other"])


def same_pixels(processor, folder):
    """The converted model in a folder, if it prepares pictures as the original's processor does."""
    theirs = processor.from_pretrained(folder / "theirs")
    pixels = theirs(PICTURES, return_tensors="pt")["pixel_values"]
    ours = registry.load(f"local-dir:{folder / 'ours'}")
    torch.testing.assert_close(ours.pixels(PICTURES), pixels, **GREY_LEVEL)
    return ours


@pytest.mark.parametrize("kind", CLIPS)
def test_clip_of_transformers(tmp_path, kind):
    theirs = clip(tmp_path / "theirs", *CLIPS[kind])
    convert.convert("transformers", tmp_path / "theirs", tmp_path / "ours")
    same_embeddings(theirs, tmp_path / "ours")
    same_pixels(CLIPImageProcessor, tmp_path)
    assert (tmp_path / "ours" / "tokenizer.json").is_file() == ("own" not in kind)


@pytest.mark.parametrize("kind", SIGLIPS)
def test_siglip_of_transformers(tmp_path, kind):
    (tmp_path / "theirs").mkdir()
    theirs = siglip(tmp_path / "theirs", *SIGLIPS[kind])
    convert.convert("transformers", tmp_path / "theirs", tmp_path / "ours")
    same_embeddings(theirs, tmp_path / "ours")
    ours = same_pixels(SiglipImageProcessor, tmp_path)
    assert ours.tokenizer(["A red, circle."])[0].tolist() == [4, 5, 8] + [1] * 13
    assert ours.clip.logit_bias.item() == pytest.approx(theirs.logit_bias.item())


def test_siglip_tokenizer_needs_no_further_library(tmp_path):
    """SiglipTokenizer is read by sentencepiece; tokenizer.json says the same."""
    (tmp_path / "theirs").mkdir()
    theirs = siglip(tmp_path / "theirs")
    file = tmp_path / "theirs" / "tokenizer_config.json"
    about = json.loads(file.read_text()) | {"tokenizer_class": "SiglipTokenizer"}
    file.write_text(json.dumps(about))
    convert.convert("transformers", tmp_path / "theirs", tmp_path / "ours")
    same_embeddings(theirs, tmp_path / "ours")
    (tmp_path / "theirs" / "tokenizer.json").rename(tmp_path / "theirs" / "spiece.model")
    refuses("save it as tokenizer.json", "transformers", tmp_path / "theirs", tmp_path / "out")


@pytest.mark.parametrize(("make", "place"), [(clip, 2), (siglip, 1)])
def test_inversion_of_a_converted_model(tmp_path, make, place):
    (tmp_path / "theirs").mkdir()
    make(tmp_path / "theirs")
    convert.convert("transformers", tmp_path / "theirs", tmp_path / "ours")
    model = registry.load(f"local-dir:{tmp_path / 'ours'}")
    found = inversion.oti(model, model.encode_image(PICTURES), steps=8)
    assert (found.loss[-1] < found.loss[0]).all()
    # With a word's own token in the sentence, the search is at the text encoder's embedding.
    words = model.tokenizer(["a red star"])
    token = getattr(model.clip, "text", model.clip).token_embedding(words)[:, [place]]
    inverted = inversion.text_encoder(model, template="a {} star")(token)
    torch.testing.assert_close(inverted.float(), model.encode_text(["a red star"]), **CLOSE)


def test_weights_in_parts(tmp_path):
    theirs = clip(tmp_path / "theirs")
    whole = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    parts = {"model-1.safetensors": list(tensors)[:20], "model-2.safetensors": list(tensors)[20:]}
    for name, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, tmp_path / "theirs" / name)
    index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (tmp_path / "theirs" / "model.safetensors.index.json").write_text(json.dumps(index))
    convert.convert("transformers", tmp_path / "theirs", tmp_path / "ours")
    same_embeddings(theirs, tmp_path / "ours")
    (tmp_path / "theirs" / "model-2.safetensors").unlink()
    refuses(r"has no model-2\.safetensors", "transformers", tmp_path / "theirs", tmp_path / "out")


def edit(name: str, **changes):
    """Another value in a JSON file of a folder; None takes one away, text__x is in text."""

    def apply(folder):
        about = json.loads((folder / name).read_text())
        for key, value in changes.items():
            *above, last = key.split("__")
            inner = about[above[0]] if above else about
            inner.pop(last, None)
            if value is not None:
                inner[last] = value
        (folder / name).write_text(json.dumps(about))

    return apply


def weights(**changes):
    def apply(folder):
        tensors = change(load_file(folder / "model.safetensors"), **changes)
        save_file(tensors, folder / "model.safetensors")

    return apply


def without(*names):
    def apply(folder):
        for name in names:
            (folder / name).unlink()

    return apply


PROCESSOR = "preprocessor_config.json"


@pytest.mark.parametrize(
    ("make", "spoil", "match"),
    [
        (clip, edit("config.json", model_type="blip"), "of type 'blip': give one of type clip"),
        (clip, lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (clip, without("config.json"), "has no config.json"),
        (clip, edit("config.json", vision_config__hidden_size="x"), "config.json is not clip's"),
        (clip, edit("config.json", text_config__num_attention_heads=5), "is not clip's"),
        (clip, edit("config.json", text_config__hidden_act="gelu"), "one setting for both"),
        (clip, edit("config.json", vision_config__hidden_act="relu"), "its activation is relu"),
        (clip, edit("config.json", vision_config__num_channels=1), "with 3 channels"),
        (clip, edit("config.json", vision_config__patch_size=6), "do weights and settings"),
        (clip, edit("config.json", vision_config__image_size=48), "open_clip resizes"),
        (clip, without("model.safetensors"), "has no model.safetensors: give the folder"),
        (clip, lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "damaged"),
        (clip, weights(more=torch.ones(1)), "that transformers' CLIP has not: more"),
        (clip, weights(logit_scale=None), "not whole: .* logit_scale"),
        (
            clip,
            weights(text_model__encoder__layers__1__self_attn__k_proj__bias=None),
            r"not whole: .*transformer\.resblocks\.1\.attn\.in_proj_bias",
        ),
        (clip, without(PROCESSOR), "says how images are prepared: save the model's processor"),
        (clip, edit(PROCESSOR, resample=0), "this says something else"),
        (clip, edit(PROCESSOR, do_rescale=False), "this says something else"),
        (clip, edit(PROCESSOR, crop_size={"height": 20, "width": 20}), "the 24 pixels"),
        (clip, without("tokenizer.json"), "save the model's tokenizer there too"),
        (clip, edit("config.json", text_config__eos_token_id=[14]), "needs one eos_token_id"),
        (clip, edit("config.json", text_config__vocab_size=14), r"token_embedding\.weight gets"),
        (siglip, edit("config.json", vision_config__vision_use_head=False), "attention pooling"),
        (siglip, edit("config.json", vision_config__layer_norm_eps=1e-3), "layer_norm_eps 1e-06"),
        (
            siglip,
            edit("config.json", vision_config__num_hidden_layers=3),
            r"not whole: .*blocks\.2",
        ),
        (siglip, weights(vision_model__head__probe=None), r"attn_pool\.latent"),
        (siglip, edit(PROCESSOR, size={"height": 32, "width": 32}), "the 24 pixels"),
    ],
)
def test_what_open_clip_cannot_hold_is_refused(tmp_path, make, spoil, match):
    folder = tmp_path / "theirs"
    folder.mkdir()
    make(folder)
    spoil(folder)
    refuses(match, "transformers", folder, tmp_path / "new" / "ours")


def test_other_words_than_open_clips(tmp_path):
    """A vocabulary of CLIP's size with other words goes with its own tokenizer's files."""
    theirs = clip(tmp_path / "theirs", *CLIPS["open_clip's own tokens"])
    assert theirs.config.text_config.vocab_size == 49408
    standins.word_tokenizer(tmp_path / "theirs")
    made = formats.transformers(tmp_path / "theirs", theirs.state_dict())
    assert made.config["model_cfg"]["text_cfg"]["eos_id"] == 49407
    assert "tokenizer.json" in made.files


# Pickles ------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path):
    """A folder of open_clip whose weights are a pickle."""
    folder = standins.tiny_clip(tmp_path / "published")
    torch.save(load_file(folder / WEIGHTS), folder / PICKLE)
    (folder / WEIGHTS).rename(tmp_path / "kept.safetensors")
    return folder


@pytest.mark.parametrize("name", ["", PICKLE])
def test_pickle(published, tmp_path, name):
    digest = files.sha256_of(published / PICKLE)
    convert.convert("pickle", published / name, tmp_path / "out", digest.upper())
    kept = load_file(tmp_path / "kept.safetensors")
    assert all(torch.equal(kept[k], v) for k, v in load_file(tmp_path / "out" / WEIGHTS).items())
    shutil.copy(tmp_path / "kept.safetensors", published / WEIGHTS)
    ours, theirs = (registry.load(f"local-dir:{f}") for f in (tmp_path / "out", published))
    assert torch.equal(ours.encode_text(TEXTS), theirs.encode_text(TEXTS))
    assert torch.equal(ours.encode_image(PICTURES), theirs.encode_image(PICTURES))


def test_pickle_is_refused(published, tmp_path):
    digest = files.sha256_of(published / PICKLE)
    target = tmp_path / "out"
    refuses(rf"has the SHA-256 {digest}: .* --sha256", "pickle", published, target)
    refuses(rf"its own is {digest}", "pickle", published, target, "0" * 64)
    edit(CONFIG, model_cfg__embed_dim=16)(published)
    refuses(rf"{published}: .* do not fit each other", "pickle", published, target, digest)
    edit(CONFIG, model_cfg=None)(published)
    refuses("has no model_cfg", "pickle", published, target, digest)
    torch.save({"state_dict": Harmful(tmp_path / "run")}, published / PICKLE)
    standins.tiny_clip(published)
    digest = files.sha256_of(published / PICKLE)
    refuses("nothing else is read", "pickle", published, target, digest)
    (published / PICKLE).unlink()
    refuses(f"has no {PICKLE}", "pickle", published, target)
    (published / CONFIG).unlink()
    refuses(f"has no {CONFIG}", "pickle", published, target)


# The command --------------------------------------------------------------------------------------


def test_nothing_is_overwritten(published, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="is there already: delete it, or give another"):
        convert.convert("pickle", published, tmp_path / "mine", "0" * 64)
    refuses("There is no .*nowhere: give the path", "pickle", tmp_path / "nowhere", tmp_path / "o")


def test_places(tmp_path):
    (tmp_path / "clip.v2").mkdir()
    (file := tmp_path / "epoch_30.pt").touch()
    assert convert.place(str(tmp_path / "clip.v2"), None) == paths.CACHE / "converted" / "clip.v2"
    assert convert.place(str(file), None).name == "epoch_30"
    assert convert.place(str(tmp_path), "mine") == paths.CACHE / "converted" / "mine"
    assert convert.place(str(tmp_path), str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="cannot be the name of a folder"):
        convert.place(str(tmp_path), "..")


def test_command(published, tmp_path, capsys):
    digest = files.sha256_of(published / PICKLE)
    with pytest.raises(SystemExit, match="add it as --sha256"):
        convert.main(["pickle", str(published)])
    convert.main(["pickle", str(published), "--as", "mine", "--sha256", digest])
    assert f'registry.load("local-dir:{paths.CACHE / "converted" / "mine"}")' in (
        capsys.readouterr().out
    )


def test_command_line(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cli, "module", lambda *arguments: asked.append(arguments) or 0)
    monkeypatch.setenv("MODALITY_GAP_CALLED_FROM", "/there")
    assert set(cli.FORMATS) == set(convert.KINDS)
    assert cli.main(["--convert", "pickle", "model", "--sha256", "ab", "--as", "x/y"]) == 0
    assert cli.main(["--convert", "alignclip", "/a/epoch_30.pt", "--as", "name"]) == 0
    assert cli.main(["--convert", "transformers", "hf-hub:me/mine@abc"]) == 0
    start = "lib.encoders.convert"
    assert asked == [
        (start, "pickle", "/there/model", "--as", "/there/x/y", "--sha256", "ab"),
        (start, "alignclip", "/a/epoch_30.pt", "--as", "name"),
        (start, "transformers", "hf-hub:me/mine@abc"),
    ]
    for arguments, hint in [
        (["--convert", "alingclip", "x"], "alignclip"),
        (["--convert", "pickle"], "expected 2 arguments"),
        (["--as", "x"], "goes with --convert"),
        (["--sha256", "x"], "goes with --convert"),
    ]:
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert hint in error
        assert len(error.splitlines()) == 1
