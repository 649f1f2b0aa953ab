"""What a variational autoencoder is trained to maximise."""

from tfp_vae.objectives.elbo import ELBO, ObjectiveTerms, standard_normal

__all__ = ["ELBO", "ObjectiveTerms", "standard_normal"]
