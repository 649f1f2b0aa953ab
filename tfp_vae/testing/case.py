"""One distribution under test, and what the checks ask about it."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.substrate import (
    EAGER_IS_SLOW,
    Tensor,
    is_discrete,
    jit,
    tfd,
    tfp_seed,
)
from tfp_vae.testing.mass import (
    Array,
    Mass,
    UnknownMassError,
    continuous_mass,
    discrete_mass,
)

__all__ = ["Case", "NotApplicable", "Violation", "require"]

# Draws that say where the mass is.
_HINTS = 256
# Probed one after another, to learn the greatest outcome.
_MOST_OUTCOMES = 64


class Violation(AssertionError):  # noqa: N818 (what a check finds)
    """The distribution breaks a rule."""


class NotApplicable(Exception):  # noqa: N818 (no error: a check steps back)
    """A check has nothing to say of this distribution."""


def require(condition: Any, rule: str, received: str) -> None:
    """Raises a `Violation` unless a condition holds everywhere.

    Args:
        condition: a bool, or an array of them.
        rule: what must hold.
        received: what was found instead, and where.
    """
    if not np.all(condition):
        raise Violation(f"{rule}. Received: {received}.")


class Case:
    """A distribution, with its values in numpy float64.

    Args:
        distribution: the one under test.
        support: the least and greatest value, or None to ask the distribution.
        seed: an int.
        compiled: where to keep functions of the parameters that were compiled
            for other cases, if all cases differ in their parameters alone.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        support: tuple[float, float] | None,
        seed: int,
        compiled: dict[Any, Callable[..., Any]] | None = None,
    ) -> None:
        self.distribution = distribution
        self.seed = seed
        self._compiled = compiled
        self._support = support
        self.dtype = keras.backend.standardize_dtype(distribution.dtype)
        self.batch_shape = tuple(int(n) for n in distribution.batch_shape)
        self.event_shape = tuple(int(n) for n in distribution.event_shape)
        self.is_discrete = is_discrete(distribution)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{name}={np.array2string(value, precision=4, separator=', ')}"
            for name, value in self.parameters.items()
        )
        return f"{type(self.distribution).__name__}({shown})"

    @functools.cached_property
    def parameters(self) -> dict[str, Array]:
        """The floating parameters, in numpy."""
        try:
            names = type(self.distribution).parameter_properties()
        except NotImplementedError:
            return {}
        found = {}
        for name in names:
            given = self.distribution.parameters.get(name)
            if given is None:
                continue
            # The property has it in the dtype of the distribution.
            value = getattr(self.distribution, name, None)
            value = ops.convert_to_numpy(given if value is None else value)
            if value.dtype.kind == "f" or value.dtype.name == "bfloat16":
                found[name] = value
        return found

    def rebuilt(self, **parameters: Any) -> tfd.Distribution:
        """The distribution with other parameters."""
        return self.distribution.copy(**parameters)

    @property
    def floating(self) -> str:
        """The dtype of the parameters; that of integer outcomes may differ."""
        dtypes = [value.dtype.name for value in self.parameters.values()]
        return (dtypes or [self.dtype])[0]

    def point(self, values: Any, dtype: str | None = None) -> Tensor:
        """Values in a dtype, by default that of the distribution."""
        dtype = dtype or self.dtype
        return ops.convert_to_tensor(
            np.asarray(values, np.float64).astype(dtype), dtype
        )

    def call(
        self,
        function: Callable[..., Any],
        *values: Tensor,
        dtype: str | None = None,
        key: Any = None,
    ) -> Any:
        """`function(distribution, *values)`, compiled where that is faster.

        Args:
            function: of a distribution and tensors.
            *values: the tensors.
            dtype: of the parameters, by default as they are.
            key: what tells the function from others, or None not to compile.
        """
        parameters = {
            name: ops.convert_to_tensor(
                value if dtype is None else np.float64(value), dtype
            )
            for name, value in self.parameters.items()
        }

        def of_parameters(
            parameters: dict[str, Tensor], *values: Tensor
        ) -> Any:
            return function(self.rebuilt(**parameters), *values)

        if key is None or self._compiled is None or not EAGER_IS_SLOW:
            return of_parameters(parameters, *values)
        compiled = self._compiled.setdefault((key, dtype), jit(of_parameters))
        try:
            return compiled(parameters, *values)
        except NotImplementedError:
            raise
        # What cannot be compiled may still be right: there is a check for it.
        except Exception:
            return of_parameters(parameters, *values)

    def draw(self, shape: Any, seed: int = 0) -> Tensor:
        """Draws, the same ones for the same seed."""
        return self.call(
            lambda distribution, seed: distribution.sample(shape, seed=seed),
            tfp_seed(self.seed + seed),
            key=("sample", shape),
        )

    def draws(self, count: int, seed: int = 0) -> Array:
        """Draws in float64, `[count, *batch, *event]`.

        Raises:
            NotApplicable: if there is no sampler.
        """
        try:
            found = self.draw(count, seed)
        except NotImplementedError as error:
            raise NotApplicable("no sampler") from error
        return ops.convert_to_numpy(found).astype(np.float64)

    def ask(self, method: str, *arguments: Any) -> Array:
        """What a method gives, in float64.

        Raises:
            NotApplicable: if it is not implemented.
        """
        # Levels of a quantile are no outcomes, which may be integers.
        dtype = self.floating if method == "quantile" else None
        try:
            found = self.call(
                lambda distribution, *x: getattr(distribution, method)(*x),
                *(self.point(value, dtype) for value in arguments),
                key=method,
            )
        except (NotImplementedError, AttributeError) as error:
            raise NotApplicable(f"no {method}") from error
        return ops.convert_to_numpy(found).astype(np.float64)

    def ask_kl(self, other: "Case") -> Array:
        """KL(self || other).

        Raises:
            NotApplicable: if no closed form is known.
        """
        try:
            found = tfd.kl_divergence(self.distribution, other.distribution)
        except NotImplementedError as error:
            raise NotApplicable("no closed KL divergence") from error
        return ops.convert_to_numpy(found).astype(np.float64)

    @functools.cached_property
    def support(self) -> tuple[Array, Array]:
        """The ends of the support, each of the batch shape."""
        if self._support is not None:
            ends = np.asarray(self._support, np.float64)
            return tuple(np.broadcast_to(e, self.batch_shape) for e in ends)
        if self.is_discrete:
            return self._outcomes()
        try:
            bijector = (
                self.distribution.experimental_default_event_space_bijector()
            )
            ends = [
                ops.convert_to_numpy(
                    bijector.forward(
                        self.point(np.full(self.batch_shape, infinity))
                    )
                )
                for infinity in (-np.inf, np.inf)
            ]
        except (NotImplementedError, AttributeError):
            ends = [-np.inf, np.inf]
        low, high = (
            np.broadcast_to(np.asarray(e, np.float64), self.batch_shape)
            for e in ends
        )
        return np.minimum(low, high), np.maximum(low, high)

    def _outcomes(self) -> tuple[Array, Array]:
        """0 and the greatest outcome that `validate_args` lets through."""
        zero = np.zeros(self.batch_shape)
        high = 0
        # Each backend has its own kind of error for an assertion.
        try:
            strict = self.rebuilt(validate_args=True)
            strict.log_prob(self.point(0.0))
            while high < _MOST_OUTCOMES:
                strict.log_prob(self.point(high + 1.0))
                high += 1
        except Exception:
            return zero, zero + (high or np.inf)
        return zero, zero + np.inf

    @property
    def mass(self) -> Mass:
        """The density on a quadrature rule.

        Raises:
            NotApplicable: if the event is not a scalar, or mass out of reach.
        """
        if self.event_shape:
            raise NotApplicable("the event is no scalar")
        if isinstance(self._mass, UnknownMassError):
            raise NotApplicable("mass is out of reach of quadrature")
        return self._mass

    @functools.cached_property
    def _mass(self) -> Mass | UnknownMassError:
        low, high = self.support

        def log_prob(x: Array) -> Array:
            found = self.ask("log_prob", x)
            require(
                found.shape == (*x.shape[:1], *self.batch_shape),
                "log_prob is one number a point and a distribution",
                f"shape {found.shape} for points of shape {x.shape} and batch "
                f"shape {self.batch_shape}",
            )
            return found

        if self.is_discrete:
            dims = [1] * len(self.batch_shape)
            return discrete_mass(
                lambda x: log_prob(x.reshape(-1, *dims)),
                float(low.min()),
                float(high.max()),
            )
        hints = np.zeros((1, *self.batch_shape))
        # A sampler may be missing or broken: another check will say so.
        with contextlib.suppress(Exception):
            hints = self.draws(_HINTS)
        try:
            return continuous_mass(log_prob, low, high, hints, self.dtype)
        except UnknownMassError as error:
            return error

    @functools.cached_property
    def points(self) -> Array:
        """A few places where the mass is, `[5, *batch, *event]`.

        Raises:
            NotApplicable: if the event is no scalar and there is no sampler.
        """
        if self.event_shape:
            return self.draws(5)
        found = self.mass.quantile(np.array([0.03, 0.2, 0.45, 0.7, 0.95]))
        return found.round() if self.is_discrete else found


#: A check takes a case and raises a `Violation`, or `NotApplicable`.
Check = Callable[[Case], None]
