"""The earlier name of `tfp_vae.evaluation.calibration`."""

from tfp_vae.evaluation.calibration import (
    BitsPerDimension,
    ProbabilityIntegralTransform,
    bits_per_dimension,
    probability_integral_transform,
)

__all__ = [
    "BitsPerDimension",
    "ProbabilityIntegralTransform",
    "bits_per_dimension",
    "probability_integral_transform",
]
