"""Made-up submissions of problem set 1, and the points that each test cell must give them."""

FULL = {
    "q1_test": 2,
    "q2_test": 2,
    "q3_test": 3,
    "q4_test": 2,
    "q5_test": 3,
    "q6_test": 3,
    "q8_test": 3,
}


def without(*questions):
    """The points of a submission that fails these questions."""
    return FULL | {f"{q}_test": 0 for q in questions}


LOOPS = {
    "q1": """
def normalise(x):
    out = []
    for row in x:
        length = sum(float(v) ** 2 for v in row) ** 0.5
        out.append([float(v) / length for v in row])
    return out
""",
    "q2": """
def mean_of_rows(x):
    total = [0.0] * len(x[0])
    for row in x:
        length = sum(float(v) ** 2 for v in row) ** 0.5
        for k, v in enumerate(row):
            total[k] += float(v) / length
    return [t / len(x) for t in total]


def centroid_distance(x, y):
    a, b = mean_of_rows(x), mean_of_rows(y)
    return sum((p - q) ** 2 for p, q in zip(a, b)) ** 0.5
""",
    "q3": """
def separability(x_fit, y_fit, x_test, y_test):
    a, b = mean_of_rows(x_fit), mean_of_rows(y_fit)
    right = 0
    for rows, own, other in ((x_test, a, b), (y_test, b, a)):
        for row in normalise(rows):
            to_own = sum((v - m) ** 2 for v, m in zip(row, own)) ** 0.5
            to_other = sum((v - m) ** 2 for v, m in zip(row, other)) ** 0.5
            if to_own < to_other:
                right += 1
    return right / (len(x_test) + len(y_test))
""",
    "q4": """
def mean_cosine(x, y):
    total = 0
    for a in normalise(x):
        for b in normalise(y):
            total += sum(p * q for p, q in zip(a, b))
    return total / len(x) / len(y)
""",
    "q5": """
def cosine_parts(x, y):
    common = sum(p * q for p, q in zip(mean_of_rows(x), mean_of_rows(y)))
    matching = 0
    for a, b in zip(normalise(x), normalise(y)):
        matching += sum(p * q for p, q in zip(a, b)) / len(x)
    return [common, matching - common]
""",
    "q6": """
def ceiling(x, y):
    a, b = mean_of_rows(x), mean_of_rows(y)
    aa = sum(p * p for p in a)
    bb = sum(p * p for p in b)
    ab = sum(p * q for p, q in zip(a, b))
    return ab + max(0, (1 - aa) * (1 - bb)) ** 0.5
""",
    "q8": """
def shift(x, y, lam):
    a, b = mean_of_rows(x), mean_of_rows(y)
    step = [lam * (p - q) for p, q in zip(a, b)]
    left = [[v - s for v, s in zip(row, step)] for row in normalise(x)]
    right = [[v + s for v, s in zip(row, step)] for row in normalise(y)]
    return [normalise(left), normalise(right)]
""",
}

NUMPY = {
    "q1": """
def normalise(x):
    return x / (x**2).sum(axis=1, keepdims=True) ** 0.5
""",
    "q2": """
def centroid_distance(x, y):
    gap = normalise(x).mean(axis=0) - normalise(y).mean(axis=0)
    return np.sqrt(np.sum(gap**2))
""",
    "q3": """
def separability(x_fit, y_fit, x_test, y_test):
    a, b = normalise(x_fit).mean(0), normalise(y_fit).mean(0)
    rows = normalise(np.vstack([x_test, y_test]))
    is_image = np.linalg.norm(rows - a, axis=1) < np.linalg.norm(rows - b, axis=1)
    truth = np.arange(len(rows)) < len(x_test)
    return np.mean(is_image == truth)
""",
    "q4": """
def mean_cosine(x, y):
    return (normalise(x) @ normalise(y).T).mean()
""",
    "q5": """
def cosine_parts(x, y):
    x, y = normalise(x), normalise(y)
    mx, my = x.mean(0), y.mean(0)
    return np.dot(mx, my), np.mean(np.einsum("ij,ij->i", x - mx, y - my))
""",
    "q6": """
def ceiling(x, y):
    x, y = normalise(x), normalise(y)
    mx, my = x.mean(0), y.mean(0)
    spread = ((x - mx) ** 2).sum(1).mean() * ((y - my) ** 2).sum(1).mean()
    return np.array([mx @ my + np.sqrt(spread)])
""",
    "q8": """
def shift(x, y, lam):
    x, y = normalise(x), normalise(y)
    g = lam * (x.mean(0) - y.mean(0))
    return normalise(x - g), normalise(y + g)
""",
}

