"""The live page in a real browser: its numbers are torch's and lib's, and nothing leaves it."""

import base64
import importlib
import json

import numpy as np
import pytest

from lib import paths
from lib.data.pairs import load_pairs
from lib.encoders import registry
from lib.encoders.embeddings import embed_pairs
from lib.measures import gap, retrieval
from lib.methods import losses, standardise
from mini.world.scenes import STYLES, Scene, Thing

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # MyST-NB's, of Sphinx
]
LIVE = "document.getElementById('live').live"
ODD = ["", "a", "zebra", "A RED Star!", "red,blue;star", "a " * 60, "naïve star", "it's a star"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(params=["http", "file"])
def live(page, website, request):
    """The page, served and as a file; the test fails if a request leaves it."""
    built, served = website
    folder = f"file://{built}" if request.param == "file" else served
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size(DESK)
    page.address = f"{folder}/try.html"
    open_at(page, "")
    yield page
    strange = [url for url in asked if not url.startswith((f"{folder}/", "blob:", "data:"))]
    assert not strange and any(url.endswith("/data.js") for url in asked)


def open_at(page, fragment: str) -> None:
    page.goto("about:blank")
    page.goto(page.address + fragment)
    page.wait_for_function(f"{LIVE}?.state.picture && {LIVE}.state.row")
    page.wait_for_selector(".live .grid li")


def ask(page, *arguments):
    """An answer of the worker, arrays as lists."""
    plain = "(k, v) => ArrayBuffer.isView(v) ? [...v] : v"
    script = f"async (a) => JSON.stringify(await {LIVE}.ask(...a), {plain})"
    return json.loads(page.evaluate(script, list(arguments)))


def rgba(picture) -> str:
    """A picture as the base64 of its RGBA bytes, as a canvas has them."""
    return base64.b64encode(picture.convert("RGBA").tobytes()).decode()


def encoded(page, picture) -> list[float]:
    script = f"""async (b) => [...await {LIVE}.ask("image",
        Uint8ClampedArray.from(atob(b), (c) => c.charCodeAt(0)))]"""
    return page.evaluate(script, rgba(picture))


def test_embeddings_are_those_of_torch(live):
    model, pairs = registry.load("mini-clip"), load_pairs("world", "test", 20)
    texts = [*ODD, *(text for five in pairs["captions"][:] for text in five)]
    for text, ids in zip(texts, model.tokenizer(texts).tolist(), strict=True):
        found = ask(live, "tokens", text)
        assert found == ids[: len(found)] and not any(ids[len(found) :]), text
    script = f"(t) => Promise.all(t.map(async (s) => [...await {LIVE}.ask('text', s)]))"
    text = np.abs(live.evaluate(script, texts) - model.encode_text(texts).numpy()).max()
    pictures = pairs["image"][:]
    found = np.array([encoded(live, picture) for picture in pictures])
    image = np.abs(found - model.encode_image(pictures).numpy()).max()
    print(f"\nlargest difference from torch: text {text:.1e}, image {image:.1e}")
    assert max(text, image) < 1e-5


class Small:
    """mulberry32 with the interface of mini.world's Stream, as the page has it."""

    def __init__(self, seed: int):
        self.state = seed

    def word(self) -> int:
        mask = 0xFFFFFFFF
        self.state = t = (self.state + 0x6D2B79F5) & mask
        t = ((t ^ (t >> 15)) * (t | 1)) & mask
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & mask)) & mask
        return (t ^ (t >> 14)) & mask

    def unit(self) -> float:
        return self.word() / 2**32

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def below(self, n: int) -> int:
        return int(self.unit() * n)

    def bytes(self, n: int) -> np.ndarray:
        return np.array([self.word() & 255 for _ in range(n)], np.uint8)


