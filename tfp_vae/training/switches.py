"""What `fit` may do for speed; each can be turned off separately."""

import dataclasses

__all__ = ["Switches"]


@dataclasses.dataclass(frozen=True)
class Switches:
    """What `fit` may do for speed.

    For debugging, and to measure whether an optimisation is still needed:

    ```python
    model.switches = Switches(loops=False)
    ```

    Attributes:
        rows: whether arrays stay on the device while `fit` runs.
        loops: whether several steps run in one compiled loop.
        xla: whether XLA may compile the loop where Keras would not.
        convolutions: whether convolutions run in the form that is fastest.
    """

    rows: bool = True
    loops: bool = True
    xla: bool = True
    convolutions: bool = True
