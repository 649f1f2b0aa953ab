"""One family a layer, the same for every element of an event."""

import math
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions import Bernoulli, Huber
from tfp_vae.layers.independent_layer import IndependentLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "IndependentBernoulli",
    "IndependentHuber",
    "IndependentLaplace",
    "IndependentNormal",
]


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentBernoulli(IndependentLayer):
    """Independent Bernoulli variables, from logits.

    For data that are 0 or 1. Grey levels are no outcome of a Bernoulli:
    binarise them, or take another likelihood.

    Args:
        event_shape: int or tuple of ints.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logits, `[..., params_size]` or `[..., *event_shape]`.

    Returns:
        `tfd.Independent(tfd.Bernoulli)` over `event_shape`, of float dtype.

    Raises:
        ValueError: if the inputs are of the wrong width.
    """

    parameters = ("logits",)

    def element_distribution(self, logits: Tensor) -> tfd.Distribution:
        # The dtype of the parameters, as in tfp.layers: draws and data can go
        # back into a network as they are.
        return Bernoulli(logits=logits, dtype=logits.dtype)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentNormal(IndependentLayer):
    """Independent normal variables: squared error as a likelihood.

    Args:
        event_shape: int or tuple of ints.
        scale: `"learned"`, `"shared"`, `"optimal"` (the root mean squared
            residual) or a number, in the units of the data.
        min_scale: the floor of the scale. Where a network can reproduce an
            element exactly, the scale falls to it, and the likelihood rises
            without telling anything: raise the floor to the resolution of the
            data, or share the scale.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales if learned; flat or channels last.

    Returns:
        `tfd.Independent(tfd.Normal)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    parameters = ("loc", "scale")
    positive = {"scale": "learned"}

    def element_distribution(
        self, loc: Tensor, scale: Tensor
    ) -> tfd.Distribution:
        return tfd.Normal(loc, scale)

    def optimal_scale(self, residual: Tensor) -> Tensor:
        return ops.sqrt(ops.mean(ops.square(residual)))


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentLaplace(IndependentLayer):
    """Independent Laplace variables: absolute error as a likelihood.

    Args:
        event_shape: int or tuple of ints.
        scale: `"learned"`, `"shared"`, `"optimal"` (the mean absolute residual)
            or a number, in the units of the data.
        min_scale: the floor of the scale.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales if learned; flat or channels last.

    Returns:
        `tfd.Independent(tfd.Laplace)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    parameters = ("loc", "scale")
    positive = {"scale": "learned"}

    def element_distribution(
        self, loc: Tensor, scale: Tensor
    ) -> tfd.Distribution:
        return tfd.Laplace(loc, scale)

    def optimal_scale(self, residual: Tensor) -> Tensor:
        return ops.mean(ops.abs(residual))


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentHuber(IndependentLayer):
    """Independent Huber variables: the Huber loss as a likelihood.

    Args:
        event_shape: int or tuple of ints.
        scale: `"learned"`, `"shared"`, `"optimal"` or a number, in the units of
            the data.
        delta: the threshold in units of the scale, by default 1; `"learned"`,
            `"shared"` or a number. With `scale="optimal"` it must be a number.
        min_scale: the floor of scale and threshold.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales, then raw thresholds, of those that
            are learned; flat or channels last.

    Returns:
        `tfd.Independent(Huber)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    parameters = ("loc", "scale", "delta")
    positive = {"scale": "learned", "delta": 1.0}

    def __init__(self, event_shape: Any, **kwargs: Any) -> None:
        super().__init__(event_shape, **kwargs)
        if self.modes["scale"] == "optimal" and isinstance(
            self.modes["delta"], str
        ):
            raise ValueError(
                "The optimal scale of a Huber is worked out for a known "
                'threshold: with scale="optimal", delta must be a number. '
                f"Received: delta={self.modes['delta']!r}."
            )

    def element_distribution(
        self, loc: Tensor, scale: Tensor, delta: Tensor
    ) -> tfd.Distribution:
        return Huber(loc, scale, delta)

    def optimal_scale(self, residual: Tensor) -> Tensor:
        """Solves mean(min(u**2, delta u)) = 1 for u = |r| / scale.

        Newton's method on the logarithm of both sides, in which the slope lies
        between -2 (all residuals in the centre) and -1 (all in the tails).
        """
        delta = ops.cast(self.modes["delta"], residual.dtype)
        size = ops.abs(residual)
        floor = math.log(self.min_scale)
        log_scale = ops.log(
            ops.sqrt(ops.mean(ops.square(size))) + self.min_scale
        )
        for _ in range(8):
            u = size * ops.exp(-log_scale)
            centre = ops.mean(ops.where(u <= delta, ops.square(u), 0.0))
            both = ops.mean(u * ops.minimum(u, delta))
            step = ops.log(ops.maximum(both, 1e-30)) * both
            log_scale += step / ops.maximum(both + centre, 1e-30)
            log_scale = ops.maximum(log_scale, floor)
        return ops.exp(log_scale)
