"""Kullback-Leibler divergences, also between Gaussians of different classes.

TFP looks a divergence up by the pair of classes, so it knows
`Independent(Normal)` against itself but not against `MultivariateNormalDiag`,
although both are the same distribution. Here every class of Gaussian is read as
a location and a scale first; TFP handles everything that is not Gaussian.
"""

from typing import NamedTuple

from keras import ops

from tfp_vae.distributions.by_sample import BySample
from tfp_vae.substrate import Tensor, linalg, tfd

__all__ = ["factorized_kl_divergence", "kl_divergence"]


class _Gaussian(NamedTuple):
    """A Gaussian over vectors, `loc` of shape `batch_shape + [k]`.

    Exactly one of the two scales is given: `diagonal`, `batch_shape + [k]` and
    positive, or `triangular`, `batch_shape + [k, k]`, a Cholesky factor.
    """

    loc: Tensor
    diagonal: Tensor | None = None
    triangular: Tensor | None = None

    def matrix(self) -> Tensor:
        if self.triangular is not None:
            return self.triangular
        diagonal: Tensor = self.diagonal
        return diagonal[..., None] * ops.eye(
            diagonal.shape[-1], dtype=diagonal.dtype
        )

    def log_determinant(self) -> Tensor:
        diagonal = self.diagonal
        if diagonal is None:
            diagonal = ops.diagonal(self.triangular, axis1=-2, axis2=-1)
        return ops.sum(ops.log(ops.abs(diagonal)), axis=-1)


def _as_gaussian(distribution: tfd.Distribution) -> _Gaussian | None:
    """Reads any Gaussian class of TFP, or returns None for anything else."""
    event_shape = tuple(distribution.event_shape)
    if isinstance(distribution, BySample):
        found = _as_gaussian(distribution.distribution)
        if found is None:
            return None
        return _Gaussian(
            *(None if a is None else distribution.by_sample(a) for a in found)
        )
    inner = distribution
    while isinstance(inner, tfd.Independent):
        inner = inner.distribution
    if type(inner) is tfd.Normal and event_shape:
        # `mean` and `stddev` broadcast the parameters to the batch shape.
        loc, scale = inner.mean(), inner.stddev()
        if len(event_shape) > 1:
            shape = (*ops.shape(loc)[: -len(event_shape)], -1)
            loc, scale = ops.reshape(loc, shape), ops.reshape(scale, shape)
        return _Gaussian(loc, diagonal=scale)
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        # Works without a given scale, too. Both broadcast to the batch shape.
        return _Gaussian(distribution.mean(), diagonal=distribution.stddev())
    if inner is distribution and isinstance(
        distribution, tfd.MultivariateNormalLinearOperator
    ):
        scale = distribution.scale
        if isinstance(scale, linalg.LinearOperatorDiag):
            return _Gaussian(
                distribution.mean(), diagonal=ops.abs(scale.diag_part())
            )
        if isinstance(scale, linalg.LinearOperatorLowerTriangular):
            return _Gaussian(distribution.mean(), triangular=scale.to_dense())
    return None


def _factorized(q: _Gaussian, p: _Gaussian) -> Tensor:
    """Per coordinate, for two diagonal scales; no cancellation at q = p."""
    log_ratio = ops.log(q.diagonal) - ops.log(p.diagonal)
    distance = (q.loc - p.loc) / p.diagonal
    return 0.5 * (ops.square(distance) + ops.expm1(2.0 * log_ratio)) - log_ratio


def _triangular(q: _Gaussian, p: _Gaussian) -> Tensor:
    """With W = Lp^-1 Lq: (|W|^2 + |Lp^-1 (mq - mp)|^2 - k) / 2 + log dets."""
    difference = (q.loc - p.loc)[..., None]
    q_matrix = q.matrix()
    if p.diagonal is not None:
        whitened = q_matrix / p.diagonal[..., None]
        distance = difference / p.diagonal[..., None]
    else:
        # One solve for both; the batch shapes must agree for it.
        triangular: Tensor = p.triangular
        batch = ops.shape(difference[..., 0] + triangular[..., 0])[:-1]
        size = q_matrix.shape[-1]
        solution = ops.solve_triangular(
            ops.broadcast_to(triangular, (*batch, size, size)),
            ops.concatenate(
                [
                    ops.broadcast_to(q_matrix, (*batch, size, size)),
                    ops.broadcast_to(difference, (*batch, size, 1)),
                ],
                axis=-1,
            ),
            lower=True,
        )
        whitened, distance = solution[..., :-1], solution[..., -1:]
    squares = ops.sum(ops.square(whitened), axis=(-2, -1))
    squares += ops.sum(ops.square(distance), axis=(-2, -1))
    return (
        0.5 * (squares - q_matrix.shape[-1])
        + p.log_determinant()
        - q.log_determinant()
    )


def _check_event_shapes(q: tfd.Distribution, p: tfd.Distribution) -> None:
    if tuple(q.event_shape) != tuple(p.event_shape):
        raise ValueError(
            "A KL divergence needs two distributions over the same event "
            f"shape. Received: q over {tuple(q.event_shape)} ({q.name}), "
            f"p over {tuple(p.event_shape)} ({p.name})."
        )


def kl_divergence(q: tfd.Distribution, p: tfd.Distribution) -> Tensor:
    """KL(q || p) = E_q[log q(z) - log p(z)] in closed form.

    Knows what TFP's registry knows, and every pair of Gaussians among
    `MultivariateNormalDiag`, `MultivariateNormalTriL` and
    `Independent(Normal)`, however deep the `Independent`s are nested.

    Args:
        q: a distribution.
        p: a distribution over the same event shape; batch shapes broadcast.

    Returns:
        The divergence in nats, of the broadcast batch shape, summed over the
        event dimensions.

    Raises:
        ValueError: if the event shapes differ.
        NotImplementedError: if no closed form is known.
    """
    _check_event_shapes(q, p)
    q_gaussian, p_gaussian = _as_gaussian(q), _as_gaussian(p)
    if q_gaussian is None or p_gaussian is None:
        if isinstance(q, BySample) and isinstance(p, BySample):
            return q.by_sample(kl_divergence(q.distribution, p.distribution))
        if isinstance(q, BySample) and not tuple(p.batch_shape):
            return q.by_sample(kl_divergence(q.distribution, p))
        return tfd.kl_divergence(q, p)
    if q_gaussian.triangular is None and p_gaussian.triangular is None:
        return ops.sum(_factorized(q_gaussian, p_gaussian), axis=-1)
    return _triangular(q_gaussian, p_gaussian)


def factorized_kl_divergence(
    q: tfd.Distribution, p: tfd.Distribution
) -> Tensor:
    """KL(q || p) for each latent coordinate, where both factorise.

    Args:
        q: a distribution.
        p: a distribution over the same event shape.

    Returns:
        The divergences in nats, of shape `batch_shape + [k]`, with k the number
        of coordinates of an event; their sum over the last axis is
        `kl_divergence(q, p)`.

    Raises:
        ValueError: if the event shapes differ.
        NotImplementedError: unless both are Gaussians of diagonal covariance.
    """
    _check_event_shapes(q, p)
    q_gaussian, p_gaussian = _as_gaussian(q), _as_gaussian(p)
    if (
        q_gaussian is None
        or p_gaussian is None
        or q_gaussian.diagonal is None
        or p_gaussian.diagonal is None
    ):
        raise NotImplementedError(
            "The divergence is known coordinate by coordinate only between "
            "Gaussians of diagonal covariance. Received: "
            f"q={type(q).__name__}, p={type(p).__name__}."
        )
    return _factorized(q_gaussian, p_gaussian)
