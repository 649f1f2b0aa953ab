"""Keras models."""

from tfp_vae.evaluation.importance import MarginalLogLikelihood
from tfp_vae.models.latent_variable_model import LatentVariableModel
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
    "LatentVariableModel",
    "MarginalLogLikelihood",
    "Model",
    "NonFiniteLossError",
    "Sequential",
]
