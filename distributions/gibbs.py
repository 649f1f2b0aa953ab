"""The Gibbs density of an energy that the user writes: exp(-energy(r)) / Z."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfp_vae.distributions.location_scale import (
    LocationScale,
    in_single_precision,
)
from tfp_vae.distributions.panels import Panels, adapt
from tfp_vae.substrate import Tensor, assert_util, tfb

__all__ = ["Gibbs"]

# How far out an unbounded support is followed, in units of scale: short of
# where the square of a residual overflows.
_REACH = {"float32": 1e17, "float64": 1e30}
# The share of the mass that may lie further out.
_LOST = 1e-6
# A moment whose integrand falls by less than this power of |r| diverges.
_FLAT = 1e-3
# How often the mode is looked for between its neighbours, 16 times as close.
_ZOOMS = 6


class _Line:
    """The support, on a coordinate t in which heavy tails are exponential.

    r = anchor + sinh(t) on an unbounded support, with the finite end, if there
    is one, for its anchor; r = t on a bounded one.
    """

    def __init__(self, support: tuple[float, float] | None, dtype: str) -> None:
        low, high = support or (-math.inf, math.inf)
        reach = math.asinh(_REACH[dtype])
        self.dtype = dtype
        self.is_bounded = math.isfinite(low) and math.isfinite(high)
        self.anchor = next(
            (end for end in (low, high) if math.isfinite(end)), 0.0
        )
        if self.is_bounded:
            self.low, self.high = low, high
        else:
            self.low = 0.0 if math.isfinite(low) else -reach
            self.high = 0.0 if math.isfinite(high) else reach
        # The residual 0 is where the energies in use have their kinks.
        self.breaks = [self.low, self.high]
        if low < 0.0 < high:
            centre = 0.0 if self.is_bounded else math.asinh(-self.anchor)
            self.breaks.insert(1, centre)

    def open_ends(self) -> np.ndarray:
        """The ends that stand for infinity."""
        ends = [] if self.is_bounded else [self.low, self.high]
        return np.array([t for t in ends if t != 0.0])

    def residual(self, t: Tensor) -> Tensor:
        if self.is_bounded:
            return t
        # Not `ops.sinh` nor `ops.arcsinh`: float32 in disguise on JAX.
        return self.anchor + 0.5 * (ops.expm1(t) - ops.expm1(-t))

    def coordinate(self, r: Tensor) -> Tensor:
        if self.is_bounded:
            return r
        r = r - self.anchor
        size = ops.where(r < 0.0, -r, r)
        square = size * size
        t = ops.log1p(size + square / (1.0 + ops.sqrt(1.0 + square)))
        return ops.where(r < 0.0, -t, t)

    def log_slope(self, t: Tensor) -> Tensor:
        """Log dr/dt = log cosh(t)."""
        if self.is_bounded:
            return ops.zeros_like(t)
        size = ops.abs(t)
        return size + ops.log1p(ops.exp(-2.0 * size)) - math.log(2.0)


def _log_density(
    energy: Callable[[Tensor], Tensor], line: _Line, t: Tensor
) -> Tensor:
    """In t, without the normaliser; -2e30 for none (and for a NaN)."""
    values = line.log_slope(t) - _energy_at(energy, line.residual(t))
    return ops.where(ops.abs(values) < 1e30, values, -2e30)


def _energy_at(energy: Callable[[Tensor], Tensor], r: Tensor) -> Tensor:
    """The energy, in the dtype and, checked, of the shape of r."""
    values = ops.cast(ops.convert_to_tensor(energy(r)), r.dtype)
    shape, expected = tuple(values.shape), tuple(r.shape)
    # In a graph of TensorFlow a size may be unknown, which is None.
    if len(shape) != len(expected) or any(
        None not in sizes and sizes[0] != sizes[1]
        for sizes in zip(shape, expected, strict=True)
    ):
        raise ValueError(
            "`energy` must work element by element, with no sum or mean in it: "
            "the energies of a tensor of residuals have its shape (write a "
            f"constant as `0.0 * r`). Received: energies of shape {shape} for "
            f"residuals of shape {expected}."
        )
    return values


def _tails(
    energy: Callable[[Tensor], Tensor], line: _Line, peak: Tensor
) -> tuple[Tensor, Tensor]:
    """The log density at the ends that stand for infinity, and its decay.

    Both `[ends]`. The decay is what the log density loses over the last unit of
    t: for a tail as |r|**-(1 + k) it is k. Where there is no density, no
    gradient is asked for: the energy overflows there. `peak` stands in, any t
    where it does not.
    """
    ends = line.open_ends()
    points = ops.convert_to_tensor(
        np.stack([ends, ends - np.sign(ends)]), line.dtype
    )
    values = ops.stop_gradient(_log_density(energy, line, points))
    there = values > -1e30
    values = ops.where(
        there,
        _log_density(energy, line, ops.where(there, points, peak)),
        values,
    )
    return values[0], values[1] - values[0]


def _log_lost(log_ends: Tensor, decay: Tensor) -> Tensor:
    """The log of what a tail has beyond its end, inf if that is infinite."""
    falls = decay > _FLAT
    lost = log_ends - ops.log(ops.where(falls, decay, 1.0))
    return ops.where(
        log_ends < -1e29, -math.inf, ops.where(falls, lost, math.inf)
    )


def _check_normalizable(
    energy: Callable[[Tensor], Tensor],
    support: tuple[float, float] | None,
    dtype: str,
) -> None:
    """Refuses an energy without a finite integral, if it can be seen now."""
    line = _Line(support, dtype)
    # Neither at an end nor at 0, where an energy may be infinite.
    t = np.linspace(line.low, line.high, 4002)[1:-1]
    spacing = t[1] - t[0]
    t = ops.convert_to_tensor(t, dtype)
    values = _log_density(energy, line, t)
    try:
        values = ops.convert_to_numpy(values).astype(np.float64)
    except (AttributeError, NotImplementedError, TypeError):
        # The backends' ways to say that it is being compiled.
        return
    r = ops.convert_to_numpy(line.residual(t))
    top = values.max()
    if top < -1e30:
        raise ValueError(
            "`energy` must be finite somewhere on the support: one that is not "
            "defined everywhere, such as that of a logarithm, needs its own, "
            "`support=(0.0, math.inf)`. Received: "
            f"support={support}, an energy that is infinite or NaN at all of "
            f"{len(r)} residuals from {r[0]:.3g} to {r[-1]:.3g}."
        )
    if line.is_bounded:
        return
    log_total = top + math.log(np.exp(values - top).sum() * spacing)
    lost = _log_lost(*_tails(energy, line, t[int(values.argmax())]))
    if ops.convert_to_numpy(lost).max() < log_total + math.log(_LOST):
        return
    ends = line.residual(ops.convert_to_tensor(line.open_ends(), dtype))
    energies = ops.convert_to_numpy(_energy_at(energy, ends))
    raise ValueError(
        "exp(-energy(r)) must have a finite integral: where the support is "
        "unbounded the energy must grow faster than log|r|, by so much that "
        f"all but {_LOST:g} of the mass lies within |r| < {_REACH[dtype]:g} "
        "(1.4 log|r| will do). An energy that levels off, such as Tukey's "
        "biweight, has a density on a bounded support only: give one, "
        "`support=(low, high)`, in units of `scale` about `loc`. Received: "
        f"support={support}, an energy of "
        + " and ".join(
            f"{e:.6g} at r = {x:.3g}"
            for e, x in zip(energies, ops.convert_to_numpy(ends), strict=True)
        )
        + "."
    )


def _checked_support(support: Any) -> tuple[float, float] | None:
    """A pair of floats, or None for the whole line."""
    if support is None:
        return None
    try:
        low, high = (float(end) for end in support)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise ValueError(
            "`support` must be a pair of numbers in ascending order, in units "
            "of `scale` about `loc`, such as (0.0, math.inf), or None for the "
            f"whole line. Received: support={support!r}."
        )
    return None if math.isinf(low) and math.isinf(high) else (low, high)


class Gibbs(LocationScale):
    """The Gibbs distribution of an energy, with `loc` and `scale`.

    #### Mathematical details

    The probability density function is,

    ```none
    pdf(y; loc, scale) = exp(-energy(r)) / (scale * Z)
    r = (y - loc) / scale
    Z = integral of exp(-energy(r)) over the support
    ```

    with `energy` a plain function of the residual, written in `keras.ops` and
    applied element by element: the density whose negative logarithm is a loss
    of your own, plus the constant that makes it a likelihood. All logarithms
    are in nats. Z is scalar: one normaliser serves all of the batch.

    Z, and with it the cdf and the statistics, is Gauss-Legendre on 64 panels of
    12 nodes on each side of r = 0, on a coordinate asinh(r) where the support
    is unbounded. The panels are moved to where the energy needs them, kinks at
    unknown places and heavy tails included. Z is good to 1e-6, and to 1e-9 in
    float64 where the energy has a derivative; a spike in the density that is
    narrower than 1e-2 may be missed. Each call of a method asks for the energy
    eight times at 1536 points, whatever the batch, and on JAX, if it is not
    within a compiled function, compiles that anew, in a third of a second.

    The energy may depend on trainable parameters, as a function that closes
    over `keras.Variable`s: gradients reach them through Z, the cdf, samples
    (reparameterised) and statistics.

    An energy must grow faster than log|r| where the support is unbounded.
    One that does not, such as Tukey's biweight, is refused when the
    distribution is made outside of a compiled function; within one, where
    nothing can be refused, its log density is NaN. On a bounded support any
    energy will do.

    Whether power-law tails have a mean and a variance is told from the energy
    about |r| = 1e17 (1e30 in float64): what is infinite is inf, what is
    undefined NaN. The mode is the lowest energy, the one next to `loc` if there
    are several; it moves with `loc` and `scale` only.

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
                or `energy` is no function.
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
        self._support = parameters["support"] = _checked_support(support)
        super().__init__(parameters)
        _check_normalizable(energy, self._support, self._precision())

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

    def _line(self) -> _Line:
        return _Line(self._support, self._precision())

    def _ends(self) -> tuple[float, float]:
        return self._support or (-math.inf, math.inf)

    def _panels(self) -> Panels:
        line = self._line()

        def log_density(t: Tensor) -> Tensor:
            return _log_density(self._energy, line, t)

        return Panels.of(
            log_density, adapt(log_density, line.breaks, line.dtype)
        )

    def _log_normalizer(self, panels: Panels) -> Tensor:
        """Log Z, or NaN if too much of the mass lies beyond the panels."""
        log_z = panels.log_total()
        line = self._line()
        if line.is_bounded:
            return log_z
        lost = ops.max(_log_lost(*_tails(self._energy, line, panels.peak)))
        return ops.where(
            lost < ops.stop_gradient(log_z) + math.log(_LOST), log_z, math.nan
        )

    @in_single_precision
    def _log_prob(self, value: Tensor) -> Tensor:
        panels = self._panels()
        constant = ops.log(self._tensor("scale")) + self._log_normalizer(panels)
        r = self._standardized(value)
        if self._support is None:
            return -_energy_at(self._energy, r) - constant
        low, high = self._support
        outside = (r < low) | (r > high)
        # The energy need not be defined outside.
        r = ops.where(outside, self._line().residual(panels.peak), r)
        log_prob = -_energy_at(self._energy, r) - constant
        return ops.where(outside, -math.inf, log_prob)

    def _masses(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities below and above."""
        r = self._standardized(value)
        line, panels = self._line(), self._panels()
        ends = line.residual(
            ops.convert_to_tensor([line.low, line.high], line.dtype)
        )
        t = line.coordinate(ops.clip(r, ends[0], ends[1]))
        masses = panels.masses(ops.reshape(t, (-1,)))
        below, above = (
            ops.reshape(mass / panels.lower[-1], ops.shape(r))
            for mass in masses
        )
        return below, above

    @in_single_precision
    def _cdf(self, value: Tensor) -> Tensor:
        below, above = self._masses(value)
        return ops.where(below < above, below, 1.0 - above)

    @in_single_precision
    def _survival_function(self, value: Tensor) -> Tensor:
        below, above = self._masses(value)
        return ops.where(below < above, 1.0 - below, above)

    @in_single_precision
    def _log_cdf(self, value: Tensor) -> Tensor:
        return _log_of_smaller(*self._masses(value))

    @in_single_precision
    def _log_survival_function(self, value: Tensor) -> Tensor:
        below, above = self._masses(value)
        return _log_of_smaller(above, below)

    def _mirrored_quantile(self, p: Tensor, upper: Tensor) -> Tensor:
        line, panels = self._line(), self._panels()
        place, correction = panels.quantile(
            ops.reshape(p, (-1,)) * panels.lower[-1], ops.reshape(upper, (-1,))
        )
        r = ops.reshape(line.residual(place + correction), ops.shape(p))
        low, high = self._ends()
        r = ops.where(p > 0.0, r, ops.where(upper, high, low))
        return ops.where(p < 0.0, math.nan, r)

    def _moment(self, panels: Panels, centre: Tensor, power: int) -> Tensor:
        """E[(r - centre)**power], infinite or NaN where the tails have it so.

        What power-law tails have beyond the ends is added.
        """
        line = self._line()
        inside = panels.mean_of(lambda t: (line.residual(t) - centre) ** power)
        if line.is_bounded:
            return inside
        log_ends, decay = _tails(self._energy, line, panels.peak)
        ends = line.open_ends()
        far = line.residual(ops.convert_to_tensor(ends, line.dtype))
        log_beyond = (
            _log_lost(log_ends + power * ops.log(ops.abs(far)), decay - power)
            - panels.log_total()
        )
        # Not `exp` of inf alone: compiled by XLA, the sum of both sides then
        # came out as -inf in place of NaN.
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

    @in_single_precision
    def _variance(self) -> Tensor:
        panels = self._panels()
        mean = self._moment(panels, 0.0, 1)
        is_finite = ops.isfinite(mean)
        variance = self._moment(panels, ops.where(is_finite, mean, 0.0), 2)
        return self._defined(
            self._over_batch(
                ops.square(self._tensor("scale"))
                * ops.where(is_finite, variance, math.nan)
            ),
            "variance",
        )

    def _stddev(self) -> Tensor:
        return ops.sqrt(self._variance())

    def _defined(self, statistic: Tensor, name: str) -> Tensor:
        if not self.allow_nan_stats:
            # As all numbers and infinities are, and NaN is not.
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
            lambda t: _energy_at(self._energy, line.residual(t))
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
            energies = _energy_at(self._energy, r)
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
    """Log of a probability, by way of the other where that is the smaller."""
    is_small = mass < other
    return ops.where(
        is_small,
        ops.log(ops.where(is_small, mass, 1.0)),
        ops.log1p(-ops.where(is_small, 0.0, other)),
    )
