"""The hyperbolic secant density: the likelihood behind the log-cosh loss."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.substrate import (
    Tensor,
    assert_util,
    dtype_util,
    parameter_properties,
    ps,
    samplers,
    tensor_util,
    tfb,
    tfd,
)

__all__ = ["HyperbolicSecant"]

_LOG_2 = math.log(2.0)
_LOG_PI = math.log(math.pi)
_LOG_2PI = math.log(2.0 * math.pi)


# The functions below are those of the standard density, loc 0 and scale 1:
# f(r) = sech(r) / pi. It is that of log C for a half-Cauchy C, whose cumulative
# distribution function is (2 / pi) arctan and whose quantile function is
# tan(pi q / 2). TFP has them in every precision; `ops.arctan`, `ops.tan` and
# `ops.sinh` turn float64 into float32 on JAX.


def _half_cauchy(method: str, value: Tensor) -> Tensor:
    dtype = keras.backend.standardize_dtype(value.dtype)
    standard = tfd.HalfCauchy(ops.zeros((), dtype), ops.ones((), dtype))
    # On JAX it answers in float64 wherever that is enabled.
    return ops.cast(getattr(standard, method)(value), dtype)


def _log_cosh(r: Tensor) -> Tensor:
    """Log cosh r, relatively exact, as is its gradient tanh r, about 0 too."""
    size = ops.abs(r)
    is_near = size < 1.0
    near = ops.where(is_near, r, 0.0)
    sinh = 0.5 * (ops.expm1(near) - ops.expm1(-near))
    near = 0.5 * ops.log1p(ops.square(sinh))
    far = size + ops.log1p(ops.exp(-2.0 * size)) - _LOG_2
    return ops.where(is_near, near, far)


def _scaled_tail(x: Tensor) -> Tensor:
    """exp(x) P(r > x), x >= 0: (2 / pi) arctan(u) / u, u = exp(-x).

    Beyond `reach` it is 2 / pi to the last bit, and u keeps clear of underflow.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    reach = 8.0 if dtype in ("float16", "bfloat16") else 20.0
    u = ops.exp(-ops.minimum(x, reach))
    return _half_cauchy("cdf", u) / u


def _tail_quantile(q: Tensor) -> Tensor:
    """The x >= 0 with P(r > x) = q, for 0 <= q <= 1/2.

    It is -log tan(pi q / 2), and about the median 2 artanh tan(pi s / 2) with
    s = 1/2 - q, which has nothing to cancel.
    """
    is_near = q > 0.25
    near = _half_cauchy("quantile", ops.where(is_near, 0.5 - q, 0.0))
    far = _half_cauchy("quantile", ops.where(is_near, 0.25, q))
    return ops.where(is_near, ops.log1p(near) - ops.log1p(-near), -ops.log(far))


