"""Families of counts, the same for every element of an event."""

import functools
from typing import Any

import keras

from tfp_vae.layers.heads.independent_layer import IndependentLayer, Mode
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "IndependentNegativeBinomial",
    "IndependentPoisson",
    "IndependentZeroInflatedNegativeBinomial",
    "IndependentZeroInflatedPoisson",
]

# A number of failures need not be whole, but TFP checks that it is.
_negative_binomial = functools.partial(
    tfd.NegativeBinomial, require_integer_total_count=False
)


def _zero_inflated(
    distribution: tfd.Distribution, zero_logits: Tensor
) -> tfd.Distribution:
    """A mixture of a point at 0, with these log-odds, and a distribution."""
    # TFP gives the point and the distribution the logits l and -l, so that l is
    # half the log-odds. With probabilities, 1 - p would be lost for p near 1.
    return tfd.Inflated(
        distribution,
        inflated_loc_logits=0.5 * zero_logits,
        name=f"ZeroInflated{distribution.name}",
    )


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentPoisson(IndependentLayer):
    """Independent Poisson variables, from log rates.

    For counts 0, 1, 2, ... whose variance is their mean: photons, words.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: of no effect, since nothing here must be positive.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logarithms of the rates (expected counts); flat or channels
            last.

    Returns:
        `tfd.Independent(tfd.Poisson)` over `event_shape`, of float dtype.

    Raises:
        ValueError: if the inputs are of the wrong width.
    """

    family = tfd.Poisson
    parameters = ("log_rate",)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentNegativeBinomial(IndependentLayer):
    """Independent negative binomial variables: counts with extra variance.

    For counts 0, 1, 2, ... whose variance exceeds their mean m = total_count
    exp(logits): it is m + m**2 / total_count. As `total_count` grows, it
    becomes the Poisson.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        total_count: the inverse dispersion, any positive number; `"learned"`,
            `"shared"` or a number.
        min_scale: the floor of `total_count`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: raw total counts if learned, then log-odds of one count more;
            flat or channels last.

    Returns:
        `tfd.Independent(tfd.NegativeBinomial)` over `event_shape`, of float
        dtype.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = _negative_binomial
    parameters = ("total_count", "logits")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        total_count: Mode = "learned",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            total_count=total_count,
            **kwargs,
        )


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentZeroInflatedPoisson(IndependentLayer):
    """Independent Poisson variables, some of which are 0 for other reasons.

    For counts with more zeros than a Poisson has: drop-outs of a detector.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: of no effect, since nothing here must be positive.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logarithms of the rates, then log-odds l of a drop-out, whose
            probability is sigmoid(l); flat or channels last.

    Returns:
        `tfd.Independent(tfd.Inflated)` over `event_shape`, of float dtype.

    Raises:
        ValueError: if the inputs are of the wrong width.
    """

    parameters = ("log_rate", "zero_logits")

    def element_distribution(
        self, log_rate: Tensor, zero_logits: Tensor
    ) -> tfd.Distribution:
        return _zero_inflated(tfd.Poisson(log_rate=log_rate), zero_logits)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentZeroInflatedNegativeBinomial(IndependentLayer):
    """Independent negative binomials, some of which are 0 for other reasons.

    For counts with extra variance and many zeros: reads of single cells.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        total_count: as in `IndependentNegativeBinomial`.
        min_scale: the floor of `total_count`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: raw total counts if learned, then log-odds of one count more,
            then log-odds of a drop-out; flat or channels last.

    Returns:
        `tfd.Independent(tfd.Inflated)` over `event_shape`, of float dtype.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    parameters = ("total_count", "logits", "zero_logits")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        total_count: Mode = "learned",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            total_count=total_count,
            **kwargs,
        )

    def element_distribution(
        self, total_count: Tensor, logits: Tensor, zero_logits: Tensor
    ) -> tfd.Distribution:
        return _zero_inflated(
            _negative_binomial(total_count, logits), zero_logits
        )
