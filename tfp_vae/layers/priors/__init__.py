"""Layers that learn a prior."""

from tfp_vae.layers.priors.mixture import Mixture
from tfp_vae.layers.priors.mixture_prior import MixturePrior
from tfp_vae.layers.priors.trainable_distribution import TrainableDistribution
from tfp_vae.layers.priors.vamp_prior import VampPrior

__all__ = ["Mixture", "MixturePrior", "TrainableDistribution", "VampPrior"]
