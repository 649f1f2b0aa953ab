"""Keras layers that return distributions."""

from tfp_vae.layers.bayesian import (
    BlockwiseInitializer,
    Convolution1DFlipout,
    Convolution1DReparameterization,
    Convolution2DFlipout,
    Convolution2DReparameterization,
    Convolution3DFlipout,
    Convolution3DReparameterization,
    DenseFlipout,
    DenseLocalReparameterization,
    DenseReparameterization,
    DenseVariational,
    VariableLayer,
    VariationalGaussianProcess,
    default_loc_scale_fn,
    default_mean_field_normal_fn,
    default_multivariate_normal_fn,
)
from tfp_vae.layers.distribution_layer import DistributionLayer
from tfp_vae.layers.flows import (
    AffineCoupling,
    AutoregressiveNetwork,
    AutoregressiveTransform,
    FlowTransform,
    InverseAutoregressive,
    InvertibleLinear,
    MaskedAutoregressive,
    NormalizingFlow,
    Permutation,
    SplineCoupling,
)
from tfp_vae.layers.head import Head
from tfp_vae.layers.heads.bounded import (
    IndependentBernoulli,
    IndependentBeta,
    IndependentContinuousBernoulli,
    IndependentVonMises,
)
from tfp_vae.layers.heads.categorical import (
    IndependentCategorical,
    OneHotCategorical,
)
from tfp_vae.layers.heads.composite import Composite
from tfp_vae.layers.heads.counts import (
    IndependentNegativeBinomial,
    IndependentPoisson,
    IndependentZeroInflatedNegativeBinomial,
    IndependentZeroInflatedPoisson,
)
from tfp_vae.layers.heads.discretized import (
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
)
from tfp_vae.layers.heads.distribution_lambda import DistributionLambda
from tfp_vae.layers.heads.independent import (
    IndependentBarron,
    IndependentCauchy,
    IndependentHuber,
    IndependentLaplace,
    IndependentLogistic,
    IndependentNormal,
    IndependentStudentT,
)
from tfp_vae.layers.heads.independent_layer import IndependentLayer
from tfp_vae.layers.heads.low_rank import LowRankMultivariateNormal
from tfp_vae.layers.heads.mixture import (
    CategoricalMixtureOfOneHotCategorical,
    MixtureLogistic,
    MixtureNormal,
    MixtureSameFamily,
)
from tfp_vae.layers.heads.multivariate_normal import (
    MultivariateNormalDiag,
    MultivariateNormalTriL,
)
from tfp_vae.layers.heads.positive import (
    IndependentGamma,
    IndependentLogNormal,
)
from tfp_vae.layers.heads.power_spherical import PowerSpherical
from tfp_vae.layers.heads.relaxed_one_hot import RelaxedOneHotCategorical
from tfp_vae.layers.joint import Joint
from tfp_vae.layers.kl_regularizer import (
    KLDivergenceAddLoss,
    KLDivergenceRegularizer,
)
from tfp_vae.layers.over_samples import OverSamples
from tfp_vae.layers.priors import (
    Mixture,
    MixturePrior,
    TrainableDistribution,
    VampPrior,
)
from tfp_vae.layers.sample import (
    Sample,
    to_tensor,
)
from tfp_vae.layers.self_masking import SelfMasking
from tfp_vae.layers.table_features import TableFeatures

__all__ = [
    "AffineCoupling",
    "AutoregressiveNetwork",
    "AutoregressiveTransform",
    "BlockwiseInitializer",
    "CategoricalMixtureOfOneHotCategorical",
    "Composite",
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
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "DistributionLambda",
    "DistributionLayer",
    "FlowTransform",
    "Head",
    "IndependentBarron",
    "IndependentBernoulli",
    "IndependentBeta",
    "IndependentCategorical",
    "IndependentCauchy",
    "IndependentContinuousBernoulli",
    "IndependentGamma",
    "IndependentHuber",
    "IndependentLaplace",
    "IndependentLayer",
    "IndependentLogNormal",
    "IndependentLogistic",
    "IndependentNegativeBinomial",
    "IndependentNormal",
    "IndependentPoisson",
    "IndependentStudentT",
    "IndependentVonMises",
    "IndependentZeroInflatedNegativeBinomial",
    "IndependentZeroInflatedPoisson",
    "InverseAutoregressive",
    "InvertibleLinear",
    "Joint",
    "KLDivergenceAddLoss",
    "KLDivergenceRegularizer",
    "LowRankMultivariateNormal",
    "MaskedAutoregressive",
    "Mixture",
    "MixtureLogistic",
    "MixtureNormal",
    "MixturePrior",
    "MixtureSameFamily",
    "MultivariateNormalDiag",
    "MultivariateNormalTriL",
    "NormalizingFlow",
    "OneHotCategorical",
    "OverSamples",
    "Permutation",
    "PowerSpherical",
    "RelaxedOneHotCategorical",
    "Sample",
    "SelfMasking",
    "SplineCoupling",
    "TableFeatures",
    "TrainableDistribution",
    "VampPrior",
    "VariableLayer",
    "VariationalGaussianProcess",
    "default_loc_scale_fn",
    "default_mean_field_normal_fn",
    "default_multivariate_normal_fn",
    "to_tensor",
]
