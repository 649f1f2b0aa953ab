"""Normalizing flows: layers that return a `tfb.Bijector`, and their use."""

from tfp_vae.layers.flows.autoregressive import (
    InverseAutoregressive,
    MaskedAutoregressive,
)
from tfp_vae.layers.flows.autoregressive_network import (
    AutoregressiveNetwork,
    AutoregressiveTransform,
)
from tfp_vae.layers.flows.coupling import AffineCoupling, SplineCoupling
from tfp_vae.layers.flows.linear import InvertibleLinear, Permutation
from tfp_vae.layers.flows.normalizing_flow import NormalizingFlow
from tfp_vae.layers.flows.transform import FlowTransform

__all__ = [
    "AffineCoupling",
    "AutoregressiveNetwork",
    "AutoregressiveTransform",
    "FlowTransform",
    "InverseAutoregressive",
    "InvertibleLinear",
    "MaskedAutoregressive",
    "NormalizingFlow",
    "Permutation",
    "SplineCoupling",
]
