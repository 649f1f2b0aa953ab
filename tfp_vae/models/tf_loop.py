"""Several training steps in one loop of a TensorFlow graph."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfp_vae.models.execution import Rows, execution

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


def loops_pay(model: keras.Model, x: Any) -> bool:
    """Whether several steps in one loop take less time than one by one.

    Args:
        model: built.
        x: data, as `fit` takes them.

    Returns:
        True; so does Keras' own loop, which runs over pipelines.
    """
    return True


def looped(model: keras.Model, several: int) -> Callable[..., Any]:
    """What runs each execution of several steps on rows that are held.

    Keras' own loop takes each batch out of the pipeline in the graph, where its
    size is not known, and asks at each step twice whether there is another.

    Args:
        model: whose `train_step` runs.
        several: the most steps of one execution.

    Returns:
        A function from the rows and an iterator over batches of their numbers
        to the logs after the last step.
    """

    @tf.function(jit_compile=model.jit_compile)
    def step(rows: Rows, numbers: Any) -> Any:
        return model.train_step(tuple(tf.gather(r, numbers) for r in rows))

    @tf.function
    def loop(rows: Rows, batches: Any, count: Any) -> Any:
        logs = step(rows, batches[0])
        for i in tf.range(1, count):
            logs = step(rows, batches[i])
        return logs

    run = execution(
        lambda _, rows, batches, count: (
            loop(rows, batches, tf.constant(count)),
            None,
        ),
        lambda _, rows, numbers: (step(rows, numbers), None),
        tf.stack,
        several,
    )
    return lambda rows, iterator: run(rows, None, iterator)[0]
