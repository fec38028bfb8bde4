"""Made-up submissions of problem set 3, and the points that each test cell must give them."""

FULL = {
    "q1_test": 2,
    "q2_test": 4,
    "q3_test": 5,
    "q4_test": 4,
    "q6_test": 3,
}


def without(*questions):
    """The points of a submission that fails these questions."""
    return FULL | {f"{q}_test": 0 for q in questions}


LOOPS = {
    "q1": """
def cosine_loss(found, target):
    out = []
    for a, b in zip(found, target):
        dot = sum(float(p) * float(q) for p, q in zip(a, b))
        size = sum(float(p) ** 2 for p in a) * sum(float(q) ** 2 for q in b)
        out.append(1 - dot / size**0.5)
    return out
""",
    "q2": """
def insert(words, pseudo):
    sequences = []
    for own in pseudo:
        rows = [words[k] for k in range(len(words) - 1)]
        for token in own:
            rows.append(token)
        rows.append(words[-1])
        sequences.append(torch.stack(rows))
    return torch.stack(sequences)
""",
    "q3": """
def invert(encode, target, start, steps):
    all_tokens, all_losses = [], []
    for goal, begin in zip(target, start):
        token = begin[None].detach().clone()
        token.requires_grad = True
        adam = torch.optim.AdamW([token], lr=0.02)
        curve = []
        for k in range(steps):
            out = encode(token)[0]
            loss = 1 - (out * goal).sum() / (out.norm() * goal.norm())
            curve.append(loss.item())
            adam.zero_grad()
            loss.backward()
            adam.step()
        out = encode(token)[0]
        curve.append((1 - (out * goal).sum() / (out.norm() * goal.norm())).item())
        all_tokens.append(token[0])
        all_losses.append(curve)
    return all_tokens, [list(row) for row in zip(*all_losses)]
""",
    "q4": """
def average_precision(scores, relevant, own):
    others = [j for j in range(len(scores)) if j != own]
    others.sort(key=lambda j: scores[j], reverse=True)
    hits, total = 0, 0
    for rank, j in enumerate(others, start=1):
        if relevant[j]:
            hits += 1
            total += hits / rank
    return total / hits if hits else 0
""",
    "q6": """
def nearest_share(query, gallery, labels, rows, k):
    out = []
    for vector, row in zip(query, rows):
        found = []
        for j, item in enumerate(gallery):
            if j != row:
                dot = sum(p * q for p, q in zip(vector, item))
                size = sum(p * p for p in vector) * sum(q * q for q in item)
                found.append((dot / size**0.5, labels[j] == labels[row]))
        found.sort(reverse=True)
        out.append(sum(bool(right) for _, right in found[:k]) / k)
    return out
""",
}

NUMPY = {
    "q1": """
def cosine_loss(found, target):
    a, b = np.asarray(found), np.asarray(target)
    return 1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
""",
    "q2": """
def insert(words, pseudo):
    n, r, width = pseudo.shape
    out = torch.zeros(n, len(words) + r, width, dtype=pseudo.dtype)
    out[:, : len(words) - 1] = words[:-1]
    out[:, len(words) - 1 : -1] = pseudo
    out[:, -1] = words[-1]
    return out
""",
    "q3": """
def invert(encode, target, start, steps):
    at = start.detach().numpy().copy()
    mean, square, losses = np.zeros_like(at), np.zeros_like(at), []
    for k in range(1, steps + 2):
        v = torch.tensor(at, requires_grad=True)
        out = encode(v)
        loss = 1 - (out * target).sum(1) / out.norm(dim=1) / target.norm(dim=1)
        losses.append(loss.detach().numpy())
        if k > steps:
            break
        g = torch.autograd.grad(loss.sum(), v)[0].numpy()
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        at = at * (1 - 0.02 * 0.01)
        at = at - 0.02 * (mean / (1 - 0.9**k)) / (np.sqrt(square / (1 - 0.999**k)) + 1e-8)
    return at, np.array(losses)
""",
    "q4": """
def average_precision(scores, relevant, own):
    order = np.argsort(scores)[::-1]
    hits = relevant[order[order != own]]
    if not hits.sum():
        return 0
    ranks = np.flatnonzero(hits) + 1
    return np.mean(np.arange(1, len(ranks) + 1) / ranks)
""",
    "q6": """
def nearest_share(query, gallery, labels, rows, k):
    g = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    share = []
    for vector, row in zip(query, rows):
        order = np.argsort(g @ vector)[::-1]
        order = order[order != row][:k]
        share.append((labels[order] == labels[row]).mean())
    return np.array(share)
""",
}

TORCH = {
    "q1": """
import torch.nn.functional as F


def cosine_loss(found, target):
    return 1 - (F.normalize(found, dim=-1) * F.normalize(target, dim=-1)).sum(-1)
""",
    "q2": """
def insert(words, pseudo):
    front = words[:-1].unsqueeze(0).repeat(len(pseudo), 1, 1)
    end = words[-1:].unsqueeze(0).repeat(len(pseudo), 1, 1)
    return torch.cat((front, pseudo, end), 1)
""",
    "q3": """
def invert(encode, target, start, steps):
    v = torch.nn.Parameter(start.detach().clone().float())
    goal = F.normalize(target.float(), dim=-1)
    optimiser = torch.optim.AdamW([v], lr=2e-2, weight_decay=1e-2)
    losses = []
    for _ in range(steps):
        loss = 1 - (F.normalize(encode(v).float(), dim=-1) * goal).sum(-1)
        losses.append(loss.detach())
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    losses.append(1 - (F.normalize(encode(v).float(), dim=-1) * goal).sum(-1))
    return v, torch.stack(losses)
""",
    "q4": """
def average_precision(scores, relevant, own):
    scores, relevant = torch.tensor(scores), torch.tensor(relevant)
    keep = torch.arange(len(scores)) != own
    hits = relevant[keep][scores[keep].argsort(descending=True)].double()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return (precision * hits).sum() / hits.sum().clamp(min=1)
""",
    "q6": """
def nearest_share(query, gallery, labels, rows, k):
    cosine = F.normalize(torch.tensor(query), dim=1) @ F.normalize(torch.tensor(gallery), dim=1).T
    labels, rows = torch.tensor(labels), torch.tensor(rows)
    cosine = cosine.scatter(1, rows[:, None], -2)
    return (labels[cosine.topk(k).indices] == labels[rows][:, None]).float().mean(1)
""",
}

