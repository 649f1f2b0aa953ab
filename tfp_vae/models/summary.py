"""What `predict` says of a batch."""

from typing import Any

from tfp_vae.checks import in_dtype_of, static_shape
from tfp_vae.distributions.observed import complete
from tfp_vae.entries import x_of
from tfp_vae.evaluation.model import likelihood_of, prior_of
from tfp_vae.latents import draw
from tfp_vae.layers.sample import mean_or_mode, stddev_or_estimate
from tfp_vae.objectives.divergence import divergence
from tfp_vae.substrate import Tensor, tfp_seed

__all__ = ["summary"]

# Samples behind the `kl`, where no closed form is known.
_KL_SAMPLES = 16


def summary(model: Any, data: Any, seed: int) -> dict[str, Tensor]:
    """What the model makes of examples: see `VAE.predict`.

    Args:
        model: a `LatentVariableModel`.
        data: `[B, *event]`, or a dict of it and of conditions.
        seed: of a KL by Monte Carlo.

    Returns:
        Tensors by name.
    """
    x = x_of(data)
    posterior = model.encode(data)
    z_mean = mean_or_mode(posterior)
    likelihood = likelihood_of(model, z_mean, data, seed=tfp_seed(0))
    prior = prior_of(model, posterior, data)
    kl = divergence(
        posterior,
        prior,
        lambda: draw(posterior, (_KL_SAMPLES,), tfp_seed(seed), keep=True),
    )
    found = {
        "mean": mean_or_mode(complete(likelihood)),
        "z_mean": z_mean,
        "z_stddev": stddev_or_estimate(posterior),
        "kl": kl,
    }
    if static_shape(likelihood.event_shape) == tuple(x.shape)[1:]:
        found["log_likelihood"] = likelihood.log_prob(
            in_dtype_of(likelihood, x)
        )
        found["elbo"] = found["log_likelihood"] - kl
    return found
