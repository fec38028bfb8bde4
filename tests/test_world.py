import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from mini import world
from mini.world.captions import SYNONYMS, captions, vocabulary
from mini.world.render import render
from mini.world.scenes import HELD_OUT, Scene, Stream, Thing, sample_scene

# SHA-256 over pixels, captions and long captions of the first twelve scenes of a split. Raise
# world.VERSION when these change on purpose: every model and figure depends on them.
HASHES = {
    "train": "7160a8f8e82219bd56c8e047fac964f41a503c4d1f59bf2d729e012c23727ff6",
    "test": "b257777905a2ccd89fbcd137e941d9c9f37faa9d797ab8a34b010a43843ed7a3",
    "heldout": "b26e23a44ad1bbbebf34b94ff0cee25773fca2a91058a80ff5fa9c4f16d8a26f",
    "labelled rendition": "5f3b68e7c729fece1dc2a4abf3e59c07eefb64951dfdc251b85a267a22cb1b24",
    "labelled hard": "84a06df79a725bc3690e5ba2e5a0b03543a470873d45162880e154b827158d59",
    "labelled ink": "82ebe36293e69a2cb4124086c96f8669bd8dceb91eec895c304f225c352a9811",
}


ALL = world.SPLITS | {f"labelled {k}": v for k, v in world.LABELLED_SPLITS.items()}


def drawn(split, n=12):
    number, _, options = ALL[split]
    return [world.scene_and_stream(number, i, options) for i in range(n)]


def fingerprint(split):
    digest = hashlib.sha256()
    for scene, draw in drawn(split):
        digest.update(render(scene, draw).tobytes())
        for text in [*captions(scene, draw), world.long_caption(scene, draw)]:
            digest.update(text.encode())
    return digest.hexdigest()


@pytest.mark.parametrize("split", HASHES)
def test_the_same_bytes_on_every_machine(split):
    assert fingerprint(split) == HASHES[split]


def test_scenes_of_different_splits_differ():
    assert len({fingerprint(split) for split in ALL}) == len(ALL)


def test_a_split_is_a_prefix_of_itself():
    short, longer = world.pairs("test", 3), world.pairs("test", 6)
    for column in ("image_id", "captions", "long_caption", "shape"):
        assert short[column][:] == longer[column][:3]
    assert np.array_equal(short[2]["image"], longer[2]["image"])


def test_the_stream_is_uniform_and_its_own():
    draw = Stream(3, 4)
    values = np.array([draw.unit() for _ in range(4000)])
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 0.03 and abs(values.var() - 1 / 12) < 0.01
    assert Stream(3, 4).unit() == values[0] != Stream(3, 5).unit()
    bells = np.array([draw.bell() for _ in range(4000)])
    assert abs(bells.mean()) < 0.06 and abs(bells.std() - 1) < 0.05
    assert sorted(Stream(1).shuffled(range(9))) == list(range(9))
    assert len(Stream(1).bytes(13)) == 13


@pytest.mark.parametrize("shape", range(12))
def test_every_shape_is_seen_and_is_its_own(shape):
    def silhouette(s):
        scene = Scene((Thing(s, 0, 0, 2, radius=19.0),), None, 0, "flat")
        image = render(scene, Stream(0)).astype(int)
        return image[..., 0] - image[..., 1] > 80  # red on grey

    mine = silhouette(shape)
    assert 0.04 < mine.mean() < 0.6
    for other in range(12):
        if other != shape:
            theirs = silhouette(other)
            assert (mine & theirs).sum() < 0.93 * (mine | theirs).sum()


def test_held_out_combinations_are_in_the_held_out_split_alone():
    for split in ("train", "test", "heldout"):
        for scene, _ in drawn(split, 200):
            main, *others = [(t.shape, t.colour) for t in scene.things]
            assert (main in HELD_OUT) == (split == "heldout")
            assert not set(others) & HELD_OUT


