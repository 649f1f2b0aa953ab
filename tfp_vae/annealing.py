"""The name under which `tfp_vae.evaluation.annealing` was known first."""

from tfp_vae.evaluation.annealing import (
    AnnealedLogLikelihood,
    annealed_importance_sampling,
)

__all__ = ["AnnealedLogLikelihood", "annealed_importance_sampling"]
