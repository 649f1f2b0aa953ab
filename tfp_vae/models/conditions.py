"""Which entries of the data each part of a model asks for.

A functional Keras model asks by the names of its inputs, a subclass by the
arguments of its `call`. A part with one input gets only x, or z.
"""

import inspect
import re
import warnings
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import static_shape
from tfp_vae.keras_internals import inputs_by_name
from tfp_vae.latents import ONLY, by_part
from tfp_vae.substrate import Tensor

__all__ = [
    "Entry",
    "Part",
    "check_used",
    "fits_entry",
    "known_entries",
]

# The names that Keras gives to inputs without a name.
_NO_NAME = re.compile(r"keras_tensor(_\d+)?|input(_layer)?(_\d+)?")

# Arguments of `call` that are not entries.
_NOT_ENTRIES = ("training", "mask", "encoder")

# Names of the first argument of a prior without conditions.
_NOTHING = re.compile(r"_.*|inputs?|x|z|none|unused")


class Entry:
    """Shape and dtype of an entry, as a model was built for it."""

    def __init__(self, shape: Iterable[int | None], dtype: str) -> None:
        self.shape = (None, *list(shape)[1:])
        self.dtype = dtype

    @classmethod
    def of(cls, value: Any) -> "Entry":
        """The entry of an array or a tensor."""
        dtype = keras.backend.standardize_dtype(value.dtype)
        return cls(tuple(value.shape), dtype)

    def zeros(self) -> Tensor:
        """One row."""
        return ops.zeros(
            (1, *(size or 1 for size in self.shape[1:])), self.dtype
        )


