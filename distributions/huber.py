"""The Huber density: the normalised likelihood behind the Huber loss."""

import math
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.limits import largest
from tfp_vae.distributions.location_scale import SymmetricLocationScale
from tfp_vae.distributions.softplus import softplus
from tfp_vae.substrate import Tensor, ndtri, tfp

__all__ = ["Huber"]

_LOG_2 = math.log(2.0)
_SQRT_2 = math.sqrt(2.0)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)

# Where the Mills gap switches from the direct formula to the continued
# fraction, and how many levels of the fraction float64 needs from there on.
_FRACTION_FROM = 4.0
_FRACTION_LEVELS = 34


# The functions below are those of the standard density, loc 0 and scale 1:
# f(r) = exp(-H(r)) / Z, H(r) = r**2 / 2 up to |r| = delta and linear beyond.
# Everything else follows from three quantities: log Z, the mass t of both tails
# |r| > delta together, and the gap 1 - delta M(delta), with M the Mills ratio
# (1 - Phi) / phi of the standard normal.


def _energy(r: Tensor, delta: Tensor) -> Tensor:
    """H(r): r**2 / 2, beyond delta a tangent of it.

    In two branches, which XLA vectorises and m (|r| - m / 2) with
    m = min(|r|, delta) it does not: half of the time.
    """
    size = ops.abs(r)
    # A finite number, also where both are infinite: inf - inf / 2 would be NaN.
    limit = ops.where(delta < largest(delta), delta, largest(delta))
    is_inner = size < limit
    # An infinite gradient of the branch that is not taken would be NaN.
    inner = ops.where(is_inner, r, 0.0)
    outer = limit * (size - 0.5 * limit)
    return ops.where(is_inner, 0.5 * inner * inner, outer)


def _finite(delta: Tensor) -> Tensor:
    """`delta`, or for an infinite one a value with the same effect.

    Keeps inf - inf and 0 * inf out of the gradients. Beyond the bound the tail
    mass exp(-delta**2 / 2) is an exact zero of the type.
    """
    dtype = keras.backend.standardize_dtype(delta.dtype)
    return ops.minimum(delta, 200.0 if dtype == "float16" else 1e15)


def _log_parts(delta: Tensor) -> tuple[Tensor, Tensor]:
    """The logs of the two terms of Z: the centre, and both tails together."""
    centre = _LOG_SQRT_2PI + ops.log(ops.erf(delta / _SQRT_2))
    tails = _LOG_2 - ops.log(delta) - 0.5 * delta * delta
    return centre, tails


def _log_normalizer(delta: Tensor) -> Tensor:
    """log Z = log(sqrt(2 pi) erf(d / sqrt 2) + (2 / d) exp(-d**2 / 2))."""
    centre, tails = _log_parts(_finite(delta))
    # Not `ops.logaddexp`, which turns float64 into float32 on JAX.
    return centre + softplus(tails - centre)


def _log_tail_mass(delta: Tensor) -> Tensor:
    """log t, t = P(|r| > delta) = (2 / d) exp(-d**2 / 2) / Z.

    Not as a difference of two logs, which would cancel where the tails have all
    of the mass.
    """
    centre, tails = _log_parts(_finite(delta))
    return -softplus(centre - tails)


def _mills(x: Tensor) -> Tensor:
    """The Mills ratio (1 - Phi(x)) / phi(x), x >= 0."""
    return _SQRT_HALF_PI * tfp.math.erfcx(x / _SQRT_2)


def _mills_gap(delta: Tensor) -> Tensor:
    """1 - d M(d), in (0, 1), without the cancellation at large d.

    Laplace's continued fraction M = 1 / (d + 1 / (d + 2 / (d + 3 / ...))) gives
    the gap as q / (d + q), where all terms are positive; small d takes the
    plain difference.
    """
    is_far = delta > _FRACTION_FROM
    far = ops.where(is_far, delta, _FRACTION_FROM)
    fraction = far
    for level in range(_FRACTION_LEVELS, 1, -1):
        fraction = far + level / fraction
    q = 1.0 / fraction
    near = ops.where(is_far, _FRACTION_FROM, delta)
    return ops.where(is_far, q / (far + q), 1.0 - near * _mills(near))


def _log_upper_tail(x: Tensor, delta: Tensor) -> Tensor:
    """log P(r > x), x >= 0.

    With m = min(x, d) it is exp(-H(x)) / Z times
    M(m) + exp(-(d**2 - m**2) / 2) gap(d) / d, which is 1 / d at m = d: the
    exponential tail. For small d the factor 1 / d is taken out of the sum.
    """
    finite = _finite(delta)
    m = ops.minimum(x, finite)
    decay = ops.exp(-0.5 * (finite - m) * (finite + m))
    # `where` and not `minimum` and `maximum`: at 1 only one of the two moves.
    is_large = finite > 1.0
    factor = ops.where(is_large, 1.0, finite)
    divisor = ops.where(is_large, finite, 1.0)
    bracket = factor * _mills(m) + decay * _mills_gap(finite) / divisor
    return (
        ops.log(bracket)
        - _energy(x, delta)
        - ops.log(factor)
        - _log_normalizer(delta)
    )