def test_scenes_have_one_to_three_different_shapes_inside_the_picture():
    counts = set()
    for scene, _ in drawn("train", 300):
        shapes = [t.shape for t in scene.things]
        counts.add(len(shapes))
        assert len(set(shapes)) == len(shapes)
        assert (scene.relation is None) == (len(shapes) == 1)
        assert all(8 < t.x < 40 and 8 < t.y < 40 for t in scene.things)
    assert counts == {1, 2, 3}


def test_relations_hold():
    for scene, _ in drawn("train", 300):
        if scene.relation is not None:
            a, b = scene.things[:2]
            right = {0: a.x > b.x, 1: a.x < b.x, 2: a.y < b.y, 3: a.y > b.y}
            assert right[scene.relation]


def test_captions_name_what_is_there():
    known = set(vocabulary())
    synonyms = SYNONYMS
    for scene, draw in drawn("val", 150):
        five, long = captions(scene, draw), world.long_caption(scene, draw)
        assert len(five) == 5 and len(long.split()) >= 60
        assert known.issuperset(w for text in [*five, long] for w in text.split())
        assert max(len(text.split()) for text in five) <= 30
        main = scene.things[0]
        for attribute, names in (("shape", world.SHAPES), ("colour", world.COLOURS)):
            words = synonyms[names[getattr(main, attribute)]]
            for text in [*five, long]:
                assert any(w in text.split() for w in words)
        for text in five[3:]:
            assert any(w in text.split() for w in synonyms[world.TEXTURES[main.texture]])


def test_label_sets_reach_from_four_to_hundreds_of_classes():
    sizes = {name: len(world.class_names(name)) for name in world.LABEL_SETS}
    assert min(sizes.values()) == 4 and max(sizes.values()) == 480
    assert sum(size >= 10 for size in sizes.values()) >= 5
    for name in world.LABEL_SETS:
        names, templates = world.prompts(name)
        assert len(names) == sizes[name] == len(set(names))
        assert all(t.count("{}") == 1 for t in templates)
        words = {w for n in names for t in templates for w in t.format(n).split()}
        assert words <= set(vocabulary())


def test_labels_are_those_of_the_scene():
    number, _, options = world.LABELLED_SPLITS["test"]
    rows = world.labelled("shape-colour", "test", 20)
    names = rows.features["label"].names
    for i, label in enumerate(rows["label"]):
        thing = sample_scene(Stream(world.VERSION, number, i), **options).things[0]
        assert names[label] == f"{world.COLOURS[thing.colour]} {world.SHAPES[thing.shape]}"


@pytest.mark.parametrize("kind, best", [("expert", 4.0), ("cf", 1.0)])
def test_judgements_follow_the_number_of_right_attributes(kind, best):
    rows = world.judgements(kind, 60).to_pandas()
    assert (rows.groupby("image_id").right.apply(sorted).map(tuple) == (0, 1, 2, 3, 4)).all()
    means = rows.groupby("right").rating.mean()
    assert means.is_monotonic_increasing and means.max() <= best
    assert rows.groupby("right").rating.std().max() > 0  # raters differ
    assert np.allclose([np.mean(r) for r in rows.ratings], rows.rating)


def test_pictures_come_as_png_with_the_pixels_drawn():
    row = world.pairs("val", 1)[0]
    scene, draw = drawn("val", 1)[0]
    assert np.array_equal(np.asarray(row["image"]), render(scene, draw))
    encoded = world.png(np.zeros((48, 48, 3), np.uint8))["bytes"]
    assert Image.open(io.BytesIO(encoded)).size == (48, 48)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: world.pairs("tset"), "test"),
        (lambda: world.pairs("test", 2000), "1000"),
        (lambda: world.pairs("test", 0), "ask for 1"),
        (lambda: world.labelled("shapes", "test"), "shape"),
        (lambda: world.labelled("shape-colour", "heldout"), "held-out"),
        (lambda: world.labelled("style", "ink"), "style"),
        (lambda: world.judgements("experts"), "expert"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(call, words):
    with pytest.raises(ValueError, match=words):
        call()
