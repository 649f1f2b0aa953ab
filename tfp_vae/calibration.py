"""The name under which `tfp_vae.evaluation.calibration` was known first."""

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
