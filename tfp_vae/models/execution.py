"""One execution of several steps: batches that are alike in one loop."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras

__all__ = ["Loop", "Single", "execution"]

#: From the state, the rows (see `rows.held`), batches in one array each and how
#: many of them count, to the logs of the last step and the next state.
Loop = Callable[[Any, Any, Any, int], tuple[Any, Any]]

#: The same for one batch.
Single = Callable[[Any, Any, Any], tuple[Any, Any]]


def execution(
    loop: Loop,
    single: Single,
    stack: Callable[[tuple[Any, ...], int], Any],
    several: int,
) -> Callable[[Any, Any, Iterator[Any]], tuple[Any, Any]]:
    """What runs each execution of Keras' trainer.

    Args:
        loop: runs steps in one go.
        single: runs one step.
        stack: puts the leaves of batches into one array with so many rows; what
            fills it up is never looked at.
        several: the most steps of one execution.

    Returns:
        A function from the rows, the state and an iterator over batches to the
        logs after the last step and the state. Batches that have not the shape
        of the first, such as the last of an epoch, run one by one.
    """

    def run(rows: Any, state: Any, iterator: Iterator[Any]) -> tuple[Any, Any]:
        batches = [next(iterator), *itertools.islice(iterator, several - 1)]
        first = _described(batches[0])
        alike = list(
            itertools.takewhile(lambda b: _described(b) == first, batches)
        )
        logs: Any = None
        if len(alike) > 1:
            stacked = keras.tree.map_structure(
                lambda *leaves: (
                    None if leaves[0] is None else stack(leaves, several)
                ),
                *alike,
            )
            logs, state = loop(state, rows, stacked, len(alike))
            batches = batches[len(alike) :]
        for batch in batches:
            logs, state = single(state, rows, batch)
        return logs, state

    return run


def _described(batch: Any) -> list[Any]:
    """The shapes and dtypes of a batch."""
    return [
        leaf if leaf is None else (tuple(leaf.shape), leaf.dtype)
        for leaf in keras.tree.flatten(batch)
    ]
