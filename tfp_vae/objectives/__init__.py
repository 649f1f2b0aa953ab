"""What a variational autoencoder is trained to maximise."""

from tfp_vae.objectives.batch import Batch, ObjectiveTerms
from tfp_vae.objectives.beta_tcvae import BetaTCVAE
from tfp_vae.objectives.dip_vae import DIPVAE
from tfp_vae.objectives.elbo import ELBO
from tfp_vae.objectives.info_vae import (
    MMD,
    InfoVAE,
    maximum_mean_discrepancy,
)
from tfp_vae.objectives.iwae import IWAE
from tfp_vae.objectives.objective import (
    Objective,
    default_prior,
    standard_normal,
)
from tfp_vae.objectives.renyi_bound import RenyiBound
from tfp_vae.objectives.schedules import (
    Cyclical,
    LinearWarmup,
)

#: The earlier name of `Batch`.
Step = Batch

__all__ = [
    "DIPVAE",
    "ELBO",
    "IWAE",
    "MMD",
    "Batch",
    "BetaTCVAE",
    "Cyclical",
    "InfoVAE",
    "LinearWarmup",
    "Objective",
    "ObjectiveTerms",
    "RenyiBound",
    "Step",
    "default_prior",
    "maximum_mean_discrepancy",
    "standard_normal",
]
