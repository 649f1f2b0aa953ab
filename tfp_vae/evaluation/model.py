"""What can be evaluated: a model that encodes, decodes and has a prior."""

from typing import Any, Protocol, runtime_checkable

from tfp_vae.substrate import Tensor, tfd

__all__ = ["ChecksData", "LatentModel", "check_model"]


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
    """A model that refuses data it cannot be evaluated on."""

    def check_data(self, x: Any, support: bool = True) -> None:
        """Builds the model if need be, and looks at the data.

        Args:
            x: `[N, *event]`, or where there is a target beside it, a pipeline
                of one batch `(x, y)`.
            support: whether the target must have a finite density under the
                likelihood.

        Raises:
            TypeError, ValueError: if the data do not fit the model.
        """


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
