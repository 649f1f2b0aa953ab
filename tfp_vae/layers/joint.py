"""Several layers of latents, each by a network of its own."""

import inspect
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.by_sample import BySample
from tfp_vae.distributions.serialization import deserialize, serialize
from tfp_vae.keras_internals import inputs_by_name
from tfp_vae.latents import draw
from tfp_vae.samples import as_one_batch, copies
from tfp_vae.substrate import Tensor, tfd, tfp_seed

__all__ = ["Joint"]

# The name of what the layer itself is given, and arguments that are no parts.
_INPUT = "x"
_NOT_PARTS = ("training", "mask", "encoder", "context")


@keras.saving.register_keras_serializable("tfp_vae")
class Joint(keras.layers.Layer):
    """A joint distribution whose parts are layers: an encoder, or a prior.

    ```none
    p(z) = p(z_1) p(z_2|z_1) p(z_3|...) ...
    ```

    The parts are drawn in their order. A functional model with named inputs
    gets the parts that it names, and `"x"`, which is what this layer is given;
    a subclass gets what it names as arguments of its `call`. Any other layer is
    given the part before it, the first one x. So a dict of plain networks is a
    chain. The networks see one batch, `[B, ...]`, also where there are several
    samples of z for each example.

    Args:
        parts: a dict from names to Keras layers that return distributions. The
            first may be a `tfd.Distribution`, where nothing is given. Their
            names can be arguments of Python functions, and are not "x".
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: a tensor, `[B, ...]`; None for a prior.
        training: whether layers such as Dropout are in training.

    Returns:
        A `tfd.JointDistributionNamed` of these parts.

    Raises:
        TypeError: if a part is neither a layer nor a distribution.
        ValueError: if a name cannot be that of a part.

    Example:
    ```python
    def network(*layers):
        return keras.Sequential([keras.layers.Dense(64, "tanh"), *layers])

    encoder = Joint({                                 # x -> z1 -> z2
        "z1": network(Head(MultivariateNormalDiag(8))),
        "z2": network(Head(MultivariateNormalDiag(2))),
    })
    prior = Joint({                                   # z2 -> z1
        "z2": tfd.MultivariateNormalDiag(keras.ops.zeros(2)),
        "z1": network(Head(MultivariateNormalDiag(8))),
    })
    ```

    Reference:
        Burda, Grosse, Salakhutdinov. Importance weighted autoencoders. ICLR
        2016 (two stochastic layers). https://arxiv.org/abs/1509.00519
    """

    def __init__(self, parts: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(parts, dict) or not parts:
            raise TypeError(
                "The parts of a Joint are a dict from names to layers. "
                f"Received: {parts!r}."
            )
        for i, (name, part) in enumerate(parts.items()):
            if not str(name).isidentifier() or name == _INPUT:
                raise ValueError(
                    "A part of a Joint has a name that can be an argument, and "
                    f'is not "{_INPUT}". Received: {name!r}.'
                )
            is_constant = i == 0 and isinstance(part, tfd.Distribution)
            if not is_constant and not isinstance(part, keras.layers.Layer):
                raise TypeError(
                    "The parts of a Joint are layers that return "
                    "distributions; the first may be a distribution. Received: "
                    f"{name}={part!r}."
                )
        self.parts = dict(parts)

    def _given(self, name: str) -> tuple[tuple[str, ...], bool]:
        """What a part is given, and whether by name."""
        before = list(self.parts)[: list(self.parts).index(name)]
        known = {_INPUT, *before}
        layer = self.parts[name]
        inputs = inputs_by_name(layer)
        names = (
            [
                p
                for p in inspect.signature(layer.call).parameters
                if p not in _NOT_PARTS
            ]
            if inputs is None
            else list(inputs)
        )
        named = tuple(n for n in names if n in known)
        if named and (inputs is None or len(named) == len(names)):
            return named, True
        return (before[-1] if before else _INPUT,), False

    def _make(
        self, name: str, values: dict[str, Any], training: bool | None
    ) -> tfd.Distribution:
        """A part, given tensors `[..., *event]` of which it is a function."""
        layer = self.parts[name]
        if isinstance(layer, tfd.Distribution):
            return layer
        names, is_named = self._given(name)
        options = {}
        if "training" in inspect.signature(layer.call).parameters:
            options["training"] = training
        given = [values[n] for n in names]
        if inputs_by_name(layer) is not None or not is_named:
            alone = len(given) == 1
            return layer(given[0] if alone else given, **options)
        return layer(**dict(zip(names, given, strict=True)), **options)

    def call(
        self, inputs: Tensor | None = None, training: bool | None = None
    ) -> tfd.Distribution:
        ranks: dict[str, int] = {}

        def part(name: str, parents: tuple[str, ...]) -> Any:
            def conditional(*args: Tensor, **z: Tensor) -> tfd.Distribution:
                z |= dict(zip(parents, args, strict=False))
                return kept(name, self._flat(name, z, ranks, inputs, training))

            # TFP reads the parents off the signature.
            conditional.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
                [
                    inspect.Parameter(
                        p, inspect.Parameter.POSITIONAL_OR_KEYWORD
                    )
                    for p in parents
                ]
            )
            return conditional

        def kept(name: str, made: tfd.Distribution) -> tfd.Distribution:
            ranks[name] = len(made.event_shape)
            return made

        found = {}
        for name, layer in self.parts.items():
            parents: tuple[str, ...] = ()
            if not isinstance(layer, tfd.Distribution):
                parents = tuple(n for n in self._given(name)[0] if n != _INPUT)
            if parents:
                found[name] = part(name, parents)
            else:
                root = self._make(name, {_INPUT: inputs}, training)
                found[name] = kept(name, root)
        return tfd.JointDistributionNamed(found)

    def _flat(
        self,
        name: str,
        z: dict[str, Tensor],
        ranks: dict[str, int],
        inputs: Tensor | None,
        training: bool | None,
    ) -> tfd.Distribution:
        """A part of batch shape `[S, B]`, by its network in one batch."""
        first = next(iter(z))
        lead = len(z[first].shape) - ranks[first]
        if lead == 1:
            return self._make(name, {**z, _INPUT: inputs}, training)
        values = as_one_batch(z) | {_INPUT: inputs}
        if inputs is not None and _INPUT in self._given(name)[0]:
            values[_INPUT] = copies(inputs, z[first].shape[0])
        made = self._make(name, values, training)
        return BySample(made, z[first].shape[0])

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights, by a draw.

        Args:
            input_shape: of the inputs, or None.
        """
        self.built = True
        zeros = None
        if input_shape is not None and None not in tuple(input_shape)[1:]:
            zeros = ops.zeros((1, *input_shape[1:]), self.compute_dtype)
        draw(self.call(zeros), () if zeros is not None else (1,), tfp_seed(0))

    def compute_output_spec(self, inputs: Any, **_: Any) -> keras.KerasTensor:
        # What stands for the distribution in a functional model.
        return keras.KerasTensor((inputs.shape[0], None), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "parts": [
                [
                    name,
                    {"distribution": serialize(part)}
                    if isinstance(part, tfd.Distribution)
                    else keras.saving.serialize_keras_object(part),
                ]
                for name, part in self.parts.items()
            ],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Joint":
        config = dict(config)
        parts = {
            name: deserialize(part["distribution"])
            if "distribution" in part
            else keras.saving.deserialize_keras_object(part)
            for name, part in config.pop("parts")
        }
        return cls(parts, **config)