TORCH = {
    "q1": """
def normalise(x):
    return torch.nn.functional.normalize(torch.as_tensor(x), dim=1)
""",
    "q2": """
def centroid_distance(x, y):
    return (normalise(x).mean(0) - normalise(y).mean(0)).norm()
""",
    "q3": """
def separability(x_fit, y_fit, x_test, y_test):
    means = torch.stack([normalise(x_fit).mean(0), normalise(y_fit).mean(0)])
    rows = torch.cat([normalise(x_test), normalise(y_test)])
    truth = torch.tensor([0] * len(x_test) + [1] * len(y_test))
    return (torch.cdist(rows, means).argmin(1) == truth).float().mean()
""",
    "q4": """
def mean_cosine(x, y):
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return torch.cosine_similarity(x[:, None], y[None], dim=2).mean()
""",
    "q5": """
def cosine_parts(x, y):
    x, y = normalise(torch.tensor(torch.as_tensor(x))), normalise(y).requires_grad_()
    common = torch.dot(x.mean(0), y.mean(0))
    return torch.stack([common, (x * y).sum(1).mean() - common])
""",
    "q6": """
def ceiling(x, y):
    a, b = normalise(x).mean(0), normalise(y).mean(0)
    return (a @ b + torch.sqrt((1 - a.norm() ** 2) * (1 - b.norm() ** 2))).item()
""",
    "q8": """
def shift(x, y, lam):
    x, y = normalise(x), normalise(y)
    g = x.mean(0) - y.mean(0)
    return normalise(x - lam * g), normalise(y + lam * g)
""",
}

