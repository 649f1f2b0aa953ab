"""Importance sampling of log p(x), with signs of when not to trust it."""

from typing import Any, NamedTuple

import numpy as np

from tfp_vae.checks import check_densities, check_likelihood, in_dtype_of
from tfp_vae.evaluation.batches import chunked, prepared
from tfp_vae.evaluation.model import LatentModel, likelihood_of, prior_of
from tfp_vae.latents import draw, log_prob
from tfp_vae.pareto import pareto_k
from tfp_vae.samples import as_one_batch, log_likelihood_of_samples
from tfp_vae.substrate import Tensor, samplers
from tfp_vae.warn import warn_user

__all__ = ["MarginalLogLikelihood", "marginal_log_likelihood"]

# The k-hat above which an estimate cannot be trusted, and the share of such
# examples above which there is a warning.
_BAD_K = 0.7
_SHARE_WARNED_OF = 0.1

# Nats: a standard error below this does not matter, and may be only rounding.
_ROUNDING = 1e-4


class MarginalLogLikelihood(NamedTuple):
    """Estimates of log p(x), each `[N]`.

    Attributes:
        log_likelihood: nats per example.
        standard_error: of `log_likelihood`, in nats, by the delta method. NaN
            for one sample, which has no spread.
        effective_sample_size: (sum w)**2 / sum w**2 of the importance weights.
        pareto_k: the shape of a generalised Pareto distribution fitted to the
            largest weights. Above 0.7 neither the estimate nor its standard
            error can be trusted: draw more samples, or train a posterior that
            covers more. NaN for fewer than 25 samples.
    """

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray


class _Running:
    """A summary of the weights of a batch of examples, updated by chunks."""

    def __init__(self, total: int) -> None:
        self._sum = self._squares = np.float64(-np.inf)
        self._total = total
        # The largest weights, and the next one, which is the threshold.
        self._kept = min(total // 5, int(3 * np.sqrt(total))) + 1
        self._largest: np.ndarray | None = None

    def add(self, log_weights: np.ndarray) -> None:
        """Takes the log weights of a chunk, `[S, B]`."""
        self._sum = np.logaddexp(
            self._sum, np.logaddexp.reduce(log_weights, axis=0)
        )
        self._squares = np.logaddexp(
            self._squares, np.logaddexp.reduce(2 * log_weights, axis=0)
        )
        if self._largest is not None:
            log_weights = np.concatenate([self._largest, log_weights])
        first = max(len(log_weights) - self._kept, 0)
        self._largest = np.partition(log_weights, first, axis=0)[first:]

    def result(self) -> MarginalLogLikelihood:
        size = np.exp(2 * self._sum - self._squares)
        error = np.sqrt(np.maximum(1 / size - 1 / self._total, 0.0))
        return MarginalLogLikelihood(
            self._sum - np.log(self._total),
            error if self._total > 1 else np.full_like(error, np.nan),
            size,
            pareto_k(np.asarray(self._largest)),
        )


def marginal_log_likelihood(
    vae: LatentModel,
    x: Any,
    num_samples: int = 100,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
    y: Any = None,
) -> MarginalLogLikelihood:
    """Estimates log p(x) by importance sampling from the posterior.

    ```none
    log p(x) ~ log(1 / S sum_s w_s),   w_s = p(x|z_s) p(z_s) / q(z_s|x)
    ```

    It is a lower bound on average, and becomes tight as S grows. It is
    compiled, and its memory does not grow with S.

    Args:
        vae: a `VAE`, or any other `LatentModel`.
        x: data, `[N, *event]`, or a pipeline of batches `x`, `(x,)` or
            `(x, y)` that can be iterated several times.
        num_samples: S, draws of z for each example; rounded up to a whole
            number of equal chunks.
        batch_size: examples at a time.
        seed: an int for the same estimate again, or None.
        verbose: whether to show the progress.
        y: the target of the likelihood, `[N, *event]`, by default x; of a
            pipeline, that of its batches.

    Returns:
        `MarginalLogLikelihood`: for each example the estimate in nats, its
        standard error, the effective sample size, and the Pareto k-hat that
        tells when not to trust the first two. There is a warning if more than a
        tenth of the examples are above 0.7.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do
            not fit the model, or a number is not positive.

    Reference:
        Burda, Grosse, Salakhutdinov. Importance weighted autoencoders. ICLR
        2016. https://arxiv.org/abs/1509.00519
    """
    examples = prepared(
        vae, x, y, num_samples=num_samples, batch_size=batch_size
    )

    parts = []
    for batch, total, chunks in chunked(
        _log_weights, vae, examples, num_samples, seed, verbose
    ):
        running = _Running(total)
        for (weights,) in chunks:
            running.add(weights)
        parts.append([field[: batch.found] for field in running.result()])
    result = MarginalLogLikelihood(
        *map(np.concatenate, zip(*parts, strict=True))
    )
    _warn_of_bad(result.pareto_k, result.standard_error)
    return result


def _warn_of_bad(k: np.ndarray, standard_error: np.ndarray) -> None:
    """Warns where the estimates of many examples cannot be trusted."""
    # Few samples have a NaN and do not count; +inf is the worst, unless equal
    # weights differ only by rounding.
    share = ((k > _BAD_K) & (standard_error > _ROUNDING)).mean()
    if share > _SHARE_WARNED_OF:
        warn_user(
            "An estimate of log p(x) can be trusted where pareto_k is at most "
            f"{_BAD_K}. Received: more in {share:.0%} of {len(k)} examples: "
            "the posterior does not cover enough, and the estimates are too "
            "low. Draw more samples, num_samples=..., or take "
            "tfp_vae.evaluation.annealed_importance_sampling."
        )


def _log_weights(
    vae: LatentModel, samples: int, x: Any, y: Tensor, seed: Tensor
) -> tuple[Tensor]:
    """log w, `[S, B]`."""
    posterior = vae.encode(x)
    prior = prior_of(vae, posterior, x)
    z = draw(posterior, (samples,), seed, keep=True)
    check_densities(posterior, prior, z)
    likelihood = likelihood_of(
        vae, as_one_batch(z), x, samples, samplers.fold_in(seed, 1)
    )
    check_likelihood(likelihood, y, samples)
    log_likelihood = log_likelihood_of_samples(
        in_dtype_of(likelihood, y), likelihood, samples
    )
    return (log_likelihood + log_prob(prior, z) - log_prob(posterior, z),)
