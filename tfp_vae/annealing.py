"""The earlier name of `tfp_vae.evaluation.annealing`."""

from tfp_vae.evaluation.annealing import (
    AnnealedLogLikelihood,
    annealed_importance_sampling,
)

__all__ = ["AnnealedLogLikelihood", "annealed_importance_sampling"]
