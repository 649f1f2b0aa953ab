"""Keras models."""

from tfp_vae.models.guard import NonFiniteLossError
from tfp_vae.models.importance import MarginalLogLikelihood
from tfp_vae.models.probabilistic import Model, Sequential
from tfp_vae.models.vae import VAE

__all__ = [
    "VAE",
    "MarginalLogLikelihood",
    "Model",
    "NonFiniteLossError",
    "Sequential",
]
