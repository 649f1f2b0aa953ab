"""The coordinates of a distribution that factorises over its event."""

from tfp_vae.substrate import Tensor, tfd

__all__ = ["factors", "log_prob_by_element"]


def factors(distribution: tfd.Distribution) -> tfd.Distribution:
    """The distribution of each coordinate, where they are independent.

    ```none
    log p(y) = sum over the coordinates i of log p_i(y_i)
    ```

    Args:
        distribution: `Independent` (at any depth) of anything that factorises,
            `MultivariateNormalDiag`, or a distribution over scalars.

    Returns:
        A distribution over scalars, of batch shape `batch_shape + event_shape`.

    Raises:
        NotImplementedError: for any other distribution: its coordinates may
            depend on each other.
    """
    if not tuple(distribution.event_shape):
        return distribution
    if isinstance(distribution, tfd.Independent):
        return factors(distribution.distribution)
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        # Both broadcast to the batch shape.
        return tfd.Normal(distribution.mean(), distribution.stddev())
    raise NotImplementedError(
        "Only a distribution whose coordinates are independent can be taken "
        "apart: tfd.Independent of one over scalars, or "
        f"MultivariateNormalDiag. Received: {type(distribution).__name__} "
        f"({distribution.name}) over {tuple(distribution.event_shape)}."
    )


def log_prob_by_element(
    distribution: tfd.Distribution, value: Tensor
) -> Tensor:
    """The terms of `log_prob`, one for each element of the event.

    ```none
    log p(y) = sum over the elements i of log p_i(y_i)             nats
    ```

    Args:
        distribution: one that `factors` takes apart, or a `Composite` of such.
        value: outcomes, `[..., *event]`.

    Returns:
        `[..., *event]`, nats.

    Raises:
        NotImplementedError: for any other distribution: its elements may depend
            on each other.
    """
    by_column = getattr(distribution, "log_prob_by_column", None)
    if by_column is not None:
        return by_column(value)
    return factors(distribution).log_prob(value)
