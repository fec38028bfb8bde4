"""Made-up submissions of problem set 2, and the points that each test cell must give them."""

FULL = {
    "q1_test": 2,
    "q2_test": 3,
    "q3_test": 3,
    "q4_test": 3,
    "q5_test": 4,
    "q7_test": 3,
}


def without(*questions):
    """The points of a submission that fails these questions."""
    return FULL | {f"{q}_test": 0 for q in questions}


LOOPS = {
    "q1": """
def length_one(row):
    length = sum(float(v) ** 2 for v in row) ** 0.5
    return [float(v) / length for v in row]


def modality_mean(x):
    rows = [length_one(row) for row in x]
    return [sum(row[k] for row in rows) / len(rows) for k in range(len(rows[0]))]
""",
    "q2": """
def standardise(x, mean):
    out = []
    for row in x:
        out.append(length_one([v - float(m) for v, m in zip(length_one(row), mean)]))
    return out
""",
    "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    return [standardise(x, modality_mean(x_fit)), standardise(y, modality_mean(y_fit))]
""",
    "q4": """
def clip_s(x, y):
    out = []
    for a, b in zip(x, y):
        cosine = sum(p * q for p, q in zip(length_one(a), length_one(b)))
        out.append(2.5 * cosine if cosine > 0 else 0)
    return out
""",
    "q5": """
from tqdm import tqdm


def kendall(a, b):
    c = d = tied_a = tied_b = 0
    for i in tqdm(range(len(a))):
        for j in range(i):
            s, t = a[i] - a[j], b[i] - b[j]
            if s == 0 and t == 0:
                continue
            elif s == 0:
                tied_a += 1
            elif t == 0:
                tied_b += 1
            elif s * t > 0:
                c += 1
            else:
                d += 1
    return (c - d) / ((c + d + tied_a) * (c + d + tied_b)) ** 0.5
""",
    "q7": """
def mean_error(x, n):
    m = modality_mean(x)
    total = 0
    for row in x:
        total += sum((v - w) ** 2 for v, w in zip(length_one(row), m))
    return (total / len(x) / n) ** 0.5
""",
}

NUMPY = {
    "q1": """
def modality_mean(x):
    return np.mean(x / np.linalg.norm(x, axis=-1, keepdims=True), axis=0)
""",
    "q2": """
def standardise(x, mean):
    x = x / np.linalg.norm(x, axis=1)[:, None] - mean
    return (x.T / np.linalg.norm(x, axis=1)).T
""",
    "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    return standardise(x, modality_mean(x_fit)), standardise(y, modality_mean(y_fit))
""",
    "q4": """
def clip_s(x, y):
    cosine = np.einsum("ij,ij->i", x, y) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    return (2.5 * cosine).clip(min=0)
""",
    "q5": """
def kendall(a, b):
    from scipy.stats import kendalltau

    return kendalltau(a, b).correlation
""",
    "q7": """
def mean_error(x, n):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.sqrt(np.trace(np.atleast_2d(np.cov(x.T, bias=True))) / n)
""",
}

