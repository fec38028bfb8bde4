"""The live page's scripts: its sources, and the data that they compute with.

`write` puts the sources of `docs/live/` and three data scripts into a folder of the site. Data are
scripts because a page that is opened as a file may load scripts and nothing else. `data.js` holds
mini-clip, pictures, pairs and words; `temperature.js` pairs as the models trained at six
temperatures see them; `real.js` published CLIP embeddings, where they are available.
"""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from lib import profiles
from lib.data import pairs as image_captions
from lib.data import published
from lib.encoders import registry
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import embed_pairs
from mini import world
from mini.world import scenes
from mini.world.captions import _RELATION, MEDIA, PLACES, SYNONYMS
from mini.world.render import _RGB

SOURCES = Path(__file__).with_name("live")
# In this order: each uses those before it.
SCRIPTS = ("clip.js", "world.js", "gap.js", "answers.js", "charts.js", "search.js", "compose.js")
SCRIPTS += ("close.js", "live.js")
MODEL = "mini-clip"
TEMPERATURES = ("t1", "t10", "t20", "t30", "t50", "t100")  # roles of profile mini
N_PAIRS, N_FEWER, N_PICTURES = 1_000, 500, 200  # of mini-clip, of the others, to be looked at
COLUMNS = 20  # of the sheet of pictures


def write(folder: Path) -> list[str]:
    """Put sources and data into a folder; names of the data scripts besides `data.js`."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES.iterdir():
        shutil.copy(source, folder)
    found = parts()
    for name, part in found.items():
        (folder / f"{name}.js").write_text(script(name, part), encoding="utf-8")
    return [name for name in found if name != "data"]


def parts() -> dict[str, dict]:
    """Name -> data, of those that this machine has. Raises: NotAvailable without MODEL."""
    found = {"data": model(), "temperature": temperatures(), "real": real_pairs()}
    return {name: part for name, part in found.items() if part}


def script(name: str, part: dict) -> str:
    text = json.dumps(part, separators=(",", ":"), ensure_ascii=True)
    return f"(globalThis.LIVE_DATA ??= {{}}).{name}={text};\n"


def packed(arrays: dict[str, np.ndarray]) -> dict:
    """Arrays as one base64 text, and name -> [kind, shape, place of its first byte].

    Kinds are f16, f32 and u8; every array begins at a multiple of four bytes.
    """
    content, index = bytearray(), {}
    for name, array in arrays.items():
        kind = {"float16": "f16", "float32": "f32", "uint8": "u8"}[array.dtype.name]
        content += bytes(-len(content) % 4)
        index[name] = [kind, list(array.shape), len(content)]
        content += np.ascontiguousarray(array).tobytes()
    return {"tensors": index, "blob": base64.b64encode(content).decode()}


def model() -> dict:
    """Mini-clip's weights and words, the world's words, test pairs, and a sheet of pictures."""
    folder = registry.folder(MODEL)
    config = json.loads((folder / registry.CONFIG).read_text(encoding="utf-8"))
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    clip, pairs = registry.load(MODEL), image_captions.load_pairs("world", "test", N_PAIRS)
    which = profiles.load(profiles.FULL).query_caption
    weights = load_file(folder / registry.WEIGHTS)
    arrays = {name: np.atleast_1d(w.astype(np.float16)) for name, w in weights.items()}
    arrays |= _halves("pairs", embed_pairs(clip, pairs, which))
    arrays["sheet"] = sheet(pairs[:N_PICTURES]["image"])
    return packed(arrays) | {
        "name": MODEL,
        "config": config,
        "scale": clip.logit_scale,
        "parameters": _recipe(MODEL)["parameters"],
        "vocabulary": sorted(tokens, key=tokens.get),
        "world": words(),
        "captions": [texts[which] for texts in pairs["captions"][:]],
        "scenes": [scene(i) for i in range(N_PICTURES)],
        "columns": COLUMNS,
    }


def temperatures() -> dict | None:
    """Fewer of the pairs, as the models see them that were trained at a temperature each.

    None where a model is not there: a student's zip has none of them.
    """
    p = profiles.load(profiles.FULL)
    try:
        models = {role: registry.load(p.models[role]) for role in TEMPERATURES}
    except NotAvailable:
        return None
    pairs = image_captions.load_pairs("world", "test", N_FEWER)
    arrays, scales, steps = {}, {}, set()
    for role, one in models.items():
        arrays |= _halves(role, embed_pairs(one, pairs, p.query_caption))
        scales[role] = one.logit_scale
        steps.add(_recipe(one.name)["recipe"]["steps"])
    captions = [texts[p.query_caption] for texts in pairs["captions"][:]]
    (steps,) = steps  # the same for all
    return packed(arrays) | {"scales": scales, "steps": steps, "captions": captions}


def real_pairs() -> dict | None:
    """The published CLIP pairs and their human captions; None where they are not available."""
    try:
        both = published.published_embeddings("clip")
        captions = published.published_captions(len(both.image))
    except NotAvailable:
        return None
    arrays = _halves("real", (both.image, both.first()))
    # The text that was encoded is the last caption of each image.
    return packed(arrays) | {"captions": [texts[-1] for texts in captions]}


def _recipe(name: str) -> dict:
    return json.loads((registry.folder(name) / "recipe.json").read_text(encoding="utf-8"))


def _halves(name: str, both: tuple) -> dict[str, np.ndarray]:
    image, text = (np.asarray(z).astype(np.float16) for z in both)
    return {f"{name}.image": image, f"{name}.text": text}


def sheet(pictures: list[Image.Image]) -> np.ndarray:
    """The pictures side by side, COLUMNS in a row, as the bytes of a lossless WebP."""
    n = scenes.RESOLUTION
    whole = Image.new("RGB", (COLUMNS * n, -(-len(pictures) // COLUMNS) * n))
    for i, picture in enumerate(pictures):
        whole.paste(picture, (i % COLUMNS * n, i // COLUMNS * n))
    out = io.BytesIO()
    whole.save(out, "WEBP", lossless=True, quality=100, method=4)
    return np.frombuffer(out.getvalue(), np.uint8)


def scene(i: int) -> dict:
    """What test picture `i` shows, as indices into the lists of `words`."""
    number, _, options = world.SPLITS["test"]
    drawn, _ = world.scene_and_stream(number, i, options)
    return {
        "things": [[t.shape, t.colour, t.texture, t.size] for t in drawn.things],
        "relation": drawn.relation,
        "background": drawn.background,
        "style": scenes.STYLES.index(drawn.style),
    }


def words() -> dict:
    """The world's tables that the browser's renderer and its reader of captions need."""
    return {
        "shapes": scenes.SHAPES,
        "colours": scenes.COLOURS,
        "textures": scenes.TEXTURES,
        "sizes": scenes.SIZES,
        "backgrounds": scenes.BACKGROUNDS,
        "styles": scenes.STYLES,
        "relations": scenes.RELATIONS,
        "synonyms": SYNONYMS,
        "places": PLACES,
        "media": {style: MEDIA[style] for style in scenes.STYLES},
        "relation": _RELATION,
        "rgb": [_RGB[colour] for colour in scenes.COLOURS],
        "unseen": sorted(scenes.HELD_OUT),
        "radius": scenes.RADIUS,
        "resolution": scenes.RESOLUTION,
    }
