"""The beta with which a loss written by hand trains."""

import math
import numbers

__all__ = ["effective_beta"]


def effective_beta(
    data_size: int,
    latent_size: int,
    reconstruction: str = "mean",
    kl: str = "mean",
    reconstruction_weight: float = 1.0,
    kl_weight: float = 1.0,
) -> float:
    """The beta with which a hand-written VAE loss really trains.

    ```none
    loss = reconstruction_weight * reduce_D(-log p(x_d|z))
           + kl_weight * reduce_L(KL_l)
         = scale * (-log p(x|z) + beta * KL(q(z|x) || p(z))) + constant

    beta = (kl_weight / (L if kl is "mean" else 1))
           / (reconstruction_weight / (D if reconstruction is "mean" else 1))
    ```

    where -log p and KL are sums, in nats per example. So the loss has the
    gradient of `scale` times that of minus `ELBO(beta=beta)`. A mean
    cross-entropy with a mean KL has beta = D / L, with a summed KL beta = D;
    `D * mean + sum` has 1. A squared error without a half belongs to a Gaussian
    of variance 1/2 (see `likelihood_from_loss`): beta is the weight for that
    likelihood.

    Both terms are averaged over the batch, or both are not. A Keras loss takes
    its mean over the last axis only: `binary_crossentropy` of images
    `[B, H, W, C]`, summed over H and W, is `"sum"` with a
    `reconstruction_weight` of 1 / C.

    Args:
        data_size: D, the number of elements of an example.
        latent_size: L, the number of latent coordinates.
        reconstruction: `"mean"` or `"sum"`, over the D elements.
        kl: `"mean"` or `"sum"`, over the L coordinates.
        reconstruction_weight: the factor of the first term, positive.
        kl_weight: the factor of the second term, not negative.

    Returns:
        beta, without a unit.

    Raises:
        ValueError: if an argument is out of range.

    Examples:
    ```python
    effective_beta(784, 2)                                          # 392.0
    effective_beta(784, 2, kl="sum", reconstruction_weight=784.0)   # 1.0
    ```

    References:
        Chollet. Building autoencoders in Keras (the first example). 2016.
        https://blog.keras.io/building-autoencoders-in-keras.html
        Higgins et al. beta-VAE (section 2). ICLR 2017.
        https://openreview.net/forum?id=Sy2fzU9gl
    """
    for name, size in (("data_size", data_size), ("latent_size", latent_size)):
        if (
            isinstance(size, bool)
            or not isinstance(size, numbers.Integral)
            or size < 1
        ):
            raise ValueError(
                "Sizes are numbers of elements, ints >= 1. Received: "
                f"{name}={size!r}. Of a shape take math.prod(shape)."
            )
    for name, how in (("reconstruction", reconstruction), ("kl", kl)):
        if how not in ("mean", "sum"):
            raise ValueError(
                'A term is reduced by "mean" or "sum". Received: '
                f"{name}={how!r}. Another factor belongs into {name}_weight."
            )
    for name, weight, is_allowed in (
        (
            "reconstruction_weight",
            reconstruction_weight,
            lambda weight: 0 < weight < math.inf,
        ),
        ("kl_weight", kl_weight, lambda weight: 0 <= weight < math.inf),
    ):
        if (
            isinstance(weight, bool)
            or not isinstance(weight, numbers.Real)
            or not is_allowed(float(weight))
        ):
            raise ValueError(
                "Weights are finite numbers, that of the reconstruction "
                "positive and that of the KL not negative. Received: "
                f"{name}={weight!r}. For a schedule call this for each value."
            )
    of_kl = float(kl_weight) / (latent_size if kl == "mean" else 1)
    of_data = float(reconstruction_weight) / (
        data_size if reconstruction == "mean" else 1
    )
    return of_kl / of_data