def test_pictures_are_those_of_the_renderer(live):
    render = importlib.import_module("mini.world.render").render
    different = 0
    for seed in range(48):
        look = {"shape": seed % 12, "colour": seed * 5 % 12, "texture": seed // 3 % 4}
        thing = look | {"x": 24 + seed % 3, "y": 23.5, "radius": 16.5, "tilt": 0.02}
        where, style = seed % 8, seed // 12
        scene = Scene((Thing(size=1, **thing),), None, where, STYLES[style])
        want = render(scene, Small(seed)).reshape(-1, 3).astype(int)
        asked = {"things": [thing], "background": where, "style": style}
        found = np.array(ask(live, "pixels", asked, seed)).reshape(-1, 4)[:, :3]
        assert np.abs(found - want).max() <= 1
        different += (found != want).sum()
    assert different < 10  # of 331,776 bytes: rounding in float32 here, in float64 there


def rows(page, website, source: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and captions (n, d) as a data script holds them."""
    text = (website[0] / "live" / f"{source}.js").read_text()
    part = json.loads(text[text.index("=", text.index(")")) + 1 : -2])
    content, found = base64.b64decode(part["blob"]), []
    for which in ("image", "text"):
        _, shape, start = part["tensors"][f"{name}.{which}"]
        n = int(np.prod(shape))
        found.append(np.frombuffer(content, np.float16, n, start).reshape(shape))
    return tuple(each.astype(np.float32) for each in found)


def moved(x, y, way: str, t: float):
    if way == "shift":
        return standardise.shift(x, y, t / 2, unit=False)
    fitted = standardise.Standardiser.fit(x, y)
    return fitted.image(x), fitted.text(y)


def by_lib(x, y, scale: float) -> dict[str, float]:
    hits = retrieval.recall(x, y, ks=(1,))
    return {
        "distance": gap.centroid_distance(x, y),
        "i2t": hits.i2t[1].mean(),
        "t2i": hits.t2i[1].mean(),
        "loss": float(losses.clip_loss(x, y, scale)),
        "cosine": gap.alignment(x, y),
    }


STEPS = [("shift", 0, 100), ("shift", 0.5, 100), ("shift", 1, 30), ("shift", -0.3, 100)]
STEPS += [("shift", 1.5, 10), ("post", 1, 100)]
ROUNDING = {"distance": 1e-5, "i2t": 0.0021, "t2i": 0.0021, "loss": 2e-4, "cosine": 1e-5}


@pytest.mark.parametrize("source, name", [("data", "pairs"), ("real", "real")])
def test_measures_are_those_of_lib(live, website, source, name):
    if not (website[0] / "live" / f"{source}.js").is_file():
        pytest.skip("the published embeddings are not here (MODALITY_GAP_DATA)")
    x, y = rows(live, website, source, name)
    live.evaluate(f"async (s) => {{ await {LIVE}.page.more(s); }}", source)
    size = ask(live, "pairs", name, source, len(x))
    assert size == pytest.approx(gap.centroid_distance(x, y), abs=1e-5)
    for way, t, scale in STEPS:
        want = by_lib(*moved(x, y, way, t), scale)
        found = ask(live, "measure", name, way, t, scale)
        for key, value in want.items():
            assert found[key] == pytest.approx(value, abs=ROUNDING[key]), (way, t, key)
    half = ask(live, "equal", name, 0.5, 100)
    for way in ("shift", "post"):
        assert half[way]["distance"] == pytest.approx(size / 2, abs=1e-5)
    cosines = np.asarray(moved(x, y, "post", 1)[0] @ moved(x, y, "post", 1)[1].T)
    for i in (0, 7, 100):
        found = ask(live, "found", name, "post", 1, i)
        assert found["best"] == cosines[i].argmax()
        assert found["rank"] == 1 + (cosines[i] > cosines[i, i]).sum()


def test_half_precision_leaves_the_numbers_as_they_are(live):
    model, pairs = registry.load("mini-clip"), load_pairs("world", "test", 1000)
    want = by_lib(*embed_pairs(model, pairs, 3), 100)
    live.wait_for_function("document.querySelector('.live .was').textContent")
    found = ask(live, "measure", "pairs", "shift", 0, 100)
    for key, value in want.items():
        assert found[key] == pytest.approx(value, abs=2e-3), key


def test_a_reader_searches_composes_and_closes_the_gap(live):
    live.fill(".live .caption", "something on a brick wall")
    live.wait_for_function("document.querySelectorAll('.live .grid .right').length > 12")
    live.fill(".live .caption", "a zebra")
    live.wait_for_selector(".live .tag.unknown >> text=zebra")
    live.click(".live .grid button >> nth=3")
    first = "document.querySelector('.live .grid .picture').getAttribute('aria-label')"
    live.wait_for_function(f"{first} === document.querySelector('.live .caption').value")

    before = live.evaluate(f"[...{LIVE}.state.picture]")
    live.locator(".live .easel").scroll_into_view_if_needed()
    box = live.locator(".live .easel").bounding_box()
    live.mouse.move(box["x"] + 30, box["y"] + 30)
    live.mouse.down()
    live.mouse.move(box["x"] + 150, box["y"] + 150, steps=5)
    live.mouse.up()
    live.wait_for_function(f"(b) => {LIVE}.state.picture.some((v, i) => v !== b[i])", arg=before)
    live.click(".live button[title=star]")
    live.click(".live button[title=pink]")
    live.wait_for_selector(".live .bars .right >> text=a pink star on the water")
    live.click("text=Wipe off the strokes")
    live.wait_for_function(f"{LIVE}.state.strokes.length === 0")

    live.click(".live button >> text=close it")
    value = "document.querySelector('.live [data-subject=pairs] .metrics dd').textContent"
    live.wait_for_function(f"{LIVE}.state.amount === 1 && Number({value}) < 0.05", timeout=60_000)
    assert len(live.workers) == 2  # nothing is computed where the page would wait for it


def test_the_trained_temperature_sets_the_gap(live):
    live.locator(".live section").nth(4).scroll_into_view_if_needed()
    live.wait_for_selector(".live [data-role=t1]")
    found = {}
    for role in ("t1", "t100"):
        live.click(f".live [data-role={role}]")
        section = "document.querySelectorAll('.live section')[4].measured"
        live.wait_for_function(f"(r) => {section}?.role === r", arg=role, timeout=60_000)
        found[role] = live.evaluate(section)["distance"]
        model, pairs = registry.load(f"mini-clip-{role}"), load_pairs("world", "test", 500)
        want = gap.centroid_distance(*embed_pairs(model, pairs, 3))
        assert found[role] == pytest.approx(want, abs=1e-3)
    assert found["t1"] < found["t100"] / 5


def test_an_address_restores_what_was_set(live):
    live.fill(".live .caption", "a ring & a star = 2")
    live.click(".live button[title=star]")
    live.focus(".live .easel")
    live.keyboard.press("ArrowLeft")
    live.keyboard.press("Space")
    live.click(".live [data-way=post]")
    live.locator("#live-left").fill("0.4")
    live.locator("#live-pairs-pair").fill("17")
    live.wait_for_function("location.hash.includes('pair=17')")
    kept = "caption scene grain strokes tab own scale way amount left turn pair photo trained"
    state = f"JSON.stringify('{kept}'.split(' ').map((k) => [k, {LIVE}.state[k]]))"
    before, fragment = live.evaluate(state), live.evaluate("location.hash")
    open_at(live, fragment)
    assert live.evaluate(state) == before and "a ring & a star = 2" in before
    assert live.input_value(".live .caption") == "a ring & a star = 2"
    open_at(live, "#amount=9&way=no&scene=x&strokes=%F0&pair=0&scale=abc&turn=")
    found = dict(json.loads(live.evaluate(state)))
    assert (found["amount"], found["way"], found["strokes"], found["pair"]) == (0, "shift", [], 1)


def test_clouds_and_brush_obey_the_keyboard(live):
    canvas = live.locator(".live [data-subject=pairs] .cloud")
    canvas.focus()
    before = live.evaluate(f"{LIVE}.state.turn")
    for _ in range(3):
        live.keyboard.press("ArrowRight")
    assert live.evaluate(f"{LIVE}.state.turn") == pytest.approx(before + 0.3)
    turned = round(np.degrees(before + 0.3))
    live.wait_for_selector(f".live .cloud[aria-valuenow='{turned}']")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert live.evaluate(outline) == "solid"
    assert "centroid distance" in canvas.get_attribute("aria-valuetext")
    live.focus(".live .easel")
    for key in ("ArrowUp", "ArrowUp", "Space"):
        live.keyboard.press(key)
    assert live.evaluate(f"{LIVE}.state.strokes.length") == 1
    silent = """[...document.querySelectorAll('.live canvas, .live input, .live textarea')].filter(
        (e) => !e.ariaHidden && !e.getAttribute('aria-label') && !e.labels?.length)"""
    live.wait_for_function(f"{silent}.length === 0")


def test_nothing_moves_where_motion_is_not_wanted(live):
    live.emulate_media(reduced_motion="reduce")
    live.click(".live button >> text=close it")
    live.wait_for_timeout(100)
    assert live.evaluate(f"{LIVE}.state.amount") == 1
    live.fill(".live .caption", "a ring at night")
    live.wait_for_function("document.querySelector('.live .said').textContent.includes('ring')")
    moving = "document.getElementById('live').getAnimations({ subtree: true }).length"
    assert live.evaluate(moving) == 0


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["390", "1280"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_every_screen_in_both_themes(live, size, theme):
    live.set_viewport_size(size)
    live.emulate_media(color_scheme=theme)
    for section in live.locator(".live section").all():
        section.scroll_into_view_if_needed()
    live.wait_for_selector(".live [data-role=t1]")
    assert live.evaluate("document.documentElement.scrollWidth") <= size["width"]
    live.wait_for_function("document.querySelector('.live [data-subject=pairs] .was').textContent")
    ground = "getComputedStyle(document.querySelector('.live')).getPropertyValue('--page')"
    assert live.evaluate(ground).strip() == ("#161616" if theme == "dark" else "#ffffff")
    name = f"live-{size['width']}-{theme}.png"
    live.screenshot(path=paths.CACHE / "screenshots" / name, full_page=True)
