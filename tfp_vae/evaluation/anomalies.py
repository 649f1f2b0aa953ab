"""How strange examples are to a model, and which of their elements."""

from typing import Any

import numpy as np
from keras import ops

from tfp_vae.checks import check_likelihood, in_dtype_of
from tfp_vae.distributions import log_prob_by_element
from tfp_vae.distributions.observed import complete, is_missing
from tfp_vae.evaluation.batches import averages, prepared
from tfp_vae.evaluation.importance import marginal_log_likelihood
from tfp_vae.evaluation.model import LatentModel, likelihood_of, marker_of
from tfp_vae.latents import draw
from tfp_vae.samples import as_one_batch, copies
from tfp_vae.substrate import Tensor

__all__ = ["anomaly_score"]


def anomaly_score(
    vae: LatentModel,
    x: Any,
    num_samples: int = 100,
    seed: int | None = None,
    per_element: bool = False,
    batch_size: int = 128,
    verbose: bool = False,
    y: Any = None,
) -> np.ndarray:
    """How strange each example is to a model, or each of its elements.

    ```none
    score(x)   = -log p(x)               by importance sampling
    score_i(x) = -E_q(z|x)[log p(x_i|z)]
    ```

    Higher is stranger. A density has no absolute scale, so scores rank the
    examples for one model and one unit of the data: there is no natural
    threshold, and scores may be negative. Scores of the same element compare
    across examples; to compare two elements, first subtract from each its usual
    score, such as its median over the training data.

    The scores of elements say which part of x the model cannot reproduce. They
    do not add up to the score of the example, which also contains the
    strangeness of z: only there does a familiar part in an unfamiliar place
    show.

    Args:
        vae: a `VAE`, or any other `LatentModel`.
        x: data, `[N, *event]`, a dict of them and of conditions, or a pipeline
            of batches `x`, `(x,)` or `(x, y)` that can be iterated several
            times.
        num_samples: draws of z for each example.
        seed: an int for the same scores again, or None.
        per_element: whether to score elements.
        batch_size: examples at a time.
        verbose: whether to show the progress.
        y: the target of the likelihood, `[N, *event]`, by default x; of a
            pipeline, that of its batches.

    Returns:
        `[N]`, or with `per_element` `[N, *event]`, of float64, nats. The score
        of an example with gaps is that of what was observed, and the score of a
        gap is NaN: compare examples with the same gaps. Few samples make the
        score of an example too high: see `marginal_log_likelihood`, whose
        standard error and k-hat show by how much.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, or a number is not positive.
        NotImplementedError: with `per_element`, if elements are not independent
            given z.

    References:
        An, Cho. Variational autoencoder based anomaly detection using
        reconstruction probability. SNU Data Mining Center, 2015.
    """
    if not per_element:
        found = marginal_log_likelihood(
            vae, x, num_samples, batch_size, seed, verbose, y
        )
        return -found.log_likelihood
    examples = prepared(
        vae, x, y, num_samples=num_samples, batch_size=batch_size
    )
    (scores,) = averages(_surprise, vae, examples, num_samples, seed, verbose)
    return scores


def _surprise(
    vae: LatentModel, samples: int, x: Any, y: Tensor, noise: Tensor
) -> tuple[Tensor]:
    """-log p(x_i | z), `[B, *event]`, averaged over z."""
    z = draw(vae.encode(x), (samples,), noise)
    likelihood = likelihood_of(vae, as_one_batch(z), x, samples)
    check_likelihood(likelihood, y, samples)
    y = in_dtype_of(likelihood, y)
    missing = marker_of(vae)
    gaps = None if missing is None else is_missing(y, missing)
    if gaps is not None:
        y = ops.where(gaps, ops.zeros_like(y), y)
    terms = log_prob_by_element(complete(likelihood), copies(y, samples))
    terms = ops.reshape(terms, (samples, *y.shape))
    scores = -ops.sum(terms, axis=0) / samples
    if gaps is not None:
        scores = ops.where(gaps, np.nan, scores)
    return (scores,)
