"""A mixture of normals as the prior, fitted once a model is trained."""

from typing import Any

import numpy as np
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.evaluation.batches import chunked, prepared
from tfp_vae.evaluation.model import LatentModel
from tfp_vae.latents import refuse_joint
from tfp_vae.substrate import Tensor, tfd

__all__ = ["aggregate_prior"]

# Expectation maximisation ends when the mean log density rises by less nats, or
# after so many rounds; the covariances have this share of the variance of all
# draws added, so that no component collapses onto one draw.
_TOLERANCE = 1e-4
_ROUNDS = 200
_FLOOR = 1e-4


def aggregate_prior(
    vae: LatentModel,
    x: Any,
    components: int = 10,
    num_samples: int = 1,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
) -> tfd.Distribution:
    """A mixture of normals fitted to the aggregate posterior.

    ```none
    q(z) = 1 / N sum_n q(z|x_n)  ~  sum_k w_k Normal(z; m_k, C_k)
    ```

    The prior that a model was trained with may have mass where no example is,
    so that draws of it decode to nothing like the data. The mixture, by
    expectation maximisation on draws of q(z), has its mass where the decoder
    was trained. Set it, `vae.prior = aggregate_prior(vae, x)`, and `sample` and
    `marginal_log_likelihood` use it; compile the model again before `fit` or
    `evaluate`. Judge it on data that it was not fitted to.

    Args:
        vae: a `VAE` of one vector of continuous latents.
        x: data, as for `marginal_log_likelihood`.
        components: K, at most N.
        num_samples: draws of z for each example.
        batch_size: examples at a time.
        seed: an int for the same mixture again, or None.
        verbose: whether to show the progress.

    Returns:
        `tfd.MixtureSameFamily` of `MultivariateNormalTriL`, of batch shape `[]`
        over `[L]`.

    Raises:
        TypeError, ValueError: if the data do not fit the model, a number is not
            positive, there are fewer draws than components, or z is no vector.
        NotImplementedError: for joint latents.

    Reference:
        Ghosh, Sajjadi, Vergari, Black, Schoelkopf. From variational to
        deterministic autoencoders (ex-post density estimation). ICLR 2020.
        https://arxiv.org/abs/1903.12436
    """
    check_positive_int("components", components)
    examples = prepared(
        vae, x, support=False, num_samples=num_samples, batch_size=batch_size
    )
    drawn = []
    for batch, _, chunks in chunked(
        _draws, vae, examples, num_samples, seed, verbose
    ):
        drawn += [z[:, : batch.found] for (z,) in chunks]
    if drawn[0].ndim != 3:
        raise ValueError(
            "A mixture of normals is one over vectors, [L]. Received: latents "
            f"of shape {drawn[0].shape[2:]}."
        )
    z = np.concatenate([part.reshape(-1, part.shape[-1]) for part in drawn])
    if len(z) < components:
        raise ValueError(
            "A mixture has at most as many components as there are draws. "
            f"Received: components={components}, {len(z)} draws."
        )
    weights, means, scales = _fit(z, components, np.random.default_rng(seed))
    return tfd.MixtureSameFamily(
        tfd.Categorical(probs=ops.convert_to_tensor(weights, "float32")),
        tfd.MultivariateNormalTriL(
            ops.convert_to_tensor(means, "float32"),
            ops.convert_to_tensor(scales, "float32"),
        ),
    )


def _draws(
    vae: LatentModel, samples: int, x: Any, _: Tensor, noise: Tensor
) -> tuple[Tensor]:
    posterior = vae.encode(x)
    refuse_joint(
        posterior,
        "A mixture for the aggregate posterior",
        "Take a learned prior, such as layers.Joint.",
    )
    return (posterior.sample(samples, seed=noise),)


def _fit(
    z: np.ndarray, components: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights `[K]`, means `[K, L]`, Cholesky factors `[K, L, L]`."""
    floor = _FLOOR * max(z.var(axis=0).mean(), 1e-12) * np.eye(z.shape[1])
    distance = ((z[:, None] - _seeds(z, components, generator)) ** 2).sum(-1)
    share = np.eye(components)[distance.argmin(axis=1)]
    last = -np.inf
    for _ in range(_ROUNDS):
        counts = share.sum(axis=0) + 1e-10
        means = share.T @ z / counts[:, None]
        apart = z[:, None] - means
        covariance = np.einsum("nk,nki,nkj->kij", share, apart, apart)
        scales = np.linalg.cholesky(covariance / counts[:, None, None] + floor)
        weights = counts / counts.sum()
        log_joint = np.log(weights) + _log_normal(apart, scales)
        log_density = np.logaddexp.reduce(log_joint, axis=1)
        share = np.exp(log_joint - log_density[:, None])
        if log_density.mean() - last < _TOLERANCE:
            break
        last = log_density.mean()
    return weights, means, scales


def _seeds(
    z: np.ndarray, components: int, generator: np.random.Generator
) -> np.ndarray:
    """First means far from each other: k-means++."""
    chosen = [z[generator.integers(len(z))]]
    for _ in range(components - 1):
        nearest = ((z[:, None] - np.stack(chosen)) ** 2).sum(-1).min(axis=1)
        total = nearest.sum()
        chances = nearest / total if total > 0 else None
        chosen.append(z[generator.choice(len(z), p=chances)])
    return np.stack(chosen)


def _log_normal(apart: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Log densities `[N, K]` of what is `[N, K, L]` from the means."""
    white = np.linalg.solve(scales, apart.transpose(1, 2, 0))
    logs = np.log(np.diagonal(scales, axis1=1, axis2=2)).sum(axis=1)
    size = apart.shape[2] * np.log(2 * np.pi)
    return -0.5 * ((white**2).sum(axis=1).T + size) - logs
