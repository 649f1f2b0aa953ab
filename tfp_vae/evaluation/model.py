"""What can be evaluated: a model that encodes, decodes and has a prior."""

from typing import Any, Protocol, runtime_checkable

from tfp_vae.entries import accepted, conditions_of, repeated
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "ChecksData",
    "LatentModel",
    "MeetsGaps",
    "check_model",
    "likelihood_of",
    "marker_of",
    "prior_of",
]


class LatentModel(Protocol):
    """A latent-variable model, of any class.

    ```none
    q(z|x) = encode(x)   p(x|z) = decode(z)   p(z) = prior_distribution(q(z|x))
    ```

    `VAE` is one. A model of your own becomes one by these three methods.
    """

    def encode(self, x: Tensor) -> tfd.Distribution:
        """The posterior q(z|x).

        Args:
            x: `[B, *event]`.

        Returns:
            A distribution of batch shape `[B]` over the latent event.
        """

    def decode(self, z: Tensor) -> tfd.Distribution:
        """The likelihood p(x|z).

        Args:
            z: `[B, *latent]`.

        Returns:
            A distribution of batch shape `[B]` over the examples.
        """

    def prior_distribution(
        self, posterior: tfd.Distribution
    ) -> tfd.Distribution:
        """The prior p(z).

        Args:
            posterior: q(z|x), from which a prior may take its shape and dtype.

        Returns:
            A distribution of batch shape `[]` or `[B]` over the latent event.
        """


@runtime_checkable
class ChecksData(Protocol):
    """A model that refuses data on which it cannot be evaluated."""

    def check_data(self, x: Any, support: bool = True) -> None:
        """Builds the model if necessary, and checks the data.

        Args:
            x: `[N, *event]`, or with a separate target, a pipeline of one batch
                `(x, y)`.
            support: whether the target must have a finite density under the
                likelihood.

        Raises:
            TypeError, ValueError: if the data do not fit the model.
        """


@runtime_checkable
class MeetsGaps(Protocol):
    """A model of data in which elements may be missing.

    Attributes:
        missing_values: the number that marks them, or None.
    """

    missing_values: float | None

    def observed_likelihood(
        self, likelihood: tfd.Distribution, seed: Any = None
    ) -> tfd.Distribution:
        """The likelihood of what is observed.

        Args:
            likelihood: p(x|z).
            seed: a seed of TFP.

        Returns:
            A distribution whose `log_prob` leaves out what is missing.
        """


def marker_of(model: Any) -> float | None:
    """What marks missing elements of the data of a model.

    Args:
        model: any.

    Returns:
        A number, or None if no element may be missing.
    """
    return model.missing_values if isinstance(model, MeetsGaps) else None


def check_model(model: Any) -> None:
    """Refuses what is not a `LatentModel`.

    Args:
        model: any object.

    Raises:
        TypeError: if it lacks one of the three methods.
    """
    lacking = [
        name
        for name in ("encode", "decode", "prior_distribution")
        if not callable(getattr(model, name, None))
    ]
    if lacking:
        raise TypeError(
            "What is evaluated has the methods encode(x), decode(z) and "
            "prior_distribution(posterior), each of which returns a "
            f"tfp.distributions object. Received: {type(model).__name__} "
            f"without {', '.join(lacking)}. Add them to your model, or give a "
            "VAE."
        )


def prior_of(
    model: LatentModel, posterior: tfd.Distribution, x: Any, **options: Any
) -> tfd.Distribution:
    """p(z), or p(z|conditions).

    Args:
        model: whose prior it is.
        posterior: q(z|x).
        x: data, `[B, *event]`, or a dict of it and of conditions.
        **options: further arguments of `prior_distribution`.

    Returns:
        A distribution of batch shape `[]` or `[B]`.
    """
    given = accepted(model.prior_distribution, conditions_of(x))
    return model.prior_distribution(posterior, **options, **given)


def likelihood_of(
    model: LatentModel,
    z: Tensor,
    x: Any,
    samples: int | None = None,
    seed: Any = None,
) -> tfd.Distribution:
    """p(x|z), or p(x|z, conditions).

    Args:
        model: whose likelihood it is.
        z: `[B, *latent]`, or with samples `[S * B, *latent]`.
        x: data, `[B, *event]`, or a dict of it and of conditions.
        samples: S, or None.
        seed: a seed of TFP, of the draws that complete data for a
            `missing_model`.

    Returns:
        A distribution with one row for each row of z; where data may have gaps,
        its `log_prob` is that of what was observed.
    """
    given = accepted(model.decode, repeated(conditions_of(x), samples))
    likelihood = model.decode(z, **given)
    if isinstance(model, MeetsGaps):
        return model.observed_likelihood(likelihood, seed)
    return likelihood
