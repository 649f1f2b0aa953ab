"""Several training steps in one loop of a TensorFlow graph."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfp_vae.models.execution import execution
from tfp_vae.models.rows import of_batch

__all__ = ["can_loop", "looped", "loops_pay"]


def can_loop(model: keras.Model) -> bool:
    """Whether this loop may stand in for Keras' own.

    Args:
        model: compiled, in Keras' sense.

    Returns:
        A bool; False for eager steps and under a `tf.distribute` strategy.
    """
    plain = tf.distribute.get_strategy()
    return (
        not model.run_eagerly
        and not tf.distribute.has_strategy()
        and model.distribute_strategy is plain
    )


def loops_pay(model: keras.Model) -> bool:
    """Whether several steps in one loop take less time than one by one.

    Args:
        model: built.

    Returns:
        True; so does Keras' own loop.
    """
    return True


def looped(model: keras.Model, several: int) -> Callable[..., Any]:
    """What runs each execution of several steps.

    Keras' own loop takes each batch out of the pipeline in the graph, where its
    size is not known, and asks at each step twice whether there is another.

    Args:
        model: whose `train_step` runs.
        several: the most steps of one execution.

    Returns:
        A function from the rows (see `rows.held`) and an iterator over batches
        to the logs after the last step.
    """

    @tf.function(jit_compile=model.jit_compile)
    def step(rows: Any, batch: Any) -> Any:
        return model.train_step(of_batch(rows, batch, tf.gather))

    @tf.function
    def loop(rows: Any, batches: Any, count: Any) -> Any:
        def batch(number: Any) -> Any:
            return keras.tree.map_structure(
                lambda leaf: None if leaf is None else leaf[number], batches
            )

        logs = step(rows, batch(0))
        for number in tf.range(1, count):
            logs = step(rows, batch(number))
        return logs

    run = execution(
        lambda _, rows, batches, count: (
            loop(rows, batches, tf.constant(count)),
            None,
        ),
        lambda _, rows, batch: (step(rows, batch), None),
        _stacked,
        several,
    )

    def whole(rows: Any, iterator: Iterator[Any]) -> Any:
        batches = (
            keras.tree.map_structure(_or_none, batch) for batch in iterator
        )
        return run(rows, None, batches)[0]

    return whole


def _stacked(tensors: tuple[Any, ...], size: int) -> Any:
    return tf.stack([*tensors, *tensors[-1:] * (size - len(tensors))])


def _or_none(leaf: Any) -> Any:
    """A pipeline has an empty optional where there is nothing."""
    return None if isinstance(leaf, tf.experimental.Optional) else leaf
