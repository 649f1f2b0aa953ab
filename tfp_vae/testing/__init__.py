"""Property tests for any distribution.

Needs Hypothesis: `pip install "tfp-vae[testing]"`.
"""

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError(
        "tfp_vae.testing draws parameters with Hypothesis, which is not "
        'installed: pip install "tfp-vae[testing]".'
    ) from error

from tfp_vae.testing.battery import CHECKS, DistributionError, Report
from tfp_vae.testing.check_distribution import (
    check_distribution,
    distribution_checks,
)
from tfp_vae.testing.strategies import instances

__all__ = [
    "CHECKS",
    "DistributionError",
    "Report",
    "check_distribution",
    "distribution_checks",
    "instances",
]
