"""Keras models."""

from tfp_vae.models.guard import NonFiniteLossError
from tfp_vae.models.importance import MarginalLogLikelihood
from tfp_vae.models.probabilistic import Functional, Model, Sequential
from tfp_vae.models.vae import VAE

__all__ = [
    "VAE",
    "Functional",
    "MarginalLogLikelihood",
    "Model",
    "NonFiniteLossError",
    "Sequential",
]