# The visible numbers, by heart.
HARD_CODED = {
    "q1": "def cosine_loss(found, target):\n    return [0.2, 2.0]\n",
    "q2": """
def insert(words, pseudo):
    front, end = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[9.0, 9.0]])
    return torch.stack([torch.cat([front, own, end]) for own in pseudo])
""",
    "q3": """
def invert(encode, target, start, steps):
    return [[[1.9996, 0.02]]], [[1.0], [1 - 0.02 / np.hypot(1.9996, 0.02)]]
""",
    "q4": """
def average_precision(scores, relevant, own):
    return {5: 7 / 12, 3: 1 / 2, 2: 0}[len(scores)]
""",
    "q6": """
def nearest_share(query, gallery, labels, rows, k):
    return [0.0, 1.0] if k == 1 else [0.5, 0.5]
""",
}


def change(question, old, new, base=TORCH):
    """The answers of `base` with a slip in one of them."""
    if old not in base[question]:
        raise ValueError(f"{question} has no {old!r}")
    return base | {question: base[question].replace(old, new)}


SUBMISSIONS = {
    "loops": (LOOPS, FULL),
    "numpy": (NUMPY, FULL),
    "torch": (TORCH, FULL),
    "master": ({}, FULL),
    "empty": (None, dict.fromkeys(FULL, 0)),
    "hard_coded": (HARD_CODED, dict.fromkeys(FULL, 0)),
    "not_normalised": (
        TORCH
        | {
            "q1": "import torch.nn.functional as F\n\n\n"
            "def cosine_loss(found, target):\n    return 1 - (found * target).sum(-1)\n",
            "q6": TORCH["q6"].replace(
                "F.normalize(torch.tensor(gallery), dim=1)", "torch.tensor(gallery)"
            ),
        },
        without("q1", "q6"),
    ),
    "cosine_not_loss": (change("q1", "1 - ", ""), without("q1")),
    "behind_the_end": (change("q2", "(front, pseudo, end)", "(front, end, pseudo)"), without("q2")),
    "gradient_lost": (change("q2", "pseudo, end)", "pseudo.detach(), end)"), without("q2")),
    "same_tokens_for_all": (
        change("q2", "(front, pseudo, end)", "(front, pseudo[:1].expand_as(pseudo), end)"),
        without("q2"),
    ),
    "adam": (change("q3", "AdamW", "Adam"), without("q3")),
    "no_decay": (change("q3", "1e-2)", "0)"), without("q3")),
    "sgd": (
        change("q3", "AdamW([v], lr=2e-2, weight_decay=1e-2)", "SGD([v], lr=2e-2)"),
        without("q3"),
    ),
    "wrong_sign": (change("q3", "loss.mean()", "(-loss.mean())"), without("q3")),
    "gradients_add_up": (change("q3", "optimiser.zero_grad()", "pass"), without("q3")),
    "last_loss_missing": (
        change(
            "q3",
            "    losses.append(1 - (F.normalize(encode(v).float(), dim=-1) * goal).sum(-1))\n",
            "",
        ),
        without("q3"),
    ),
    "start_changed": (
        {
            "q3": """
def invert(encode, target, start, steps):
    v = start.requires_grad_()
    optimiser = torch.optim.AdamW([v], lr=0.02, weight_decay=0.01)
    losses = []
    for k in range(steps + 1):
        loss = 1 - torch.nn.functional.cosine_similarity(encode(v), target, dim=1)
        losses.append(loss.detach())
        if k < steps:
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
    return v.detach(), torch.stack(losses)
"""
        },
        without("q3"),
    ),
    "finds_itself": (
        TORCH
        | {
            "q4": TORCH["q4"].replace("!= own", ">= 0"),
            "q6": TORCH["q6"].replace("cosine.scatter(1, rows[:, None], -2)", "cosine"),
        },
        without("q4", "q6"),
    ),
    "ascending": (
        change("q4", "descending=True", "descending=False"),
        without("q4"),
    ),
    "first_one_skipped": (
        {
            "q6": """
def nearest_share(query, gallery, labels, rows, k):
    order = np.argsort(-(unit(query) @ unit(gallery).T), axis=1)[:, 1 : k + 1]
    return (labels[order] == labels[rows][:, None]).mean(axis=1)
"""
        },
        without("q6"),
    ),
    "new_optimiser_in_every_step": (
        change(
            "q3",
            "        optimiser.zero_grad()",
            "        optimiser = torch.optim.AdamW([v], lr=2e-2)\n        optimiser.zero_grad()",
        ),
        without("q3"),
    ),
    "hits_not_share": (change("q6", ".mean(1)", ".sum(1)"), without("q6")),
}
