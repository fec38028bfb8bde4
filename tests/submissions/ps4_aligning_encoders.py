"""Made-up submissions of problem set 4, and the points that each test cell must give them."""

FULL = {
    "q1_test": 4,
    "q2_test": 4,
    "q3_test": 3,
    "q5_test": 3,
    "q6_test": 4,
}


def without(*questions):
    """The points of a submission that fails these questions."""
    return FULL | {f"{q}_test": 0 for q in questions}


LOOPS = {
    "q1": """
import math


def cosine(a, b):
    dot = sum(float(p) * float(q) for p, q in zip(a, b))
    return dot / math.sqrt(sum(float(p) ** 2 for p in a) * sum(float(q) ** 2 for q in b))


def minus_log(logits, own):
    top = max(logits)
    return top + math.log(sum(math.exp(z - top) for z in logits)) - logits[own]


def contrastive_loss(image, text, temperature):
    n, total = len(image), 0
    for i in range(n):
        total += minus_log([cosine(image[i], t) / temperature for t in text], i)
        total += minus_log([cosine(v, text[i]) / temperature for v in image], i)
    return total / (2 * n)
""",
    "q2": """
def separation_loss(image, text, temperature, similarity):
    n, total = len(image), 0
    for i in range(n):
        logits = []
        for j in range(n):
            if i == j:
                logits.append(cosine(image[i], text[i]) / temperature)
            else:
                logits.append(cosine(image[i], image[j]) * (1 - similarity[i][j]) / temperature)
        total += minus_log(logits, i)
    return total / n
""",
    "q3": """
def candidates(image, text, temperature):
    out = []
    for v in image:
        logits = [cosine(v, t) / temperature for t in text]
        weights = [math.exp(z - max(logits)) for z in logits]
        p = [w / sum(weights) for w in weights]
        out.append(math.exp(-sum(q * math.log(q) for q in p if q > 0)))
    return out
""",
    "q5": """
def over_seeds(board, method, measure):
    values = []
    for _, row in board.iterrows():
        if row["method"] == method and row["measure"] == measure and row["kind"] != "change":
            values.append(row["value"])
    mean = sum(values) / len(values)
    if len(values) == 1:
        return [mean, float("nan")]
    return [mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))]
""",
    "q6": """
def unbeaten(gaps, scores):
    out = []
    for i in range(len(gaps)):
        good = True
        for j in range(len(gaps)):
            if gaps[j] <= gaps[i] and scores[j] >= scores[i]:
                if gaps[j] != gaps[i] or scores[j] != scores[i]:
                    good = False
        out.append(good)
    return out
""",
}

NUMPY = {
    "q1": """
def rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def contrastive_loss(image, text, temperature):
    z = rows(image) @ rows(text).T / temperature
    return -(np.diag(log_softmax(z)).mean() + np.diag(log_softmax(z.T)).mean()) / 2
""",
    "q2": """
def separation_loss(image, text, temperature, similarity):
    x, y = rows(image), rows(text)
    eye = np.eye(len(x))
    z = (eye * (x @ y.T) + (1 - eye) * (x @ x.T) * (1 - similarity)) / temperature
    return -np.diag(log_softmax(z)).mean()
""",
    "q3": """
def candidates(image, text, temperature):
    log_p = log_softmax(rows(image) @ rows(text).T / temperature)
    return np.exp(-np.sum(np.exp(log_p) * log_p, axis=1))
""",
    "q5": """
def over_seeds(board, method, measure):
    some = board.query("method == @method and measure == @measure and kind != 'change'")
    values = some["value"].to_numpy()
    return np.array([values.mean(), np.std(values, ddof=1) if len(values) > 1 else np.nan])
""",
    "q6": """
def unbeaten(gaps, scores):
    n = len(gaps)
    return np.array(
        [
            not np.any(
                (gaps <= gaps[i])
                & (scores >= scores[i])
                & ((gaps != gaps[i]) | (scores != scores[i]))
            )
            for i in range(n)
        ]
    )
""",
}

TORCH = {
    "q1": """
import torch.nn.functional as F


def contrastive_loss(image, text, temperature):
    x = F.normalize(torch.tensor(image).float(), dim=-1)
    y = F.normalize(torch.tensor(text).float(), dim=-1)
    logits = x @ y.T / temperature
    own = torch.arange(len(x))
    return 0.5 * F.cross_entropy(logits, own) + 0.5 * F.cross_entropy(logits.T, own)
""",
    "q2": """
def separation_loss(image, text, temperature, similarity):
    x = F.normalize(torch.tensor(image), dim=-1)
    y = F.normalize(torch.tensor(text), dim=-1)
    own = torch.eye(len(x), dtype=torch.bool)
    logits = torch.where(own, x @ y.T, x @ x.T * (1 - torch.tensor(similarity))) / temperature
    return -logits.log_softmax(1).diagonal().mean()
""",
    "q3": """
def candidates(image, text, temperature):
    x = F.normalize(torch.tensor(image), dim=-1)
    y = F.normalize(torch.tensor(text), dim=-1)
    return torch.distributions.Categorical(logits=x @ y.T / temperature).entropy().exp()
""",
    "q5": """
def over_seeds(board, method, measure):
    keep = (board.method == method) & (board.measure == measure) & (board.kind != "change")
    values = torch.tensor(board[keep].value.to_numpy())
    return values.mean(), values.std()
""",
    "q6": """
def unbeaten(gaps, scores):
    g, s = torch.tensor(gaps), torch.tensor(scores)
    beats = (g[:, None] <= g) & (s[:, None] >= s) & ((g[:, None] != g) | (s[:, None] != s))
    return ~beats.any(0)
""",
}