TORCH = {
    "q1": """
def modality_mean(x):
    return torch.nn.functional.normalize(torch.tensor(x), dim=1).mean(dim=0)
""",
    "q2": """
def standardise(x, mean):
    x = torch.nn.functional.normalize(torch.from_numpy(x), dim=1)
    return torch.nn.functional.normalize(x - torch.as_tensor(mean), dim=1)
""",
    "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    pairs = ((x, x_fit), (y, y_fit))
    return tuple(standardise(rows, modality_mean(fit)).requires_grad_() for rows, fit in pairs)
""",
    "q4": """
def clip_s(x, y):
    x, y = torch.tensor(x).float(), torch.tensor(y).float()
    return 2.5 * torch.cosine_similarity(x, y, dim=-1).clamp(min=0)
""",
    "q5": """
def kendall(a, b):
    a, b = torch.tensor(torch.as_tensor(a)), torch.as_tensor(b)
    s = torch.sign(a[:, None] - a[None, :])
    t = torch.sign(b[:, None] - b[None, :])
    return (s * t).sum() / torch.sqrt((s.abs().sum()) * (t.abs().sum()))
""",
    "q7": """
def mean_error(x, n):
    x = torch.nn.functional.normalize(torch.tensor(x), dim=1)
    return (x.var(dim=0, unbiased=False).sum() / n) ** 0.5
""",
}

SUBMISSIONS = {
    "loops": (LOOPS, FULL),
    "numpy": (NUMPY, FULL),
    "torch": (TORCH, FULL),
    "empty": (None, dict.fromkeys(FULL, 0)),
    "hard_coded": (
        {
            "q1": "def modality_mean(x):\n    return [0.3, 0.9]",
            "q2": """
def standardise(x, mean):
    if len(x) == 1:
        return [[0, 1]]
    return [[1, 0], [-0.5 / 1.25**0.5, 1 / 1.25**0.5]]
""",
            "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    return unit(np.array([[0.5, 0.5], [0.1, 1.3]])), unit(np.array([[1.6, 0.8], [1.0, 1.0]]))
""",
            "q4": "def clip_s(x, y):\n    return [2, 0, 1.5]",
            "q5": "def kendall(a, b):\n    return -1 if len(a) == 3 else 30**-0.5",
            "q7": "def mean_error(x, n):\n    return 0.25",
        },
        dict.fromkeys(FULL, 0),
    ),
    "not_normalised": (
        {
            "q1": "def modality_mean(x):\n    return x.mean(0)",
            "q2": "def standardise(x, mean):\n    return unit(x - mean)",
            "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    return unit(unit(x) - x_fit.mean(0)), unit(unit(y) - y_fit.mean(0))
""",
            "q4": "def clip_s(x, y):\n    return 2.5 * np.maximum((x * y).sum(1), 0)",
            "q7": "def mean_error(x, n):\n    return np.sqrt(x.var(0).sum() / n)",
        },
        without("q1", "q2", "q3", "q4", "q7"),
    ),
    "not_renormalised": (
        {
            "q1": """
def modality_mean(x):
    mean = unit(x).mean(0)
    return mean / np.linalg.norm(mean)
""",
            "q2": "def standardise(x, mean):\n    return unit(x) - mean",
            "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    return unit(x) - mean_of(x_fit), unit(y) - mean_of(y_fit)
""",
        },
        without("q1", "q2", "q3"),
    ),
    "mean_of_the_batch": (
        {
            "q2": """
def standardise(x, mean):
    x = unit(x)
    return unit(x - x.mean(0))
""",
            "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    return i0t_post(x, mean_of(x)), i0t_post(y, mean_of(y))
""",
        },
        without("q2", "q3"),
    ),
    "image_mean_for_texts": (
        {
            "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    return i0t_post(x, mean_of(x_fit)), i0t_post(y, mean_of(x_fit))
""",
        },
        without("q3"),
    ),
    "one_mean_for_both": (
        {
            "q3": """
def standardise_pairs(x, y, x_fit, y_fit):
    mean = mean_of(np.concatenate([x_fit, y_fit]))
    return i0t_post(x, mean), i0t_post(y, mean)
""",
        },
        without("q3"),
    ),
    "divided_by_deviation": (
        {
            "q2": """
def standardise(x, mean):
    x = unit(x)
    return unit((x - mean) / (x.std(0) + 1e-9))
""",
            "q4": "def clip_s(x, y):\n    return 2.5 * (unit(x) * unit(y)).sum(1)",
            "q5": """
def kendall(a, b):
    n = len(a)
    s = sum(np.sign((a[i] - a[j]) * (b[i] - b[j])) for i in range(n) for j in range(i))
    return s / (n * (n - 1) / 2)
""",
            "q7": """
def mean_error(x, n):
    return np.sqrt(unit(x).var(0, ddof=1).sum() / n)
""",
        },
        without("q2", "q4", "q5", "q7"),
    ),
    "squares_and_matrices": (
        {
            "q1": "def modality_mean(x):\n    return unit(x).mean(1)",
            "q4": "def clip_s(x, y):\n    return 2.5 * np.maximum(unit(x) @ unit(y).T, 0)",
            "q5": """
def kendall(a, b):
    return scipy.stats.spearmanr(a, b).statistic
""",
            "q7": "def mean_error(x, n):\n    return unit(x).var(0).sum() / n",
        },
        without("q1", "q4", "q5", "q7"),
    ),
    "ties_not_counted": (
        {
            "q4": """
def clip_s(x, y):
    return np.maximum((unit(x) * unit(y)).sum(1), 0)
""",
            "q5": """
def kendall(a, b):
    s = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    return s.sum() / np.abs(s).sum()
""",
            "q7": "def mean_error(x, n):\n    return unit(x).std(0).sum() / np.sqrt(n)",
        },
        without("q4", "q5", "q7"),
    ),
}
