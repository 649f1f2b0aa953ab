"""Families on the real line, the same for every element of an event."""

from typing import Any

import keras
from keras import ops

from tfp_vae.distributions import Barron, Huber
from tfp_vae.layers.heads.independent_layer import Mode
from tfp_vae.layers.heads.location_scale import LocationScaleLayer
from tfp_vae.reduction import mean
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "IndependentBarron",
    "IndependentCauchy",
    "IndependentHuber",
    "IndependentLaplace",
    "IndependentLogistic",
    "IndependentNormal",
    "IndependentStudentT",
]


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentNormal(LocationScaleLayer):
    """Independent normal variables: squared error as a likelihood.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        scale: `"learned"`, `"shared"`, `"optimal"` (the root mean squared
            residual) or a number, in the units of the data.
        min_scale: the floor of the scale. Where a network can reproduce an
            element exactly, the scale falls to this floor, and the higher
            likelihood means nothing: raise the floor to the resolution of the
            data, or share the scale.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales if learned; flat or channels last.

    Returns:
        `tfd.Independent(tfd.Normal)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = tfd.Normal

    def optimal_scale(self, residual: Tensor) -> Tensor:
        return ops.sqrt(mean(ops.square(residual)))


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentLaplace(LocationScaleLayer):
    """Independent Laplace variables: absolute error as a likelihood.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
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

    family = tfd.Laplace

    def optimal_scale(self, residual: Tensor) -> Tensor:
        return mean(ops.abs(residual))


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentLogistic(LocationScaleLayer):
    """Independent logistic variables: nearly normal, with exponential tails.

    For real data with a few moderate outliers. The standard deviation is
    pi / sqrt(3) scales.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        scale: `"learned"`, `"shared"`, `"optimal"` or a number, in the units of
            the data.
        min_scale: the floor of the scale.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales if learned; flat or channels last.

    Returns:
        `tfd.Independent(tfd.Logistic)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = tfd.Logistic

    def score(self, u: Tensor) -> tuple[Tensor, Tensor]:
        # u tanh(u / 2), without `ops.tanh`, which turns float64 into float32 on
        # JAX.
        decay = ops.exp(-u)
        w = u * (1.0 - decay) / (1.0 + decay)
        return w, w + 2.0 * decay * ops.square(u / (1.0 + decay))


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentStudentT(LocationScaleLayer):
    """Independent Student-t variables: tails of any weight.

    For real data with gross outliers. `df` = 1 is the Cauchy, `df` = infinity
    the normal. The mean exists for `df > 1`, the variance for `df > 2`: where
    `df` is learned or shared, use the mode.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        scale: `"learned"`, `"shared"`, `"optimal"` or a number, in the units of
            the data.
        df: the degrees of freedom, by default 5; `"learned"`, `"shared"` or a
            number. With `scale="optimal"` it must be a number.
        min_scale: the floor of scale and degrees of freedom.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales, then raw degrees of freedom, of
            those that are learned; flat or channels last.

    Returns:
        `tfd.Independent(tfd.StudentT)` over `event_shape`.

    Raises:
        ValueError: see `LocationScaleLayer`.
    """

    family = tfd.StudentT
    parameters = ("loc", "scale", "df")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        scale: Mode = "learned",
        df: Mode = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            scale=scale,
            df=df,
            **kwargs,
        )

    def score(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return _student_score(u, self.modes["df"])


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentCauchy(LocationScaleLayer):
    """Independent Cauchy variables: even distant outliers hardly count.

    For real data with many gross outliers. There is no mean, and TFP returns
    NaN: reconstruct with the mode.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        scale: half the width at half the height; `"learned"`, `"shared"`,
            `"optimal"` or a number, in the units of the data.
        min_scale: the floor of the scale. If more than half of the residuals
            are zero, the optimal scale is the floor.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales if learned; flat or channels last.

    Returns:
        `tfd.Independent(tfd.Cauchy)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = tfd.Cauchy

    def score(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return _student_score(u, 1.0)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentHuber(LocationScaleLayer):
    """Independent Huber variables: the Huber loss as a likelihood.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
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
        ValueError: see `LocationScaleLayer`.
    """

    family = Huber
    parameters = ("loc", "scale", "delta")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        scale: Mode = "learned",
        delta: Mode = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            scale=scale,
            delta=delta,
            **kwargs,
        )

    def score(self, u: Tensor) -> tuple[Tensor, Tensor]:
        delta = self.modes["delta"]
        w = u * ops.minimum(u, delta)
        return w, w + ops.where(u <= delta, w, 0.0)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentBarron(LocationScaleLayer):
    """Independent Barron variables: the general robust loss as a likelihood.

    For real data with outliers of an unknown kind: one shape parameter leads
    from the Cauchy (`alpha` = 0) through the Charbonnier or pseudo-Huber (1) to
    the normal (2) and beyond. With `alpha="shared"` the data choose.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        scale: `"learned"`, `"shared"`, `"optimal"` or a number, in the units of
            the data.
        alpha: the shape, by default 1; `"learned"`, `"shared"` or a number, 0
            included. With `scale="optimal"` it must be a number.
        min_scale: the floor of scale and shape.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales, then raw shapes, of those that are
            learned; flat or channels last.

    Returns:
        `tfd.Independent(Barron)` over `event_shape`.

    Raises:
        ValueError: see `LocationScaleLayer`.
    """

    family = Barron
    parameters = ("loc", "scale", "alpha")
    may_be_zero = ("alpha",)

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        scale: Mode = "learned",
        alpha: Mode = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            scale=scale,
            alpha=alpha,
            **kwargs,
        )

    def score(self, u: Tensor) -> tuple[Tensor, Tensor]:
        excess = float(self.modes["alpha"]) - 2.0
        square = ops.square(u)
        if not excess:
            return square, 2.0 * square
        ratio = square / abs(excess)
        w = square * ops.exp(0.5 * excess * ops.log1p(ratio))
        return w, w * (2.0 + excess * ratio / (1.0 + ratio))


def _student_score(u: Tensor, df: Any) -> tuple[Tensor, Tensor]:
    """`score` of a Student-t variable with `df` degrees of freedom."""
    square = ops.square(u)
    w = (df + 1.0) * square / (df + square)
    return w, 2.0 * df * w / (df + square)
