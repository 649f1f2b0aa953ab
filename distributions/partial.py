"""Distributions whose outcome was observed in part.

For each kind that can leave elements out: the log density of the observed
elements, and the mean and draws of the others given these.
"""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.scalar import class_probs, inside, location
from tfp_vae.substrate import Tensor, dtype_util, samplers, tfd

__all__ = ["Partial", "partial"]


class Partial:
    """A distribution whose methods take a mask.

    In all methods x is `[..., *event]`, `observed` a tensor of bools of that
    shape, and the value of an element that is not observed does not matter.
    """

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        """The log density of what was observed, `[...]`, nats."""
        raise NotImplementedError

    def statistics(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        """The mean of each element given the observed ones.

        For a categorical element, the probabilities of its classes.
        """
        raise NotImplementedError

    def values(self, statistics: Iterator[np.ndarray]) -> np.ndarray:
        """Each element according to averages of `statistics`, `[..., *event]`.

        The mean, or the most probable class.
        """
        return next(statistics)

    def draw(self, x: Tensor, observed: Tensor, seed: Tensor) -> Tensor:
        """A draw of the elements given the observed ones, `[..., *event]`."""
        raise NotImplementedError


def partial(distribution: tfd.Distribution) -> Partial:
    """The `Partial` of a distribution.

    Args:
        distribution: over scalars; `Independent` of such, at any depth; a
            multivariate normal; a `OneHotCategorical`; a `Composite`, or a
            mixture, of any of these.

    Returns:
        Its `Partial`.

    Raises:
        ValueError: for any other, with the reason.
    """
    if not tuple(distribution.event_shape):
        return _Element(distribution)
    if isinstance(distribution, tfd.Independent):
        return _Product(distribution)
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        # Both broadcast to the batch shape.
        normal = tfd.Normal(distribution.mean(), distribution.stddev())
        return _Product(tfd.Independent(normal, 1))
    if isinstance(distribution, tfd.MultivariateNormalLinearOperator):
        return _Gaussian(distribution)
    if isinstance(
        distribution, tfd.MultivariateNormalDiagPlusLowRankCovariance
    ):
        return _LowRankGaussian(distribution)
    if isinstance(distribution, tfd.OneHotCategorical):
        return _OneHot(distribution)
    if isinstance(distribution, tfd.MixtureSameFamily):
        return _Mixture(distribution)
    if hasattr(distribution, "columns") and hasattr(
        distribution, "distributions"
    ):
        return _Blocks(distribution)
    raise ValueError(
        "Data may have missing elements only if the likelihood can leave "
        "them out: elements that are independent given z (tfd.Independent, "
        "Composite, mixtures of them), a multivariate normal, or a "
        f"OneHotCategorical. {type(distribution).__name__} has no density of "
        f"some of its elements that is known. Received: {distribution.name} "
        f"over {tuple(distribution.event_shape)}. Take another likelihood, or "
        "data without gaps."
    )


class _Element(Partial):
    """A distribution over scalars."""

    def __init__(self, distribution: tfd.Distribution) -> None:
        self._distribution = distribution

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        # A missing element must have a finite density, or its zero gradient
        # would be multiplied by infinity.
        harmless = ops.cast(
            ops.stop_gradient(inside(self._distribution)),
            keras.backend.standardize_dtype(x.dtype),
        )
        log_prob = self._distribution.log_prob(ops.where(observed, x, harmless))
        return ops.where(observed, log_prob, 0.0)

    def statistics(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        probs = class_probs(self._distribution)
        return [location(self._distribution) if probs is None else probs]

    def values(self, statistics: Iterator[np.ndarray]) -> np.ndarray:
        values = next(statistics)
        is_class = class_probs(self._distribution) is not None
        return values.argmax(axis=-1) if is_class else values

    def draw(self, x: Tensor, observed: Tensor, seed: Tensor) -> Tensor:
        return ops.cast(
            self._distribution.sample(seed=seed),
            keras.backend.standardize_dtype(x.dtype),
        )


class _Product(Partial):
    """`tfd.Independent`."""

    def __init__(self, distribution: tfd.Independent) -> None:
        inner = distribution.distribution
        self._inner = partial(inner)
        self._summed = len(distribution.event_shape) - len(inner.event_shape)

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        log_prob = self._inner.log_prob(x, observed)
        return ops.sum(log_prob, axis=tuple(range(-self._summed, 0)))

    def statistics(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        return self._inner.statistics(x, observed)

    def values(self, statistics: Iterator[np.ndarray]) -> np.ndarray:
        return self._inner.values(statistics)

    def draw(self, x: Tensor, observed: Tensor, seed: Tensor) -> Tensor:
        return self._inner.draw(x, observed, seed)


class _Gaussian(Partial):
    """A multivariate normal: the marginal, and the conditional of the others.

    ```none
    log p(x_o) = log Normal(x_o; m_o, C_oo)
    E[x | x_o] = m + C_:o inv(C_oo) (x_o - m_o)
    ```

    Rows and columns of missing elements are those of the identity.
    """

    def __init__(self, distribution: tfd.Distribution) -> None:
        self._distribution = distribution

    def _solved(
        self, x: Tensor, observed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The Cholesky factor of C_oo, the residual, and its whitened form."""
        covariance = self._distribution.covariance()
        dtype = keras.backend.standardize_dtype(covariance.dtype)
        mask = ops.cast(observed, dtype)
        size = covariance.shape[-1]
        masked = covariance * mask[..., :, None] * mask[..., None, :]
        masked += ops.eye(size, dtype=dtype) * (1 - mask)[..., None]
        factor = ops.cholesky(masked)
        mean = self._distribution.mean()
        residual = ops.where(observed, x, mean) - mean
        white = ops.solve_triangular(factor, residual[..., None], lower=True)
        return factor, mask, white

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        factor, mask, white = self._solved(x, observed)
        log_scale = ops.sum(
            ops.log(ops.diagonal(factor, axis1=-2, axis2=-1)), axis=-1
        )
        count = ops.sum(mask, axis=-1)
        return (
            -0.5 * ops.sum(ops.square(white[..., 0]), axis=-1)
            - log_scale
            - 0.5 * math.log(2.0 * math.pi) * count
        )

    def _shift(self, x: Tensor, observed: Tensor) -> Tensor:
        """C_:o inv(C_oo) (x_o - m_o)."""
        factor, mask, white = self._solved(x, observed)
        transposed = ops.swapaxes(factor, -1, -2)
        weights = ops.solve_triangular(transposed, white, lower=False)
        weights *= mask[..., None]
        return ops.matmul(self._distribution.covariance(), weights)[..., 0]

    def statistics(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        return [self._distribution.mean() + self._shift(x, observed)]

    def draw(self, x: Tensor, observed: Tensor, seed: Tensor) -> Tensor:
        # Matheron's rule: a draw, corrected by its error at what was observed.
        drawn = self._distribution.sample(seed=seed)
        mean = self._distribution.mean()
        return drawn + self._shift(
            mean + ops.where(observed, x, drawn) - drawn, observed
        )


class _LowRankGaussian(_Gaussian):
    """A normal of covariance D + U U': x = m + U f + noise, f factors.

    ```none
    E[f | x_o] = inv(I + U_o' inv(D_oo) U_o) U_o' inv(D_oo) (x_o - m_o)
    ```

    The covariance itself is not positive definite in float32 where the factors
    are large compared with D.
    """

    def _parts(self, observed: Tensor) -> tuple[Tensor, Tensor]:
        """D and U of what was observed; 1 and 0 elsewhere."""
        diagonal = ops.convert_to_tensor(self._distribution.cov_diag_factor)
        factors = ops.convert_to_tensor(self._distribution.cov_perturb_factor)
        return (
            ops.where(observed, diagonal, ops.ones_like(diagonal)),
            ops.where(observed[..., None], factors, ops.zeros_like(factors)),
        )

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        diagonal, factors = self._parts(observed)
        mean = self._distribution.mean()
        observed_part = tfd.MultivariateNormalDiagPlusLowRankCovariance(
            mean, diagonal, factors
        )
        log_prob = observed_part.log_prob(ops.where(observed, x, mean))
        dtype = keras.backend.standardize_dtype(log_prob.dtype)
        gaps = ops.sum(ops.cast(ops.logical_not(observed), dtype), axis=-1)
        return log_prob + 0.5 * math.log(2.0 * math.pi) * gaps

    def _shift(self, x: Tensor, observed: Tensor) -> Tensor:
        diagonal, factors = self._parts(observed)
        mean = self._distribution.mean()
        residual = ops.where(observed, x, mean) - mean
        weighted = ops.swapaxes(factors / diagonal[..., None], -1, -2)
        precision = ops.matmul(weighted, factors)
        precision += ops.eye(precision.shape[-1], dtype=precision.dtype)
        found = ops.solve(precision, ops.matmul(weighted, residual[..., None]))
        every = ops.convert_to_tensor(self._distribution.cov_perturb_factor)
        return ops.where(observed, residual, ops.matmul(every, found)[..., 0])


class _OneHot(Partial):
    """A one-hot vector: the missing elements share the mass that is left."""

    def __init__(self, distribution: tfd.OneHotCategorical) -> None:
        self._log_probs = ops.log_softmax(distribution.logits_parameter())

    def _rest(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """The mass that is left, and where it may be, as log weights."""
        x = ops.cast(x, self._log_probs.dtype)
        left = 1.0 - ops.sum(ops.where(observed, x, 0.0), axis=-1)
        low = ops.full_like(self._log_probs, -1e30)
        return left, ops.where(observed, low, self._log_probs)

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        left, weights = self._rest(x, observed)
        x = ops.cast(x, self._log_probs.dtype)
        seen = ops.where(observed, x * self._log_probs, 0.0)
        every = ops.all(observed, axis=-1)
        rest = ops.where(every, 0.0, ops.logsumexp(weights, axis=-1))
        return ops.sum(seen, axis=-1) + left * rest

    def statistics(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        left, weights = self._rest(x, observed)
        return [left[..., None] * ops.softmax(weights, axis=-1)]

    def values(self, statistics: Iterator[np.ndarray]) -> np.ndarray:
        probs = next(statistics)
        best = probs.argmax(axis=-1)[..., None]
        hot = np.arange(probs.shape[-1]) == best
        return hot * (probs.sum(axis=-1, keepdims=True) > 0.5)

    def draw(self, x: Tensor, observed: Tensor, seed: Tensor) -> Tensor:
        left, weights = self._rest(x, observed)
        dtype = keras.backend.standardize_dtype(x.dtype)
        drawn = tfd.OneHotCategorical(logits=weights).sample(seed=seed)
        return ops.cast(drawn, dtype) * ops.cast(left, dtype)[..., None]


class _Mixture(Partial):
    """`tfd.MixtureSameFamily`: the observed elements weigh the components."""

    def __init__(self, distribution: tfd.MixtureSameFamily) -> None:
        components = distribution.components_distribution
        self._inner = partial(components)
        self._event = len(components.event_shape)
        self._log_weights = ops.log_softmax(
            distribution.mixture_distribution.logits_parameter()
        )

    def _each(self, x: Tensor) -> Tensor:
        """x with a dimension for the components."""
        return ops.expand_dims(x, -1 - self._event)

    def _joint(self, x: Tensor, observed: Tensor) -> Tensor:
        log_probs = self._inner.log_prob(self._each(x), self._each(observed))
        return self._log_weights + log_probs

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        return ops.logsumexp(self._joint(x, observed), axis=-1)

    def statistics(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        weights = ops.softmax(self._joint(x, observed), axis=-1)
        each = self._inner.statistics(self._each(x), self._each(observed))
        return [_weighted(weights, statistic) for statistic in each]

    def values(self, statistics: Iterator[np.ndarray]) -> np.ndarray:
        return self._inner.values(statistics)

    def draw(self, x: Tensor, observed: Tensor, seed: Tensor) -> Tensor:
        component, inside = samplers.split_seed(seed)
        joint = self._joint(x, observed)
        chosen = tfd.Categorical(logits=joint).sample(seed=component)
        hot = ops.one_hot(chosen, joint.shape[-1], dtype=joint.dtype)
        each = self._inner.draw(self._each(x), self._each(observed), inside)
        return ops.cast(_weighted(hot, each), each.dtype)


def _weighted(weights: Tensor, each: Tensor) -> Tensor:
    """The sum over components, `[..., K]` before `[..., K, *event]`."""
    axis = len(weights.shape) - 1
    shape = [*ops.shape(weights), *[1] * (len(each.shape) - axis - 1)]
    # By Keras, which converts integers to the dtype of the weights.
    return ops.sum(ops.multiply(ops.reshape(weights, shape), each), axis=axis)


class _Blocks(Partial):
    """`Composite`: columns of several kinds."""

    def __init__(self, distribution: Any) -> None:
        self._parts = [
            (partial(block), np.array(columns), block)
            for block, columns in zip(
                distribution.distributions, distribution.columns, strict=True
            )
        ]
        order = [c for columns in distribution.columns for c in columns]
        self._order = np.argsort(order)

    def _split(
        self, x: Tensor, observed: Tensor
    ) -> Iterator[tuple[Partial, Tensor, Tensor]]:
        for part, columns, block in self._parts:
            some, mask = (ops.take(t, columns, axis=-1) for t in (x, observed))
            if not tuple(block.event_shape):
                some, mask = some[..., 0], mask[..., 0]
            if dtype_util.is_floating(block.dtype):
                dtype = keras.backend.standardize_dtype(block.dtype)
                some = ops.cast(some, dtype)
            yield part, some, mask

    def log_prob(self, x: Tensor, observed: Tensor) -> Tensor:
        dtype = keras.backend.standardize_dtype(x.dtype)
        return sum(
            ops.cast(part.log_prob(some, mask), dtype)
            for part, some, mask in self._split(x, observed)
        )

    def statistics(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        return [
            statistic
            for part, some, mask in self._split(x, observed)
            for statistic in part.statistics(some, mask)
        ]

    def values(self, statistics: Iterator[np.ndarray]) -> np.ndarray:
        found = []
        for part, _, block in self._parts:
            values = part.values(statistics)
            found.append(
                values if tuple(block.event_shape) else values[..., None]
            )
        return np.concatenate(found, axis=-1)[..., self._order]

    def draw(self, x: Tensor, observed: Tensor, seed: Tensor) -> Tensor:
        seeds = samplers.split_seed(seed, n=len(self._parts))
        dtype = keras.backend.standardize_dtype(x.dtype)
        found = []
        for i, (part, some, mask) in enumerate(self._split(x, observed)):
            drawn = ops.cast(part.draw(some, mask, seeds[i]), dtype)
            block = self._parts[i][2]
            found.append(
                drawn if tuple(block.event_shape) else drawn[..., None]
            )
        row = ops.concatenate(found, axis=-1)
        return ops.take(row, self._order, axis=-1)
