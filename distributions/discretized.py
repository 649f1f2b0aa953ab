"""The logistic distribution of whole numbers, such as the levels of a pixel."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.softplus import softplus
from tfp_vae.substrate import (
    DiscreteDistributionMixin,
    Tensor,
    as_tensor,
    assert_util,
    dtype_util,
    parameter_properties,
    ps,
    samplers,
    tensor_util,
    tfb,
    tfd,
)

__all__ = ["DiscretizedLogistic", "check_levels"]

# From where on log sigmoid is 0 to the last bit, and up to what size a quotient
# is used unchanged: for float16, for float64, and in `get` for all others.
_SURE_FROM = {"float16": 20.0, "float64": 800.0}
_LARGEST_RATIO = {"float16": 1e4, "float64": 1e300}

# Outcomes that a sum over all of them takes at once: bounds the memory.
_OUTCOMES = 16


def _floor(x: Tensor) -> Tensor:
    """The whole number at or below; `ops.floor` loses float64 on JAX."""
    whole = ops.round(x)
    return ops.where(whole > x, whole - 1.0, whole)


def _log_sigmoid(distance: Tensor, scale: Tensor, is_asked: Tensor) -> Tensor:
    """Log sigmoid(distance / scale) where it is asked for, and 0 elsewhere.

    Where the quotient or its gradient would overflow, the result is the lowest
    number and not -inf: infinity times 0 is NaN.
    """
    dtype = keras.backend.standardize_dtype(scale.dtype)
    is_sure = ~is_asked | (distance / scale > _SURE_FROM.get(dtype, 120.0))
    largest = _LARGEST_RATIO.get(dtype, 1e37)
    if dtype != "float16":  # which has no room for the gradient
        largest = ops.maximum(largest * ops.minimum(scale, 1.0), 1e3)
    lowest = ops.stop_gradient(-largest * scale)
    distance = ops.where(is_sure, 0.0, ops.maximum(distance, lowest))
    return ops.where(is_sure, 0.0, -softplus(-distance / scale))


def _log_width(scale: Tensor) -> Tensor:
    """Log(1 - exp(-1 / scale)), of any positive scale."""
    dtype = keras.backend.standardize_dtype(scale.dtype)
    is_wide = scale > _LARGEST_RATIO.get(dtype, 1e37)
    is_narrow = scale * _SURE_FROM.get(dtype, 120.0) < 1.0
    scale = ops.where(is_narrow, 1.0, scale)
    log_width = ops.log(-ops.expm1(-1.0 / ops.where(is_wide, 1.0, scale)))
    log_width = ops.where(is_wide, -ops.log(scale), log_width)
    return ops.where(is_narrow, 0.0, log_width)


def _or_nan(value: Tensor, result: Tensor) -> Tensor:
    """The result, or NaN for the value NaN, which no comparison detects."""
    return ops.where(ops.isnan(value), math.nan, result)


def check_levels(low: Any, high: Any) -> tuple[int, int]:
    """Refuses ends that leave no whole numbers between them.

    Args:
        low: the least outcome.
        high: the greatest.

    Returns:
        Both as ints.

    Raises:
        ValueError: unless both are whole numbers, in ascending order.
    """
    whole = float(low).is_integer() and float(high).is_integer()
    if not whole or not low < high:
        raise ValueError(
            "The outcomes are the whole numbers from `low` to `high`, "
            f"low < high. Received: low={low!r}, high={high!r}."
        )
    return int(low), int(high)


class DiscretizedLogistic(
    DiscreteDistributionMixin, tfd.AutoCompositeTensorDistribution
):
    """A logistic variable, rounded to the whole numbers from `low` to `high`.

    #### Mathematical details

    The probability mass function is,

    ```none
    pmf(k) = sigmoid(b) - sigmoid(a),    low < k < high
    pmf(low) = sigmoid(b),    pmf(high) = 1 - sigmoid(a)
    a = (k - 1/2 - loc) / scale,    b = (k + 1/2 - loc) / scale
    ```

    the mass that a logistic density has between k - 1/2 and k + 1/2; the two
    ends take the tails, so that the sum over all outcomes is 1. It is computed
    in log space from three terms of one sign, so that nothing cancels:

    ```none
    log pmf(k) = -softplus(-b) - softplus(a) + log(1 - exp(-1 / scale))
    ```

    without the last two terms at `low`, without the first and last at `high`.
    All logarithms are in nats. Numbers beyond the ends have no mass; between
    two outcomes `log_prob` interpolates, or raises under `validate_args`.

    `mean`, `variance` and `entropy` are sums over all n outcomes: exact, and n
    times as expensive as `log_prob`. The mode is the whole number next to
    `loc`, or an end if its tail is heavier.

    #### Examples

    ```python
    likelihood = DiscretizedLogistic(loc=[3.2, 250.0], scale=[0.5, 20.0])
    likelihood.log_prob([3.0, 255.0])   # [2], nats
    likelihood.sample(3, seed=1)        # [3, 2], not reparameterised
    ```

    #### References

    [1]: Tim Salimans, Andrej Karpathy, Xi Chen, Diederik P. Kingma. PixelCNN++:
         Improving the PixelCNN with discretized logistic mixture likelihood and
         other modifications. _ICLR_, 2017. https://arxiv.org/abs/1701.05517

    [2]: Diederik P. Kingma et al. Improving variational inference with inverse
         autoregressive flow. _NeurIPS_, 2016. https://arxiv.org/abs/1606.04934
    """

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        low: int = 0,
        high: int = 255,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "DiscretizedLogistic",
    ) -> None:
        """Constructs discretised logistics; `loc` and `scale` broadcast.

        Args:
            loc: floating point tensor, the centre before rounding; it may lie
                beyond the ends.
            scale: positive floating point tensor, in the units of `loc`.
            low: the least outcome, a whole number.
            high: the greatest, above `low`.
            validate_args: whether to check parameters and data at run time.
            allow_nan_stats: whether undefined statistics are NaN or an error.
            name: name prefixed to the operations of this class.

        Raises:
            TypeError: if `loc` and `scale` differ in dtype or are not floating.
            ValueError: if `low` and `high` are not whole numbers in ascending
                order.
            ValueError, InvalidArgumentError: under `validate_args`, if `scale`
                is not positive, or data are not outcomes.
        """
        parameters = dict(locals())
        self._low, self._high = check_levels(low, high)
        dtype = dtype_util.common_dtype([loc, scale], np.float32)
        self._loc = tensor_util.convert_nonref_to_tensor(
            loc, name="loc", dtype=dtype
        )
        self._scale = tensor_util.convert_nonref_to_tensor(
            scale, name="scale", dtype=dtype
        )
        dtype_util.assert_same_float_dtype([self._loc, self._scale])
        super().__init__(
            dtype=dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        properties = parameter_properties.ParameterProperties
        return {
            "loc": properties(),
            "scale": properties(
                default_constraining_bijector_fn=lambda: tfb.Softplus(
                    low=dtype_util.eps(dtype)
                )
            ),
        }

    @property
    def loc(self) -> Tensor:
        """The centre before rounding."""
        return self._loc

    @property
    def scale(self) -> Tensor:
        """The scale, in the units of `loc`."""
        return self._scale

    @property
    def low(self) -> int:
        """The least outcome."""
        return self._low

    @property
    def high(self) -> int:
        """The greatest outcome."""
        return self._high

    def _event_shape(self) -> Any:
        return ()

    def _event_shape_tensor(self) -> Tensor:
        return np.array([], dtype=np.int32)

    def _loc_and_scale(self) -> tuple[Tensor, Tensor]:
        return as_tensor(self._loc), as_tensor(self._scale)

    def _cast(self, value: Tensor) -> Tensor:
        return ops.cast(value, keras.backend.standardize_dtype(self.dtype))

    def _log_prob(self, value: Tensor) -> Tensor:
        value = self._cast(value)
        return _or_nan(value, self._log_pmf(value, *self._loc_and_scale()))

    def _log_pmf(self, value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        # Data minus `loc` first: this difference loses nothing to rounding.
        distance = value - loc
        above_low, below_high = value > self._low, value < self._high
        log_prob = (
            _log_sigmoid(distance + 0.5, scale, below_high)
            + _log_sigmoid(0.5 - distance, scale, above_low)
            + ops.where(above_low & below_high, _log_width(scale), 0.0)
        )
        return ops.where(self._is_beyond(value), -np.inf, log_prob)

    def _is_beyond(self, value: Tensor) -> Tensor:
        return (value < self._low) | (value > self._high)

    def _log_cdf(self, value: Tensor) -> Tensor:
        loc, scale = self._loc_and_scale()
        outcome = _floor(self._cast(value))
        is_asked = outcome < self._high
        inside = _log_sigmoid(outcome - loc + 0.5, scale, is_asked)
        return _or_nan(outcome, ops.where(outcome < self._low, -np.inf, inside))

    def _log_survival_function(self, value: Tensor) -> Tensor:
        loc, scale = self._loc_and_scale()
        outcome = _floor(self._cast(value))
        is_asked = outcome >= self._low
        inside = _log_sigmoid(loc - outcome - 0.5, scale, is_asked)
        return _or_nan(
            outcome, ops.where(outcome < self._high, inside, -np.inf)
        )

    def _cdf(self, value: Tensor) -> Tensor:
        return ops.exp(self._log_cdf(value))

    def _survival_function(self, value: Tensor) -> Tensor:
        return ops.exp(self._log_survival_function(value))

    def _outcome(self, r: Tensor) -> Tensor:
        """The outcome of a standard logistic number."""
        loc, scale = self._loc_and_scale()
        # Not by a minus sign: -0 is not an outcome.
        whole = 0.0 - _floor(0.5 - loc - scale * r)
        return ops.clip(whole, float(self._low), float(self._high))

    def _quantile(self, value: Tensor) -> Tensor:
        return self._outcome(ops.log(value) - ops.log1p(-value))

    def _sample_n(self, n: Tensor, seed: Any = None) -> Tensor:
        # The logit of one uniform number would be coarse in its tails, and now
        # and then far out in one of them. The difference of two Gumbel
        # variables is logistic without these faults.
        dtype = keras.backend.standardize_dtype(self.dtype)
        shape = ps.concat([[2, n], self._batch_shape_tensor()], 0)
        uniform = samplers.uniform(
            shape,
            minval=np.finfo(dtype).tiny,
            maxval=1.0,
            dtype=np.dtype(dtype).type,
            seed=seed,
        )
        exponential = -ops.log(uniform)
        return self._outcome(ops.log(exponential[1]) - ops.log(exponential[0]))

    def _mean_of(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        loc: Tensor,
        scale: Tensor,
    ) -> Tensor:
        """The mean of `function(k, log pmf(k))` over all outcomes k.

        The function takes the outcomes as `[16]`, and their log probabilities
        as `[..., 16]`: the rank of the batch need not be known.
        """
        total = ops.zeros_like(loc + scale)
        loc, scale = loc[..., None], scale[..., None]
        first = ops.arange(_OUTCOMES, dtype=total.dtype) + self._low

        def add(i: Tensor, total: Tensor) -> Tensor:
            # Outcomes beyond the last one have no mass.
            outcomes = first + ops.cast(i * _OUTCOMES, first.dtype)
            log_prob = self._log_pmf(outcomes, loc, scale)
            terms = ops.exp(log_prob) * function(outcomes, log_prob)
            terms = ops.where(self._is_beyond(outcomes), 0.0, terms)
            return total + ops.sum(terms, axis=-1)

        steps = -(-(self._high - self._low + 1) // _OUTCOMES)
        return ops.fori_loop(0, steps, add, total)

    def _mean(self) -> Tensor:
        return self._mean_of(lambda k, _: k, *self._loc_and_scale())

    def _variance(self) -> Tensor:
        parameters = self._loc_and_scale()
        mean = self._mean_of(lambda k, _: k, *parameters)[..., None]
        return self._mean_of(lambda k, _: ops.square(k - mean), *parameters)

    def _entropy(self) -> Tensor:
        return self._mean_of(
            lambda _, log_prob: -log_prob, *self._loc_and_scale()
        )

    def _mode(self) -> Tensor:
        loc, scale = self._loc_and_scale()
        mode = ops.clip(
            ops.round(loc + ops.zeros_like(scale)),
            float(self._low),
            float(self._high),
        )
        for end in (self._low, self._high):
            end = ops.full_like(mode, end)
            is_likelier = self._log_pmf(end, loc, scale) > self._log_pmf(
                mode, loc, scale
            )
            mode = ops.where(is_likelier, end, mode)
        return mode

    def _default_event_space_bijector(self) -> None:
        # As for all discrete distributions of TFP.
        return None

    def _parameter_control_dependencies(self, is_init: bool) -> list[Any]:
        if not self.validate_args or is_init == tensor_util.is_ref(self._scale):
            return []
        return [
            assert_util.assert_positive(
                self._scale, message="Argument `scale` must be positive."
            )
        ]

    def _sample_control_dependencies(self, x: Tensor) -> list[Any]:
        if not self.validate_args:
            return []
        x = self._cast(x)
        return [
            assert_util.assert_equal(
                x, ops.round(x), message="Outcomes must be whole numbers."
            ),
            assert_util.assert_greater_equal(
                x,
                self._cast(self._low),
                message=f"Outcomes must not be below low={self._low}.",
            ),
            assert_util.assert_less_equal(
                x,
                self._cast(self._high),
                message=f"Outcomes must not be above high={self._high}.",
            ),
        ]
