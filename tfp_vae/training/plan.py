"""How many steps run in one compiled loop before Python looks again."""

from typing import Any

import keras

from tfp_vae.models.nonfinite_guard import NonFiniteGuard
from tfp_vae.substrate import KERAS_COMPILES_LOOPS

if KERAS_COMPILES_LOOPS:
    from tfp_vae.training import tensorflow_loop as loop
else:
    from tfp_vae.training import jax_loop as loop  # type: ignore[no-redef]

__all__ = ["is_long", "loop", "steps_of_epoch", "steps_per_execution"]

# A loop of this many steps has won nearly all there is to win.
_MOST = 32
# How often progress shows in an epoch, at least.
_UPDATES = 10

# Steps that save more time than XLA takes to compile one, a second or two.
_LONG = 1_000

_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)
_INDIFFERENT = (
    NonFiniteGuard,
    keras.callbacks.History,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.TerminateOnNaN,
)
# Keras' own that look at batches only when they are told to.
_FREQUENCIES = {
    keras.callbacks.BackupAndRestore: "save_freq",
    keras.callbacks.ModelCheckpoint: "save_freq",
    keras.callbacks.TensorBoard: "update_freq",
}


def _follows_batches(callback: keras.callbacks.Callback) -> bool:
    if type(callback) in _INDIFFERENT:
        return False
    if type(callback) in _FREQUENCIES:
        return getattr(callback, _FREQUENCIES[type(callback)]) != "epoch"
    base = keras.callbacks.Callback
    # A LambdaCallback has its hooks on the instance.
    return any(
        getattr(getattr(callback, hook), "__func__", None)
        is not getattr(base, hook)
        for hook in _HOOKS
    )


def steps_of_epoch(
    x: Any, batch_size: int | None, steps_per_epoch: int | None
) -> int:
    """Steps of an epoch.

    Args:
        x: data, as `fit` takes them.
        batch_size: as `fit` takes it.
        steps_per_epoch: as `fit` takes it.

    Returns:
        An int, 0 where it is not known beforehand.
    """
    if steps_per_epoch:
        return steps_per_epoch
    if hasattr(x, "shape"):
        return -(-len(x) // (batch_size or 32))
    try:
        return len(x)
    except TypeError:  # a generator, or a `tf.data` pipeline without end
        return 0


def is_long(steps: int) -> bool:
    """Whether a call of `fit` makes up for the time of compiling it well.

    Args:
        steps: of all epochs.

    Returns:
        A bool.
    """
    return steps >= _LONG


def steps_per_execution(
    model: keras.Model,
    x: Any,
    steps: int,
    exact: list[int],
    callbacks: list[keras.callbacks.Callback],
) -> int:
    """Keras' `steps_per_execution`, chosen for `fit`.

    A compiled loop saves the way from Python and back, which for a small
    network takes longer than the arithmetic of a step.

    Args:
        model: compiled, in Keras' sense, and built.
        x: data, as `fit` takes them.
        steps: of an epoch.
        exact: numbers of steps after which Keras shall stop though there are
            further data, which it does between two executions only.
        callbacks: of which one that follows single batches makes it 1.

    Returns:
        An int >= 1, small enough for ten updates of the progress in an epoch.
    """
    if any(map(_follows_batches, callbacks)) or not loop.loops_pay(model, x):
        return 1
    most = min(max(steps // _UPDATES, 1), _MOST)
    return max(
        several
        for several in range(1, most + 1)
        if not any(count % several for count in exact)
    )
