"""Quantities that compare models: functions of a model and data.

All figures are in nats per example, unless a name says otherwise.
"""

from tfp_vae.evaluation.aggregate_prior import aggregate_prior
from tfp_vae.evaluation.annealing import (
    AnnealedLogLikelihood,
    annealed_importance_sampling,
)
from tfp_vae.evaluation.anomalies import anomaly_score
from tfp_vae.evaluation.bidirectional import (
    BidirectionalBounds,
    bidirectional_bounds,
)
from tfp_vae.evaluation.calibration import (
    BitsPerDimension,
    ProbabilityIntegralTransform,
    bits_per_dimension,
    probability_integral_transform,
)
from tfp_vae.evaluation.importance import (
    MarginalLogLikelihood,
    marginal_log_likelihood,
)
from tfp_vae.evaluation.imputation import impute
from tfp_vae.evaluation.latents import (
    ActiveUnits,
    AggregatePosterior,
    RateDistortion,
    active_units,
    aggregate_posterior,
    coordinate_kl,
    kl_per_dimension,
    rate_distortion,
)
from tfp_vae.evaluation.posterior_predictive import (
    PosteriorPredictive,
    posterior_predictive,
)

__all__ = [
    "ActiveUnits",
    "AggregatePosterior",
    "AnnealedLogLikelihood",
    "BidirectionalBounds",
    "BitsPerDimension",
    "MarginalLogLikelihood",
    "PosteriorPredictive",
    "ProbabilityIntegralTransform",
    "RateDistortion",
    "active_units",
    "aggregate_posterior",
    "aggregate_prior",
    "annealed_importance_sampling",
    "anomaly_score",
    "bidirectional_bounds",
    "bits_per_dimension",
    "coordinate_kl",
    "impute",
    "kl_per_dimension",
    "marginal_log_likelihood",
    "posterior_predictive",
    "probability_integral_transform",
    "rate_distortion",
]
