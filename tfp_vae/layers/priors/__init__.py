"""Layers that learn a prior."""

from tfp_vae.layers.priors.mixture_prior import MixturePrior
from tfp_vae.layers.priors.vamp_prior import VampPrior

__all__ = ["MixturePrior", "VampPrior"]
