import math

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from lib.measures import gap
from lib.methods import losses
from lib.methods.losses import clip_loss, multi_positive_loss


def unit(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=-1)


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def naive_cross_entropy(rows):
    """Mean over i of -log softmax(rows[i])[i]."""
    return sum(log_sum_exp(row) - row[i] for i, row in enumerate(rows)) / len(rows)


def naive(image, text, scale):
    """InfoNCE as a loop over pairs, both ways."""
    rows = [[scale * dot(x, y) for y in text] for x in image]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return (naive_cross_entropy(rows) + naive_cross_entropy(columns)) / 2


SIZES = pytest.mark.parametrize("n", [2, 7])
SCALES = pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])


def test_pair_losses_are_the_loss_of_their_batches():
    x, y = unit(11, 4, 0), unit(11, 4, 1)
    found = losses.pair_losses(x, y, 14.3, batch=3, divisions=1, seed=5)
    order = np.random.default_rng(5).permutation(11)[:9]
    assert found.shape == (9, 2)  # two pairs fill no batch
    batches = [float(clip_loss(x[i], y[i], 14.3)) for i in order.reshape(3, 3)]
    assert found.mean() == pytest.approx(np.mean(batches))
    rows = [[14.3 * dot(a, b) for b in y[order[:3]]] for a in x[order[:3]]]
    kept = sorted(order)
    for k, i in enumerate(order[:3]):
        expected = log_sum_exp(rows[k]) - rows[k][k]
        assert found[kept.index(i), 0] == pytest.approx(expected)
    whole = losses.pair_losses(x, y, 14.3, batch=50, divisions=4)
    assert whole.mean() == pytest.approx(naive(x, y, 14.3))
    with pytest.raises(ValueError, match="as many texts as images"):
        losses.pair_losses(x, y[:5], 1.0, 3)


# --- CLIP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7])
@SCALES
def test_clip_loss_equals_a_loop_over_pairs(n, scale):
    image, text = unit(n, 5, 0), unit(n, 5, 1)
    assert clip_loss(image, text, scale).item() == pytest.approx(naive(image, text, scale))


def test_clip_loss_equals_open_clips():
    image, text = unit(6, 4, 2).float(), unit(6, 4, 3).float()
    theirs = open_clip.ClipLoss()(image, text, torch.tensor(30.0))
    torch.testing.assert_close(clip_loss(image, text, 30.0), theirs)


def test_a_batch_of_one_costs_nothing_and_equal_captions_cost_log_n():
    assert clip_loss(unit(1, 3, 0), unit(1, 3, 1), 100.0).item() == pytest.approx(0, abs=1e-12)
    image, text = unit(1, 3, 0).expand(8, 3), unit(1, 3, 1).expand(8, 3)
    assert clip_loss(image, text, 100.0).item() == pytest.approx(math.log(8))


def test_both_ways_count_alike():
    image, text = unit(5, 4, 4), unit(5, 4, 5)
    assert clip_loss(image, text, 10.0) == pytest.approx(clip_loss(text, image, 10.0).item())


def test_texts_of_the_same_content_are_positives_of_each_others_images():
    image, text = unit(5, 3, 0), unit(5, 3, 1)
    content = torch.tensor([0, 1, 0, 2, 1])
    total = 0.0
    for logits in (7 * image @ text.T, 7 * text @ image.T):
        for i in range(5):
            own = [j for j in range(5) if content[j] == content[i]]
            chance = logits[i].softmax(0)
            total -= sum(math.log(chance[j]) for j in own) / len(own) / 10
    assert multi_positive_loss(image, text, 7.0, content).item() == pytest.approx(total, rel=1e-5)
    apart = multi_positive_loss(image, text, 7.0, torch.arange(5))
    assert apart.item() == pytest.approx(clip_loss(image, text, 7.0).item(), rel=1e-6)
    with pytest.raises(ValueError, match="content must be"):
        multi_positive_loss(image, text, 7.0, content[:4])


