"""How a call of `fit` runs: decided once, by a pure function."""

import dataclasses
from collections.abc import Sequence

from tfp_vae.training.switches import Switches

__all__ = ["Plan", "make_plan"]

# A loop of this many steps saves nearly all that a loop can save.
_MOST_STEPS = 32
# How often progress is shown in an epoch, at least.
_UPDATES = 10
# So many steps save more time than XLA takes to compile, a second or two.
_LONG = 1_000
# Larger data are fed batch by batch.
_MOST_BYTES = 2**30

_ALL_ON = Switches()


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a call of `fit` runs.

    Attributes:
        steps: the largest number of steps in one execution.
        holds_rows: whether the data stay on the device.
        may_use_xla: whether XLA may compile the loop where that is likely to be
            faster, although Keras would not.
        fast_convolutions: whether convolutions run in the form that is
            fastest.
    """

    steps: int = 1
    holds_rows: bool = False
    may_use_xla: bool = False
    fast_convolutions: bool = True


def make_plan(
    *,
    steps: int,
    epochs: int,
    stops: Sequence[int],
    follows_batches: bool,
    num_bytes: int | None,
    can_loop: bool,
    loops_pipelines: bool,
    chosen_steps: int | None = None,
    chooses_xla: bool = True,
    switches: Switches = _ALL_ON,
) -> Plan:
    """Decides how a call of `fit` runs.

    A compiled loop saves the way from Python and back, which for a small
    network takes longer than the arithmetic of a step.

    Args:
        steps: of an epoch, 0 if it is not known beforehand.
        epochs: how many will be run.
        stops: numbers of steps after which Keras must stop although there are
            more data; it can stop only between two executions.
        follows_batches: whether a callback looks at single batches.
        num_bytes: the size of the data, or None if they may not be held.
        can_loop: whether this backend can run its own loop on the model.
        loops_pipelines: whether Keras compiles loops over pipelines.
        chosen_steps: the user's `steps_per_execution`, or None for ours.
        chooses_xla: whether `jit_compile` was left to us.
        switches: what may be done for speed.

    Returns:
        A `Plan`, with few enough steps for ten updates of the progress in an
        epoch.
    """
    holds_rows = (
        switches.rows
        and can_loop
        and num_bytes is not None
        and num_bytes <= _MOST_BYTES
    )
    several = 1
    if chosen_steps is not None:
        several = chosen_steps
    elif (
        switches.loops
        and not follows_batches
        and (loops_pipelines or (can_loop and num_bytes is not None))
    ):
        most = min(max(steps // _UPDATES, 1), _MOST_STEPS)
        several = max(
            number
            for number in range(1, most + 1)
            if not any(count % number for count in stops)
        )
    return Plan(
        several,
        holds_rows,
        may_use_xla=switches.xla and chooses_xla and epochs * steps >= _LONG,
        fast_convolutions=switches.convolutions,
    )
