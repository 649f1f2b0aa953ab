"""The Gibbs density of an energy that the user writes: exp(-energy(r)) / Z."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfp_vae.distributions.energy import (
    LOST,
    Line,
    check_normalizable,
    checked_support,
    energy_at,
    log_density_at,
    log_lost,
    tails,
)
from tfp_vae.distributions.location_scale import (
    LocationScale,
    in_single_precision,
)
from tfp_vae.distributions.panels import Panels, adapt
from tfp_vae.substrate import Tensor, assert_util, ps, tfb

__all__ = ["Gibbs"]

# How many rounds search for the mode, each on a grid 16 times finer.
_ZOOMS = 6


class Gibbs(LocationScale):
    """The Gibbs distribution of an energy, with `loc` and `scale`.

    #### Mathematical details

    The probability density function is,

    ```none
    pdf(y; loc, scale) = exp(-energy(r)) / (scale * Z)
    r = (y - loc) / scale
    Z = integral of exp(-energy(r)) over the support
    ```

    where `energy` is a plain function of the residual, written in `keras.ops`
    and applied element by element. The negative logarithm of this density is a
    loss of your own, plus the constant that makes it a likelihood. All
    logarithms are in nats. Z is scalar: one normaliser serves all of the batch.

    Z, the cdf and the statistics are computed by Gauss-Legendre quadrature on
    64 panels of 12 nodes on each side of r = 0, on a coordinate asinh(r) where
    the support is unbounded. The panels move to where the energy needs them,
    also at kinks in unknown places and in heavy tails. Z is good to 1e-6, and
    to 1e-9 in float64 where the energy has a derivative; a spike in the density
    that is narrower than 1e-2 may be missed. Each call of a method computes the
    energy eight times at 1536 points, for any batch. On JAX, outside a compiled
    function, each call compiles this again, in a third of a second.

    The energy may depend on trainable parameters, if it is a function that
    closes over `keras.Variable`s: gradients reach them through Z, the cdf,
    samples (reparameterised) and statistics.

    An energy must grow faster than log|r| where the support is unbounded.
    One that does not, such as Tukey's biweight, is refused when the
    distribution is made outside a compiled function; inside one, where nothing
    can be refused, its log density is NaN. On a bounded support any
    energy is allowed.

    Whether power-law tails have a mean and a variance is read from the energy
    at about |r| = 1e17 (1e30 in float64): infinite moments are inf, undefined
    ones are NaN. The mode is the point of lowest energy, the one next to `loc`
    if there are several; it moves with `loc` and `scale` only.

    `kl_divergence` of two is by quadrature, with an error of about 1e-6, or
    1e-4 where the energy of the second has a kink.

    #### Examples

    ```python
    likelihood = Gibbs(lambda r: ops.sqrt(1.0 + r**2), loc=[0.0, 1.0])
    likelihood.log_prob([0.1, 30.0])   # [2], nats

    # Tukey's biweight, within 10 scales of `loc`.
    Gibbs(
        lambda r: 1.0 - (1.0 - ops.clip(r**2 / 9.0, 0.0, 1.0)) ** 3,
        support=(-10.0, 10.0),
    )

    # A power of |r| that is learned.
    power = keras.Variable(1.5)
    Gibbs(lambda r: ops.abs(r) ** power)
    ```

    #### References

    [1]: Yann LeCun et al. A Tutorial on Energy-Based Learning. In _Predicting
         Structured Data_, MIT Press, 2006.
    """

    def __init__(
        self,
        energy: Callable[[Tensor], Tensor],
        loc: Tensor = 0.0,
        scale: Tensor = 1.0,
        support: tuple[float, float] | None = None,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Gibbs",
    ) -> None:
        """Constructs Gibbs distributions; `loc` and `scale` broadcast.

        Args:
            energy: a function from a tensor of residuals, of any shape, to
                their energies, of that shape, in nats. It is called in float32
                or float64. Where it is inf or NaN there is no mass.
            loc: floating point tensor, where the residual is 0.
            scale: positive floating point tensor, in the units of `loc`.
            support: the least and the greatest residual, in units of `scale`
                about `loc`; either may be infinite. None is the whole line.
            validate_args: whether to check the parameters at run time.
            allow_nan_stats: whether undefined statistics are NaN or an error.
            name: name prefixed to the operations of this class.

        Raises:
            TypeError: if `loc` and `scale` differ in dtype or are not floating,
                or `energy` is not a function.
            ValueError: if exp(-energy) has no finite integral, `energy` does
                not work element by element or is finite nowhere, or `support`
                is not a pair in ascending order.
            ValueError, InvalidArgumentError: under `validate_args`, if `scale`
                is not positive.
        """
        parameters = dict(locals())
        if not callable(energy):
            raise TypeError(
                "`energy` must be a function of a tensor of residuals, such as "
                f"`lambda r: keras.ops.abs(r)`. Received: energy={energy!r}."
            )
        self._energy = energy
        self._support = parameters["support"] = checked_support(support)
        super().__init__(parameters)
        check_normalizable(energy, self._support, self._precision())

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        return cls._properties(dtype)

    @property
    def energy(self) -> Callable[[Tensor], Tensor]:
        """The function of the residual."""
        return self._energy

    @property
    def support(self) -> tuple[float, float] | None:
        """The least and the greatest residual, or None for the whole line."""
        return self._support

    def _precision(self) -> str:
        return "float64" if self.dtype == np.float64 else "float32"

    def _line(self) -> Line:
        return Line(self._support, self._precision())

    def _ends(self) -> tuple[float, float]:
        return self._support or (-math.inf, math.inf)

    def _panels(self) -> Panels:
        line = self._line()

        def log_density(t: Tensor) -> Tensor:
            return log_density_at(self._energy, line, t)

        return Panels.of(
            log_density, adapt(log_density, line.breaks, line.dtype)
        )

    def _log_normalizer(self, panels: Panels) -> Tensor:
        """Log Z, or NaN if too much of the mass lies beyond the panels."""
        log_z = panels.log_total()
        line = self._line()
        if line.is_bounded:
            return log_z
        lost = ops.max(log_lost(*tails(self._energy, line, panels.peak)))
        return ops.where(
            lost < ops.stop_gradient(log_z) + math.log(LOST), log_z, math.nan
        )

    @in_single_precision
    def _log_prob(self, value: Tensor) -> Tensor:
        panels, scale = self._panels(), self._tensor("scale")
        constant = ops.log(scale) + self._log_normalizer(panels)
        distance = value - self._tensor("loc")
        # The density is 0 at infinity, whatever the energy is there.
        outside = ops.isinf(distance / scale)
        r = ops.where(outside, 0.0, distance) / scale
        if self._support is not None:
            low, high = self._support
            outside = outside | (r < low) | (r > high)
        # The energy need not be defined outside.
        r = ops.where(outside, self._line().residual(panels.peak), r)
        log_prob = -energy_at(self._energy, r) - constant
        return ops.where(outside, -math.inf, log_prob)

    def _masses(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities below and above."""
        line, panels = self._line(), self._panels()
        ends = line.residual(
            ops.convert_to_tensor([line.low, line.high], line.dtype)
        )
        t = line.coordinate(ops.clip(r, ends[0], ends[1]))
        masses = panels.masses(ops.reshape(t, (-1,)))
        below, above = (
            ops.reshape(mass / panels.lower[-1], ps.shape(r)) for mass in masses
        )
        return below, above

    def _mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        below, above = self._masses(-r if mirrored else r)
        mass, rest = (above, below) if mirrored else (below, above)
        return ops.where(mass < rest, mass, 1.0 - rest)

    def _log_mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        below, above = self._masses(-r if mirrored else r)
        return _log_of_smaller(
            *((above, below) if mirrored else (below, above))
        )

    def _mirrored_quantile(self, p: Tensor, upper: Tensor) -> Tensor:
        line, panels = self._line(), self._panels()
        place, correction = panels.quantile(
            ops.reshape(p, (-1,)) * panels.lower[-1], ops.reshape(upper, (-1,))
        )
        r = ops.reshape(line.residual(place + correction), ps.shape(p))
        low, high = self._ends()
        r = ops.where(p > 0.0, r, ops.where(upper, high, low))
        return ops.where(p < 0.0, math.nan, r)

    def _moment(self, panels: Panels, centre: Tensor, power: int) -> Tensor:
        """E[(r - centre)**power], infinite or NaN where the tails make it so.

        The share of power-law tails beyond the ends is added.
        """
        line = self._line()
        inside = panels.mean_of(lambda t: (line.residual(t) - centre) ** power)
        if line.is_bounded:
            return inside
        log_ends, decay = tails(self._energy, line, panels.peak)
        ends = line.open_ends()
        far = line.residual(ops.convert_to_tensor(ends, line.dtype))
        log_beyond = (
            log_lost(log_ends + power * ops.log(ops.abs(far)), decay - power)
            - panels.log_total()
        )
        # Not `exp` of inf alone: under XLA the sum of both sides was then -inf
        # instead of NaN.
        beyond = ops.where(log_beyond < math.inf, ops.exp(log_beyond), math.inf)
        sign = ops.convert_to_tensor(np.sign(ends) ** power, line.dtype)
        return inside + ops.sum(sign * beyond)

    @in_single_precision
    def _mean(self) -> Tensor:
        mean = self._moment(self._panels(), 0.0, 1)
        return self._defined(
            self._over_batch(
                self._tensor("loc") + self._tensor("scale") * mean
            ),
            "mean",
        )

    def _standard_variance(self) -> Tensor:
        """The variance of the residual."""
        panels = self._panels()
        mean = self._moment(panels, 0.0, 1)
        is_finite = ops.isfinite(mean)
        variance = self._moment(panels, ops.where(is_finite, mean, 0.0), 2)
        return ops.where(is_finite, variance, math.nan)

    @in_single_precision
    def _variance(self) -> Tensor:
        variance = ops.square(self._tensor("scale")) * self._standard_variance()
        return self._defined(self._over_batch(variance), "variance")

    @in_single_precision
    def _stddev(self) -> Tensor:
        # Not by the variance, which overflows first.
        stddev = self._tensor("scale") * ops.sqrt(self._standard_variance())
        return self._defined(self._over_batch(stddev), "standard deviation")

    def _defined(self, statistic: Tensor, name: str) -> Tensor:
        if not self.allow_nan_stats:
            # All numbers and infinities pass, NaN does not.
            assert_util.assert_greater_equal(
                statistic,
                ops.full_like(statistic, -math.inf),
                message=f"The {name} is undefined.",
            )
        return statistic

    @in_single_precision
    def _entropy(self) -> Tensor:
        panels, line = self._panels(), self._line()
        energy = panels.mean_of(
            lambda t: energy_at(self._energy, line.residual(t))
        )
        return self._over_batch(
            ops.log(self._tensor("scale"))
            + self._log_normalizer(panels)
            + energy
        )

    @in_single_precision
    def _mode(self) -> Tensor:
        line, panels = self._line(), self._panels()

        def lowest(t: Tensor) -> Tensor:
            r = line.residual(t)
            energies = energy_at(self._energy, r)
            energies = ops.where(energies < 1e30, energies, 2e30)
            ties = energies <= ops.min(energies)
            return ops.argmin(ops.where(ties, ops.abs(r), math.inf))

        points = ops.sort(
            ops.concatenate([panels.edges, ops.reshape(panels.nodes, (-1,))])
        )
        grid = ops.convert_to_tensor(np.linspace(0.0, 1.0, 33), line.dtype)
        for _ in range(_ZOOMS):
            best, last = lowest(points), ops.shape(points)[0] - 1
            left = points[ops.maximum(best - 1, 0)]
            right = points[ops.minimum(best + 1, last)]
            points = ops.sort(
                ops.concatenate(
                    [left + (right - left) * grid, points[best][None]]
                )
            )
        r = ops.stop_gradient(line.residual(points[lowest(points)]))
        return self._over_batch(self._tensor("loc") + self._tensor("scale") * r)

    def _default_event_space_bijector(self) -> Any:
        low, high = self._ends()
        loc, scale = self._tensor("loc"), self._tensor("scale")
        checks = {"validate_args": self.validate_args}
        if self._support is None:
            return tfb.Identity(**checks)
        if math.isfinite(low) and math.isfinite(high):
            return tfb.Sigmoid(loc + low * scale, loc + high * scale, **checks)
        end, sign = (low, 1.0) if math.isfinite(low) else (high, -1.0)
        return tfb.Chain(
            [
                tfb.Shift(loc + end * scale),
                tfb.Scale(ops.cast(sign, scale.dtype)),
                tfb.Softplus(),
            ],
            **checks,
        )


def _log_of_smaller(mass: Tensor, other: Tensor) -> Tensor:
    """Log of a probability, from the other one if that is smaller."""
    is_small = mass < other
    return ops.where(
        is_small,
        ops.log(ops.where(is_small, mass, 1.0)),
        ops.log1p(-ops.where(is_small, 0.0, other)),
    )