def test_smoothing_mixes_in_the_loss_of_every_other_pair():
    """With share e of the label spread evenly: (1 - e) CE(own) + e * mean over all labels."""
    image, text, e = unit(4, 3, 6), unit(4, 3, 7), 0.1
    total = 0.0
    for a, b in ((image, text), (text, image)):
        for i in range(4):
            row = [10 * dot(a[i], other) for other in b]
            total += log_sum_exp(row) - (1 - e) * row[i] - e * sum(row) / 4
    assert clip_loss(image, text, 10.0, e).item() == pytest.approx(total / 8)


def test_unequal_shapes_are_refused():
    some, fewer = unit(3, 4, 0), unit(2, 4, 1)
    every = [
        lambda: clip_loss(some, fewer, 1.0),
        lambda: losses.separation_loss(some, fewer, 1.0),
        lambda: losses.cyclic_in_modal_loss(some, fewer),
        lambda: losses.cyclic_cross_modal_loss(some, fewer),
        lambda: losses.info_loob_loss(some, fewer, 1.0),
        lambda: losses.alignment_loss(some, fewer),
        lambda: losses.two_view_loss(some, fewer),
    ]
    for call in every:
        with pytest.raises(ValueError, match="as many texts as images"):
            call()
    with pytest.raises(ValueError, match=r"must be \(3, 3\)"):
        losses.separation_loss(some, some, 1.0, torch.zeros(2, 2))


# --- AlignCLIP --------------------------------------------------------------------------------


def naive_separation(image, text, scale, similarity=None):
    n = len(image)
    rows = []
    for i in range(n):
        row = [0.0] * n
        for j in range(n):
            if i == j:
                row[j] = scale * dot(image[i], text[i])
            else:
                distance = 1.0 if similarity is None else 1 - float(similarity[i, j])
                row[j] = scale * distance * dot(image[i], image[j])
        rows.append(row)
    return naive_cross_entropy(rows)


@pytest.mark.parametrize("n", [1, 2, 7])
@SCALES
def test_separation_equals_a_loop_with_and_without_rescaling(n, scale):
    image, text = unit(n, 5, 0), unit(n, 5, 1)
    similarity = unit(n, 5, 2) @ unit(n, 5, 2).T
    for s in (None, similarity):
        mine = losses.separation_loss(image, text, scale, s).item()
        assert mine == pytest.approx(naive_separation(image, text, scale, s))


def test_separation_ignores_images_whose_captions_say_the_same():
    """With S = 1 every negative's logit is 0: -log(e^p / (e^p + n - 1))."""
    image, text = unit(5, 4, 0), unit(5, 4, 1)
    same = losses.separation_loss(image, text, 10.0, torch.ones(5, 5, dtype=torch.float64))
    own = [10 * dot(x, y) for x, y in zip(image, text, strict=True)]
    expected = sum(math.log1p(4 * math.exp(-p)) for p in own) / 5
    assert same.item() == pytest.approx(expected)
    nothing_said = losses.separation_loss(image, text, 10.0, torch.zeros(5, 5))
    assert nothing_said == losses.separation_loss(image, text, 10.0)
    assert nothing_said != same


def test_separation_pushes_images_apart_and_leaves_texts_to_the_positive():
    image, text = unit(6, 8, 0).requires_grad_(), unit(6, 8, 1).requires_grad_()
    losses.separation_loss(image, text, 20.0).backward()
    moved = F.normalize(image - 1e-3 * image.grad, dim=-1).detach()
    before, after = ((x @ x.T).triu(1).sum() for x in (image.detach(), moved))
    assert after < before
    # A text is pulled along its own image only.
    along = F.normalize(text.grad, dim=-1) * F.normalize(image.detach(), dim=-1)
    assert torch.allclose(along.sum(1), -torch.ones(6, dtype=torch.float64))


