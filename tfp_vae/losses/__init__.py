"""From loss to likelihood, and back."""

from tfp_vae.losses.effective_beta import effective_beta
from tfp_vae.losses.likelihood_from_loss import (
    LossLikelihood,
    likelihood_from_loss,
)
from tfp_vae.losses.negative_log_likelihood import NegativeLogLikelihood
from tfp_vae.losses.scaled_kl import scaled_kl

__all__ = [
    "LossLikelihood",
    "NegativeLogLikelihood",
    "effective_beta",
    "likelihood_from_loss",
    "scaled_kl",
]
