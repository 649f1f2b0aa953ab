"""Several training steps in one loop of a TensorFlow graph."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_vae.models.execution import Rows, execution

__all__ = ["can_loop", "looped", "loops_pay"]

# Operations whose gradients take XLA on a CPU several times as long in a loop.
_SLOW_IN_XLA = re.compile(".*Conv.*")
# Those that XLA leaves out without a word.
_LOST_IN_XLA = re.compile("Assert|CheckNumerics.*|Print.*")


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


def looped(
    model: keras.Model, several: int, may_compile: bool
) -> Callable[..., Any]:
    """What runs each execution of several steps on rows that are held.

    Keras' own loop takes each batch out of the pipeline in the graph, where its
    size is not known, and asks at each step twice whether there is another.

    Args:
        model: whose `train_step` runs.
        several: the most steps of one execution.
        may_compile: whether XLA may compile the loop, where it is likely to be
            faster, though the steps are not compiled.

    Returns:
        A function from the rows and an iterator over batches of their numbers
        to the logs after the last step.
    """

    @tf.function(jit_compile=model.jit_compile)
    def step(rows: Rows, numbers: Any) -> Any:
        return model.train_step(tuple(tf.gather(r, numbers) for r in rows))

    def steps(rows: Rows, batches: Any, count: Any) -> Any:
        logs = step(rows, batches[0])
        for i in tf.range(1, count):
            logs = step(rows, batches[i])
        return logs

    plain = tf.function(steps)
    # As one piece it keeps the weights where they are between two steps.
    compiled = tf.function(steps, jit_compile=True)
    chosen = plain if not (may_compile or model.jit_compile) else None

    def loop(_: Any, rows: Rows, batches: Any, count: int) -> tuple[Any, None]:
        nonlocal chosen
        number = tf.constant(count)
        if chosen is not None:
            return chosen(rows, batches, number), None
        traced = step.get_concrete_function(rows, batches[0])
        chosen = (
            compiled if _suits_xla(traced, not model.jit_compile) else plain
        )
        try:
            return chosen(rows, batches, number), None
        except (
            tf.errors.InvalidArgumentError,
            tf.errors.UnimplementedError,
        ):
            if chosen is plain:
                raise
            # XLA has no such operation. No step has been taken.
            chosen = plain
            return chosen(rows, batches, number), None

    run = execution(
        loop,
        lambda _, rows, numbers: (step(rows, numbers), None),
        np.stack,
        several,
    )
    return lambda rows, iterator: run(rows, None, iterator)[0]


def _suits_xla(step: Any, keeps_assertions: bool) -> bool:
    """Whether a traced step is faster as part of a loop in XLA, and the same.

    Args:
        step: a concrete function.
        keeps_assertions: whether assertions must not be lost.
    """
    graph = step.graph.as_graph_def()
    nodes = [*graph.node]
    for function in graph.library.function:
        nodes += function.node_def
    return not any(
        _SLOW_IN_XLA.fullmatch(node.op)
        or (keeps_assertions and _LOST_IN_XLA.fullmatch(node.op))
        for node in nodes
    )
