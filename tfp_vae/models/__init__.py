"""Keras models."""

from tfp_vae.evaluation.importance import MarginalLogLikelihood
from tfp_vae.models.nonfinite_guard import NonFiniteLossError
from tfp_vae.models.probabilistic import (
    Functional,
    Model,
    Sequential,
)
from tfp_vae.models.vae import VAE

__all__ = [
    "VAE",
    "Functional",
    "MarginalLogLikelihood",
    "Model",
    "NonFiniteLossError",
    "Sequential",
]