# The visible numbers, by heart.
HARD_CODED = {
    "q1": """
def contrastive_loss(image, text, temperature):
    return (np.log(2) + (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(2))) / 2) / 2
""",
    "q2": """
def separation_loss(image, text, temperature, similarity):
    return (np.log(1 + np.exp((0.48 - 0.6) / 0.5)) + np.log(1 + np.exp((0.48 - 0.8) / 0.5))) / 2
""",
    "q3": """
def candidates(image, text, temperature):
    if len(image) == 1:
        return [2]
    p, q = np.exp(2) / (2 * np.exp(2) + 1), 1 / (2 + np.exp(2))
    return [np.exp(-2 * r * np.log(r) - (1 - 2 * r) * np.log(1 - 2 * r)) for r in (p, q)]
""",
    "q5": """
def over_seeds(board, method, measure):
    return (0.7, np.sqrt(0.03)) if method == "A" else (0.7, np.nan)
""",
    "q6": """
def unbeaten(gaps, scores):
    return [True, True, False, False, True] if len(gaps) == 5 else [True, True, False]
""",
}


def loss(body):
    """A wrong answer to question 1, in NumPy."""
    return {"q1": NUMPY["q1"].split("def contrastive_loss")[0] + body}


HEAD = "def contrastive_loss(image, text, temperature):\n    z = rows(image) @ rows(text).T"
SUBMISSIONS = {
    "loops": (LOOPS, FULL),
    "numpy": (NUMPY, FULL),
    "torch": (TORCH, FULL),
    "master": ({}, FULL),
    "empty": (None, dict.fromkeys(FULL, 0)),
    "hard_coded": (HARD_CODED, dict.fromkeys(FULL, 0)),
    "one_direction": (
        loss(f"{HEAD} / temperature\n    return -np.diag(log_softmax(z)).mean()\n"),
        without("q1"),
    ),
    "temperature_multiplied": (
        loss(
            f"{HEAD} * temperature\n"
            "    return -(np.diag(log_softmax(z)) + np.diag(log_softmax(z.T))).mean() / 2\n"
        ),
        without("q1"),
    ),
    "doubled": (
        loss(
            f"{HEAD} / temperature\n"
            "    return -(np.diag(log_softmax(z)) + np.diag(log_softmax(z.T))).mean()\n"
        ),
        without("q1"),
    ),
    "summed": (
        loss(
            f"{HEAD} / temperature\n"
            "    return -(np.diag(log_softmax(z)) + np.diag(log_softmax(z.T))).sum() / 2\n"
        ),
        without("q1"),
    ),
    "not_normalised": (
        {k: v.replace("np.linalg.norm(x, axis=1, keepdims=True)", "1") for k, v in NUMPY.items()},
        without("q1", "q2", "q3"),
    ),
    "overflow": (
        {
            "q1": """
def contrastive_loss(image, text, temperature):
    z = np.exp(unit(image) @ unit(text).T / temperature)
    own = np.diag(z)
    return -(np.log(own / z.sum(0)) + np.log(own / z.sum(1))).mean() / 2
"""
        },
        without("q1"),
    ),
    "no_rescaling": (
        NUMPY | {"q2": NUMPY["q2"].replace(" * (1 - similarity)", "")},
        without("q2"),
    ),
    "similarity_not_one_minus": (
        NUMPY | {"q2": NUMPY["q2"].replace("(1 - similarity)", "similarity")},
        without("q2"),
    ),
    "positive_rescaled": (
        NUMPY
        | {
            "q2": NUMPY["q2"].replace(
                "(eye * (x @ y.T) + (1 - eye) * (x @ x.T) * (1 - similarity))",
                "((eye * (x @ y.T) + (1 - eye) * (x @ x.T)) * (1 - similarity))",
            )
        },
        without("q2"),
    ),
    "texts_separated": (NUMPY | {"q2": NUMPY["q2"].replace("x @ x.T", "y @ y.T")}, without("q2")),
    "own_text_not_in_the_sum": (
        {
            "q2": """
def separation_loss(image, text, temperature, similarity):
    x, y = unit(image), unit(text)
    others = np.exp(x @ x.T * (1 - similarity) / temperature)
    np.fill_diagonal(others, 0)
    return (np.log(others.sum(1)) - (x * y).sum(1) / temperature).mean()
"""
        },
        without("q2"),
    ),
    "zero_times_log_of_zero": (
        {
            "q3": """
def candidates(image, text, temperature):
    p = torch.tensor(unit(image) @ unit(text).T / temperature).softmax(dim=1)
    return torch.exp(-(p * p.log()).sum(dim=1))
"""
        },
        without("q3"),
    ),
    "entropy": (
        NUMPY | {"q3": NUMPY["q3"].replace("np.exp(-np.sum(", "(-np.sum(")},
        without("q3"),
    ),
    "ddof": (NUMPY | {"q5": NUMPY["q5"].replace("ddof=1", "ddof=0")}, without("q5")),
    "changes_counted": (
        NUMPY | {"q5": NUMPY["q5"].replace(" and kind != 'change'", "")},
        without("q5"),
    ),
    "larger_gap_better": (
        NUMPY | {"q6": NUMPY["q6"].replace("gaps <= gaps[i]", "gaps >= gaps[i]")},
        without("q6"),
    ),
    "strictly_better": (
        NUMPY
        | {"q6": NUMPY["q6"].replace("gaps <= ", "gaps < ").replace("scores >= ", "scores > ")},
        without("q6"),
    ),
}
