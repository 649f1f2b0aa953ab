"""Distributions that TFP lacks, and what all distributions need here."""

# These register divergences.
import tfp_vae.distributions.huber_kl
import tfp_vae.distributions.numeric_kl
import tfp_vae.distributions.relaxed_one_hot  # noqa: F401
from tfp_vae.distributions.asymmetric_laplace import AsymmetricLaplace
from tfp_vae.distributions.barron import Barron
from tfp_vae.distributions.bernoulli import Bernoulli
from tfp_vae.distributions.composite import Composite
from tfp_vae.distributions.discretized import DiscretizedLogistic
from tfp_vae.distributions.factors import factors, log_prob_by_element
from tfp_vae.distributions.gibbs import Gibbs
from tfp_vae.distributions.huber import Huber
from tfp_vae.distributions.hyperbolic_secant import HyperbolicSecant
from tfp_vae.distributions.kl import factorized_kl_divergence, kl_divergence

__all__ = [
    "AsymmetricLaplace",
    "Barron",
    "Bernoulli",
    "Composite",
    "DiscretizedLogistic",
    "Gibbs",
    "Huber",
    "HyperbolicSecant",
    "factorized_kl_divergence",
    "factors",
    "kl_divergence",
    "log_prob_by_element",
]
