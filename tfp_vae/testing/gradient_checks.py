"""Gradients of log_prob: finite everywhere, and right for its values."""

from typing import Any

import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor, double_precision, tfd, tfp
from tfp_vae.testing.case import Case
from tfp_vae.testing.mass import Array
from tfp_vae.testing.verdicts import NotApplicable, Violation, require

__all__ = ["check_finite_gradients", "check_gradients"]

# Places of branches, singularities and overflows of formulas.
_DELICATE = (0.0, 1e-6, 1.0, -1.0, 30.0, -30.0, 1e4, -1e4)
# Residuals at which formulas have seams.
_SEAMS = (0.0, 1.0, -1.0)
# Relative steps of differences: the second for functions that compute in
# float32 for any input.
_STEP, _WIDE_STEP = 1e-5, 2e-3


def _gradients(
    case: Case, x: Array, dtype: str | None = None
) -> tuple[Array, dict[str, Array]]:
    """The sum of log_prob differentiated in x and in each parameter."""
    names = list(case.parameters)

    def slopes(distribution: tfd.Distribution, value: Tensor) -> Any:
        def log_prob(value: Tensor, *parameters: Tensor) -> Tensor:
            rebuilt = distribution.copy(
                **dict(zip(names, parameters, strict=True))
            )
            return ops.sum(rebuilt.log_prob(value))

        parameters = [distribution.parameters[name] for name in names]
        # Outcomes have no slope, and integers have no gradient.
        point = [] if case.is_discrete else [value]
        found = tfp.math.value_and_gradient(
            lambda *a: log_prob(*(a if point else (value, *a))),
            [*point, *parameters],
        )[1]
        found = [
            ops.zeros_like(a) if g is None else g
            for g, a in zip(found, [*point, *parameters], strict=True)
        ]
        return found if point else [ops.zeros_like(value), *found]

    found = case.call(
        slopes, case.point(x, dtype), dtype=dtype, key="gradients"
    )
    in_x, *in_parameters = (
        ops.convert_to_numpy(g).astype(np.float64) for g in found
    )
    return in_x, dict(zip(names, in_parameters, strict=True))


def check_finite_gradients(case: Case) -> None:
    """The gradients are finite wherever the log density is."""
    if not case.parameters:
        raise NotApplicable("no floating parameters")
    batch = case.batch_shape
    low, high = case.support if not case.event_shape else (-np.inf, np.inf)
    places = [np.full(batch, place) for place in _DELICATE]
    places += [
        np.broadcast_to(np.float64(value), batch)
        for value in case.parameters.values()
        if not case.event_shape and value.shape in ((), batch)
    ]
    rows = np.stack(places)
    if case.is_discrete:
        rows = np.round(rows)
    safe = case.points[2]
    inside = (rows > low) & (rows < high)
    dims = (*rows.shape, *[1] * len(case.event_shape))
    x = np.where(inside.reshape(dims), rows.reshape(dims), safe)
    # Above this a gradient may overflow without a fault.
    limit = float(np.sqrt(np.float64(3e38)))
    if case.floating == "float16":
        limit = 256.0
    log_prob = case.log_prob(x)
    ranged = np.abs(log_prob) < 10 * limit
    if case.event_shape:
        # Possible values are not known: only rows that suit all distributions.
        ranged &= ranged.all(axis=tuple(range(1, ranged.ndim)), keepdims=True)
    x = np.where(ranged.reshape(dims), x, safe)
    if _are_finite(case, x):
        return
    for row in x:
        everything = _everything(case, np.repeat(row[None], len(x), axis=0))
        for name, slope in everything.items():
            require(
                np.isfinite(slope),
                "Gradients must be finite wherever the log density is",
                f"{slope} in {name} at {row} for {case} (of the branches of a "
                "`where`, neither may be infinite)",
            )


def _everything(case: Case, x: Array) -> dict[str, Array]:
    in_x, in_parameters = _gradients(case, x)
    return {**in_parameters, **({} if case.is_discrete else {"value": in_x[0]})}


def _are_finite(case: Case, x: Array) -> bool:
    in_x, in_parameters = _gradients(case, x)
    return all(
        np.isfinite(slope).all() for slope in (in_x, *in_parameters.values())
    )


def check_gradients(case: Case) -> None:
    """Gradients of log_prob are finite differences of it.

    In float64; or in the dtype of the distribution, with wider steps, if it
    allows only that one.
    """
    if not case.parameters:
        raise NotApplicable("no floating parameters")
    x = case.points
    if not (case.event_shape or case.is_discrete):
        x = np.concatenate([x, *_seams(case)])
    with double_precision():
        try:
            found = _gradients(case, x, "float64")
        # Each backend has its own kind of error for dtypes that do not fit.
        except Exception:
            found = None
        if found is not None:
            _compare_all(case, x, *found, "float64")
            return
    if case.floating != "float32":
        raise NotApplicable(f"{case.floating} is too coarse for differences")
    _compare_all(case, x, *_gradients(case, x), "float32")


