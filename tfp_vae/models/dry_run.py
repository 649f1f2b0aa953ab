"""A pass of a model over a few rows, before it is compiled for all of them.

Without a trace JAX compiles each operation separately, some hundred of them in
a new process. So on JAX a pass is traced: only for its shapes, or compiled as a
whole if values are needed. A pass that fails is run again step by step, since
values make better error messages; so is a pass with assertions, since a trace
loses them.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import keras

from tfp_vae.distributions.validated import is_validated
from tfp_vae.keras_internals import all_layers
from tfp_vae.substrate import EAGER_IS_SLOW, jit, jit_with_variables

__all__ = ["Trial", "try_shapes"]


class _AssertsError(Exception):
    """The pass must see values."""


def _is_traceable(model: keras.Model) -> bool:
    return (
        EAGER_IS_SLOW
        and not model.run_eagerly
        # A trace cannot make variables.
        and all(layer.built for layer in all_layers(model))
    )


def _without_assertions(run: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any) -> Any:
        found = run(*args)
        if any(map(is_validated, keras.tree.flatten(found))):
            raise _AssertsError
        return found

    return checked


def try_shapes(model: keras.Model, run: Callable[..., Any], *args: Any) -> None:
    """Runs a pass for the variables that it makes and the errors it raises.

    Args:
        model: whose pass it is.
        run: the pass, which returns its distributions.
        *args: its tensors.
    """
    if _is_traceable(model):
        # No placeholder for a distribution is needed: only the trace counts.
        checked = _without_assertions(run)
        traced = jit(lambda *args: (checked(*args), None)[1])
        with contextlib.suppress(Exception), keras.StatelessScope():
            traced.eval_shape(*args)
            return
    run(*args)


class Trial:
    """Runs a pass for its values, and keeps it compiled."""

    def __init__(self) -> None:
        self._compiled: Callable[..., Any] | None = None
        self._parts: tuple[Any, ...] = ()

    def __call__(
        self,
        model: keras.Model,
        parts: tuple[Any, ...],
        run: Callable[..., Any],
        *args: Any,
    ) -> Any:
        """Runs the pass.

        Args:
            model: whose pass it is.
            parts: the objects in the pass; for other objects it is compiled
                again.
            run: the pass, from tensors to tensors and its distributions.
            *args: its tensors.

        Returns:
            What `run` returns.
        """
        if not _is_traceable(model):
            return run(*args)
        is_new = len(parts) != len(self._parts) or any(
            a is not b for a, b in zip(parts, self._parts, strict=True)
        )
        if self._compiled is None or is_new:
            self._compiled = jit_with_variables(
                _without_assertions(run), model.variables
            )
            self._parts = parts
        # Variables made during the pass get their values outside the trace.
        with contextlib.suppress(Exception), keras.StatelessScope():
            return self._compiled(*args)
        return run(*args)
