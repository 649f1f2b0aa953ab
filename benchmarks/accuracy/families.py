"""Every family with its definition, and the grid on which it is run."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from mpmath import mpf
from oracles import (
    Exact,
    ExactAsymmetricLaplace,
    ExactBarron,
    ExactHuber,
    ExactHyperbolicSecant,
)

from tfp_vae.distributions import (
    AsymmetricLaplace,
    Barron,
    Gibbs,
    Huber,
    HyperbolicSecant,
)
from tfp_vae.substrate import tfd

# All families are run at these two pairs of loc and scale.
PLACES = ((0.0, 1.0), (0.3, 0.7))
# Sizes of residuals (y - loc) / scale; both signs are run.
FARTHEST = 1e6
RESIDUALS = np.concatenate([[0.0], np.geomspace(1e-6, FARTHEST, 49)])
FEW_RESIDUALS = np.concatenate(
    [[0.0, 1e-3], np.geomspace(0.1, 12.8, 8), np.geomspace(40, FARTHEST, 5)]
)
# A tail is evaluated up to this many nats, about log 1e-30.
DEEPEST = 69.0
LEAST_MASS = 1e-30

DELTAS = (1e-4, 1e-3, 0.03, 0.3, 0.8, 1.0, 1.345, 2.0, 4.0, 10.0, 100.0, 1e4)
DELTAS = (*DELTAS, np.inf)
LEVELS = (1e-6, 1e-3, 0.1, 0.3, 0.5, 0.75, 0.9, 0.999, 1 - 1e-6)
ALPHAS = (0.0, 0.01, 0.1, 0.3, 0.7, 1.0, 1.4, 1.9, 1.9999, 2.0, 2.01, 2.6, 3.99)


def short(value: float) -> str:
    """As 1e6, not 1e+06."""
    return f"{value:g}".replace("e+0", "e").replace("e-0", "e-")


def span(name: str, values: Iterable[float]) -> str:
    """The range of a parameter, in words."""
    finite = [value for value in values if np.isfinite(value)]
    words = f"{name} {short(min(finite))} to {short(max(finite))}"
    return words if len(finite) == len(values) else words + " and inf"


class Family(NamedTuple):
    """A distribution with its definition.

    Attributes:
        make: from loc, scale and shape to the distribution.
        definition: the class of its exact counterpart.
        shape: the name of the shape parameter, or "" without one.
        shapes: those to run.
        span: their range, in words.
        residuals: from the shape to the sizes of the residuals to run.
        left_out: by method, where it is undefined: the remaining shapes or
            residuals, in words, and whether a shape and a residual are left
            out.
        farthest: the largest residual to run.
    """

    make: Callable[..., tfd.Distribution]
    definition: type[Exact]
    shape: str
    shapes: tuple[float, ...]
    span: str
    residuals: Callable[[float], np.ndarray]
    left_out: dict[str, tuple[str, Callable[[mpf, mpf], bool]]] = {}
    farthest: float = FARTHEST


def along_tail(length: float) -> np.ndarray:
    """Sizes of residuals, denser in a tail of that decay length."""
    tail = length * np.linspace(1, DEEPEST, 35)
    return np.concatenate([RESIDUALS, tail[tail <= FARTHEST]])


def huber_residuals(delta: float) -> np.ndarray:
    """Sizes about the threshold, and along the tail."""
    if delta > 12:
        return np.concatenate([RESIDUALS, np.linspace(0.5, 12, 24)])
    about = delta * np.array([0.5, 0.999, 1.0, 1.001])
    return np.concatenate([along_tail(1 / delta), about])


def level_residuals(level: float) -> np.ndarray:
    """Sizes for the tails on both sides."""
    return np.concatenate([along_tail(1 / level), along_tail(1 / (1 - level))])


# Energies of Gibbs whose density is another family, with its definition and
# shape.
ENERGIES: dict[str, tuple[Callable[[Any], Any], type[Exact], float]] = {
    "log cosh r": (
        lambda r: (
            ops.abs(r) + ops.log1p(ops.exp(-2.0 * ops.abs(r))) - math.log(2.0)
        ),
        ExactHyperbolicSecant,
        0.0,
    ),
    "Huber's energy, delta 1": (
        lambda r: ops.where(
            ops.abs(r) < 1.0, 0.5 * ops.square(r), ops.abs(r) - 0.5
        ),
        ExactHuber,
        1.0,
    ),
    "sqrt(1 + r**2)": (
        lambda r: ops.sqrt(1.0 + ops.square(r)),
        ExactBarron,
        1.0,
    ),
}


def gibbs(
    energy: Callable[[Any], Any], definition: type[Exact], shape: float
) -> Family:
    """A Gibbs family; its float32 densities are zero 86 nats below the peak."""
    return Family(
        lambda loc, scale, _: Gibbs(energy, loc, scale),
        definition,
        "",
        (shape,),
        "",
        lambda _: along_tail(1.0),
        farthest=60.0,
    )


FAMILIES = {
    "Huber": Family(
        Huber,
        ExactHuber,
        "delta",
        DELTAS,
        span("delta", DELTAS),
        huber_residuals,
    ),
    "HyperbolicSecant": Family(
        lambda loc, scale, _: HyperbolicSecant(loc, scale),
        ExactHyperbolicSecant,
        "",
        (0.0,),
        "",
        lambda _: along_tail(1.0),
    ),
    "AsymmetricLaplace": Family(
        AsymmetricLaplace,
        ExactAsymmetricLaplace,
        "quantile_level",
        LEVELS,
        span("level", LEVELS),
        level_residuals,
        {"d log_prob / d loc": ("r not 0", lambda _, r: r == 0)},
    ),
    "Barron": Family(
        Barron,
        ExactBarron,
        "alpha",
        ALPHAS,
        span("alpha", ALPHAS),
        lambda _: FEW_RESIDUALS,
        {
            "mean": ("alpha not 0", lambda alpha, _: alpha == 0),
            "variance": ("alpha not 0", lambda alpha, _: alpha == 0),
            "d log_prob / d shape": (
                "alpha not 2",
                lambda alpha, _: alpha == 2,
            ),
        },
    ),
    **{f"Gibbs({name})": gibbs(*given) for name, given in ENERGIES.items()},
}
