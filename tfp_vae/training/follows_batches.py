"""Whether a callback looks at single batches."""

import keras

__all__ = ["follows_batches"]

_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)
# Keras' own callbacks that need not see each batch.
_INDIFFERENT = (
    keras.callbacks.History,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.TerminateOnNaN,
)
# Keras' own callbacks that look at batches only if an argument says so.
_FREQUENCIES = {
    keras.callbacks.BackupAndRestore: "save_freq",
    keras.callbacks.ModelCheckpoint: "save_freq",
    keras.callbacks.TensorBoard: "update_freq",
}


def follows_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback looks at single batches.

    A callback that has a hook for batches but need not see each of them says so
    by an attribute `follows_batches = False`.

    Args:
        callback: any.

    Returns:
        A bool.
    """
    said = getattr(callback, "follows_batches", None)
    if said is not None:
        return bool(said)
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
