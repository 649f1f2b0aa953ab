"""The lines of the table."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mpmath
import numpy as np
from mpmath import mpf
from oracles import (
    Exact,
    ExactAsymmetricLaplace,
    ExactHuber,
    exact_kl,
    standard,
)

from accuracy.families import FAMILIES, FARTHEST, LEAST_MASS, short, span
from accuracy.methods import (
    DTYPES,
    METHODS,
    Case,
    Row,
    cases,
    derivative,
    method_of,
    rounded,
    worst,
)
from tfp_vae.distributions import Bernoulli, Huber
from tfp_vae.substrate import tfd

LOGITS = np.concatenate([[0.0], np.geomspace(1e-6, FARTHEST, 97)])

KL_DELTAS = (1e-4, 0.3, 1.345, 6.0, 1e4, np.inf)
KL_DISTANCES = (0.0, 0.3, -3.0, FARTHEST)
KL_RATIOS = (1e-3, 1.0, 300.0)


def family_rows() -> Iterator[Row]:
    """Every method of every family on the real line."""
    for kind, name in itertools.product(FAMILIES, METHODS):
        family, method = FAMILIES[kind], METHODS[name]
        if name.endswith("shape") and not family.shape:
            continue
        takes = {
            "residual": f"r to ±{short(family.farthest)}",
            "mass": f"p {short(LEAST_MASS)} to 1 - 1e-6",
        }
        spans = [family.span, takes.get(method.takes, "")]
        spans.append(family.left_out.get(name, ("",))[0])
        function = method_of(family, name)
        yield Row(
            kind,
            name.replace("shape", family.shape),
            ", ".join(filter(None, spans)) or "any",
            [
                worst(function, cases(family, name, d), d, method.measure)
                for d in DTYPES
            ],
        )


def bernoulli_cases(dtype: str, gradient: bool) -> Iterator[Case]:
    """Cases of 0 and 1, with P(1) = 1 / (1 + exp(-logits))."""
    values = rounded([*-LOGITS, *LOGITS], dtype)
    for logits, x in itertools.product(values, (0.0, 1.0)):
        # P(x) = 1 / (1 + away), without 1 minus a number near 1.
        away = mpmath.exp(mpf(logits) * (1 - 2 * int(x)))
        log_prob = -mpmath.log(1 + away)
        slope = (2 * int(x) - 1) * away / (1 + away)
        yield Case((logits, x), slope if gradient else log_prob)


def bernoulli_rows() -> Iterator[Row]:
    """The one method that is not TFP's, and its gradient."""

    def log_prob(logits: Any, x: Any) -> Any:
        return Bernoulli(logits).log_prob(x)

    for name, function in (
        ("log_prob", log_prob),
        ("d log_prob / d logits", derivative(log_prob, 0)),
    ):
        found = [
            worst(function, bernoulli_cases(d, function is not log_prob), d)
            for d in DTYPES
        ]
        yield Row("Bernoulli", name, f"logits to ±{short(FARTHEST)}", found)


class Relative(NamedTuple):
    """A family whose divergences from and to Huber are known.

    Attributes:
        make: from loc, scale and shape to the distribution.
        shapes: the shapes to run; the scale is in units of min(shape, 1).
        standard: from the shape to the exact density of loc 0.
        width: the scale of that density, as a share of the distribution's.
    """

    make: Callable[..., tfd.Distribution]
    shapes: tuple[float, ...]
    standard: Callable[[float], Exact]
    width: float


RELATIVES = {
    "Huber": Relative(
        Huber, KL_DELTAS, lambda delta: standard(ExactHuber, delta), 1.0
    ),
    "Normal": Relative(
        lambda loc, scale, _: tfd.Normal(loc, scale),
        (1.0,),
        lambda _: standard(ExactHuber, np.inf),
        1.0,
    ),
    "Laplace": Relative(
        lambda loc, scale, _: tfd.Laplace(loc, scale),
        (1.0,),
        lambda _: standard(ExactAsymmetricLaplace, 0.5),
        0.5,
    ),
}
PAIRS = ("Huber Huber", "Huber Normal", "Normal Huber", "Huber Laplace")
PAIRS = (*PAIRS, "Laplace Huber")


def kl_cases(a: Relative, b: Relative, dtype: str) -> Iterator[Case]:
    """Distances and ratios, in units of the width of a density."""
    for shape, b_shape, distance, ratio in itertools.product(
        a.shapes, b.shapes, KL_DISTANCES, KL_RATIOS
    ):
        first = (0.25, 0.7 * min(shape, 1.0), shape)
        reach = 0.7 * max(ratio, 1.0)
        second = (
            0.25 + distance * reach,
            0.7 * ratio * min(b_shape, 1.0),
            b_shape,
        )
        inputs = rounded((*first, *second), dtype)
        loc, scale, _, b_loc, b_scale, _ = map(mpf, inputs)
        exact = exact_kl(
            a.standard(inputs[2]),
            b.standard(inputs[5]),
            loc,
            scale * a.width,
            b_loc,
            b_scale * b.width,
        )
        yield Case(inputs, exact)


def kl_of(a: Relative, b: Relative) -> Callable[..., Any]:
    """From the parameters of both to the divergence."""
    return lambda *p: tfd.kl_divergence(a.make(*p[:3]), b.make(*p[3:]))


def kl_rows() -> Iterator[Row]:
    """The divergences of Huber."""
    for pair in PAIRS:
        a, b = (RELATIVES[name] for name in pair.split())
        yield Row(
            pair.replace(" ", ", "),
            "kl_divergence",
            f"{span('delta', KL_DELTAS)}, distance to {short(FARTHEST)}, "
            f"{span('ratio', KL_RATIOS)}",
            [worst(kl_of(a, b), kl_cases(a, b, d), d) for d in DTYPES],
        )


def all_rows() -> Iterator[Row]:
    """Every line, from top to bottom."""
    return itertools.chain(family_rows(), kl_rows(), bernoulli_rows())
