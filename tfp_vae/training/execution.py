"""One execution of Keras' trainer: several steps, in one loop."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from tfp_vae.substrate import Tensor
from tfp_vae.training.rows import Rows

__all__ = ["execution"]


def execution(
    loop: Callable[[Any, Rows, Tensor, int], tuple[Any, Any]],
    single: Callable[[Any, Rows, Tensor], tuple[Any, Any]],
    stack: Callable[[list[Tensor]], Tensor],
    several: int,
) -> Callable[[Rows, Any, Iterator[Any]], tuple[Any, Any]]:
    """The function that runs each execution.

    Args:
        loop: from the state, the rows, row numbers `[several, B]` and how many
            of these batches count, to the logs of the last step and the next
            state.
        single: the same for the row numbers of one batch, `[B]`.
        stack: from batches to one tensor.
        several: the largest number of steps.

    Returns:
        A function from the rows, the state and an iterator over batches of row
        numbers to the logs of the last step and the next state. A batch that is
        smaller than the first, at the end of an epoch, runs separately.
    """

    def run(rows: Rows, state: Any, iterator: Iterator[Any]) -> tuple[Any, Any]:
        batches = [
            next(iterator),
            *itertools.islice(iterator, several - 1),
        ]
        whole = [batch for batch in batches if len(batch) == len(batches[0])]
        logs: Any = None
        if several > 1:
            # Always the same number, for one compiled loop; it stops before the
            # rest.
            filled = whole + whole[-1:] * (several - len(whole))
            logs, state = loop(state, rows, stack(filled), len(whole))
            batches = batches[len(whole) :]
        for batch in batches:
            logs, state = single(state, rows, batch)
        return logs, state

    return run
