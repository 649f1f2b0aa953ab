"""How a latent-variable model is saved and loaded."""

import warnings
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.serialization import deserialize, serialize
from tfp_vae.models.conditions import Entry

__all__ = ["Saved"]

# The name under which the state of the training noise is saved.
_NOISE = "seed_generator_state"

# Parts that are layers, or None.
_PARTS = ("encoder", "decoder", "objective", "missing_model")


class Saved:
    """The part of `LatentVariableModel` for its config and its state."""

    encoder: keras.layers.Layer
    decoder: keras.layers.Layer
    prior: Any
    objective: keras.layers.Layer
    seed: int | None
    seed_generator: keras.random.SeedGenerator
    missing_values: float | None
    missing_model: keras.layers.Layer | None
    entries: dict[str, Entry]

    def get_build_config(self) -> dict[str, Any]:
        """What the model was built for: a shape, or shapes and dtypes.

        Returns:
            `input_shape`; with conditions, by name and with `dtypes`.
        """
        if len(self.entries) < 2:
            return super().get_build_config()  # type: ignore[misc]
        return {
            "input_shape": {n: e.shape for n, e in self.entries.items()},
            "dtypes": {n: e.dtype for n, e in self.entries.items()},
        }

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds a loaded model.

        Args:
            config: what `get_build_config` gave.
        """
        config = dict(config)
        dtypes = config.pop("dtypes", None)
        if dtypes is not None:
            self.entries = {
                name: Entry(config["input_shape"][name], dtype)
                for name, dtype in dtypes.items()
            }
        super().build_from_config(config)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        prior = self.prior
        if isinstance(prior, keras.layers.Layer):
            prior = keras.saving.serialize_keras_object(prior)
            # Of a model that is called with None, Keras cannot build from it.
            shape = (prior.get("build_config") or {}).get("input_shape", ())
            if shape is None:
                del prior["build_config"]
        elif prior is not None:
            prior = {"distribution": serialize(prior)}
        return {
            **super().get_config(),  # type: ignore[misc]
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "prior": prior,
            "objective": keras.saving.serialize_keras_object(self.objective),
            "seed": self.seed,
            # Only if they are given: a subclass need not know them.
            **(
                {}
                if self.missing_values is None
                else {"missing_values": self.missing_values}
            ),
            **(
                {}
                if self.missing_model is None
                else {
                    "missing_model": keras.saving.serialize_keras_object(
                        self.missing_model
                    )
                }
            ),
        }

    def save_own_variables(self, store: Any) -> None:
        """Also saves the state of the noise, which Keras leaves out.

        Without it a resumed run would see the noise of its first epochs again.
        """
        super().save_own_variables(store)  # type: ignore[misc]
        store[_NOISE] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        own = {name: store[name] for name in store.keys() if name != _NOISE}  # noqa: SIM118
        super().load_own_variables(own)  # type: ignore[misc]
        self.seed_generator.state.assign(store[_NOISE][...])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        prior = config.pop("prior", None)
        if prior is not None and "distribution" in prior:
            prior = deserialize(prior["distribution"])
        elif prior is not None:
            prior = keras.saving.deserialize_keras_object(prior)
        parts: dict[str, Any] = {}
        with warnings.catch_warnings():
            # Keras cannot build a part with several arguments: this model does.
            warnings.filterwarnings("ignore", ".*cannot be built automatically")
            for name in _PARTS:
                if name in config:
                    parts[name] = keras.saving.deserialize_keras_object(
                        config.pop(name)
                    )
        if prior is not None:
            parts["prior"] = prior
        return cls(**parts, **config)
