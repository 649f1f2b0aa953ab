"""Keras layers that return distributions."""

from tfp_vae.layers.distribution_lambda import DistributionLambda
from tfp_vae.layers.distribution_layer import DistributionLayer
from tfp_vae.layers.independent import (
    IndependentBernoulli,
    IndependentHuber,
    IndependentLaplace,
    IndependentNormal,
)
from tfp_vae.layers.independent_layer import IndependentLayer
from tfp_vae.layers.multivariate_normal import (
    MultivariateNormalDiag,
    MultivariateNormalTriL,
)
from tfp_vae.layers.sample import Sample

__all__ = [
    "DistributionLambda",
    "DistributionLayer",
    "IndependentBernoulli",
    "IndependentHuber",
    "IndependentLaplace",
    "IndependentLayer",
    "IndependentNormal",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "Sample",
]
