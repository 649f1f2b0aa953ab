"""A standard density exp(-energy(r)) / z, and what follows from it."""

import functools
from collections.abc import Callable
from typing import Any

import mpmath
from mpmath import mpf

#: Digits of Barron's tails and of divergences: there are thousands of them.
QUICK_DIGITS = 20


def number(value: Any) -> mpf:
    """Also converts NumPy's numbers, which mpmath does not accept."""
    return value if isinstance(value, mpf) else mpf(float(value))


class Exact:
    """A standard density exp(-energy(r)) / z, with what follows from it.

    Attributes:
        shape: the shape parameter.
        cuts: where integrals are cut, including the ends, beyond which less
            than 1e-30 of the mass is left.
        kinks: where the energy is not smooth, for integrals of others.
    """

    cuts: list[mpf]
    kinks: list[mpf]

    def __init__(self, shape: float) -> None:
        self.shape = number(shape)
        self.prepare()
        self.z = self.integral(lambda r: mpf(1))
        self.log_z = mpmath.log(self.z)
        self.check()

    def check(self) -> None:
        """Raises ArithmeticError unless tails and density agree."""
        inside = [k for k in self.kinks if 0 < k < 1]
        mass = mpmath.quad(
            lambda r: mpmath.exp(self.log_prob(r)), [0, *inside, 1]
        )
        zero, one = mpf(0), mpf(1)
        gaps = (
            self.lower(one) - self.lower(zero) - mass,
            self.lower(zero) + self.upper(zero) - 1,
        )
        if max(map(abs, gaps)) > 1e-18:
            raise ArithmeticError(f"{type(self).__name__}: {gaps}")

    def prepare(self) -> None:
        """Sets `cuts` and `kinks`."""
        raise NotImplementedError

    def energy(self, r: mpf) -> mpf:
        """Minus the log density, up to the constant."""
        raise NotImplementedError

    def slope(self, r: mpf) -> mpf:
        """The derivative of the energy in r."""
        raise NotImplementedError

    def slope_in_shape(self, r: mpf) -> mpf:
        """The derivative of the energy in the shape."""
        raise NotImplementedError

    def lower(self, r: mpf) -> mpf:
        """P(R < r)."""
        raise NotImplementedError

    def upper(self, r: mpf) -> mpf:
        """P(R > r)."""
        raise NotImplementedError

    def quantile(self, p: mpf) -> mpf:
        """The r with P(R < r) = p."""
        raise NotImplementedError

    def integral(self, function: Callable[[mpf], mpf]) -> mpf:
        """The integral of function(r) exp(-energy(r)) over the line."""
        return mpmath.quad(
            lambda r: function(r) * mpmath.exp(-self.energy(r)), self.cuts
        )

    def log_cdf(self, r: Any) -> mpf:
        return mpmath.log(self.lower(number(r)))

    def log_survival_function(self, r: Any) -> mpf:
        return mpmath.log(self.upper(number(r)))

    def log_prob(self, r: Any) -> mpf:
        r = number(r)
        return -self.energy(r) - self.log_z

    @functools.cached_property
    def mean(self) -> mpf:
        # Chopped, since an error relative to a nearly 0 value means nothing.
        return mpmath.chop(self.integral(lambda r: r) / self.z, 1e-25)

    @functools.cached_property
    def variance(self) -> mpf:
        square = self.integral(lambda r: (r - self.mean) ** 2)
        return square / self.z

    @functools.cached_property
    def entropy(self) -> mpf:
        return self.integral(self.energy) / self.z + self.log_z

    @functools.cached_property
    def log_z_slope(self) -> mpf:
        """The derivative of log z in the shape."""
        return -self.integral(self.slope_in_shape) / self.z


class Symmetric(Exact):
    """A density that is symmetric about 0; `tail` is P(R > r) for r >= 0."""

    mean = mpf(0)

    def tail(self, r: mpf) -> mpf:
        raise NotImplementedError

    def at_score(self, y: mpf) -> mpf:
        """The r >= 0 with energy(r) = y**2 / 2, y >= 0."""
        raise NotImplementedError

    def lower(self, r: mpf) -> mpf:
        return self.upper(-r)

    def upper(self, r: mpf) -> mpf:
        return self.tail(r) if r >= 0 else 1 - self.tail(-r)

    def quantile(self, p: mpf) -> mpf:
        half = mpf(1) / 2
        if p == half:
            return mpf(0)
        return -self.root(p) if p < half else self.root(1 - p)

    def root(self, q: mpf) -> mpf:
        """The r > 0 with tail(r) = q.

        By Newton's method on log tail over the score y, sqrt(2 energy), where
        every tail looks like a normal one.
        """
        y, step = mpmath.sqrt(-2 * mpmath.log(2 * q)), mpmath.inf
        # A step doubles the digits.
        while abs(step) > y * mpf("1e-12"):
            r = self.at_score(y)
            tail = self.tail(r)
            hazard = mpmath.exp(self.log_prob(r)) / tail * y / self.slope(r)
            step = mpmath.log(tail / q) / hazard
            y += step
        return self.at_score(y)


@functools.cache
def standard(definition: type[Exact], shape: float) -> Exact:
    """Each density only once, since its integrals take time."""
    return definition(shape)
