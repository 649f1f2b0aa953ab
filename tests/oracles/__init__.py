"""The exact values of each family, by mpmath, only from the definition.

For the tests and for `benchmarks/accuracy.py`: nothing here imports the code
under test. The precision is that of `mpmath.mp` when a density is made.
"""

from oracles.density import Exact, Symmetric, number, standard
from oracles.divergence import exact_kl
from oracles.families import (
    ExactAsymmetricLaplace,
    ExactBarron,
    ExactHuber,
    ExactHyperbolicSecant,
)
from oracles.huber import huber_energy, huber_log_z

__all__ = [
    "Exact",
    "ExactAsymmetricLaplace",
    "ExactBarron",
    "ExactHuber",
    "ExactHyperbolicSecant",
    "Symmetric",
    "exact_kl",
    "huber_energy",
    "huber_log_z",
    "number",
    "standard",
]
