"""Fast `fit` for any Keras model: it knows no distribution."""

from tfp_vae.training.fast_fit import FastFit
from tfp_vae.training.switches import Switches

__all__ = ["FastFit", "Switches"]
