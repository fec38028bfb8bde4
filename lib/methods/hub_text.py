"""Hub texts: a single text that scores high with many images at once."""

from collections.abc import Callable, Sequence

import numpy as np


def exchanged(
    text: str, words: Sequence[str], worth: Callable[[list[str]], np.ndarray], sweeps: int = 2
) -> str:
    """A text of greater worth, found by exchanging one word at a time.

    From the first word to the last, each is replaced by the one of `words` that makes the text
    worth most ("" leaves it out), if that is more than before. Up to `sweeps` such passes are made,
    until one changes nothing. `worth` gives a number for each of several texts. A greedy local
    search after Deguchi et al. (arXiv 2604.27674) section 3, with a beam of one.

    Raises: ValueError for a text without a word.
    """
    now = text.split()
    if not now:
        raise ValueError("The search begins with a text of at least one word.")
    best = float(worth([text])[0])
    for _ in range(sweeps):
        before = best
        for k in range(len(now)):
            tries = [[*now[:k], word, *now[k + 1 :]] for word in words]
            tries = [one for one in tries if any(one)]
            values = worth([" ".join(filter(None, one)) for one in tries])
            if values.max() > best:
                best, now = float(values.max()), tries[int(values.argmax())]
        if best == before:
            break
    return " ".join(filter(None, now))
