"""How good a trained model is, in figures that compare across models."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.models import VAE
from tfp_vae.models.data_checks import examine
from tfp_vae.objectives.checks import check_likelihood, in_dtype_of
from tfp_vae.substrate import Tensor, jit, tfp_seed

__all__ = ["MarginalLogLikelihood", "marginal_log_likelihood"]

# Rows of the decoder's batch at a time: bounds the memory, whatever the number
# of samples.
_ROWS = 8192


class MarginalLogLikelihood(NamedTuple):
    """Estimates of log p(x), each `[N]`.

    Attributes:
        log_likelihood: nats per example.
        standard_error: of `log_likelihood`, in nats, by the delta method.
        effective_sample_size: (sum w)**2 / sum w**2 of the importance weights.
    """

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray


def marginal_log_likelihood(
    vae: VAE,
    x: Any,
    num_samples: int = 100,
    batch_size: int = 128,
    seed: int = 0,
    verbose: bool = False,
) -> MarginalLogLikelihood:
    """Estimates log p(x) by importance sampling from the posterior.

    ```none
    log p(x) ~ log(1 / S sum_s w_s),   w_s = p(x|z_s) p(z_s) / q(z_s|x)
    ```

    A lower bound on average, tight as S grows.

    Args:
        vae: a `VAE`.
        x: data, `[N, *event]`.
        num_samples: S, draws of z for each example; rounded up to a whole
            number of equal chunks.
        batch_size: examples at a time.
        seed: an int; the same one gives the same estimate.
        verbose: whether to show the progress.

    Returns:
        `MarginalLogLikelihood`.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, or a number is not positive.

    Reference:
        Burda, Grosse, Salakhutdinov. Importance weighted autoencoders. ICLR
        2016. https://arxiv.org/abs/1509.00519
    """
    if min(num_samples, batch_size) < 1:
        raise ValueError(
            "num_samples and batch_size are at least 1. Received: "
            f"num_samples={num_samples}, batch_size={batch_size}."
        )
    x = np.asarray(x)
    if x.dtype == np.float64:
        x = x.astype(keras.config.floatx())  # as `fit` does
    examine(vae, x, None)
    batch_size = min(batch_size, len(x))
    chunks = -(-num_samples // max(_ROWS // batch_size, 1))
    samples = -(-num_samples // chunks)

    @jit
    def log_weights(rows: Tensor, noise: Tensor) -> Tensor:
        return _log_weights(vae, rows, samples, noise)

    generator = keras.random.SeedGenerator(seed)
    progress = keras.utils.Progbar(len(x), verbose=int(verbose))
    parts = []
    for start in range(0, len(x), batch_size):
        rows = x[start : start + batch_size]
        found = len(rows)
        # All batches of one shape, so that one function is compiled.
        padding = [(0, batch_size - found), *[(0, 0)] * (x.ndim - 1)]
        rows = ops.convert_to_tensor(np.pad(rows, padding, mode="edge"))
        log_sum = log_squares = -np.inf
        for _ in range(chunks):
            weights = log_weights(rows, tfp_seed(generator))
            weights = ops.convert_to_numpy(weights).astype("float64")
            log_sum = np.logaddexp(
                log_sum, np.logaddexp.reduce(weights, axis=0)
            )
            log_squares = np.logaddexp(
                log_squares, np.logaddexp.reduce(2 * weights, axis=0)
            )
        parts.append((log_sum[:found], log_squares[:found]))
        progress.add(found)
    log_sum, log_squares = np.concatenate(parts, axis=1)
    total = chunks * samples
    size = np.exp(2 * log_sum - log_squares)
    return MarginalLogLikelihood(
        log_sum - np.log(total),
        np.sqrt(np.maximum(1 / size - 1 / total, 0.0)),
        size,
    )


def _log_weights(vae: VAE, x: Tensor, samples: int, seed: Tensor) -> Tensor:
    """log w, `[S, B]`."""
    posterior = vae.encode(x)
    prior = vae.prior_distribution(posterior)
    z = posterior.sample(samples, seed=seed)
    likelihood = vae.decode(ops.reshape(z, (-1, *z.shape[2:])))
    check_likelihood(likelihood, x, samples)
    x = in_dtype_of(likelihood, x)
    copies = ops.tile(x, (samples, *[1] * (len(x.shape) - 1)))
    log_likelihood = ops.reshape(likelihood.log_prob(copies), (samples, -1))
    return log_likelihood + prior.log_prob(z) - posterior.log_prob(z)
