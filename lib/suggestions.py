"""A name that does not exist, and the ones that may have been meant."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, valid: Iterable[str]) -> str:
    """One sentence: there is no such `kind`, and the nearest valid names (or all, if few)."""
    valid = [str(other) for other in valid]
    near = nearest(str(name), valid)
    if near:
        hint = f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}"
    elif valid:
        hint = f"choose from {', '.join(valid)}" if len(valid) <= 8 else f"for example {valid[0]}"
    else:
        hint = "there are none yet"
    return f"There is no {kind} {str(name)!r}; {hint}."


def nearest(name: str, valid: Iterable[str], n: int = 3) -> list[str]:
    """The `n` names most like `name`, best first; the beginning of a longer name counts as well."""

    def likeness(other: str) -> float:
        whole, start = other.lower(), other.lower()[: len(name)]
        return max(_ratio(name.lower(), whole), 0.99 * _ratio(name.lower(), start))

    ranked = sorted(((likeness(other), other) for other in valid), key=lambda pair: -pair[0])
    return [other for score, other in ranked[:n] if score >= 0.5]


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
