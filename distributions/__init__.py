"""Distributions that TFP lacks, and what all distributions need here."""

from tfp_vae.distributions.huber import Huber
from tfp_vae.distributions.kl import factorized_kl_divergence, kl_divergence

__all__ = ["Huber", "factorized_kl_divergence", "kl_divergence"]
