"""Made-up submissions of problem set 5, and the points that each test cell must give them."""

import hashlib
import json

FULL = {
    "q1_test": 2,
    "q2_test": 4,
    "q3_test": 3,
    "q4_test": 3,
    "q5_test": 3,
    "q7_test": 3,
}


def without(*questions):
    """The points of a submission that fails these questions."""
    return FULL | {f"{q}_test": 0 for q in questions}


CLAIM = {
    "id": "alignclip-9",
    "where": "Table 5",
    "sentence": "One transformer for both modalities finds more of the right captions than two do.",
}
RULE = {
    "claim": "alignclip-9",
    "measure": "I2T R@1",
    "captions": "short",
    "side": "above",
    "bound": 0.0,
    "level": 0.95,
    "resamples": 1000,
    "unit": "test image",
    "control": "The same difference with full captions and from text to image.",
    "change": "An interval below 0 with other training seeds as well.",
}
RESULT = """
before, after, draws = run(rule)
value, low, high = paired_interval(before, after, draws, rule["level"])
word = verdict(rule, low, high)
result = {"seal": "SEAL", "value": value, "low": low, "high": high, "verdict": word}
"""


def seal(rule):
    return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:12]


def chosen(stated=CLAIM, sealed=None, result=RESULT, **changes):
    """Answers to questions 1, 2 and 5: a claim, RULE with changes, and the seal typed in."""
    rule = {key: value for key, value in (RULE | changes).items() if value is not None}
    return {
        "q1": f"claim = {stated!r}",
        "q2": f"rule = {rule!r}",
        "q5": result.replace("SEAL", sealed or seal(rule)),
    }


def about(claim_id, where, sentence, **changes):
    """The same for another claim of the menu."""
    return chosen({"id": claim_id, "where": where, "sentence": sentence}, claim=claim_id, **changes)


TEMPERATURE = about(
    "mind_the_gap-11",
    "Fig. 8",
    "Fine-tuning at ten times the temperature leaves a smaller gap between the modalities.",
    measure="centroid distance",
    side="below",
    bound=-0.1,
)
POST = about(
    "i0t-7",
    "Tables 2 and 7",
    "Taking the mean of its modality from every embedding costs next to no retrieval.",
    captions="full",
    bound=-0.02,
    level=0.9,
)
SHIFT = about(
    "alignclip-12",
    "App. A.1, Fig. 7",
    "Moving images and captions towards each other after training makes retrieval worse.",
    measure="T2I R@1",
    side="below",
    resamples=2000,
)
OTI = about(
    "cross_the_gap-1",
    "Sect. 5.1, Table 1",
    "A text found for the query image ranks its class higher than the image itself does.",
    measure="image mAP",
)
FOUND = {2: "rule changed", 5: "fitted on the test", 7: "wrong unit", 10: "one-sided reading"}

NUMPY = chosen() | {
    "q3": """
def paired_interval(before, after, draws, level):
    d = np.array([after(row) - before(row) for row in draws])
    every = np.arange(draws.shape[1])
    tail = (1 - level) / 2
    return np.array([after(every) - before(every), *np.quantile(d, [tail, 1 - tail])])
""",
    "q4": """
def verdict(rule, low, high):
    if np.isnan([low, high]).any():
        return "not testable here"
    margins = np.array([low, high]) - rule["bound"]
    if rule["side"] == "below":
        margins = -margins
    if (margins > 0).all():
        return "reproduced"
    return "not reproduced" if (margins < 0).all() else "inconclusive"
""",
    "q7": f"flaws = {FOUND!r}",
}
LOOPS = TEMPERATURE | {
    "q3": """
def quantile(values, q):
    ordered, place = sorted(values), q * (len(values) - 1)
    k = min(int(place), len(values) - 2)
    return ordered[k] + (place - k) * (ordered[k + 1] - ordered[k])


def paired_interval(before, after, draws, level):
    differences = []
    for row in draws:
        differences.append(float(after(row)) - float(before(row)))
    items = list(range(len(draws[0])))
    ends = [quantile(differences, q) for q in ((1 - level) / 2, (1 + level) / 2)]
    return [after(items) - before(items)] + ends
""",
    "q4": """
def verdict(rule, low, high):
    if low != low or high != high:
        return "not testable here"
    words = ["reproduced", "not reproduced"]
    if rule["side"] == "below":
        words.reverse()
    if low > rule["bound"]:
        return words[0]
    if high < rule["bound"]:
        return words[1]
    return "inconclusive"
""",
    "q7": f"flaws = dict({list(FOUND.items())!r})",
}
TORCH = POST | {
    "q3": """
def paired_interval(before, after, draws, level):
    every = np.arange(draws.shape[1])
    d = torch.tensor([after(row) - before(row) for row in [every, *draws]], dtype=torch.float64)
    tail = (1 - level) / 2
    ends = torch.quantile(d[1:], torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return d[0], *ends
""",
}


def verdict(body):
    """An answer to question 4."""
    return {"q4": f"def verdict(rule, low, high):\n{body}"}


def interval(body):
    """An answer to question 3; `every` has all items."""
    head = "def paired_interval(before, after, draws, level):\n    every = range(draws.shape[1])\n"
    return {"q3": head + body}


