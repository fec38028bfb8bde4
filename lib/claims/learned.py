"""What was learned: sentences, and the numbers of the record that each rests on."""

from pathlib import Path

import yaml

from lib.claims import evidence

SENTENCES = Path(__file__).with_suffix(".yaml")


def read(record: list[dict]) -> list[dict]:
    """The sentences of `learned.yaml`: title, unit, `said` with a place for each number, `numbers`.

    A number has the `estimate`, and `value`, `low` and `high` of it, and the finding's verdict and
    item, beside what the file says of it (about, claim, source).

    Args: `record`, findings as `evidence.read` gives them.
    Raises: ValueError if it lacks a number, which is named.
    """
    sentences = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    for sentence in sentences:
        sentence["numbers"] = [_looked_up(number, record) for number in sentence["numbers"]]
    return sentences


def _looked_up(number: dict, record: list[dict]) -> dict:
    """A number with its estimate; the first finding on a claim is that of the main model."""
    wanted = {"aspect": ""} | {k: v for k, v in number.items() if k not in ("about", "name")}
    finding = next((f for f in record if all(f[k] == v for k, v in wanted.items())), None)
    found = evidence.quoted(finding) if finding else {}
    if (name := number.get("name", "")) not in found:
        raise ValueError(f"The record has no {name or 'number'} of {wanted}.")
    e = found[name]
    about = {key: number[key] for key in ("about", "claim", "source")}
    about |= {"verdict": finding["verdict"], "item": finding["item"]}
    return about | {"value": e.value, "low": e.low, "high": e.high, "estimate": e}
