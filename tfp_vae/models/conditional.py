"""How a model learns the entries of its data."""

from typing import Any

import keras
from keras import ops

from tfp_vae.latents import by_part, draw, is_joint
from tfp_vae.models.condition_rows import as_rows
from tfp_vae.models.conditions import Entry, Part, check_used, known_entries
from tfp_vae.substrate import Tensor, tfd, tfp_seed

__all__ = ["Conditional"]


class Conditional:
    """The part of `LatentVariableModel` that keeps shapes and dtypes."""

    encoder: keras.layers.Layer
    decoder: keras.layers.Layer
    prior: Any
    built: bool
    compute_dtype: str
    build: Any
    entries: dict[str, Entry]

    def _may_use_any_entry(self) -> bool:
        """Whether a subclass has its own methods that see the data."""
        raise NotImplementedError

    def _parts(self, conditions: dict[str, Any]) -> list[Part]:
        """Encoder, decoder and prior, those that are layers."""
        parts = [
            Part(self.encoder, "encoder", "x", conditions),
            Part(self.decoder, "decoder", "z", conditions),
        ]
        if isinstance(self.prior, keras.layers.Layer):
            parts.append(Part(self.prior, "prior", None, conditions))
        return parts

    def _rows(
        self, conditions: dict[str, Any], rows: Any, check: bool = True
    ) -> dict[str, Tensor]:
        """Conditions as tensors of `rows` rows, if each of them is used."""
        if not conditions:
            return {}
        self._check_used(self._parts(conditions), conditions)
        return {
            name: as_rows(name, value, rows, self.entries.get(name), check)
            for name, value in conditions.items()
        }

    def _check_used(
        self, parts: list[Part], conditions: dict[str, Any]
    ) -> None:
        if not self._may_use_any_entry():
            check_used(parts, conditions)

    def _check_generative(self, conditions: dict[str, Any]) -> None:
        """Refuses conditions that neither decoder nor prior asks for."""
        self._check_used(self._parts(conditions)[1:], conditions)

    def expected_entries(self) -> dict[str, Entry]:
        """Shapes and dtypes of the entries that are known.

        Returns:
            The entries for which the model was built, and inputs of its parts.
        """
        found: dict[str, Entry] = {}
        for part in self._parts({}):
            found |= part.expected
        return found | self.entries

    def _latent_names(self) -> tuple[str, ...]:
        """The parts of z, if the encoder can tell without data."""
        encoder, decoder = self._parts({})[:2]
        if not decoder.needed - encoder.needed - {"z"}:
            return ()  # no name that could be that of a part
        if encoder.needed - encoder.expected.keys():
            return ()
        zeros = {n: e.zeros() for n, e in encoder.expected.items()}
        posterior = encoder(zeros)
        if not is_joint(posterior):
            return ()
        return tuple(by_part(draw(posterior, seed=tfp_seed(0))))

    def _build_if_parts_are_built(self) -> None:
        if self.built or not (self.encoder.built and self.decoder.built):
            return
        entries = known_entries(self._parts({}), self._latent_names())
        if entries is not None:
            self.entries = entries
            shapes = {name: entry.shape for name, entry in entries.items()}
            try:
                self.build(shapes if len(shapes) > 1 else shapes["x"])
            except Exception:
                # Methods that a subclass overrides may use entries that no part
                # names: the first data then build the model.
                if not self._may_use_any_entry():
                    raise
                self.built = False

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.built and isinstance(x, dict):
            self.entries = {name: Entry.of(value) for name, value in x.items()}
        return super().__call__(x, *args, **kwargs)  # type: ignore[misc]

    def _zeros(self, shape: Any) -> Any:
        """An example of zeros, with its conditions."""
        x = shape["x"] if isinstance(shape, dict) else shape
        x = ops.zeros((1, *x[1:]), dtype=self.compute_dtype)
        if not isinstance(shape, dict):
            return x
        return {n: e.zeros() for n, e in self.entries.items()} | {"x": x}

    def example_posterior(self) -> tfd.Distribution:
        """The posterior of one example of zeros.

        Returns:
            A distribution of batch shape `[1]`: for the shape and the dtype of
            the latent space, which a prior takes from it.
        """
        model: Any = self
        return model.encode(
            self._zeros(model.get_build_config()["input_shape"])
        )