def _compare_all(
    case: Case,
    x: Array,
    in_x: Array,
    in_parameters: dict[str, Array],
    dtype: str,
) -> None:
    if not case.is_discrete:
        _compare(
            case,
            "value",
            in_x,
            lambda step: _log_prob(case, x + step, dtype),
            x,
            dtype,
        )
    for name, slope in in_parameters.items():
        value = np.float64(case.parameters[name])
        _compare(
            case,
            name,
            slope,
            lambda step, n=name, v=value: _log_prob(
                case, x, dtype, **{n: v + step}
            ).sum(axis=0),
            value,
            dtype,
        )


def _seams(case: Case) -> list[Array]:
    """Places `[1, *batch]` well inside the support: round ones and residuals.

    Parameters are often round, so that a residual of 1 is exactly 1. A place
    outside is replaced by one inside, so that their number is constant.
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
        np.where((place > low + 0.01) & (place < high - 0.01), place, inside)[
            None
        ]
        for place in places
        for inside in (case.points[2],)
    ]


def _log_prob(case: Case, x: Array, dtype: str, **changed: Array) -> Array:
    """log_prob with some parameters changed."""

    def log_prob(
        distribution: tfd.Distribution,
        value: Tensor,
        parameters: dict[str, Tensor],
    ) -> Tensor:
        return distribution.copy(**parameters).log_prob(value)

    # Integer outcomes have their own dtype.
    kind = dtype if "float" in case.dtype else case.dtype
    found = case.call(
        log_prob,
        case.point(x, kind),
        {
            name: ops.convert_to_tensor(np.float64(value).astype(dtype), dtype)
            for name, value in (case.parameters | changed).items()
        },
        dtype=dtype,
        key="changed log_prob",
    )
    return ops.convert_to_numpy(found).astype(np.float64)


def _is_symmetric(case: Case, x: Array) -> bool:
    event = case.event_shape
    is_square = len(event) == 2 and event[0] == event[1]
    return is_square and np.allclose(x, np.swapaxes(x, -1, -2))


def _compare(
    case: Case, name: str, slope: Array, function: Any, at: Array, dtype: str
) -> None:
    """Compares with central differences; at a kink, with one-sided slopes.

    Number by number for scalar events and parameters, otherwise along one
    direction.
    """
    elementwise = not case.event_shape and (
        at.shape[at.ndim - len(case.batch_shape) :] == case.batch_shape
    )
    direction: Array = np.float64(1.0)
    reduce: Any = np.asarray
    size = np.maximum(np.abs(at), 1e-2)
    if not elementwise:
        direction = np.random.default_rng(0).choice([-1.0, 1.0], at.shape)
        if name == "value" and _is_symmetric(case, at):
            # A density of symmetric matrices is defined only for these.
            direction = direction + np.swapaxes(direction, -1, -2)
        size = size.min()
        reduce = np.sum
    slope = reduce(slope * direction)
    here = reduce(function(0.0 * direction))

    def differences(relative: float) -> tuple[Array, Array]:
        """The central difference, and the gap between the one-sided ones."""
        step = relative * size
        above, below = (
            reduce(function(sign * step * direction)) for sign in (1.0, -1.0)
        )
        after, before = (above - here) / step, (here - below) / step
        return 0.5 * (after + before), np.abs(after - before)

    if dtype == "float64":
        middle, kink = differences(_STEP)
        close = kink + 2e-3 * np.maximum(1.0, np.abs(middle))
        good = (np.abs(slope - middle) <= close) | ~np.isfinite(middle)
        if np.all(good):
            return
    else:
        good = False
    # For functions that are float32 inside, as some of Keras are on JAX.
    wide, kink = differences(
        10 * _WIDE_STEP if dtype != "float64" else _WIDE_STEP
    )
    unit = np.maximum(1.0, np.abs(wide))
    smooth = kink <= 0.3 * unit
    near = np.abs(slope - wide) <= 3e-2 * unit
    if dtype == "float64":
        # Only rounding makes the two differences so different.
        near &= ~(np.abs(middle - wide) <= 2e-3 * unit)
    good |= smooth & near
    if dtype != "float64":
        good |= ~smooth
        middle = wide
    if np.all(good):
        return
    if elementwise:
        apart = np.where(good, 0.0, np.abs(slope - middle))
        worst = np.unravel_index(np.argmax(np.nan_to_num(apart)), at.shape)
        slope, middle, at = slope[worst], middle[worst], at[worst]
    raise Violation(
        "Gradients of log_prob must be those of its values. Received: "
        f"d log_prob / d {name} = {slope:.5g}, by finite differences "
        f"{middle:.5g}, at {at} for {case}."
    )
