"""The asymmetric Laplace density: the likelihood behind the pinball loss."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from tfp_vae.distributions.location_scale import LocationScale
from tfp_vae.substrate import (
    Tensor,
    assert_util,
    dtype_util,
    parameter_properties,
    tensor_util,
    tfb,
    tfd,
)

__all__ = ["AsymmetricLaplace"]

_LOG_2 = math.log(2.0)

# Where `_excess` switches from the series to the plain difference, and how many
# terms of the series float64 needs up to there.
_SERIES_TO = 0.25
_SERIES_TERMS = 9


# The functions below are those of the standard density, loc 0 and scale 1: two
# exponentials back to back. The one below 0 has the mass `level` and the rate
# 1 - level; the one above 0 has the mass 1 - level and the rate `level`.
# Mirroring swaps the two.


class _Share(NamedTuple):
    """The mass of one side, and its logarithm."""

    mass: Tensor
    log: Tensor


def _shares(level: Tensor) -> tuple[_Share, _Share]:
    """The shares below and above 0, with no log of a rounded 1 - level."""
    return (
        _Share(level, ops.log(level)),
        _Share(1.0 - level, ops.log1p(-level)),
    )


def _log_normalizer(scale: Tensor, level: Tensor) -> Tensor:
    """Log(scale Z), Z = 1 / (level (1 - level))."""
    below, above = _shares(level)
    return ops.log(scale) - below.log - above.log


def _log1mexp(x: Tensor) -> Tensor:
    """Log(1 - exp(-x)), x > 0."""
    is_near = x < _LOG_2
    near = ops.log(-ops.expm1(-ops.where(is_near, x, _LOG_2)))
    far = ops.log1p(-ops.exp(-ops.where(is_near, _LOG_2, x)))
    return ops.where(is_near, near, far)


def _pieces(
    r: Tensor, below: _Share, above: _Share
) -> tuple[Tensor, Tensor, Tensor]:
    """Whether r < 0; log P(R < r) if so; log P(R > r) otherwise."""
    is_below = r < 0
    left = below.log + above.mass * ops.where(is_below, r, 0.0)
    right = above.log - below.mass * ops.where(is_below, 0.0, r)
    return is_below, left, right


def _mass_below(r: Tensor, below: _Share, above: _Share) -> Tensor:
    """P(R < r)."""
    is_below, left, right = _pieces(r, below, above)
    return ops.where(is_below, ops.exp(left), -ops.expm1(right))


def _log_mass_below(r: Tensor, below: _Share, above: _Share) -> Tensor:
    """Log P(R < r)."""
    is_below, left, right = _pieces(r, below, above)
    return ops.where(is_below, left, _log1mexp(-right))


def _lower_quantile(p: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """The r with P(R < r) = p, for 0 <= p <= 1/2.

    log(p / below) / above up to p = below, and -log((1 - p) / above) / below
    from there on; both use log1p about p = below.
    """
    is_left, is_far = p < below, p < 0.5 * below
    near = ops.log1p((ops.where(is_far, below, p) - below) / below)
    # No quotient: XLA would divide its gradient by p * below, which underflows.
    far = ops.log(ops.where(is_far, p, below) * (1.0 / below))
    left = ops.where(is_far, far, near) / above
    right = ops.log1p(ops.where(is_left, 0.0, p - below) / (1.0 - p)) / below
    return ops.where(is_left, left, right)


def _excess(x: Tensor) -> Tensor:
    """x - 1 - log x >= 0, exact about 1: KL of exponentials of rate ratio x.

    With s = (x - 1) / (x + 1), log x = 2 artanh s, and the excess is
    (x - 1) s - 2 (s**3 / 3 + s**5 / 5 + ...).
    """
    is_near = ops.abs(x - 1.0) < _SERIES_TO
    close = ops.where(is_near, x, 1.0)
    s = (close - 1.0) / (close + 1.0)
    series = 0.0
    for term in reversed(range(_SERIES_TERMS)):
        series = series * ops.square(s) + 1.0 / (2 * term + 3)
    near = s * ((close - 1.0) - 2.0 * ops.square(s) * series)
    distant = ops.where(is_near, 2.0, x)
    return ops.where(is_near, near, distant - 1.0 - ops.log(distant))


class AsymmetricLaplace(LocationScale):
    """The asymmetric Laplace with `loc`, `scale` and `quantile_level`.

    #### Mathematical details

    The probability density function is,

    ```none
    pdf(y; loc, scale, quantile_level) = exp(-rho(r)) / (scale * Z)
    r      = (y - loc) / scale
    rho(r) = quantile_level * r            if r >= 0
           = (quantile_level - 1) * r      otherwise
    Z      = 1 / (quantile_level * (1 - quantile_level))
    ```

    the density whose negative logarithm is the pinball loss of the standardised
    residual, plus a constant: fitting `loc` by maximum likelihood is quantile
    regression, and `loc` is the quantile of `quantile_level`, tau in papers.
    All logarithms are in nats.

    `quantile_level = 1/2` is `tfd.Laplace(loc, 2 * scale)`.

    The mean is `loc + scale (1 - 2 tau) / (tau (1 - tau))`, the variance
    `scale**2 (1 / tau**2 + 1 / (1 - tau)**2)` and the entropy
    `1 + log(scale Z)`. The Kullback-Leibler divergence of any two is known in
    closed form.

    #### Examples

    ```python
    likelihood = AsymmetricLaplace(loc=[0.0, 1.0], quantile_level=0.9)
    likelihood.log_prob([0.1, 30.0])   # [2], nats
    likelihood.cdf([0.0, 1.0])         # [2], 0.9 and 0.9
    likelihood.sample(3, seed=1)       # [3, 2], reparameterised
    ```

    #### References

    [1]: Roger Koenker, Jose A. F. Machado. Goodness of fit and related
         inference processes for quantile regression. _Journal of the American
         Statistical Association_, 94(448), 1999.
         https://doi.org/10.1080/01621459.1999.10473882
    [2]: Keming Yu, Jin Zhang. A three-parameter asymmetric Laplace distribution
         and its extension. _Communications in Statistics - Theory and Methods_,
         34(9-10), 2005. https://doi.org/10.1080/03610920500199018
    """

    _shapes = {"quantile_level": False}

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor = 1.0,
        quantile_level: Tensor = 0.5,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "AsymmetricLaplace",
    ) -> None:
        """Constructs asymmetric Laplaces; the parameters broadcast.

        Args:
            loc: floating point tensor, the quantile of `quantile_level`.
            scale: positive floating point tensor, in the units of `loc`.
            quantile_level: floating point tensor between 0 and 1, the mass
                below `loc`.
            validate_args: whether to check parameters and data at run time.
            allow_nan_stats: whether undefined statistics are NaN or an error.
            name: name prefixed to the operations of this class.

        Raises:
            TypeError: if the parameters differ in dtype or are not floating.
            ValueError, InvalidArgumentError: under `validate_args`, if `scale`
                is not positive or `quantile_level` not inside (0, 1).
        """
        super().__init__(dict(locals()))

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        def inside() -> Any:
            # The plain sigmoid would reach 0 and 1, where there is no density.
            eps = dtype_util.eps(dtype)
            return tfb.Sigmoid(low=eps, high=1.0 - eps)

        level = parameter_properties.ParameterProperties(
            default_constraining_bijector_fn=inside
        )
        return {**cls._properties(dtype), "quantile_level": level}

    @classmethod
    def _maximum_likelihood_parameters(cls, value: Tensor) -> dict[str, Tensor]:
        """The exact maximum: `loc` is a value of the sample.

        With A and B the means of max(y - loc, 0) and max(loc - y, 0), the best
        level is sqrt B / (sqrt A + sqrt B), and the best `loc` the value with
        the least sqrt A + sqrt B.
        """
        value = ops.sort(value, axis=0)
        middle = value[ops.shape(value)[0] // 2]
        y = value - middle
        count = ops.shape(y)[0]
        number = ops.reshape(
            ops.arange(1, count + 1, dtype=y.dtype), (-1, *[1] * (y.ndim - 1))
        )
        so_far = ops.cumsum(y, axis=0)
        below = ops.relu(number * y - so_far) / count
        above = ops.relu(so_far[-1] - so_far - (count - number) * y) / count
        roots = ops.sqrt(above) + ops.sqrt(below)
        best = ops.argmin(roots, axis=0)[None]
        loc, above, below = (
            ops.take_along_axis(t, best, axis=0)[0] for t in (y, above, below)
        )
        eps = float(dtype_util.eps(y.dtype))
        level = ops.sqrt(below) / (ops.sqrt(above) + ops.sqrt(below))
        level = ops.clip(level, eps, 1.0 - eps)
        return {
            "loc": middle + loc,
            "scale": level * above + (1.0 - level) * below,
            "quantile_level": level,
        }

    @property
    def quantile_level(self) -> Tensor:
        """The mass below `loc`."""
        return self._quantile_level

    def _log_prob(self, value: Tensor) -> Tensor:
        scale, level = self._tensor("scale"), self._tensor("quantile_level")
        r = (value - self._tensor("loc")) / scale
        # The gradient of `relu` at 0 is 0, as the density's at its mode.
        energy = level * ops.relu(r) + (1.0 - level) * ops.relu(-r)
        return -energy - _log_normalizer(scale, level)

    def _mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        below, above = _shares(self._tensor("quantile_level"))
        return _mass_below(r, *((above, below) if mirrored else (below, above)))

    def _log_mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        below, above = _shares(self._tensor("quantile_level"))
        return _log_mass_below(
            r, *((above, below) if mirrored else (below, above))
        )

    def _mirrored_quantile(self, p: Tensor, upper: Tensor) -> Tensor:
        level = ops.cast(
            self._tensor("quantile_level"),
            keras.backend.standardize_dtype(p.dtype),
        )
        r = _lower_quantile(
            p,
            ops.where(upper, 1.0 - level, level),
            ops.where(upper, level, 1.0 - level),
        )
        return ops.where(upper, -r, r)

    def _mean(self) -> Tensor:
        level = self._tensor("quantile_level")
        return self._over_batch(
            self._tensor("loc")
            + self._tensor("scale")
            * ((1.0 - 2.0 * level) / (level * (1.0 - level)))
        )

    def _mode(self) -> Tensor:
        return self._over_batch(self._tensor("loc"))

    def _variance(self) -> Tensor:
        return ops.square(self._stddev())

    def _stddev(self) -> Tensor:
        level = self._tensor("quantile_level")
        # The square root of 1 / tau**2 + 1 / (1 - tau)**2.
        size = ops.sqrt(ops.square(level) + ops.square(1.0 - level))
        return self._over_batch(
            self._tensor("scale") * (size / (level * (1.0 - level)))
        )

    def _entropy(self) -> Tensor:
        scale, level = self._tensor("scale"), self._tensor("quantile_level")
        return self._over_batch(1.0 + _log_normalizer(scale, level))

    def _parameter_control_dependencies(self, is_init: bool) -> list[Any]:
        assertions = super()._parameter_control_dependencies(is_init)
        if self.validate_args and is_init != tensor_util.is_ref(
            self._quantile_level
        ):
            message = "Argument `quantile_level` must be inside (0, 1)."
            level = self._tensor("quantile_level")
            assertions += [
                assert_util.assert_positive(level, message=message),
                assert_util.assert_positive(1.0 - level, message=message),
            ]
        return assertions


@tfd.RegisterKL(AsymmetricLaplace, AsymmetricLaplace)
def _kl_asymmetric_laplace_asymmetric_laplace(
    a: AsymmetricLaplace, b: AsymmetricLaplace, name: str | None = None
) -> Tensor:
    """KL(a || b), in nats, of the broadcast batch shape.

    With k = scale_a / scale_b, s = tau_b / tau_a, w = (1 - tau_b) / (1 - tau_a)
    and d = (loc_a - loc_b) / scale_a it is k E - 1 - log(k s w), where E is the
    mean under a of b's pinball loss. For d >= 0 (mirror both for d < 0)

        E = tau_b ((1 - tau_a) (d + 1 / tau_a) + tau_a ramp(x) / (1 - tau_a))
            + (1 - tau_b) tau_a exp(-x) / (1 - tau_a),
        x = (1 - tau_a) d,  ramp(x) = x - 1 + exp(-x),

    and all terms are positive. Where the logarithm could cancel, x < 1, the
    same is a sum of second-order terms: with both kinks in one place
    tau_a (excess(s) + excess(k w)) + (1 - tau_a) (excess(w) + excess(k s)),
    plus, for the distance, k ((tau_b - tau_a) d + tau_a ramp(x) / (1 - tau_a)).
    """
    a_scale = a._tensor("scale")
    scale_ratio = a_scale / b._tensor("scale")
    minus_d = (b._tensor("loc") - a._tensor("loc")) / a_scale
    is_mirrored = minus_d > 0
    a_level, b_level = a._tensor("quantile_level"), b._tensor("quantile_level")
    below = ops.where(is_mirrored, 1.0 - a_level, a_level)
    above = ops.where(is_mirrored, a_level, 1.0 - a_level)
    b_below = ops.where(is_mirrored, 1.0 - b_level, b_level)
    b_above = ops.where(is_mirrored, b_level, 1.0 - b_level)
    below_ratio, above_ratio = b_below / below, b_above / above
    # `where` and not `abs`: the derivative at d = 0 is not 0.
    d = ops.where(is_mirrored, minus_d, -minus_d)
    is_near = above * d < 1.0

    close = ops.where(is_near, d, 0.0)
    ramp = _excess(ops.exp(-above * close))
    near = (
        below * (_excess(below_ratio) + _excess(scale_ratio * above_ratio))
        + above * (_excess(above_ratio) + _excess(scale_ratio * below_ratio))
        + scale_ratio * ((b_below - below) * close + below / above * ramp)
    )

    x = above * d
    ramp = x + ops.expm1(-x)
    energy = b_below * (above * (d + 1.0 / below) + below / above * ramp)
    energy += b_above * (below / above) * ops.exp(-x)
    far = scale_ratio * energy - 1.0
    far -= ops.log(scale_ratio * below_ratio * above_ratio)
    divergence = ops.where(is_near, near, far)
    # Where a and b are nearly equal, rounding could make it negative.
    return divergence + ops.stop_gradient(ops.relu(-divergence))
