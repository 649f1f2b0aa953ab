"""What TFP, Keras and a training loop take for granted of a distribution."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor, double_precision, jit, tfd, tfp_seed
from tfp_vae.testing.case import Case, NotApplicable, Violation, require

__all__ = [
    "check_batch",
    "check_dtype",
    "check_independent",
    "check_jit",
    "check_validate_args",
]


def check_batch(case: Case) -> None:
    """Batches broadcast, and each slice is the distribution of its number."""
    x = case.points[2]
    whole = case.ask("log_prob", x)
    require(
        whole.shape == case.batch_shape,
        "log_prob of one value each must have the batch shape",
        f"shape {whole.shape} for batch shape {case.batch_shape}, {case}",
    )
    stacked = case.ask("log_prob", np.stack([x, x]))
    require(
        stacked.shape == (2, *case.batch_shape)
        and np.allclose(stacked, whole, rtol=1e-5, atol=1e-5),
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
            and np.allclose(found, whole[i], rtol=1e-5, atol=1e-5),
            "A slice must be the distribution of its part of the batch",
            f"log_prob {found} from number {i} by itself, {whole[i]} within "
            f"the batch, for {case}",
        )


def check_independent(case: Case) -> None:
    """`tfd.Independent` sums log_prob, and all that goes by it agrees.

    The classic mistake is to override `log_prob` and not `_log_prob`, which
    TFP's other methods and wrappers call.
    """
    if not case.batch_shape:
        raise NotApplicable("no batch")
    x = case.points
    alone = case.ask("log_prob", x)
    difference = case.ask("unnormalized_log_prob", x) - alone
    require(
        np.ptp(difference, axis=0) <= 1e-4 * (1.0 + np.abs(alone).max(axis=0)),
        "unnormalized_log_prob must be log_prob but for a constant",
        f"differences of {difference} at {x} for {case}. Override _log_prob, "
        "not log_prob: TFP calls the one with the underscore",
    )
    joint = ops.convert_to_numpy(
        tfd.Independent(case.distribution, 1).log_prob(case.point(x))
    )
    require(
        np.allclose(joint, alone.sum(axis=-1), rtol=1e-5, atol=1e-5),
        "tfd.Independent must give the sum of log_prob",
        f"{joint} against {alone.sum(axis=-1)} for {case}",
    )


def check_dtype(case: Case) -> None:
    """Nothing leaves the dtype that the distribution was made in."""
    with double_precision():
        found = _dtypes(case)
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


def _dtypes(case: Case) -> dict[str, tuple[str, str]]:
    floating = case.floating
    x = case.point(case.points[2])
    found = {}
    for name, arguments, expected in (
        ("log_prob", (x,), floating),
        ("prob", (x,), floating),
        ("cdf", (x,), floating),
        ("mean", (), floating),
        ("variance", (), floating),
        ("stddev", (), floating),
        ("entropy", (), floating),
    ):
        with contextlib.suppress(NotImplementedError):
            value = _call(case, name, arguments)
            found[name] = (_dtype(value), expected)
    with contextlib.suppress(NotImplementedError):
        found["sample"] = (_dtype(case.draw(2)), case.dtype)
    return found


def _call(case: Case, name: str, arguments: tuple[Tensor, ...]) -> Tensor:
    try:
        return getattr(case.distribution, name)(*arguments)
    except NotImplementedError:
        raise
    except Exception as error:
        raise Violation(
            f"{name} must work in the dtype of the distribution. Received: "
            f"{type(error).__name__}: {str(error).splitlines()[0]} for {case}."
        ) from error


def _dtype(value: Tensor) -> str:
    return keras.backend.standardize_dtype(value.dtype)


def check_jit(case: Case) -> None:
    """Compiled with its parameters as arguments it gives the same values."""
    x = case.point(case.points[2])
    parameters = {
        name: ops.convert_to_tensor(value)
        for name, value in case.parameters.items()
    }

    def log_prob(value: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return case.rebuilt(**parameters).log_prob(value)

    def draws(parameters: dict[str, Tensor]) -> Tensor:
        return case.rebuilt(**parameters).sample(16, seed=tfp_seed(case.seed))

    for name, function, arguments in (
        ("log_prob", log_prob, (x, parameters)),
        ("sample", draws, (parameters,)),
    ):
        try:
            eager = ops.convert_to_numpy(function(*arguments))
        except NotImplementedError:
            continue
        try:
            compiled = ops.convert_to_numpy(jit(function)(*arguments))
        except Exception as error:
            raise Violation(
                f"{name} must work in a compiled function. Received: "
                f"{type(error).__name__}: {str(error).splitlines()[0]} for "
                f"{case}."
            ) from error
        require(
            np.allclose(compiled, eager, rtol=1e-4, atol=1e-4),
            f"{name} must give the same compiled as step by step",
            f"{compiled} compiled, {eager} step by step, for {case}",
        )


def check_validate_args(case: Case) -> None:
    """Under `validate_args` parameters out of range are an error."""
    properties: dict[str, Any] = {}
    with contextlib.suppress(NotImplementedError):
        properties = type(case.distribution).parameter_properties()
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
            _is_refused(case, name, bad),
            "With validate_args=True a parameter out of range must be an error",
            f"none for {name}={bad[..., :1]}, which the bijector of its "
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


def _is_refused(case: Case, name: str, bad: np.ndarray) -> bool:
    # Each backend has its own kind of error for an assertion that fails.
    try:
        strict = case.rebuilt(
            **{name: case.point(bad, case.floating)}, validate_args=True
        )
        ops.convert_to_numpy(strict.log_prob(case.point(case.points[2])))
        ops.convert_to_numpy(strict.sample(seed=tfp_seed(0)))
    except NotImplementedError:
        return True
    except Exception:
        return True
    return False
