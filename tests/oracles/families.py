"""The definitions of the families that TFP lacks."""

import functools
from collections.abc import Callable

import mpmath
from mpmath import mpf

from oracles.density import QUICK_DIGITS, Exact, Symmetric


class ExactHuber(Symmetric):
    """Huber of threshold `shape`; if that is infinite, the normal."""

    def prepare(self) -> None:
        d = self.shape
        self.kinks = [] if d == mpmath.inf else [-d, d]
        side = [mpf(0), *(mpf(2) ** k for k in range(5) if 2**k < d)]
        if d <= 16:
            side += [d + mpf(k) / d for k in (0, 3, 10, 30, 80)]
        self.cuts = [-r for r in side[:0:-1]] + side

    def energy(self, r: mpf) -> mpf:
        inner = min(abs(r), self.shape)
        return inner * (abs(r) - inner / 2)

    def slope(self, r: mpf) -> mpf:
        return mpmath.sign(r) * min(abs(r), self.shape)

    def slope_in_shape(self, r: mpf) -> mpf:
        return max(abs(r) - self.shape, mpf(0))

    def tail(self, r: mpf) -> mpf:
        d = self.shape
        if r > d:
            return mpmath.exp(-self.energy(r)) / d / self.z
        # By erfc: differences of erf have no digits in the tail.
        centre = mpmath.erfc(r / mpmath.sqrt(2))
        beyond = mpf(0)
        if d != mpmath.inf:
            centre -= mpmath.erfc(d / mpmath.sqrt(2))
            beyond = mpmath.exp(-d * d / 2) / d
        return (mpmath.sqrt(mpmath.pi / 2) * centre + beyond) / self.z

    def at_score(self, y: mpf) -> mpf:
        d = self.shape
        return y if y <= d else y * y / 2 / d + d / 2


class ExactHyperbolicSecant(Symmetric):
    """It has no shape."""

    def prepare(self) -> None:
        self.kinks = []
        self.cuts = [mpf(k) for k in (-80, -30, -10, -3, 0, 3, 10, 30, 80)]

    def energy(self, r: mpf) -> mpf:
        return mpmath.log(mpmath.cosh(r))

    def slope(self, r: mpf) -> mpf:
        return mpmath.tanh(r)

    def tail(self, r: mpf) -> mpf:
        return 2 / mpmath.pi * mpmath.atan(mpmath.exp(-r))

    def at_score(self, y: mpf) -> mpf:
        return mpmath.acosh(mpmath.exp(y * y / 2))


class ExactAsymmetricLaplace(Exact):
    """The asymmetric Laplace of quantile level `shape`."""

    def prepare(self) -> None:
        self.kinks = [mpf(0)]
        nats = [mpf(k) for k in (80, 30, 10, 3)]
        self.cuts = [-k / (1 - self.shape) for k in nats] + [mpf(0)]
        self.cuts += [k / self.shape for k in reversed(nats)]

    def energy(self, r: mpf) -> mpf:
        return r * self.slope(r)

    def slope(self, r: mpf) -> mpf:
        return self.shape - (1 if r < 0 else 0)

    def slope_in_shape(self, r: mpf) -> mpf:
        return r

    def lower(self, r: mpf) -> mpf:
        if r > 0:
            return 1 - self.upper(r)
        return self.shape * mpmath.exp((1 - self.shape) * r)

    def upper(self, r: mpf) -> mpf:
        if r <= 0:
            return 1 - self.lower(r)
        return (1 - self.shape) * mpmath.exp(-self.shape * r)

    def quantile(self, p: mpf) -> mpf:
        tau = self.shape
        if p < tau:
            return mpmath.log(p / tau) / (1 - tau)
        return -mpmath.log((1 - p) / (1 - tau)) / tau


class ExactBarron(Symmetric):
    """Barron of shape alpha; all except the energy by quadrature."""

    def prepare(self) -> None:
        """Cuts log r > 0, up to where r**2 exp(-energy(r)) dr is negligible."""
        self.kinks = []
        # Five methods need the same tails.
        self.tail = functools.cache(self.tail)
        power = 1 if self.shape == 0 else 3
        cuts = [mpf(k) for k in (-80, -40, -20, -10, -5, 0)]
        while power * cuts[-1] - self.energy(mpmath.exp(cuts[-1])) > -80:
            cuts.append(cuts[-1] + (5 if cuts[-1] < 20 else 20))
        self.cuts = cuts

    def integral(self, function: Callable[[mpf], mpf]) -> mpf:
        """Integral of an even function in log r, for Cauchy-like tails."""

        def integrand(u: mpf) -> mpf:
            r = mpmath.exp(u)
            return function(r) * mpmath.exp(u - self.energy(r))

        return 2 * mpmath.quad(integrand, self.cuts)

    def energy(self, r: mpf) -> mpf:
        return self.energy_at(self.shape, r)

    def energy_at(self, alpha: mpf, r: mpf) -> mpf:
        b = abs(alpha - 2)
        if alpha == 0:
            return mpmath.log1p(r * r / 2)
        if alpha == 2:
            return r * r / 2
        power = mpmath.expm1(alpha / 2 * mpmath.log1p(r * r / b))
        return b / alpha * power

    def slope(self, r: mpf) -> mpf:
        if self.shape == 2:
            return r
        b = abs(self.shape - 2)
        return r * (1 + r * r / b) ** (self.shape / 2 - 1)

    def slope_in_shape(self, r: mpf) -> mpf:
        """From the right, as the family ends at 0."""
        return mpmath.diff(
            lambda alpha: self.energy_at(alpha, r), self.shape, direction=1
        )

    def tail(self, r: mpf) -> mpf:
        """In units of about the length of the rest of the tail."""
        unit = 1 / (self.slope(r) + 1 / (1 + r))
        base = self.energy(r)
        # This many digits cancel in the exponent.
        lost = max(0, int(mpmath.log10(1 + base)))
        with mpmath.workdps(QUICK_DIGITS + lost):
            integral = mpmath.quad(
                lambda t: mpmath.exp(base - self.energy(r + unit * t)),
                [0, 0.1, 1, 10, 100, mpmath.inf],
            )
        return unit * integral * mpmath.exp(-base) / self.z

    def at_score(self, y: mpf) -> mpf:
        alpha, s = self.shape, y * y / 2
        if alpha == 2:
            return y
        b = abs(alpha - 2)
        if alpha == 0:
            return mpmath.sqrt(2 * mpmath.expm1(s))
        power = mpmath.expm1(2 / alpha * mpmath.log1p(alpha * s / b))
        return mpmath.sqrt(b * power)
