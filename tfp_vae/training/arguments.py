"""Checks of arguments of `fit` and `compile` that Keras does not make."""

from typing import Any

import keras

from tfp_vae.arguments import check_positive_int

__all__ = ["callbacks_as_list", "check_counts", "check_jit_compile"]


def check_counts(**counts: Any) -> None:
    """Refuses given numbers below one.

    Args:
        **counts: numbers by name, or None. The number of epochs may be 0.

    Raises:
        ValueError: for anything else.
    """
    for name, count in counts.items():
        if count is not None and not (name == "epochs" and count == 0):
            check_positive_int(name, count)


def check_jit_compile(jit_compile: Any) -> None:
    """Refuses what Keras would treat as true.

    Args:
        jit_compile: of `compile`.

    Raises:
        ValueError: unless it is a bool or `"auto"`.
    """
    if not isinstance(jit_compile, bool) and jit_compile not in ("auto", None):
        raise ValueError(
            'jit_compile is True, False or "auto". Received: '
            f"jit_compile={jit_compile!r}."
        )


def callbacks_as_list(
    callbacks: Any, verbose: Any
) -> tuple[list[keras.callbacks.Callback], Any]:
    """Callbacks in any form as a list, to which others can be added.

    Args:
        callbacks: None, one, a list, or a `keras.callbacks.CallbackList`.
        verbose: as `fit` was given it.

    Returns:
        The callbacks, and `verbose` for Keras: 0 with a `CallbackList` that
        has no progress bar, since Keras adds one to a list.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        shows = any(
            isinstance(callback, keras.callbacks.ProgbarLogger)
            for callback in callbacks.callbacks
        )
        return list(callbacks.callbacks), verbose if shows else 0
    if isinstance(callbacks, keras.callbacks.Callback):
        return [callbacks], verbose
    return keras.tree.flatten(callbacks or []), verbose