def _tail_quantile(q: Tensor, delta: Tensor) -> Tensor:
    """The x >= 0 with P(r > x) = q, for 0 <= q <= 1/2.

    Three stretches, each without cancellation: the exponential tail; the far
    part of the centre by `ndtri`; the part about the median by `erfinv`.
    """
    finite = _finite(delta)
    log_tail = _log_tail_mass(delta)
    # log(2 q): a small delta magnifies its error about the median.
    near_half = q > 0.25
    log_2q = ops.where(
        near_half,
        ops.log1p(2.0 * ops.where(near_half, q, 0.5) - 1.0),
        ops.log(ops.where(near_half, 0.5, q)) + _LOG_2,
    )
    in_tail = log_2q < log_tail
    tail = finite + (log_tail - log_2q) / finite

    # Z / sqrt(2 pi) and the normal's share of the mass beyond x. In the tail q
    # is replaced by 1/2, so that a branch not taken has no infinite gradient.
    ratio = ops.exp(_log_normalizer(delta) - _LOG_SQRT_2PI)
    q = ops.where(in_tail, 0.5, q)
    about_median = (1.0 - 2.0 * q) * ratio
    is_near = about_median < 0.5
    near = _SQRT_2 * ops.erfinv(ops.where(is_near, about_median, 0.0))
    # The far part exists only for erf(d / sqrt 2) > 1/2, d > 0.67.
    wide = ops.maximum(finite, 0.5)
    gap = ops.exp(-0.5 * wide * wide - _LOG_SQRT_2PI) * _mills_gap(wide) / wide
    far = -ndtri(ops.where(is_near, 0.25, q * ratio - gap))
    return ops.where(in_tail, tail, ops.where(is_near, near, far))


class Huber(SymmetricLocationScale):
    """The Huber distribution with `loc`, `scale` and threshold `delta`.

    #### Mathematical details

    The probability density function is,

    ```none
    pdf(y; loc, scale, delta) = exp(-H(r)) / (scale * Z)
    r    = (y - loc) / scale
    H(r) = r**2 / 2                       if |r| <= delta
         = delta * (|r| - delta / 2)      otherwise
    Z    = sqrt(2 pi) erf(delta / sqrt 2) + (2 / delta) exp(-delta**2 / 2)
    ```

    a normal centre with exponential tails: the density whose negative logarithm
    is the Huber loss of the standardised residual, plus a constant. `delta` is
    the name in Keras and SciPy; papers call it alpha or k. All logarithms are
    in nats.

    The limits are exact: `delta = inf` is `tfd.Normal(loc, scale)`; `delta ->
    0` at a fixed `scale / delta = b` is `tfd.Laplace(loc, b)`.

    With t the mass of the two tails together, the variance is
    `scale**2 (1 + t (1 + 2 / delta**2))` and the entropy
    `log(scale Z) + (1 + t) / 2`.

    #### Examples

    ```python
    likelihood = Huber(loc=[0.0, 1.0], scale=0.5, delta=1.345)
    likelihood.log_prob([0.1, 30.0])   # [2], nats
    likelihood.sample(3, seed=1)       # [3, 2], reparameterised
    ```

    #### References

    [1]: Peter J. Huber. Robust estimation of a location parameter. _Annals of
         Mathematical Statistics_, 35(1), 1964.
         https://doi.org/10.1214/aoms/1177703732
    """

    _shapes = {"delta": True}

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor = 1.0,
        delta: Tensor = 1.0,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Huber",
    ) -> None:
        """Constructs Huber distributions; the parameters broadcast.

        Args:
            loc: floating point tensor, the centre.
            scale: positive floating point tensor, in the units of `loc`.
            delta: positive floating point tensor, the threshold in units of
                `scale` (so `delta * scale` in those of the data); may be inf.
            validate_args: whether to check parameters and data at run time.
            allow_nan_stats: whether undefined statistics are NaN or an error.
            name: name prefixed to the operations of this class.

        Raises:
            TypeError: if the parameters differ in dtype or are not floating.
            ValueError, InvalidArgumentError: under `validate_args`, if `scale`
                or `delta` is not positive.
        """
        super().__init__(dict(locals()))

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        return cls._properties(dtype)

    @property
    def delta(self) -> Tensor:
        """The threshold between centre and tails, in units of `scale`."""
        return self._delta

    def _log_prob(self, value: Tensor) -> Tensor:
        scale, delta = self._tensor("scale"), self._tensor("delta")
        r = (value - self._tensor("loc")) / scale
        return -_energy(r, delta) - (ops.log(scale) + _log_normalizer(delta))

    def _log_upper_tail(self, x: Tensor) -> Tensor:
        return _log_upper_tail(x, self._tensor("delta"))

    def _upper_quantile(self, q: Tensor) -> Tensor:
        return _tail_quantile(q, ops.cast(self._tensor("delta"), q.dtype))

    def _variance(self) -> Tensor:
        return ops.square(self._stddev())

    def _stddev(self) -> Tensor:
        scale, delta = self._tensor("scale"), self._tensor("delta")
        tails = ops.exp(_log_tail_mass(delta))
        delta = _finite(delta)
        # In the unit scale / min(delta, 1), as scale**2 and 1 / delta**2 may
        # under- and overflow where their product is finite. The stop loses no
        # gradient: the result does not depend on the unit.
        core = ops.stop_gradient(ops.minimum(delta, 1.0))
        squares = ops.square(core) * (1.0 + tails)
        squares += 2.0 * tails / ops.square(delta / core)
        return self._over_batch(scale / core * ops.sqrt(squares))

    def _entropy(self) -> Tensor:
        delta = self._tensor("delta")
        tails = ops.exp(_log_tail_mass(delta))
        return self._over_batch(
            ops.log(self._tensor("scale"))
            + _log_normalizer(delta)
            + 0.5 * (1.0 + tails)
        )
