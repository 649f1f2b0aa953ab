"""The networks of the training benchmark, as data: each rival builds its own.

A part is the name of a Keras layer with its arguments. Keras 3 and tf_keras
have the layers; for JAX they are a few lines here.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

Part = tuple[str, dict[str, Any]]


class Network(NamedTuple):
    """Hidden layers of an encoder, and a decoder to the logits of Bernoulli."""

    shape: tuple[int, ...]
    latent: int
    encoder: tuple[Part, ...]
    decoder: tuple[Part, ...]
    examples: int


def _dense(units: int, activation: str | None = "relu") -> Part:
    return "Dense", {"units": units, "activation": activation}


def _conv(
    name: str,
    filters: int,
    strides: int,
    padding: str,
    activation: str | None = "relu",
) -> Part:
    return name, {
        "filters": filters,
        "kernel_size": 3,
        "strides": strides,
        "padding": padding,
        "activation": activation,
    }


NETWORKS = {
    "mlp": Network(
        (784,),
        20,
        (_dense(400),),
        (_dense(400), _dense(784, None)),
        60_000,
    ),
    # The TensorFlow tutorial "Convolutional Variational Autoencoder".
    "conv": Network(
        (28, 28, 1),
        2,
        (
            _conv("Conv2D", 32, 2, "valid"),
            _conv("Conv2D", 64, 2, "valid"),
            ("Flatten", {}),
        ),
        (
            _dense(7 * 7 * 32),
            ("Reshape", {"target_shape": (7, 7, 32)}),
            _conv("Conv2DTranspose", 64, 2, "same"),
            _conv("Conv2DTranspose", 32, 2, "same"),
            _conv("Conv2DTranspose", 1, 1, "same", None),
        ),
        10_000,
    ),
}


def bare(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same without biases and activations: only its products."""
    return tuple(
        (name, config | {"activation": None, "use_bias": False})
        if "activation" in config
        else (name, config)
        for name, config in parts
    )


def encoder_parts(network: Network) -> tuple[Part, ...]:
    """The encoder down to means and log variances."""
    return (*network.encoder, _dense(2 * network.latent, None))


def keras_layers(module: Any, parts: tuple[Part, ...]) -> list[Any]:
    """Layers of `keras.layers` or of `tf_keras.layers`."""
    return [getattr(module, name)(**config) for name, config in parts]


def jax_network(
    parts: tuple[Part, ...], shape: tuple[int, ...], key: Any
) -> tuple[list[Any], Callable]:
    """Parameters, and a function from them and a batch to the output."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    numbers = ("NHWC", "HWIO", "NHWC")

    def apply(params: list[Any], x: Any) -> Any:
        for (name, config), param in zip(parts, params, strict=True):
            x = forward(name, config, param, x)
        return x

    def forward(name: str, config: dict[str, Any], param: Any, x: Any) -> Any:
        if name == "Flatten":
            return x.reshape(len(x), -1)
        if name == "Reshape":
            return x.reshape(len(x), *config["target_shape"])
        if name == "Dense":
            x = x @ param["kernel"]
        else:
            convolve = {
                "Conv2D": lax.conv_general_dilated,
                "Conv2DTranspose": lax.conv_transpose,
            }[name]
            x = convolve(
                x,
                param["kernel"],
                (config["strides"],) * 2,
                config["padding"].upper(),
                dimension_numbers=numbers,
            )
        if "bias" in param:
            x = x + param["bias"]
        return jnp.maximum(x, 0) if config["activation"] == "relu" else x

    params: list[Any] = []
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    for name, config in parts:
        param = {}
        if "activation" in config:
            key, own = jax.random.split(key)
            size = config.get("units") or config["filters"]
            window = (config["kernel_size"],) * 2 if "filters" in config else ()
            kernel = (*window, x.shape[-1], size)
            deviation = math.sqrt(2 / (math.prod(kernel[:-1]) + size))
            param["kernel"] = deviation * jax.random.normal(own, kernel)
            if config.get("use_bias", True):
                param["bias"] = jnp.zeros(size)
        x = jax.eval_shape(
            lambda p, v, n=name, c=config: forward(n, c, p, v), param, x
        )
        params.append(param)
    return params, apply
