"""Variational autoencoders in Keras 3 with any TFP distribution as decoder."""

from tfp_vae import (
    annealing,
    calibration,
    callbacks,
    distributions,
    evaluation,
    layers,
    losses,
    models,
    objectives,
    tables,
)
from tfp_vae._version import __version__
from tfp_vae.models import (
    VAE,
    Model,
    Sequential,
)
from tfp_vae.objectives import ELBO

__all__ = [
    "ELBO",
    "VAE",
    "Model",
    "Sequential",
    "__version__",
    "annealing",
    "calibration",
    "callbacks",
    "distributions",
    "evaluation",
    "layers",
    "losses",
    "models",
    "objectives",
    "tables",
]
