"""One distribution under test, and its values for the checks."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.substrate import (
    EAGER_IS_SLOW,
    Tensor,
    is_discrete,
    jit_quickly,
    shapes_of,
    tfd,
    tfp_seed,
)
from tfp_vae.testing.events import Sampled, sampled_mass
from tfp_vae.testing.implemented import require_not_overridden
from tfp_vae.testing.mass import (
    Array,
    Mass,
    UnknownMassError,
    continuous_mass,
)
from tfp_vae.testing.outcomes import discrete_mass, outcome_range
from tfp_vae.testing.verdicts import NotApplicable, require

__all__ = ["DRAWS", "Case"]

# Draws in each call, always the same number, so that one sampler is compiled.
DRAWS = 2**15
# Draws that show where the mass is.
_HINTS = 256
# Points are padded to one of these numbers where each number is compiled
# separately.
_ROWS = (16, 256, 4096)
# Levels at which a few points are taken.
_LEVELS = np.array([0.03, 0.2, 0.45, 0.7, 0.95])


class Case:
    """A distribution, with its values in numpy float64.

    Args:
        distribution: the one under test.
        support: the least and greatest value, or None to ask the distribution.
        seed: an int.
        compiled: where to keep compiled functions of the parameters, shared by
            all cases that differ only in their parameters.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        support: tuple[float, float] | None,
        seed: int,
        compiled: dict[Any, Any] | None = None,
    ) -> None:
        self.distribution = distribution
        self.seed = seed
        self._compiled = {} if compiled is None else compiled
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
            if given is None or callable(given):
                continue
            # The property has the dtype of the distribution.
            value = getattr(self.distribution, name, None)
            try:
                value = ops.convert_to_numpy(given if value is None else value)
            except (TypeError, ValueError):  # not a tensor, such as an operator
                continue
            if value.dtype.kind == "f" or value.dtype.name == "bfloat16":
                found[name] = value
        return found

    def event_ndims_of(self, name: str) -> int:
        """How many dimensions one value of a parameter has."""
        properties = type(self.distribution).parameter_properties()
        return int(properties[name].event_ndims or 0)

    def rebuilt(self, **parameters: Any) -> tfd.Distribution:
        """The distribution with other parameters."""
        return self.distribution.copy(**parameters)

    def other(self, **parameters: Any) -> "Case":
        """The same with other parameters, and the same compiled functions."""
        return Case(
            self.rebuilt(**parameters),
            self._support,
            self.seed,
            self._compiled if self.parameters else None,
        )

    @property
    def floating(self) -> str:
        """The dtype of the parameters; that of integer outcomes may differ."""
        dtypes = [value.dtype.name for value in self.parameters.values()]
        return (dtypes or [self.dtype if "f" in self.dtype else "float32"])[0]

    @property
    def eps(self) -> float:
        """The rounding of the dtype of the parameters."""
        name = self.floating
        return 2.0**-7 if name == "bfloat16" else float(np.finfo(name).eps)

    def tolerance(self, least: float) -> float:
        """An error that is allowed, at least some roundings of the dtype."""
        return max(least, 16 * self.eps)

    def point(self, values: Any, dtype: str | None = None) -> Tensor:
        """Values in a dtype, by default that of the distribution."""
        dtype = dtype or self.dtype
        return ops.convert_to_tensor(
            np.asarray(values, np.float64).astype(dtype), dtype
        )

    def rounded(self, values: Array) -> Array:
        """Values as the distribution sees them."""
        with np.errstate(over="ignore"):
            return values.astype(self.dtype).astype(np.float64)

    def tensors(self, dtype: str | None = None) -> dict[str, Tensor]:
        """The parameters as tensors, in a dtype or in their own."""
        return {
            name: ops.convert_to_tensor(
                value if dtype is None else np.float64(value), dtype
            )
            for name, value in self.parameters.items()
        }

    def call(
        self,
        function: Callable[..., Any],
        *values: Any,
        dtype: str | None = None,
        key: Any = None,
    ) -> Any:
        """`function(distribution, *values)`, compiled where that is faster.

        Args:
            function: of a distribution and tensors.
            *values: the tensors.
            dtype: of the parameters, by default their own.
            key: identifies the function, or None not to compile.
        """
        parameters = self.tensors(dtype)

        def of_parameters(parameters: dict[str, Tensor], *values: Any) -> Any:
            return function(self.rebuilt(**parameters), *values)

        if key is None or not EAGER_IS_SLOW:
            return of_parameters(parameters, *values)
        compiled = self._compiled.setdefault(
            (key, dtype), jit_quickly(of_parameters)
        )
        try:
            return compiled(parameters, *values)
        except NotImplementedError:
            raise
        # A function that cannot be compiled may still be right: another check
        # tests it.
        except Exception:
            return of_parameters(parameters, *values)

    def shapes(self, function: Callable[..., Any], *values: Tensor) -> Any:
        """Like `call`, only for shapes and dtypes."""
        return shapes_of(
            lambda parameters, *values: function(
                self.rebuilt(**parameters), *values
            ),
            self.tensors(),
            *values,
        )

    def draws(self, seed: int = 1) -> Array:
        """Draws in float64, `[DRAWS, *batch, *event]`, the same for a seed.

        Raises:
            NotApplicable: if there is no sampler.
        """
        try:
            found = self.call(
                lambda distribution, seed: distribution.sample(
                    DRAWS, seed=seed
                ),
                tfp_seed(self.seed + seed),
                key="sample",
            )
        except NotImplementedError as error:
            require_not_overridden(self.distribution, "sample", error)
            raise NotApplicable("no sampler") from error
        return ops.convert_to_numpy(found).astype(np.float64)

    @functools.cached_property
    def first_draws(self) -> Array:
        """The draws that most checks use."""
        return self.draws()

    def ask_all(
        self, methods: Iterable[str], *arguments: Array
    ) -> dict[str, Array]:
        """The results of methods, in float64, without those not implemented.

        Args:
            methods: the names.
            *arguments: none, or points `[n, *batch, *event]`; several if they
                have the same shape, such as one without a leading dimension.
        """
        methods = tuple(methods)
        apart: set[str] = self._compiled.setdefault("apart", set())

        def every(
            distribution: tfd.Distribution, *x: Tensor
        ) -> dict[str, Tensor]:
            found = {}
            for method in methods:
                try:
                    found[method] = getattr(distribution, method)(*x)
                except Exception:
                    apart.add(method)
            return found

        found = {}
        if EAGER_IS_SLOW and len(methods) > 1:
            found = self.over_rows(every, methods, *arguments)
        for method in methods:
            if method in found:
                continue
            try:
                found[method] = self.over_rows(
                    lambda distribution, *x, m=method: {
                        m: getattr(distribution, m)(*x)
                    },
                    method,
                    *arguments,
                )[method]
            except NotImplementedError as error:
                require_not_overridden(self.distribution, method, error)
        return found

    def ask(self, method: str, *arguments: Array) -> Array:
        """The result of a method, in float64.

        Raises:
            NotApplicable: if it is not implemented.
        """
        found = self.ask_all((method,), *arguments)
        if method not in found:
            raise NotApplicable(f"no {method}")
        return found[method]

    def over_rows(
        self, function: Callable[..., Any], key: Any, *arguments: Array
    ) -> dict[str, Array]:
        """A dict of tensors from points, in numpy float64.

        Args:
            function: of a distribution and tensors.
            key: identifies the function.
            *arguments: none, one with the batch shape first, or points, with a
                further leading dimension: points are processed in portions.
        """
        # Levels of a quantile are not outcomes, which may be integers.
        dtype = self.floating if key == "quantile" else None

        def call(*arguments: Array) -> dict[str, Array]:
            found = self.call(
                function,
                *(self.point(value, dtype) for value in arguments),
                key=key,
            )
            return {
                name: ops.convert_to_numpy(value).astype(np.float64)
                for name, value in found.items()
            }

        batch = self.batch_shape
        is_rows = bool(arguments) and (
            arguments[0].shape[1 : 1 + len(batch)] == batch
            and arguments[0].ndim > len(batch) + len(self.event_shape)
        )
        if not (EAGER_IS_SLOW and is_rows):
            return call(*arguments)
        (x,) = arguments
        size = next((rows for rows in _ROWS if rows >= len(x)), _ROWS[-1])
        padded = np.concatenate([x, np.repeat(x[:1], -len(x) % size, axis=0)])
        parts = [
            call(padded[start : start + size])
            for start in range(0, len(padded), size)
        ]
        return {
            name: np.concatenate([part[name] for part in parts])[: len(x)]
            if value.shape[:1] == (size,)
            else value
            for name, value in parts[0].items()
        }

    def log_prob(self, x: Array) -> Array:
        """The log density of `[n, *batch, *event]`, `[n, *batch]`.

        Raises:
            Violation: if it has another shape.
        """
        found = self.ask("log_prob", x)
        require(
            found.shape == (*x.shape[:1], *self.batch_shape),
            "log_prob must be one number a value, summed over the event and "
            "over nothing else",
            f"shape {found.shape} for values of shape {x.shape}, batch shape "
            f"{self.batch_shape} and event shape {self.event_shape}",
        )
        return found

    @functools.cached_property
    def support(self) -> tuple[Array, Array]:
        """The ends of the support, each of the batch shape."""
        if self._support is not None:
            ends = [np.asarray(end, np.float64) for end in self._support]
        elif self.is_discrete:
            return outcome_range(self)
        else:
            ends = [-np.inf, np.inf]
            try:
                p = self.distribution
                bijector = p.experimental_default_event_space_bijector()
                # The bijector of a mixture is None.
                if bijector is not None:
                    whole = [np.full(self.batch_shape, end) for end in ends]
                    ends = [
                        ops.convert_to_numpy(bijector.forward(self.point(end)))
                        for end in whole
                    ]
            except NotImplementedError as error:
                require_not_overridden(
                    self.distribution, "default_event_space_bijector", error
                )
        low, high = (
            np.broadcast_to(np.asarray(e, np.float64), self.batch_shape)
            for e in ends
        )
        return np.minimum(low, high), np.maximum(low, high)

    @functools.cached_property
    def hints(self) -> Array | None:
        """Finite draws that show where the mass is, or None."""
        # A sampler may be missing or broken: another check reports this.
        try:
            found = self.first_draws[:_HINTS]
        except Exception:
            return None
        whole = (_HINTS, *self.batch_shape, *self.event_shape)
        return found if found.shape == whole and _finite(found) else None

    @property
    def mass(self) -> Mass:
        """The density of a scalar on a quadrature rule.

        Raises:
            NotApplicable: if the event is not a scalar, or mass is out of
        reach.
        """
        if self.event_shape:
            raise NotApplicable("the event is no scalar")
        if isinstance(self._mass, UnknownMassError):
            raise NotApplicable(str(self._mass))
        return self._mass

    @functools.cached_property
    def _mass(self) -> Mass | UnknownMassError:
        try:
            if self.is_discrete:
                return discrete_mass(self)
            hints = self.hints
            if hints is None:
                hints = np.zeros((1, *self.batch_shape))
            return continuous_mass(
                self.log_prob, *self.support, hints, self.dtype
            )
        except UnknownMassError as error:
            return error

    @property
    def integral(self) -> Mass | Sampled:
        """Integrals over the density: by quadrature, otherwise by draws.

        Raises:
            NotApplicable: if they are out of reach.
        """
        if not self.event_shape:
            return self.mass
        if isinstance(self._sampled, NotApplicable):
            raise self._sampled
        return self._sampled

    @functools.cached_property
    def _sampled(self) -> Sampled | NotApplicable:
        try:
            return sampled_mass(self)
        except NotApplicable as reason:
            return reason

    @functools.cached_property
    def points(self) -> Array:
        """A few places where the mass is, `[5, *batch, *event]`.

        Raises:
            NotApplicable: if there is neither an integral nor a sampler.
        """
        if self.event_shape:
            return self.first_draws[:5]
        if isinstance(self._mass, UnknownMassError):
            found = np.quantile(self.first_draws, _LEVELS, axis=0)
        else:
            found = self.mass.quantile(_LEVELS)
        # The least outcome with this much mass below: it has mass itself.
        return np.ceil(found) if self.is_discrete else found


def _finite(values: Array) -> bool:
    return bool(np.isfinite(values).all())


#: A check takes a case and raises a `Violation`, or `NotApplicable`.
Check = Callable[[Case], None]