SUBMISSIONS = {
    "loops": (LOOPS, FULL),
    "numpy": (NUMPY, FULL),
    "torch": (TORCH, FULL),
    "empty": (None, dict.fromkeys(FULL, 0)),
    "hard_coded": (
        {
            "q1": "def normalise(x):\n    return [[0.6, 0.8], [0, -1], [1, 0]]",
            "q2": "def centroid_distance(x, y):\n    return 2.5**0.5 if len(y) == 1 else 0",
            "q3": "def separability(*a):\n    return 0.8",
            "q4": "def mean_cosine(x, y):\n    return 0.6",
            "q5": "def cosine_parts(x, y):\n    return 0.6, 0.2",
            "q6": "def ceiling(x, y):\n    return 0.6 + 0.05**0.5 if x[1, 1] != y[1, 1] else 1",
            "q8": """
def shift(x, y, lam):
    a, b = 0.75 / 0.625**0.5, 0.25 / 0.625**0.5
    return [[a, -b], [-b, a]], [[-a, b], [b, -a]]
""",
        },
        dict.fromkeys(FULL, 0),
    ),
    "not_normalised": (
        {
            "q2": """
def centroid_distance(x, y):
    return np.linalg.norm(x.mean(0) - y.mean(0))
""",
            "q3": """
def separability(x_fit, y_fit, x_test, y_test):
    a, b = x_fit.mean(0), y_fit.mean(0)
    near = [
        np.linalg.norm(z - a, axis=1) < np.linalg.norm(z - b, axis=1) for z in (x_test, y_test)
    ]
    return (near[0].sum() + (~near[1]).sum()) / (len(x_test) + len(y_test))
""",
            "q4": "def mean_cosine(x, y):\n    return (x @ y.T).mean()",
            "q5": """
def cosine_parts(x, y):
    a, b = x.mean(0), y.mean(0)
    return a @ b, ((x - a) * (y - b)).sum(1).mean()
""",
            "q6": """
def ceiling(x, y):
    a, b = x.mean(0), y.mean(0)
    return a @ b + np.sqrt((1 - a @ a) * (1 - b @ b))
""",
            "q8": """
def shift(x, y, lam):
    g = x.mean(0) - y.mean(0)
    return unit(x - lam * g), unit(y + lam * g)
""",
        },
        without("q2", "q3", "q4", "q5", "q6", "q8"),
    ),
    "wrong_axis": (
        {
            "q1": "def normalise(x):\n    return x / np.linalg.norm(x, axis=0)",
            "q2": """
def centroid_distance(x, y):
    x, y = unit(x), unit(y)
    return np.linalg.norm(x.mean(1).mean() - y.mean(1).mean())
""",
            "q5": """
def cosine_parts(x, y):
    x, y = unit(x), unit(y)
    return x.mean(0) @ y.mean(0), ((x - x.mean(0)) * (y - y.mean(0))).mean(1).sum()
""",
        },
        without("q1", "q2", "q5"),
    ),
    "changes_its_input": (
        {
            "q1": """
def normalise(x):
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x
""",
        },
        without("q1"),
    ),
    "squares_and_signs": (
        {
            "q1": "def normalise(x):\n    return x / (x**2).sum(1, keepdims=True)",
            "q2": """
def centroid_distance(x, y):
    return ((unit(x).mean(0) - unit(y).mean(0)) ** 2).sum()
""",
            "q5": """
def cosine_parts(x, y):
    x, y = unit(x), unit(y)
    common = x.mean(0) @ y.mean(0)
    return (x * y).sum(1).mean() - common, common
""",
            "q6": """
def ceiling(x, y):
    a, b = unit(x).mean(0), unit(y).mean(0)
    return a @ b + (1 - a @ a) * (1 - b @ b)
""",
            "q8": """
def shift(x, y, lam):
    x, y = unit(x), unit(y)
    g = x.mean(0) - y.mean(0)
    return unit(x + lam * g), unit(y - lam * g)
""",
        },
        without("q1", "q2", "q5", "q6", "q8"),
    ),
    "partners_and_one_side": (
        {
            "q3": """
def separability(x_fit, y_fit, x_test, y_test):
    a, b = unit(x_fit).mean(0), unit(y_fit).mean(0)
    near = [
        np.linalg.norm(unit(z) - a, axis=1) < np.linalg.norm(unit(z) - b, axis=1)
        for z in (x_fit, y_fit)
    ]
    return (near[0].sum() + (~near[1]).sum()) / (len(x_fit) + len(y_fit))
""",
            "q4": """
def mean_cosine(x, y):
    n = min(len(x), len(y))
    return (unit(x)[:n] * unit(y)[:n]).sum(1).mean()
""",
            "q5": """
def cosine_parts(x, y):
    x, y = unit(x), unit(y)
    return x.mean(0) @ y.mean(0), (x * y).sum(1).mean()
""",
            "q8": """
def shift(x, y, lam):
    x, y = unit(x), unit(y)
    return unit(x - lam * (x.mean(0) - y.mean(0))), y
""",
        },
        without("q3", "q4", "q5", "q8"),
    ),
    "forgot_the_last_step": (
        {
            "q2": """
def centroid_distance(x, y):
    a, b = unit(x).mean(0), unit(y).mean(0)
    return np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
""",
            "q3": """
def separability(x_fit, y_fit, x_test, y_test):
    a, b = unit(x_fit).mean(0), unit(y_fit).mean(0)
    near = [unit(z) @ a > unit(z) @ b for z in (x_test, y_test)]
    return (near[0].sum() + (~near[1]).sum()) / (len(x_test) + len(y_test))
""",
            "q4": "def mean_cosine(x, y):\n    return (unit(x) @ unit(y).T).sum()",
            "q6": """
def ceiling(x, y):
    a, b = unit(x).mean(0), unit(y).mean(0)
    return np.sqrt((1 - a @ a) * (1 - b @ b))
""",
            "q8": """
def shift(x, y, lam):
    x, y = unit(x), unit(y)
    g = x.mean(0) - y.mean(0)
    return x - lam * g, y + lam * g
""",
        },
        without("q2", "q3", "q4", "q6", "q8"),
    ),
    "unit_gap": (
        {
            "q8": """
def shift(x, y, lam):
    x, y = unit(x), unit(y)
    g = x.mean(0) - y.mean(0)
    g = g / np.linalg.norm(g)
    return unit(x - lam * g), unit(y + lam * g)
""",
        },
        without("q8"),
    ),
}
