"""The table as a page, with the errors above the bound and their reasons."""

import platform
import textwrap
from importlib import metadata

import mpmath
from oracles.density import QUICK_DIGITS

from accuracy.families import ENERGIES, LEAST_MASS, PLACES, short
from accuracy.methods import BACKEND, Row

DIGITS = 30
# Errors above this in float32 are listed below the table, with a reason.
BOUND = 1e-5
REASONS = {
    ("Huber", "d log_prob / d delta"): (
        "1/delta and r nearly cancel, and are rounded by that much."
    ),
    ("AsymmetricLaplace", "d log_prob / d quantile_level"): (
        "r and 1/(1-level) nearly cancel, and are rounded by that much."
    ),
    ("Barron", "survival_function"): (
        "The exponential of an energy above 60, where the spacing of float32 "
        "is 4e-6: three of them off."
    ),
}
_ON_A_PANEL = (
    "Mass within a panel is a polynomial, whose terms cancel at its thin end."
)
REASONS |= {
    (f"Gibbs({name})", method): _ON_A_PANEL
    for name in ENERGIES
    for method in ("cdf", "survival_function", "quantile")
}

INTRODUCTION = """\
# Accuracy, compared with mpmath

Written by `python benchmarks/accuracy.py`, on {machine}, with
{versions}.

Each line has the largest error of a method on a grid over its range, in float32
and in float64, at inputs that are exact in that precision. The exact values
come from the definitions, to {digits} digits ({quick} for divergences and the
tails of Barron): normalisers, moments, entropies, divergences and the tails of
Barron by quadrature, cut at the kinks; other tails in closed form; quantiles as
roots; gradients by differentiating under the integral.

- The error of a logarithm, an entropy, a divergence, a gradient or a quantile
  is |ours - exact| / max(|exact|, 1): a log density of about 0 is the
  difference of numbers of order 1.
- The error of a probability or a moment is |ours - exact| / |exact|, in both
  tails, down to probabilities of {least}; of a mean that is 0, |ours|.
- `loc` and `scale` are {places}; r is (y - loc) / scale,
  of both signs, 0 included.
- For divergences the unit of a density is its scale, of Huber divided by
  min(delta, 1). Distances are in the larger of the two units; the ratio is the
  second unit divided by the first.
"""


def page(rows: list[Row]) -> str:
    """The page, in Markdown."""
    packages = [BACKEND, "keras", "tensorflow-probability", "mpmath"]
    introduction = INTRODUCTION.format(
        machine=platform.machine(),
        versions=", ".join(f"{p} {metadata.version(p)}" for p in packages),
        digits=DIGITS,
        quick=QUICK_DIGITS,
        least=short(LEAST_MASS),
        places=" and ".join(str(place) for place in PLACES),
    )
    lines = [introduction]
    lines.append("| distribution | method | range | float32 | float64 |")
    lines.append("| --- | --- | --- | --- | --- |")
    notes = []
    for row in rows:
        errors = " | ".join(f"{w.error:.1e}" for w in row.worst)
        lines.append(
            f"| {row.distribution} | {row.method} | {row.span} | {errors} |"
        )
        single = row.worst[0]
        if single.error > BOUND:
            inputs = ", ".join(f"{v:.9g}" for v in single.case.inputs)
            note = (
                f"- {row.distribution}, {row.method}, at ({inputs}): "
                f"{single.found:.9g}, exactly "
                f"{mpmath.nstr(single.case.exact, 9)}. "
                + REASONS.get((row.distribution, row.method), "")
            )
            notes.append(
                textwrap.fill(
                    note, 80, subsequent_indent="  ", break_on_hyphens=False
                )
            )
    lines.append(f"\n## Above {short(BOUND)} in float32\n")
    if notes:
        lines.append("At (loc, scale, shape, y or p):\n")
    lines += notes or ["None."]
    return "\n".join(lines) + "\n"