class HyperbolicSecant(tfd.AutoCompositeTensorDistribution):
    """The hyperbolic secant distribution with `loc` and `scale`.

    #### Mathematical details

    The probability density function is,

    ```none
    pdf(y; loc, scale) = exp(-log(cosh(r))) / (scale * Z)
    r = (y - loc) / scale
    Z = pi
    ```

    the density whose negative logarithm is the log-cosh loss of the
    standardised residual, plus `log(pi * scale)`: a normal centre, tails like
    Laplace's. All logarithms are in nats.

    The cumulative distribution function is `(2 / pi) arctan(exp(r))`, the
    variance `(pi * scale / 2)**2` and the entropy `log(2 pi * scale)`. The
    textbooks' variant of variance 1 has `scale = 2 / pi`.

    Between two of one and the same scale, d scales apart, the Kullback-Leibler
    divergence is `2 log(cosh(d / 2))`. At different scales it is an integral
    without a closed form, so none is registered.

    #### Examples

    ```python
    likelihood = HyperbolicSecant(loc=[0.0, 1.0], scale=0.5)
    likelihood.log_prob([0.1, 30.0])   # [2], nats
    likelihood.sample(3, seed=1)       # [3, 2], reparameterised
    ```

    #### References

    [1]: W. D. Baten. The probability law for the sum of n independent
         variables, each subject to the law (1/2h) sech(pi x/2h). _Bulletin of
         the American Mathematical Society_, 40(4), 1934.
         https://doi.org/10.1090/S0002-9904-1934-05852-X
    """

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor = 1.0,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "HyperbolicSecant",
    ) -> None:
        """Constructs hyperbolic secants; the parameters broadcast.

        Args:
            loc: floating point tensor, the centre.
            scale: positive floating point tensor, in the units of `loc`.
            validate_args: whether to check parameters and data at run time.
            allow_nan_stats: whether undefined statistics are NaN or an error.
            name: name prefixed to the operations of this class.

        Raises:
            TypeError: if the parameters differ in dtype or are not floating.
            ValueError, InvalidArgumentError: under `validate_args`, if `scale`
                is not positive.
        """
        parameters = dict(locals())
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
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        def positive() -> Any:
            return tfb.Softplus(low=dtype_util.eps(dtype))

        properties = parameter_properties.ParameterProperties
        return {
            "loc": properties(),
            "scale": properties(default_constraining_bijector_fn=positive),
        }

    @property
    def loc(self) -> Tensor:
        """The centre: mean, median and mode."""
        return self._loc

    @property
    def scale(self) -> Tensor:
        """The scale, in the units of `loc`."""
        return self._scale

    def _event_shape(self) -> Any:
        return ()

    def _event_shape_tensor(self) -> Tensor:
        return np.array([], dtype=np.int32)

    def _standardized(self, value: Tensor) -> Tensor:
        return (value - self._tensor("loc")) / self._tensor("scale")

    def _tensor(self, name: str) -> Tensor:
        return ops.convert_to_tensor(getattr(self, f"_{name}"))

    def _over_batch(self, statistic: Tensor) -> Tensor:
        return ops.broadcast_to(statistic, self._batch_shape_tensor())

    def _log_prob(self, value: Tensor) -> Tensor:
        scale = self._tensor("scale")
        r = (value - self._tensor("loc")) / scale
        return -_log_cosh(r) - (ops.log(scale) + _LOG_PI)

    def _log_cdf(self, value: Tensor) -> Tensor:
        return self._log_mass_below(self._standardized(value))

    def _log_survival_function(self, value: Tensor) -> Tensor:
        return self._log_mass_below(-self._standardized(value))

    def _cdf(self, value: Tensor) -> Tensor:
        return self._mass_below(self._standardized(value))

    def _survival_function(self, value: Tensor) -> Tensor:
        return self._mass_below(-self._standardized(value))

    def _log_mass_below(self, r: Tensor) -> Tensor:
        # `where` and not `abs`: the derivative at r = 0 must be the density.
        x = ops.where(r < 0, -r, r)
        tail = ops.log(_scaled_tail(x)) - x
        return ops.where(r < 0, tail, ops.log1p(-ops.exp(tail)))

    def _mass_below(self, r: Tensor) -> Tensor:
        x = ops.where(r < 0, -r, r)
        tail = _scaled_tail(x) * ops.exp(-x)
        return ops.where(r < 0, tail, 1.0 - tail)

    def _quantile(self, value: Tensor) -> Tensor:
        upper = value > 0.5
        x = _tail_quantile(ops.where(upper, 1.0 - value, value))
        return self._tensor("loc") + self._tensor("scale") * ops.where(
            upper, x, -x
        )

    def _sample_n(self, n: Tensor, seed: Any = None) -> Tensor:
        # A half is drawn and mirrored, so both tails reach as far as the
        # smallest positive number does.
        half_seed, sign_seed = samplers.split_seed(
            seed, salt="hyperbolic_secant"
        )
        shape = ps.concat([[n], self._batch_shape_tensor()], 0)
        wide = "float64" if self.dtype == np.float64 else "float32"
        half = samplers.uniform(
            shape,
            # Twice the smallest normal number: half of it is not flushed to 0.
            minval=2.0 * np.finfo(wide).tiny,
            maxval=1.0,
            dtype=np.dtype(wide).type,
            seed=half_seed,
        )
        sign = samplers.uniform(
            shape, minval=-1.0, maxval=1.0, dtype=self.dtype, seed=sign_seed
        )
        x = ops.cast(
            _tail_quantile(0.5 * half),
            keras.backend.standardize_dtype(sign.dtype),
        )
        return self._tensor("loc") + self._tensor("scale") * ops.where(
            sign < 0, -x, x
        )

    def _mean(self) -> Tensor:
        return self._over_batch(self._tensor("loc"))

    def _mode(self) -> Tensor:
        return self._mean()

    def _variance(self) -> Tensor:
        return ops.square(self._stddev())

    def _stddev(self) -> Tensor:
        return self._over_batch((0.5 * math.pi) * self._tensor("scale"))

    def _entropy(self) -> Tensor:
        return self._over_batch(ops.log(self._tensor("scale")) + _LOG_2PI)

    def _default_event_space_bijector(self) -> Any:
        return tfb.Identity(validate_args=self.validate_args)

    def _parameter_control_dependencies(self, is_init: bool) -> list[Any]:
        if not self.validate_args or is_init == tensor_util.is_ref(self._scale):
            return []
        return [
            assert_util.assert_positive(
                self._scale, message="Argument `scale` must be positive."
            )
        ]