# --- CyCLIP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7])
def test_cyclic_terms_equal_loops_and_cyclips_code(n):
    image, text, scale = unit(n, 5, 0), unit(n, 5, 1), 37.0
    pairs = [(j, k) for j in range(n) for k in range(n)]
    inner = sum((dot(image[j], image[k]) - dot(text[j], text[k])) ** 2 for j, k in pairs) / n
    cross = sum((dot(image[j], text[k]) - dot(image[k], text[j])) ** 2 for j, k in pairs) / n
    assert losses.cyclic_in_modal_loss(image, text).item() == pytest.approx(inner)
    assert losses.cyclic_cross_modal_loss(image, text).item() == pytest.approx(cross, abs=1e-15)
    # As published: of logits, divided by the squared scale, times the batch.
    logits = scale * image @ text.T
    theirs = (logits - logits.T).square().mean() / scale**2 * n
    torch.testing.assert_close(losses.cyclic_cross_modal_loss(image, text), theirs)


def test_cyclic_terms_vanish_where_the_modalities_agree():
    image = unit(5, 4, 0)
    assert losses.cyclic_in_modal_loss(image, image) == 0
    assert losses.cyclic_cross_modal_loss(image, image).item() == pytest.approx(0, abs=1e-20)
    turned = image @ torch.linalg.qr(unit(4, 4, 3)).Q
    assert losses.cyclic_in_modal_loss(image, turned).item() == pytest.approx(0, abs=1e-12)
    assert losses.cyclic_cross_modal_loss(image, turned) > 0.01


# --- CLOOB ------------------------------------------------------------------------------------


@SIZES
@SCALES
def test_info_loob_leaves_the_positive_out(n, scale):
    a, p = unit(n, 5, 0), unit(n, 5, 1)
    total = 0.0
    for i in range(n):
        row = [scale * dot(a[i], p[j]) for j in range(n)]
        total += log_sum_exp(row[:i] + row[i + 1 :]) - row[i]
    assert losses.info_loob_loss(a, p, scale).item() == pytest.approx(total / n)


def test_info_loob_has_no_value_for_one_pair():
    with pytest.raises(ValueError, match="at least two"):
        losses.info_loob_loss(unit(1, 3, 0), unit(1, 3, 1), 1.0)


def test_hopfield_retrieves_a_weighted_mean_and_in_the_limit_the_nearest():
    state, memory = unit(3, 4, 0), unit(5, 4, 1)
    for beta in (0.0, 2.0):
        for i in range(3):
            weight = [math.exp(beta * dot(state[i], m)) for m in memory]
            mean = sum(w * m for w, m in zip(weight, memory, strict=True)) / sum(weight)
            found = losses.hopfield(state, memory, beta)[i]
            torch.testing.assert_close(found, mean / mean.norm())
    nearest = (state @ memory.T).argmax(1)
    torch.testing.assert_close(losses.hopfield(state, memory, 1e5), memory[nearest])


def test_cloob_equals_its_formula():
    image, text, scale, beta = unit(6, 5, 0), unit(6, 5, 1), 14.3, 8.0
    u_x, u_y = (losses.hopfield(z, image, beta) for z in (image, text))
    v_x, v_y = (losses.hopfield(z, text, beta) for z in (image, text))
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        total += log_sum_exp([scale * dot(u_x[i], u_y[j]) for j in others])
        total += log_sum_exp([scale * dot(v_x[j], v_y[i]) for j in others])
        total -= scale * (dot(u_x[i], u_y[i]) + dot(v_x[i], v_y[i]))
    assert losses.cloob_loss(image, text, scale, beta).item() == pytest.approx(total / 12)


# --- alignment and uniformity -----------------------------------------------------------------


def test_alignment_and_uniformity_agree_with_the_measures():
    image, text = unit(9, 5, 0), unit(9, 5, 1)
    squared = sum(float((x - y).square().sum()) for x, y in zip(image, text, strict=True)) / 9
    assert losses.alignment_loss(image, text).item() == pytest.approx(squared)
    kernel = [
        math.exp(-2 * float((image[i] - image[j]).square().sum()))
        for i in range(9)
        for j in range(i)
    ]
    expected = math.log(sum(kernel) / len(kernel))
    assert losses.uniformity_loss(image).item() == pytest.approx(expected)
    assert losses.uniformity_loss(image).item() == pytest.approx(gap.uniformity(image), rel=1e-5)


