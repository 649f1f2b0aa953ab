"""A pass of a model over a few rows, before it is compiled for all of them.

Step by step JAX compiles each operation for itself, some hundred of them in a
new process. There a pass is traced: for its shapes alone, or compiled as one
where values are asked for. What fails so is run again step by step, since what
is wrong is best said of values.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import keras

from tfp_vae.substrate import EAGER_IS_SLOW, jit, trace

__all__ = ["Trial", "try_shapes"]


def _is_made(model: keras.Model) -> bool:
    """Whether a pass makes no variables, which cannot be made in a trace."""
    return all(layer.built for layer in model._flatten_layers())


def try_shapes(model: keras.Model, run: Callable[..., Any], *args: Any) -> None:
    """Runs a pass for the variables that it makes and the errors it raises.

    Args:
        model: whose pass it is.
        run: the pass.
        *args: its tensors.
    """
    if EAGER_IS_SLOW and _is_made(model):
        with contextlib.suppress(Exception), keras.StatelessScope():
            trace(run, *args)
            return
    run(*args)


class Trial:
    """Runs a pass for its values; keeps the first one compiled."""

    def __init__(self) -> None:
        self._compiled: Callable[..., Any] | None = None

    def __call__(
        self, model: keras.Model, run: Callable[..., Any], *args: Any
    ) -> Any:
        """Runs the pass.

        Args:
            model: whose pass it is.
            run: the pass, from tensors to tensors and distributions.
            *args: its tensors.

        Returns:
            What `run` returns.
        """
        if EAGER_IS_SLOW and _is_made(model):
            with contextlib.suppress(Exception):
                if self._compiled is None:
                    self._compiled = _compiled(model, run)
                return self._compiled(*args)
        return run(*args)


def _compiled(
    model: keras.Model, run: Callable[..., Any]
) -> Callable[..., Any]:
    variables = model.variables

    def stateless(values: list[Any], *args: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return run(*args)

    compiled = jit(stateless)
    return lambda *args: compiled([v.value for v in variables], *args)
