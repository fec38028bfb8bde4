"""The greedy search for a hub text, on worths that are known."""

import itertools

import numpy as np
import pytest
from datasets import Dataset

from lib.data import judgements
from lib.methods import hub_text

WORDS = ["", "a", "b", "c"]


def test_the_best_text_is_found_where_words_count_alone():
    value = {"a": 1.0, "b": 3.0, "c": -2.0, "d": 0.5}

    def worth(texts):
        assert all(texts), "an empty text cannot be encoded"
        return np.array([sum(value[w] for w in text.split()) for text in texts])

    found = hub_text.exchanged("c d a", WORDS, worth)
    every = [" ".join(filter(None, some)) for some in itertools.product([*WORDS, "d"], repeat=3)]
    assert worth([found])[0] == max(worth([text])[0] for text in every if text)


@pytest.mark.parametrize("seed", range(5))
def test_no_single_exchange_improves_what_is_found(seed):
    known = {}
    rng = np.random.default_rng(seed)

    def worth(texts):
        return np.array([known.setdefault(text, rng.random()) for text in texts])

    start = "a b c"
    found = hub_text.exchanged(start, WORDS, worth, sweeps=50)
    words = found.split()
    others = [
        " ".join(filter(None, [*words[:k], word, *words[k + 1 :]]))
        for k in range(len(words))
        for word in WORDS
    ]
    best = worth([found])[0]
    assert best >= worth([start])[0] and all(best >= worth([o])[0] for o in others if o)


def test_a_start_that_is_best_stays_and_words_can_be_left_out():
    assert (
        hub_text.exchanged("b a", WORDS, lambda t: np.array([x == "b a" for x in t]) * 1.0) == "b a"
    )
    assert hub_text.exchanged("b a", WORDS, lambda t: np.array([-len(x) for x in t])) in {
        "a",
        "b",
        "c",
    }
    with pytest.raises(ValueError, match="at least one word"):
        hub_text.exchanged(" ", WORDS, len)


def test_one_judged_caption_of_each_image_gets_the_lowest_rating():
    ratings = [[3.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [2.0, 4.0]]
    judged = Dataset.from_dict({"image_id": ["b", "a", "b", "a", "b"], "ratings": ratings})
    drawn = {tuple(judgements.one_exchanged(judged, seed)[0]) for seed in range(40)}
    assert drawn == set(itertools.product([1, 3], [0, 2, 4]))  # images by their ids
    rows, lowered = judgements.one_exchanged(judged)
    for k in range(5):
        assert lowered["ratings"][k] == ([1.0, 1.0] if k in rows else ratings[k])
    assert judged["ratings"][:] == ratings