SPARE = """
before, after, draws = run(rule)
e = bootstrap.interval(lambda i: after(i) - before(i), 500)
word = verdicts.judge([verdicts.above("", e)])
result = {"seal": "SEAL", "value": e.value, "low": e.low, "high": e.high, "verdict": word}
"""
TAIL = "    value = after(every) - before(every)\n    tail = (1 - level) / 2\n"
SUBMISSIONS = {
    "numpy": (NUMPY, FULL),
    "loops": (LOOPS, FULL),
    "torch": (TORCH, FULL),
    "shift": (NUMPY | SHIFT, FULL),
    "oti": (NUMPY | OTI, FULL),
    "master": ({}, FULL),
    "empty": (None, dict.fromkeys(FULL, 0)),
    "hard_coded": (  # the form alone, and the visible numbers
        chosen(
            CLAIM | {"where": "somewhere"},
            side="below",
            result='result = {"seal": "SEAL", "value": 0.1, "low": 0.0, "high": 0.2, '
            '"verdict": "reproduced"}',
        )
        | interval("    return 0.25, 0.0, 0.5")
        | verdict(
            "    known = {0.05: 1, -0.01: 0, 0.01: 1}\n"
            '    if low == -0.01 and rule["bound"] == 0.0:\n'
            '        return "inconclusive"\n'
            "    if low != low:\n"
            '        return "not testable here"\n'
            '    right = known[high] == (rule["side"] == "above")\n'
            '    return "reproduced" if right else "not reproduced"\n'
        )
        | {"q7": "flaws = dict.fromkeys([1, 3, 4, 6], 'not paired')"},
        dict.fromkeys(FULL, 0),
    ),
    "copied_claim": (
        chosen(
            CLAIM
            | {
                "sentence": "SharedCLIP and AlignCLIP both beat CLIP on MSCOCO and Flickr30K "
                "retrieval, zero-shot and fine-tuned."
            }
        ),
        without("q1"),
    ),
    "two_sentences": (
        chosen(CLAIM | {"sentence": "SharedCLIP has one transformer. It finds more captions."}),
        without("q1"),
    ),
    "opposite_counts": (chosen(side="below"), without("q2")),
    "no_loss_at_all": (
        about("i0t-7", "Tables 2 and 7", "Standardising costs no retrieval, not the least bit."),
        without("q2"),
    ),
    "captions_drawn_again": (chosen(unit="caption"), without("q2")),
    "no_control": (chosen(control=None), without("q2")),
    "bound_in_words": (chosen(bound="a clear gain", result=SPARE), without("q2", "q5")),
    "unpaired": (
        interval(
            f"{TAIL}    d = [after(a) - before(b) for a, b in zip(draws, draws[::-1])]\n"
            "    return value, *np.quantile(d, [tail, 1 - tail])\n"
        ),
        without("q3"),
    ),
    "ends_subtracted": (
        interval(
            f"{TAIL}    a, b = ([f(row) for row in draws] for f in (after, before))\n"
            "    a, b = (np.quantile(z, [tail, 1 - tail]) for z in (a, b))\n"
            "    return value, *sorted(a - b)\n"
        ),
        without("q3"),
    ),
    "level_ignored": (
        interval(
            f"{TAIL}    d = [after(row) - before(row) for row in draws]\n"
            "    return value, *np.quantile(d, [0.025, 0.975])\n"
        ),
        without("q3"),
    ),
    "never_inconclusive": (
        verdict(
            '    holds = low > rule["bound"] if rule["side"] == "above" else high < rule["bound"]\n'
            '    return "reproduced" if holds else "not reproduced"\n'
        ),
        without("q4"),
    ),
    "middle_decides": (
        verdict(
            '    up = (low + high) / 2 > rule["bound"]\n'
            '    return "reproduced" if up == (rule["side"] == "above") else "not reproduced"\n'
        ),
        without("q4"),
    ),
    "bound_forgotten": (
        verdict(
            '    if low != low or high != high:\n        return "not testable here"\n'
            '    a, b = (low, high) if rule["side"] == "above" else (-high, -low)\n'
            '    return "reproduced" if a > 0 else "not reproduced" if b < 0 else "inconclusive"\n'
        ),
        without("q4"),
    ),
    "own_words": (
        verdict('    return "confirmed" if low > rule["bound"] else "refuted"\n'),
        without("q4", "q5"),
    ),
    "rule_changed_after_the_run": (chosen(captions="full", sealed=seal(RULE)), without("q5")),
    "verdict_against_the_rule": (
        chosen(result=RESULT.replace("verdict(rule, low, high)", '"reproduced"')),
        without("q5"),
    ),
    "interval_of_other_captions": (
        chosen(result=RESULT.replace("run(rule)", 'run(rule | {"captions": "full"})')),
        without("q5"),
    ),
    "seal_not_checked": (
        {"q7": f"flaws = { {9: 'overstated'} | {k: FOUND[k] for k in (5, 7, 10)}!r}"},
        without("q7"),
    ),
    "false_alarm": ({"q7": f"flaws = {FOUND | {8: 'not paired'}!r}"}, without("q7")),
    "wrong_names": ({"q7": f"flaws = {FOUND | {7: 'not paired'}!r}"}, without("q7")),
}
