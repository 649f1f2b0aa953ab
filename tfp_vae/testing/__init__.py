"""Property tests that any distribution can be put through.

Needs Hypothesis: `pip install "tfp-vae[testing]"`.
"""

from tfp_vae.testing.check_distribution import (
    CHECKS,
    DistributionError,
    Report,
    check_distribution,
)
from tfp_vae.testing.strategies import instances

__all__ = [
    "CHECKS",
    "DistributionError",
    "Report",
    "check_distribution",
    "instances",
]
