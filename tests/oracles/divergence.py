"""Divergences by quadrature."""

import mpmath
from mpmath import mpf

from oracles.density import QUICK_DIGITS, Exact


def exact_kl(
    a: Exact, b: Exact, loc: mpf, scale: mpf, b_loc: mpf, b_scale: mpf
) -> mpf:
    """The integral of f_a log(f_a / f_b), cut where either has a kink."""

    def at(r: mpf) -> mpf:
        return (loc - b_loc + scale * r) / b_scale

    kinks = [(b_loc - loc + b_scale * k) / scale for k in b.kinks]
    inside = [k for k in kinks if a.cuts[0] < k < a.cuts[-1]]
    with mpmath.workdps(QUICK_DIGITS):
        difference = mpmath.quad(
            lambda r: (
                mpmath.exp(-a.energy(r)) * (b.energy(at(r)) - a.energy(r))
            ),
            sorted({*a.cuts, *inside}),
            method="gauss-legendre",
        )
    return difference / a.z + mpmath.log(b_scale / scale) + b.log_z - a.log_z
