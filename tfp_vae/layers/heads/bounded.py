"""Families between 0 and 1 and on the circle, the same for every element."""

from typing import Any

import keras

from tfp_vae.distributions import Bernoulli
from tfp_vae.layers.heads.independent_layer import IndependentLayer, Mode
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "IndependentBernoulli",
    "IndependentBeta",
    "IndependentContinuousBernoulli",
    "IndependentVonMises",
]


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentBernoulli(IndependentLayer):
    """Independent Bernoulli variables, from logits.

    For data that are 0 or 1. Grey levels are not outcomes of a Bernoulli:
    binarise them, or take another likelihood, such as
    `IndependentContinuousBernoulli`.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: of no effect, since nothing here must be positive.
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
        # back into a network unchanged.
        return Bernoulli(logits=logits, dtype=logits.dtype)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentContinuousBernoulli(IndependentLayer):
    """Independent continuous Bernoulli variables, from logits.

    For grey levels from 0 to 1, both included: binary cross-entropy with the
    constant that makes it a density.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: of no effect, since nothing here must be positive.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logits l, of the density proportional to exp(l x); flat or
            channels last.

    Returns:
        `tfd.Independent(tfd.ContinuousBernoulli)` over `event_shape`.

    Raises:
        ValueError: if the inputs are of the wrong width.

    Reference:
        Loaiza-Ganem, Cunningham. The continuous Bernoulli: fixing a pervasive
        error in variational autoencoders. NeurIPS 2019.
        https://arxiv.org/abs/1907.06845
    """

    family = tfd.ContinuousBernoulli
    parameters = ("logits",)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentBeta(IndependentLayer):
    """Independent beta variables.

    For proportions between 0 and 1, both excluded: at the ends the density is 0
    or infinite. Move data that reach them inside, by half their resolution.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        concentration1: the exponent of x, plus 1 (alpha); by default
            `"learned"`, or `"shared"` or a number.
        concentration0: the exponent of 1 - x, plus 1 (beta); likewise.
        min_scale: the floor of both.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: raw `concentration1`, then raw `concentration0`, of those that
            are learned; flat or channels last.

    Returns:
        `tfd.Independent(tfd.Beta)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = tfd.Beta
    parameters = ("concentration1", "concentration0")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        concentration1: Mode = "learned",
        concentration0: Mode = "learned",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            concentration1=concentration1,
            concentration0=concentration0,
            **kwargs,
        )


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentVonMises(IndependentLayer):
    """Independent von Mises variables: the normal of the circle.

    For angles in radians; angles that differ by 2 pi are the same. The mean is
    the mean direction, `loc` as it comes from the network; draws lie between
    -pi and pi.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        concentration: about one over the variance, in 1 / radian**2; by default
            `"learned"`, or `"shared"` or a number.
        min_scale: the floor of the concentration.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw concentrations if learned; flat or channels
            last.

    Returns:
        `tfd.Independent(tfd.VonMises)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = tfd.VonMises
    parameters = ("loc", "concentration")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        concentration: Mode = "learned",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            concentration=concentration,
            **kwargs,
        )
