"""The hyperbolic secant density: the likelihood behind the log-cosh loss."""

import math
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.location_scale import SymmetricLocationScale
from tfp_vae.substrate import Tensor, tfd

__all__ = ["HyperbolicSecant"]

_LOG_2 = math.log(2.0)
_LOG_PI = math.log(math.pi)
_LOG_2PI = math.log(2.0 * math.pi)

# Rounds of a fit, and the |r| up to which tanh(r) / r is 1 - r**2 / 3.
_FIT_ROUNDS = 60
_SERIES_TO = 1e-3


# The functions below are those of the standard density, loc 0 and scale 1:
# f(r) = sech(r) / pi. It is that of log C for a half-Cauchy C, whose cumulative
# distribution function is (2 / pi) arctan and whose quantile function is
# tan(pi q / 2). TFP has these functions in every precision; `ops.arctan`,
# `ops.tan` and `ops.sinh` turn float64 into float32 on JAX.


def _half_cauchy(method: str, value: Tensor) -> Tensor:
    dtype = keras.backend.standardize_dtype(value.dtype)
    standard = tfd.HalfCauchy(ops.zeros((), dtype), ops.ones((), dtype))
    # On JAX it returns float64 wherever that is enabled.
    return ops.cast(getattr(standard, method)(value), dtype)


def _log_cosh(r: Tensor) -> Tensor:
    """Log cosh r; it and its gradient tanh r are relatively exact near 0."""
    size = ops.abs(r)
    is_near = size < 1.0
    near = ops.where(is_near, r, 0.0)
    sinh = 0.5 * (ops.expm1(near) - ops.expm1(-near))
    near = 0.5 * ops.log1p(ops.square(sinh))
    far = size + ops.log1p(ops.exp(-2.0 * size)) - _LOG_2
    return ops.where(is_near, near, far)


def _scaled_tail(x: Tensor) -> Tensor:
    """exp(x) P(r > x), x >= 0: (2 / pi) arctan(u) / u, u = exp(-x).

    Beyond `reach` it is 2 / pi to the last bit, and u is kept from underflow.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    reach = 8.0 if dtype in ("float16", "bfloat16") else 20.0
    u = ops.exp(-ops.minimum(x, reach))
    return _half_cauchy("cdf", u) / u


def _tail_quantile(q: Tensor) -> Tensor:
    """The x >= 0 with P(r > x) = q, for 0 <= q <= 1/2.

    It is -log tan(pi q / 2), and about the median 2 artanh tan(pi s / 2) with
    s = 1/2 - q, where nothing cancels.
    """
    is_near = q > 0.25
    near = _half_cauchy("quantile", ops.where(is_near, 0.5 - q, 0.0))
    far = _half_cauchy("quantile", ops.where(is_near, 0.25, q))
    return ops.where(is_near, ops.log1p(near) - ops.log1p(-near), -ops.log(far))


class HyperbolicSecant(SymmetricLocationScale):
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

    Between two of the same scale, d scales apart, the Kullback-Leibler
    divergence is `2 log(cosh(d / 2))`. At different scales it is an integral
    without a closed form, and so are the divergences with `Barron`, Normal and
    Laplace: `kl_divergence` computes them by quadrature, with an error below
    1e-5 (1 + KL) (1e-8 in float64).

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
        super().__init__(dict(locals()))

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        return cls._properties(dtype)

    @classmethod
    def _maximum_likelihood_parameters(cls, value: Tensor) -> dict[str, Tensor]:
        """By reweighted least squares; each round increases the likelihood.

        log cosh r is a concave function of r**2 (a parabola in r lies above
        it), and the likelihood has one maximum. The error shrinks about
        threefold in each round.
        """
        loc, scale = ops.mean(value, axis=0), ops.std(value, axis=0)

        def reweight(_: Any, state: tuple[Tensor, Tensor]) -> Any:
            loc, scale = state
            r = (value - loc) / scale
            small = ops.abs(r) < _SERIES_TO
            safe = ops.where(small, 1.0, r)
            weight = ops.where(small, 1.0 - r * r / 3.0, ops.tanh(safe) / safe)
            loc = ops.sum(weight * value, axis=0) / ops.sum(weight, axis=0)
            squares = weight * ops.square(value - loc)
            return loc, ops.sqrt(ops.mean(squares, axis=0))

        loc, scale = ops.fori_loop(0, _FIT_ROUNDS, reweight, (loc, scale))
        return {"loc": loc, "scale": scale}

    def _log_prob(self, value: Tensor) -> Tensor:
        scale = self._tensor("scale")
        r = (value - self._tensor("loc")) / scale
        return -_log_cosh(r) - (ops.log(scale) + _LOG_PI)

    def _log_upper_tail(self, x: Tensor) -> Tensor:
        return ops.log(_scaled_tail(x)) - x

    def _upper_quantile(self, q: Tensor) -> Tensor:
        return _tail_quantile(q)

    def _variance(self) -> Tensor:
        return ops.square(self._stddev())

    def _stddev(self) -> Tensor:
        return self._over_batch((0.5 * math.pi) * self._tensor("scale"))

    def _entropy(self) -> Tensor:
        return self._over_batch(ops.log(self._tensor("scale")) + _LOG_2PI)
