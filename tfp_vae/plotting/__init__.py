"""Pictures of data and of a model's results. Needs matplotlib."""

from tfp_vae.plotting.anomalies import save_anomalies
from tfp_vae.plotting.image_panels import save_image_panels
from tfp_vae.plotting.latents import (
    interpolation,
    latent_manifold,
    latent_map,
    latent_traversal,
)

__all__ = [
    "interpolation",
    "latent_manifold",
    "latent_map",
    "latent_traversal",
    "save_anomalies",
    "save_image_panels",
]