class Part:
    """Encoder, decoder or prior, and the entries it is called with.

    Attributes:
        required: names of the entries that it must have.
        optional: names of arguments that have a default.
        takes_all: whether it takes all conditions, as `**kwargs`.
        expected: shape and dtype of the inputs of a functional model, by name.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        role: str,
        own: str | None,
        conditions: Iterable[str] = (),
        z: Any = None,
    ) -> None:
        """Finds out what a layer asks for.

        Args:
            layer: the part.
            role: "encoder", "decoder" or "prior".
            own: what it is a function of beside conditions, "x", "z" or None.
            conditions: names of those that are given.
            z: what a decoder is given, where it has several parts: these it may
                ask for by their names.
        """
        self._latents = () if z is None else tuple(by_part(z))
        self._in_order = isinstance(z, tuple)
        self.layer = layer
        self.role = role
        self._own = own
        self._conditions = tuple(conditions)
        self.optional: tuple[str, ...] = ()
        self.takes_all = False
        self.expected: dict[str, Entry] = {}
        self._first: str | None = own
        inputs = inputs_by_name(layer)
        self._is_functional = inputs is not None
        if inputs is None:
            self._read_signature()
            return
        names = self._latents_of(inputs) or [
            self._known(name, inputs) for name in inputs
        ]
        self.required = tuple(names)
        self.expected = {
            name: Entry(tensor.shape, tensor.dtype)
            for name, tensor in zip(names, inputs.values(), strict=True)
        }
        self._is_dict = inputs.is_dict
        self._keys = tuple(inputs)

    def _latents_of(self, inputs: dict[str, Any]) -> list[str]:
        """What inputs stand for where z has several parts."""
        if not self._latents or self._latents == (ONLY,):
            return []
        names = list(inputs)
        if self._in_order:
            # The parts of a tuple have no names: they come in its order.
            order = iter(self._latents)
            return [
                n if n in self._conditions else next(order, n) for n in names
            ]
        unknown = [n for n in names if _NO_NAME.fullmatch(n)]
        if unknown:
            raise ValueError(
                "A decoder names the parts of z that it takes: "
                f'keras.Input(..., name="{self._latents[0]}"). Received: an '
                "input without a name, and z of the parts "
                f"{', '.join(self._latents)}."
            )
        return names

    def _known(self, name: str, inputs: dict[str, Any]) -> str:
        """The entry for an input of a functional model."""
        if len(inputs) == 1:
            if self._own is not None:
                return self._own
            if name not in self._conditions and len(self._conditions) == 1:
                return self._conditions[0]
        unnamed = [n for n in inputs if _NO_NAME.fullmatch(n)]
        if self._own is not None and unnamed == [name]:
            return name if self._own in inputs else self._own
        return name

    def _read_signature(self) -> None:
        """Reads entries from `call`; the first argument goes by position."""
        self.required = () if self._own is None else (self._own,)
        if isinstance(self.layer, keras.Sequential):
            # Not built: it has one input, whose name is not known yet.
            if self._own is None and len(self._conditions) == 1:
                self._first = self._conditions[0]
            return
        named = []
        for p in inspect.signature(self.layer.call).parameters.values():
            self.takes_all |= p.kind is p.VAR_KEYWORD
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                named.append(p)
        named = [p for p in named if p.name not in _NOT_ENTRIES]
        own = self._own
        if named and named[0].name in self._latents:
            self._first = own = None
            self.required = ()
        elif own is None:
            if named and not self._is_nothing(named[0]):
                self._first = named[0].name
        elif any(p.name == own for p in named[1:]):
            self._first = None  # by its name, at any position
            named = [p for p in named if p.name != own]
        if self._first is not None or self._own is None:
            named = named[1:]
        self.required += tuple(p.name for p in named if p.default is p.empty)
        self.optional = tuple(p.name for p in named if p.default is not p.empty)

    def _is_nothing(self, parameter: inspect.Parameter) -> bool:
        """Whether the first argument of a prior is not a condition."""
        if parameter.name in self._conditions:
            return False
        has_default = parameter.default is not parameter.empty
        return has_default or bool(_NOTHING.fullmatch(parameter.name))

    @property
    def needed(self) -> set[str]:
        """Names of the entries that it must have."""
        return {n for n in (self._first, *self.required) if n is not None}

    def asks_for(self, name: str) -> bool:
        """Whether an entry would be used.

        Args:
            name: of the entry.

        Returns:
            A bool.
        """
        return (
            self.takes_all
            or name == self._first
            or name in self.required
            or name in self.optional
        )

    def __call__(self, entries: dict[str, Any], **options: Any) -> Any:
        """Calls the part with what it asks for.

        Args:
            entries: x or z, and conditions, by name; a function instead of a
                tensor is called to make it.
            **options: `training` and the like, passed if its `call` has them.

        Returns:
            What the part returns.

        Raises:
            ValueError: if an entry is missing or has the wrong shape, or
                entries differ in their number of rows.
            TypeError: if an entry of floats is given for one of integers.
        """
        needed = (self._first, *self.required)
        for name in needed:
            if name is not None and name not in entries:
                self._refuse_lack_of(name, entries)
        names = dict.fromkeys([n for n in needed if n is not None])
        if not self._is_functional:
            names |= dict.fromkeys(n for n in self.optional if n in entries)
            if self.takes_all:
                names |= dict.fromkeys(self._conditions)
        given = {
            name: entries[name]() if callable(entries[name]) else entries[name]
            for name in names
        }
        if len(given) > 1 or (self.expected and self._own not in given):
            self._check(given)
        signature = inspect.signature(self.layer.call).parameters
        options = {n: v for n, v in options.items() if n in signature}
        if not self._is_functional:
            if self._first is None and self._own is not None:
                return self.layer(**given, **options)
            first = given.pop(self._first) if self._first else None
            with warnings.catch_warnings():
                # Networks between the parts of joint latents are called, and
                # so built, where z is drawn.
                warnings.filterwarnings("ignore", ".*looks like it has unbuilt")
                return self.layer(first, **given, **options)
        if len(self.required) == 1 and not self._is_dict:
            return self.layer(given[self.required[0]], **options)
        # All are tensors, as Keras wants them.
        inputs: Any = [
            ops.convert_to_tensor(given[name]) for name in self.required
        ]
        if self._is_dict:
            inputs = dict(zip(self._keys, inputs, strict=True))
        return self.layer(inputs, **options)

    def _refuse_lack_of(self, name: str, entries: dict[str, Any]) -> None:
        given = sorted(entries.keys() - {"observed", "z", "encoder", ONLY})
        how = {
            "encoder": f'encode({{"x": x, "{name}": ...}})',
            "decoder": f"decode(z, {name}=...) or sample(n, {name}=...)",
            "prior": f"sample(n, {name}=...)",
        }[self.role]
        raise ValueError(
            f"The {self.role} asks for the entry {name!r}, which the data "
            f"lack. Received: the entries {given}. Give data such as "
            f'{{"x": x, "{name}": ...}}, or {how}.'
        )

    def _check(self, given: dict[str, Any]) -> None:
        """Checks shapes and dtypes, which are known while tracing."""
        rows: dict[str, int] = {}
        for name, value in given.items():
            if keras.tree.is_nested(value):
                continue  # z of several parts
            shape = static_shape(np.shape(value))
            if shape and shape[0] is not None:
                rows[name] = shape[0]
            if name not in self.expected or shape is None:
                continue
            expected = self.expected[name]
            if not fits_entry(shape, expected.shape):
                raise ValueError(
                    f"The {self.role} takes the entry {name!r} in the shape "
                    f"{expected.shape}, without the first dimension for each "
                    f"example. Received: {shape}. Reshape the entry, or change "
                    f"the input of the {self.role}."
                )
            dtype = keras.backend.standardize_dtype(value.dtype)
            if "float" in dtype and "float" not in expected.dtype:
                raise TypeError(
                    f"The {self.role} takes the entry {name!r} as "
                    f"{expected.dtype}: fractions would be lost. Received: "
                    f'{dtype}. Give {name}.astype("{expected.dtype}").'
                )
        if len(set(rows.values())) > 1:
            raise ValueError(
                "All entries have one row for each example. Received: "
                + ", ".join(f"{n} of {count} rows" for n, count in rows.items())
                + "."
            )


def fits_entry(
    shape: tuple[int | None, ...], expected: tuple[int | None, ...]
) -> bool:
    """Whether Keras accepts a batch of one shape for an input of another.

    It adds and drops a last dimension of 1.

    Args:
        shape: of the batch.
        expected: of the input.

    Returns:
        A bool.
    """
    if len(shape) == len(expected) - 1 and expected[-1] == 1:
        shape = (*shape, 1)
    if len(shape) == len(expected) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    return len(shape) == len(expected) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(shape[1:], expected[1:], strict=True)
    )


def check_used(parts: list[Part], conditions: Iterable[str]) -> None:
    """Refuses a condition that no part asks for.

    Args:
        parts: those of the model.
        conditions: names.

    Raises:
        ValueError: if there is one, with its name.
    """
    unused = [
        name
        for name in conditions
        if not any(part.asks_for(name) for part in parts)
    ]
    if unused:
        raise ValueError(
            f"Each entry is used by {' or '.join(p.role for p in parts)}. "
            f"Received: {', '.join(map(repr, unused))}, which none of them "
            "asks for. A functional model asks by the names of its inputs, "
            f'keras.Input(..., name="{unused[0]}"), a subclass by the '
            f"arguments of call(self, z, {unused[0]}). Leave the entry out, or "
            "ask for it."
        )


def known_entries(
    parts: list[Part], latents: Iterable[str]
) -> dict[str, Entry] | None:
    """Shapes and dtypes of all entries, where the parts tell.

    Args:
        parts: those of the model.
        latents: names of the parts of z, which are no entries.

    Returns:
        Entries by name, x among them; None if data must be seen first.
    """
    known: dict[str, Entry] = {}
    needed = {"x"}
    other = {"z", "observed", *latents}
    for part in parts:
        needed |= part.needed - other
        for name, entry in part.expected.items():
            if name not in other:
                known.setdefault(name, entry)
    if needed - known.keys() or any(map(_NO_NAME.fullmatch, needed)):
        return None
    return known
