"""Layers with uncertain weights, and what makes their distributions."""

from tfp_vae.layers.bayesian.convolution import (
    Convolution1DFlipout,
    Convolution1DReparameterization,
    Convolution2DFlipout,
    Convolution2DReparameterization,
    Convolution3DFlipout,
    Convolution3DReparameterization,
)
from tfp_vae.layers.bayesian.dense import (
    DenseFlipout,
    DenseLocalReparameterization,
    DenseReparameterization,
)
from tfp_vae.layers.bayesian.dense_variational import DenseVariational
from tfp_vae.layers.bayesian.gaussian_process import (
    VariationalGaussianProcess,
)
from tfp_vae.layers.bayesian.surrogates import (
    default_loc_scale_fn,
    default_mean_field_normal_fn,
    default_multivariate_normal_fn,
)
from tfp_vae.layers.bayesian.variable_layer import (
    BlockwiseInitializer,
    VariableLayer,
)

__all__ = [
    "BlockwiseInitializer",
    "Convolution1DFlipout",
    "Convolution1DReparameterization",
    "Convolution2DFlipout",
    "Convolution2DReparameterization",
    "Convolution3DFlipout",
    "Convolution3DReparameterization",
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
    "DenseVariational",
    "VariableLayer",
    "VariationalGaussianProcess",
    "default_loc_scale_fn",
    "default_mean_field_normal_fn",
    "default_multivariate_normal_fn",
]
