"""Linear probes: what a linear classifier on frozen embeddings can tell."""

import math
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from lib import validation

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, the inverse of the penalty
VALIDATION = 0.2  # share of the rows to fit that chooses among them
STEPS = 300  # L-BFGS; a fit that has not converged by then is kept as it is


def linear_probe(fit, fit_label, test, test_label, seed: int = 0) -> np.ndarray:
    """(m,) 1.0 where a logistic regression on `fit` (n, d) names the class of a row of `test`.

    Embeddings are L2-normalised and scaled by sqrt(d), so that entries are of order one. The
    penalty is chosen on a random fifth of `fit`, then everything is fitted with it. The mean of
    the result is the accuracy. Source: CLIP (arXiv 2103.00020) section 3.2 and appendix A.3
    (L-BFGS, penalty by validation); AlignCLIP Table 3 uses AdamW for 32 epochs instead.

    Raises: ValueError for bad embeddings or labels, or fewer than 10 rows to fit.
    """
    fit, test = validation.vectors(fit, "fit", minimum=10), validation.vectors(test, "test")
    validation.same_width(fit, test)
    fit_label = validation.labels(fit_label, len(fit), "fit_label")
    test_label = validation.labels(test_label, len(test), "test_label")
    fit, test = (validation.unit(rows) * math.sqrt(rows.shape[1]) for rows in (fit, test))
    order = np.random.default_rng(seed).permutation(len(fit))
    cut = round(VALIDATION * len(fit))
    held, rest = order[:cut], order[cut:]

    best = _best_strength(fit[rest], fit_label[rest], fit[held], fit_label[held])
    model = LogisticRegression(C=best, max_iter=STEPS)
    return (_fit(model, fit, fit_label).predict(test) == test_label).astype(np.float64)


def _best_strength(rows, label, held, held_label) -> float:
    """The strength with the best accuracy on `held`; of equal ones the strongest penalty."""
    model = LogisticRegression(max_iter=STEPS, warm_start=True)  # each fit begins at the last

    def accuracy(strength: float) -> float:
        _fit(model.set_params(C=strength), rows, label)
        return float(np.mean(model.predict(held) == held_label))

    return max(STRENGTHS, key=accuracy)


def _fit(model: LogisticRegression, rows: np.ndarray, label: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, label)
