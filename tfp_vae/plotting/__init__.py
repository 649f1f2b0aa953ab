"""Pictures of what a model makes of data. Needs matplotlib."""

from tfp_vae.plotting.image_panels import save_image_panels

__all__ = ["save_image_panels"]
