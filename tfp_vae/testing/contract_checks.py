"""What TFP, Keras and a training loop assume about a distribution."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.substrate import (
    EAGER_IS_SLOW,
    Tensor,
    double_precision,
    jit_quickly,
    tfd,
    tfp_seed,
)
from tfp_vae.testing.case import Case
from tfp_vae.testing.implemented import first_line, origin
from tfp_vae.testing.mass import Array
from tfp_vae.testing.sampling_checks import check_independent_draws
from tfp_vae.testing.verdicts import NotApplicable, Violation, require

__all__ = [
    "check_batch",
    "check_broadcast",
    "check_dtype",
    "check_independent",
    "check_jit",
    "check_validate_args",
]

# The largest number of parameters that get a batch one by one.
_MOST_AXES = 4


def check_copy(case: Case) -> None:
    """`copy()` makes the distribution again from its `parameters`.

    All other checks, slices and compiled functions need this.
    """
    try:
        again = case.distribution.copy()
        case.rebuilt(**case.tensors())
    except Exception as error:
        raise Violation(
            "copy() must make a distribution again from its parameters: the "
            "constructor passes parameters=dict(locals()), taken first, and "
            "takes each by its own name. Received: "
            f"{type(error).__name__}{origin(error)}: {first_line(error)}"
        ) from error
    require(
        tuple(again.batch_shape) == case.batch_shape
        and tuple(again.event_shape) == case.event_shape,
        "copy() must keep the shapes",
        f"{again} of {case}",
    )


def check_batch(case: Case) -> None:
    """Batches broadcast, and each slice is the distribution at its index."""
    x = case.points[2]
    whole = case.ask("log_prob", x)
    tolerance = case.tolerance(1e-5)
    close = {"rtol": tolerance, "atol": tolerance}
    require(
        whole.shape == case.batch_shape,
        "log_prob of one value each must have the batch shape",
        f"shape {whole.shape} for batch shape {case.batch_shape}, {case}",
    )
    stacked = case.log_prob(np.stack([x, x]))
    require(
        np.allclose(stacked, whole, **close, equal_nan=True),
        "log_prob must broadcast over leading dimensions of the values",
        f"{stacked} for two rows alike, {whole} for one, {case}",
    )
    if not case.batch_shape:
        return
    for i in range(case.batch_shape[0]):
        part = case.distribution[i]
        found = ops.convert_to_numpy(part.log_prob(case.point(x[i])))
        require(
            tuple(part.batch_shape) == case.batch_shape[1:]
            and np.allclose(found, whole[i], **close, equal_nan=True),
            "A slice must be the distribution of its part of the batch",
            f"log_prob {found} from number {i} by itself, {whole[i]} within "
            f"the batch, for {case}",
        )


def check_broadcast(case: Case) -> None:
    """Parameters broadcast, from no batch to a batch in each one alone."""
    batch = case.batch_shape
    wide = {
        name: value[(0,) * len(batch)]
        for name, value in case.parameters.items()
        if value.shape[: len(batch)] == batch
        and value.ndim == len(batch) + case.event_ndims_of(name)
    }
    if not batch or not wide:
        raise NotApplicable("no batch, or no floating parameters")
    given = case.distribution.parameters
    if any(
        hasattr(value, "batch_shape")
        or (name not in wide and _has_dimensions(value))
        for name, value in given.items()
    ):
        raise NotApplicable("parameters that are no tensors have a batch")
    first = (0,) * len(batch)
    x = case.points[2][first]
    expected = case.ask("log_prob", case.points[2])[first]
    _check_shapes(case, wide, (), x, expected)
    names = list(wide)[:_MOST_AXES]
    if len(names) < 2:
        return
    for i, name in enumerate(names):
        ones = [1] * len(names)
        ones[i] = 2
        value = wide[name]
        wide[name] = np.broadcast_to(value, (*ones, *value.shape))
    try:
        _rebuilt(case, wide)
    except ValueError as error:
        raise NotApplicable(
            f"parameters of different shapes are refused: {first_line(error)}"
        ) from error
    other = _check_shapes(case, wide, (2,) * len(names), x, expected)
    try:
        check_independent_draws(other)
    except Violation as violation:
        raise Violation(
            f"{violation} With shapes {_shapes(wide)} of parameters there are "
            "fewer numbers of noise than draws: take the shape of the noise "
            "from the batch shape, not from one parameter"
        ) from violation
    except NotApplicable:
        return


def _has_dimensions(value: Any) -> bool:
    """Whether a parameter that cannot get a batch may have one already."""
    if isinstance(value, dict | list):
        return True
    return len(getattr(value, "shape", ())) > 0


def _shapes(parameters: dict[str, Array]) -> str:
    return ", ".join(f"{k} {list(v.shape)}" for k, v in parameters.items())


def _rebuilt(case: Case, parameters: dict[str, Array]) -> Case:
    return case.other(
        **{
            name: case.point(value, case.floating)
            for name, value in parameters.items()
        }
    )


def _check_shapes(
    case: Case,
    parameters: dict[str, Array],
    batch: tuple[int, ...],
    x: Array,
    expected: float,
) -> Case:
    """Shapes of all results and values of log_prob, at other parameters."""
    shown = _shapes(parameters)
    other = _rebuilt(case, parameters)
    require(
        other.batch_shape == batch,
        "The batch shape must be that of all parameters together",
        f"{list(other.batch_shape)} instead of {list(batch)} with {shown}",
    )
    event = case.event_shape
    everywhere = np.broadcast_to(x, (*batch, *event))
    found = other.ask("log_prob", everywhere)
    require(
        found.shape == batch
        and np.allclose(found, expected, rtol=1e-4, atol=case.tolerance(1e-4)),
        "log_prob must broadcast its parameters",
        f"{found} instead of {expected} everywhere, in shape {list(batch)}, "
        f"with {shown}",
    )
    level = np.full(batch, 0.5)
    for name, arguments, shape in (
        ("mean", (), (*batch, *event)),
        ("variance", (), (*batch, *event)),
        ("stddev", (), (*batch, *event)),
        ("mode", (), (*batch, *event)),
        ("entropy", (), batch),
        ("cdf", (other.point(everywhere),), batch),
        ("quantile", (other.point(level, case.floating),), batch),
        ("sample", (), (*batch, *event)),
    ):
        seed = {"seed": tfp_seed(0)} if name == "sample" else {}
        # The check of a method reports that it is not implemented.
        with contextlib.suppress(NotImplementedError):
            value = other.shapes(
                lambda distribution, *x, n=name, s=seed: getattr(
                    distribution, n
                )(*x, **s),
                *arguments,
            )
            require(
                tuple(value.shape) == shape,
                f"{name} must have the shape of all parameters together",
                f"shape {list(value.shape)} instead of {list(shape)} with "
                f"{shown}",
            )
    return other


def check_independent(case: Case) -> None:
    """`tfd.Independent` sums log_prob, and all that depends on it agrees.

    The classic mistake is to override `log_prob` and not `_log_prob`, which
    TFP's other methods and wrappers call.
    """
    x = case.points
    found = case.ask_all(("unnormalized_log_prob", "log_prob"), x)
    alone = found["log_prob"]
    tolerance = case.tolerance(1e-5)
    if "unnormalized_log_prob" in found:
        difference = found["unnormalized_log_prob"] - alone
        require(
            np.ptp(difference, axis=0)
            <= 10 * tolerance * (1.0 + np.abs(alone).max(axis=0)),
            "unnormalized_log_prob must be log_prob except for a constant",
            f"differences of {difference} at {x} for {case}. Override "
            "_log_prob, not log_prob: TFP calls the one with the underscore",
        )
    if not case.batch_shape:
        return
    joint = case.over_rows(
        lambda distribution, x: {
            "joint": tfd.Independent(distribution, 1).log_prob(x)
        },
        "independent",
        x,
    )["joint"]
    require(
        np.allclose(joint, alone.sum(axis=-1), rtol=tolerance, atol=tolerance),
        "tfd.Independent must give the sum of log_prob",
        f"{joint} against {alone.sum(axis=-1)} for {case}",
    )


def check_dtype(case: Case) -> None:
    """All results have the dtype of the distribution."""
    x = case.points[2]
    with double_precision():
        found = _dtypes(case, case.point(x))
    wrong = {
        name: dtype
        for name, (dtype, expected) in found.items()
        if dtype != expected
    }
    require(
        not wrong,
        "All results must have the dtype of the distribution",
        f"{wrong} for {case} of {case.dtype}",
    )


def _dtypes(case: Case, x: Tensor) -> dict[str, tuple[str, str]]:
    floating = case.floating
    found = {}
    for name, arguments, expected in (
        ("log_prob", (x,), floating),
        ("prob", (x,), floating),
        ("cdf", (x,), floating),
        ("mean", (), floating),
        ("variance", (), floating),
        ("stddev", (), floating),
        ("entropy", (), floating),
        ("sample", (), case.dtype),
    ):
        seed = {"seed": tfp_seed(0)} if name == "sample" else {}
        try:
            value = case.shapes(
                lambda distribution, *x, n=name, s=seed: getattr(
                    distribution, n
                )(*x, **s),
                *arguments,
            )
        except NotImplementedError:
            continue
        except Exception as error:
            raise Violation(
                f"{name} must work in the dtype of the distribution. Received: "
                f"{type(error).__name__}{origin(error)}: {first_line(error)}, "
                f"for {case}."
            ) from error
        dtype = keras.backend.standardize_dtype(value.dtype)
        found[name] = (dtype, expected)
    return found


def check_jit(case: Case) -> None:
    """Compiled with its parameters as arguments, it gives the same values."""
    x = case.point(case.points[2])

    def log_prob(distribution: tfd.Distribution, value: Tensor) -> Tensor:
        return distribution.log_prob(value)

    def sample(distribution: tfd.Distribution) -> Tensor:
        return distribution.sample(16, seed=tfp_seed(case.seed))

    for name, function, arguments in (
        ("log_prob", log_prob, (x,)),
        ("sample", sample, ()),
    ):
        # Uncompiled draws take as long as all other checks together.
        only_trace = EAGER_IS_SLOW and name == "sample"
        if only_trace and case.hints is None:
            continue
        try:
            eager = (
                None
                if only_trace
                else function(case.rebuilt(**case.tensors()), *arguments)
            )
        except NotImplementedError:
            continue
        try:
            if only_trace:
                case.shapes(function, *arguments)
                continue
            compiled = _compiled(case, function, arguments)
        except Exception as error:
            raise Violation(
                f"{name} must work in a compiled function. Received: "
                f"{type(error).__name__}{origin(error)}: {first_line(error)}, "
                f"for {case}."
            ) from error
        tolerance = case.tolerance(1e-4)
        require(
            np.allclose(
                compiled,
                ops.convert_to_numpy(eager),
                rtol=tolerance,
                atol=tolerance,
                equal_nan=True,
            ),
            f"{name} must give the same compiled as step by step",
            f"{compiled} compiled, {eager} step by step, for {case}",
        )


def _compiled(case: Case, function: Any, arguments: tuple[Any, ...]) -> Array:
    def of_parameters(parameters: dict[str, Tensor], *values: Tensor) -> Tensor:
        return function(case.rebuilt(**parameters), *values)

    return ops.convert_to_numpy(
        jit_quickly(of_parameters)(case.tensors(), *arguments)
    )


def check_validate_args(case: Case) -> None:
    """Under `validate_args` exactly the parameters out of range are errors."""
    properties: dict[str, Any] = {}
    with contextlib.suppress(NotImplementedError):
        properties = type(case.distribution).parameter_properties()
    x = case.point(case.points[2])
    error = _refusal(case, x)
    if error is not None:
        raise Violation(
            "With validate_args=True parameters in range must pass. Received: "
            f"{type(error).__name__}{origin(error)}: {first_line(error)}, for "
            f"{case}."
        ) from error
    tried = False
    for name, value in case.parameters.items():
        if value.shape != case.batch_shape:
            continue
        low = _lower_end(properties[name])
        if not np.isfinite(low):
            continue
        tried = True
        bad = np.float64(value) * 0.0 + low - 1.0
        require(
            _refusal(case, x, **{name: case.point(bad, case.floating)})
            is not None,
            "With validate_args=True a parameter out of range must be an error",
            f"none for {name}={bad.ravel()[:1]}, which the bijector of its "
            f"parameter properties keeps above {low}, in "
            f"{type(case.distribution).__name__}",
        )
    if not tried:
        raise NotApplicable("no bounded parameters")


def _lower_end(declared: Any) -> float:
    try:
        bijector = declared.default_constraining_bijector_fn()
        end = bijector.forward(ops.convert_to_tensor(np.float32(-np.inf)))
    except NotImplementedError:
        return -np.inf
    # A floor such as the eps of the type stands for zero.
    end = float(ops.convert_to_numpy(end))
    return end if not np.isfinite(end) or abs(end) > 1e-3 else 0.0


def _refusal(case: Case, x: Tensor, **parameters: Tensor) -> Exception | None:
    """The error under `validate_args`, if there is one."""
    # Each backend has its own kind of error for an assertion that fails.
    try:
        strict = case.rebuilt(**parameters, validate_args=True)
        ops.convert_to_numpy(strict.log_prob(x))
        if parameters:
            ops.convert_to_numpy(strict.sample(seed=tfp_seed(0)))
    except NotImplementedError:
        return None if not parameters else NotImplementedError()
    except Exception as error:
        return error
    return None
