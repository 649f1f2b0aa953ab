"""The distribution of missing elements given the observed ones."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.checks import check_likelihood, in_dtype_of
from tfp_vae.distributions.observed import Observed
from tfp_vae.evaluation.batches import chunked, prepared
from tfp_vae.evaluation.model import (
    LatentModel,
    likelihood_of,
    marker_of,
    prior_of,
)
from tfp_vae.latents import draw, log_prob
from tfp_vae.samples import as_one_batch, copies, log_likelihood_of_samples
from tfp_vae.substrate import Tensor, samplers
from tfp_vae.training.data import observed

__all__ = ["impute"]


def impute(
    vae: LatentModel,
    x: Any,
    num_samples: int = 1000,
    draws: int | None = None,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
) -> np.ndarray:
    """Fills the gaps of data.

    ```none
    E[x_m | x_o] ~ sum_s v_s E[x_m | x_o, z_s],    v_s = w_s / sum w
    w_s = p(x_o|z_s) p(z_s) / q(z_s|x_o),          z_s ~ q(z|x_o)
    ```

    where x_o is what was observed and x_m what is missing. This is
    self-normalised importance sampling, whose bias falls as 1 / S. Draws come
    from sampling importance resampling: z_s with probability v_s, then x_m from
    p(x_m | x_o, z_s). With a `missing_model`, w_s has another factor, p(mask |
    x_o, x_m), and a draw of x_m replaces its mean.

    Memory does not grow with `num_samples`.

    Args:
        vae: a `VAE` with `missing_values`.
        x: data, `[N, *event]`, a dict of them and of conditions, or a pipeline
            of batches that can be iterated several times.
        num_samples: S, draws of z for each example; rounded up to a whole
            number of equal chunks.
        draws: how many draws to return, with replacement; None for the mean.
            Take several times as many samples.
        batch_size: examples at a time.
        seed: an int for the same result again, or None.
        verbose: whether to show the progress.

    Returns:
        x with its gaps filled, `[N, *event]`: by the mean, or the most probable
        class of a categorical element. With `draws` m, `[m, N, *event]`.
        Observed values are unchanged. The dtype is floating.

    Raises:
        TypeError, ValueError: if the model has no `missing_values`, the data do
            not fit it, or a number is not positive.

    References:
        Mattei, Frellsen. MIWAE: deep generative modelling and imputation of
        incomplete data sets. ICML 2019 (equations 12 and 13).
        https://arxiv.org/abs/1812.02633
        Ipsen, Mattei, Frellsen. not-MIWAE: deep generative modelling with
        missing not at random data. ICLR 2021. https://arxiv.org/abs/2006.12871
    """
    missing = marker_of(vae)
    if missing is None:
        raise ValueError(
            "Gaps are filled by a model that knows what marks them. Received: "
            f"{type(vae).__name__} without missing_values. Make it with "
            "VAE(..., missing_values=np.nan)."
        )
    if draws is not None:
        check_positive_int("draws", draws)
    examples = prepared(vae, x, num_samples=num_samples, batch_size=batch_size)
    is_drawn = _is_drawn(vae)
    function = _means if draws is None else _candidates
    generator = np.random.default_rng(seed)
    first: Any = examples.likelihood_of_first(vae)
    parts, data = [], []
    for batch, _, chunks in chunked(
        function, vae, examples, num_samples, seed, verbose
    ):
        # The rows of this same pass: the next one may have another order.
        data.append(ops.convert_to_numpy(batch.y)[: batch.found])
        if draws is not None:
            parts.append(_resampled(chunks, draws, generator)[:, : batch.found])
            continue
        averages = (a[: batch.found] for a in _averaged(chunks))
        parts.append(next(averages) if is_drawn else first.values(averages))
    known = np.concatenate(data)
    filled = np.concatenate(parts, axis=0 if draws is None else 1)
    whole = np.where(observed(known, missing), known, filled)
    return whole.astype(keras.config.floatx())


def _is_drawn(vae: LatentModel) -> bool:
    """Whether the weights need a draw of what is missing."""
    return getattr(vae, "missing_model", None) is not None


def _weighted(
    vae: LatentModel, samples: int, x: Any, y: Tensor, noise: Tensor
) -> tuple[Observed, Tensor, Tensor]:
    """The likelihood and data of all samples, and log w, `[S, B]`."""
    posterior = vae.encode(x)
    prior = prior_of(vae, posterior, x)
    z = draw(posterior, (samples,), noise, keep=True)
    likelihood = likelihood_of(
        vae, as_one_batch(z), x, samples, samplers.fold_in(noise, 1)
    )
    check_likelihood(likelihood, y, samples)
    data = in_dtype_of(likelihood, y)
    log_weights = (
        log_likelihood_of_samples(data, likelihood, samples)
        + log_prob(prior, z)
        - log_prob(posterior, z)
    )
    return likelihood, copies(data, samples), log_weights


def _means(
    vae: LatentModel, samples: int, x: Any, y: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    """The logarithm of the mass of a chunk, and its weighted averages."""
    likelihood, data, log_weights = _weighted(vae, samples, x, y, noise)
    # The same draw that gave the probability of the mask is weighted.
    each = (
        [likelihood.complete(data)]
        if _is_drawn(vae)
        else likelihood.statistics(data)
    )
    weights = ops.softmax(log_weights, axis=0)
    return ops.logsumexp(log_weights, axis=0), *(
        _average(weights, statistic) for statistic in each
    )


def _candidates(
    vae: LatentModel, samples: int, x: Any, y: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    """Log weights, `[S, B]`, and the data as each sample completes them."""
    likelihood, data, log_weights = _weighted(vae, samples, x, y, noise)
    own = None if _is_drawn(vae) else samplers.fold_in(noise, 2)
    drawn = likelihood.complete(data, own)
    return log_weights, ops.reshape(drawn, (samples, -1, *drawn.shape[1:]))


def _average(weights: Tensor, each: Tensor) -> Tensor:
    """Over samples: weights `[S, B]`, values `[S * B, ...]`."""
    samples = weights.shape[0]
    each = ops.reshape(each, (samples, -1, *each.shape[1:]))
    ones = [1] * (len(each.shape) - 2)
    weights = ops.reshape(weights, (samples, -1, *ones))
    # Keras multiplies in a common dtype: integers must not round the weights.
    return ops.sum(ops.multiply(weights, each), axis=0)


def _averaged(chunks: Iterator[list[np.ndarray]]) -> list[np.ndarray]:
    """The averages over all chunks, weighted by the mass of each."""
    total, *sums = next(chunks)
    for mass, *terms in chunks:
        new = np.logaddexp(total, mass)
        sums = [
            _times(np.exp(total - new), a) + _times(np.exp(mass - new), b)
            for a, b in zip(sums, terms, strict=True)
        ]
        total = new
    return sums


def _times(factor: np.ndarray, values: np.ndarray) -> np.ndarray:
    return factor.reshape(-1, *[1] * (values.ndim - 1)) * values


def _resampled(
    chunks: Iterator[list[np.ndarray]],
    draws: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draws from weighted candidates that come chunk by chunk, `[m, B, ...]`.

    A draw is kept with the share of the mass of all earlier chunks: this
    samples from all candidates.
    """
    total: Any = -np.inf
    kept: Any = None
    for log_weights, candidates in chunks:
        mass = np.logaddexp.reduce(log_weights, axis=0)
        cumulative = np.exp(log_weights - mass).cumsum(axis=0)
        count = log_weights.shape[1]
        level = generator.random((draws, count)) * cumulative[-1]
        chosen = (cumulative[:, None] < level).sum(axis=0)
        new = candidates[chosen, np.arange(count)]
        total = np.logaddexp(total, mass)
        takes = generator.random((draws, count)) < np.exp(mass - total)
        takes = takes.reshape(*takes.shape, *[1] * (new.ndim - 2))
        kept = new if kept is None else np.where(takes, new, kept)
    return kept
