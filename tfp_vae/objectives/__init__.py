"""What a variational autoencoder is trained to maximise."""

from tfp_vae.objectives.elbo import ELBO, ObjectiveTerms, standard_normal
from tfp_vae.objectives.schedules import Cyclical, LinearWarmup

__all__ = [
    "ELBO",
    "Cyclical",
    "LinearWarmup",
    "ObjectiveTerms",
    "standard_normal",
]
