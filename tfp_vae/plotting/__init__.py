"""Pictures of data and of a model's results. Needs matplotlib."""

from tfp_vae.plotting.anomalies import save_anomalies
from tfp_vae.plotting.image_panels import save_image_panels

__all__ = ["save_anomalies", "save_image_panels"]