def test_equal_rows_are_as_far_from_uniform_as_can_be():
    assert losses.uniformity_loss(unit(1, 3, 0).expand(4, 3)).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="two rows"):
        losses.uniformity_loss(unit(1, 3, 0))


# --- SLIP and Long-CLIP -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_two_views_equal_a_loop(n):
    first, second = unit(n, 4, 0), unit(n, 4, 1)
    views = [*first, *second]
    total = 0.0
    for i, view in enumerate(views):
        logits = [dot(view, other) / 0.1 for other in views]
        own = logits[(i + n) % (2 * n)]
        total += log_sum_exp(logits[:i] + logits[i + 1 :]) - own
    assert losses.two_view_loss(first, second).item() == pytest.approx(total / (2 * n), abs=1e-12)


def test_principal_components_equal_sklearns():
    from sklearn.decomposition import PCA

    rows = unit(40, 8, 0)
    pca = PCA(3, svd_solver="full").fit(rows.numpy())
    rebuilt = torch.from_numpy(pca.inverse_transform(pca.transform(rows.numpy())))
    mine = losses.principal_components(rows, 3)
    torch.testing.assert_close(mine, F.normalize(rebuilt, dim=-1))
    torch.testing.assert_close(losses.principal_components(rows, 8), rows)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: clip_loss(x, y, 5.0),
        lambda x, y: losses.separation_loss(x, y, 5.0, torch.full((4, 4), 0.3)),
        losses.cyclic_in_modal_loss,
        losses.cyclic_cross_modal_loss,
        lambda x, y: losses.cloob_loss(x, y, 5.0, 3.0),
        losses.alignment_loss,
        lambda x, y: losses.uniformity_loss(x) + losses.uniformity_loss(y),
        losses.two_view_loss,
    ],
)
def test_gradients_are_those_of_the_loss_and_the_order_of_pairs_does_not_matter(loss):
    image, text = (unit(4, 3, k).requires_grad_() for k in (0, 1))
    assert torch.autograd.gradcheck(loss, (image, text))
    order = torch.tensor([2, 0, 3, 1])
    assert loss(image[order], text[order]).item() == pytest.approx(loss(image, text).item())


@pytest.mark.parametrize("count", [1, 3])
def test_margin_losses_count_what_is_nearer_than_the_margin(count):
    label, m = torch.tensor([0, 0, 1, 1, 2, 2]), torch.linspace(0.1, 0.4, count)
    image = torch.stack([unit(6, 3, k) for k in range(count)])
    text = torch.stack([unit(3, 3, 9 + k) for k in range(count)])
    between, within = losses.margin_loss(image, text, label, m), []
    for k, (x, t) in enumerate(zip(image, text, strict=True)):
        by_image, by_text, among = [], [], []
        for i, c in enumerate(label.tolist()):
            own = dot(x[i], t[c])
            by_image += [max(0, m[k] - own + dot(x[i], t[j])) for j in range(3) if j != c]
            others = [j for j in range(6) if label[j] != c]
            by_text += [max(0, m[k] - own + dot(x[j], t[c])) for j in others]
            worst = min(dot(x[i], x[j]) for j in range(6) if label[j] == c)
            among += [max(0, 0.2 - worst + dot(x[i], x[j])) for j in others]
        expected = sum(by_image) / len(by_image) + sum(by_text) / len(by_text)
        assert float(between[k]) == pytest.approx(float(expected), abs=1e-6)
        within.append(sum(among) / len(among))
    assert losses.class_margin_loss(image, label, 0.2).tolist() == pytest.approx(within)


def test_margin_losses_are_0_where_the_classes_are_apart():
    label, apart = torch.tensor([0, 0, 1, 1]), torch.eye(2).repeat_interleave(2, 0)
    assert losses.margin_loss(apart, torch.eye(2), label, 0.9) == 0
    assert losses.class_margin_loss(apart, label, 0.9) == 0
    assert losses.margin_loss(apart, torch.eye(2).flip(0), label, 0.0) == 2
