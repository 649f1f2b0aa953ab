"""Gradients: finite everywhere, and those of the density."""

from typing import Any

import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor, double_precision, tfd, tfp
from tfp_vae.testing.case import Case, NotApplicable, require
from tfp_vae.testing.mass import Array

__all__ = ["check_finite_gradients", "check_gradients"]

# Where formulas have their branches, singularities and overflows.
_DELICATE = (0.0, 1e-6, 1.0, -1.0, 30.0, -30.0, 1e4, -1e4)
# Where they have seams, as residuals.
_SEAMS = (0.0, 1.0, -1.0)


def _gradients(
    case: Case, x: Array, dtype: str | None = None
) -> tuple[Array, dict[str, Array]]:
    """Of the sum of log_prob: in x, and in each parameter, in their dtypes."""
    names = list(case.parameters)

    def slopes(distribution: tfd.Distribution, value: Tensor) -> Any:
        def log_prob(value: Tensor, *parameters: Tensor) -> Tensor:
            rebuilt = distribution.copy(
                **dict(zip(names, parameters, strict=True))
            )
            return ops.sum(rebuilt.log_prob(value))

        parameters = [distribution.parameters[name] for name in names]
        found = tfp.math.value_and_gradient(log_prob, [value, *parameters])[1]
        return [
            ops.zeros_like(a) if g is None else g
            for g, a in zip(found, [value, *parameters], strict=True)
        ]

    found = case.call(
        slopes,
        case.point(x, dtype),
        dtype=dtype,
        key="gradients",
    )
    in_x, *in_parameters = (
        ops.convert_to_numpy(g).astype(np.float64) for g in found
    )
    return in_x, dict(zip(names, in_parameters, strict=True))


def check_finite_gradients(case: Case) -> None:
    """Where the log density is finite, so are its gradients."""
    if not case.parameters:
        raise NotApplicable("no floating parameters")
    low, high = case.support if not case.event_shape else (-np.inf, np.inf)
    places = [np.full(case.batch_shape, place) for place in _DELICATE]
    places += [
        np.broadcast_to(np.float64(value), case.batch_shape)
        for value in case.parameters.values()
        if not case.event_shape and value.shape in ((), case.batch_shape)
    ]
    dims = (*[1] * len(case.event_shape),)
    for place in places:
        if case.is_discrete:
            place = np.round(place)
        if not np.all((place > low) & (place < high)):
            continue
        x = np.broadcast_to(
            place.reshape(*case.batch_shape, *dims),
            (*case.batch_shape, *case.event_shape),
        )
        # Beyond this a gradient may rightly overflow.
        if not np.all(np.abs(case.ask("log_prob", x)) < 1e20):
            continue
        in_x, in_parameters = _gradients(case, x)
        everything = dict(in_parameters)
        if not case.is_discrete:
            everything["value"] = in_x
        for name, slope in everything.items():
            require(
                np.isfinite(slope),
                "Gradients must be finite wherever the log density is",
                f"{slope} in {name} at {x} for {case} (of the branches of a "
                "`where`, neither may be infinite)",
            )


def check_gradients(case: Case) -> None:
    """Gradients of log_prob are finite differences of it."""
    if not case.parameters:
        raise NotApplicable("no floating parameters")
    x = case.points
    if not (case.event_shape or case.is_discrete):
        x = np.concatenate([x, *_seams(case)])
    with double_precision():
        try:
            in_x, in_parameters = _gradients(case, x, "float64")
        # Each backend has its own kind of error for dtypes that do not fit.
        except Exception as error:
            raise NotApplicable("not in float64") from error
        if not case.is_discrete:
            _compare(
                case, "value", in_x, lambda step: _log_prob(case, x + step), x
            )
        for name, slope in in_parameters.items():
            value = np.float64(case.parameters[name])
            _compare(
                case,
                name,
                slope,
                lambda step, n=name, v=value: _log_prob(
                    case, x, **{n: v + step}
                ).sum(axis=0),
                value,
            )


def _seams(case: Case) -> list[Array]:
    """Places `[1, *batch]` well inside the support: round ones and residuals.

    Parameters are often round, so a residual of 1 is one exactly.
    """
    low, high = case.support
    loc, scale = (case.parameters.get(name) for name in ("loc", "scale"))
    places = [np.full(case.batch_shape, seam) for seam in _SEAMS]
    if loc is not None and scale is not None:
        places += [
            np.broadcast_to(np.float64(loc) + seam * scale, case.batch_shape)
            for seam in _SEAMS
        ]
    return [
        place[None]
        for place in places
        if np.all((place > low + 0.01) & (place < high - 0.01))
    ]


def _log_prob(case: Case, x: Array, **changed: Array) -> Array:
    """In float64, with some parameters changed."""

    def log_prob(
        distribution: tfd.Distribution,
        value: Tensor,
        changed: dict[str, Tensor],
    ) -> Tensor:
        return distribution.copy(**changed).log_prob(value)

    found = case.call(
        log_prob,
        ops.convert_to_tensor(np.float64(x), "float64"),
        {
            name: ops.convert_to_tensor(value, "float64")
            for name, value in changed.items()
        },
        dtype="float64",
        key="changed log_prob",
    )
    return ops.convert_to_numpy(found).astype(np.float64)


def _compare(
    case: Case, name: str, slope: Array, function: Any, at: Array
) -> None:
    """With central differences; at a kink, with the slopes to either side.

    Number by number for scalar events and parameters, else along one direction.
    """
    elementwise = not case.event_shape and (
        at.shape[at.ndim - len(case.batch_shape) :] == case.batch_shape
    )
    direction: Array = np.float64(1.0)
    step: Array = 1e-5 * np.maximum(np.abs(at), 1e-2)
    reduce: Any = np.asarray
    if not elementwise:
        direction = np.random.default_rng(0).choice([-1.0, 1.0], at.shape)
        step = step.min()
        reduce = np.sum

    def at_step(sign: float) -> Array:
        return reduce(function(sign * step * direction))

    here, above, below = at_step(0.0), at_step(1.0), at_step(-1.0)
    after, before = (above - here) / step, (here - below) / step
    middle = 0.5 * (after + before)
    slope = reduce(slope * direction)
    # A kink, and the noise of a density that is only good to float32.
    slack = np.abs(after - before) + 2e-3 * np.maximum(1.0, np.abs(middle))
    require(
        (np.abs(slope - middle) <= slack) | ~np.isfinite(middle),
        "Gradients of log_prob must be those of its values",
        f"d log_prob / d {name} = {slope}, by finite differences {middle}, at "
        f"{at} for {case}",
    )
