"""Latents of one part or of several: z, and the distributions of its parts.

A `tfd.JointDistribution` has parts, of which some depend on others; z is then a
dict of tensors by name, or a tuple. Any other distribution is its own only
part, whose name is empty. So what is written for parts holds for both.
"""

import warnings
from collections.abc import Callable
from typing import Any

from keras import ops

from tfp_vae.substrate import Tensor, explicit_name, samplers, tfd

__all__ = [
    "ONLY",
    "as_latent",
    "by_part",
    "draw",
    "graph_of",
    "has_batch",
    "is_joint",
    "latent_of",
    "log_prob",
    "log_prob_parts",
    "parts_at",
    "refuse_joint",
    "rows_of",
    "rows_of_posterior",
    "sum_over_parts",
    "trace",
]

#: The name of the only part of a distribution that is not joint.
ONLY = ""

# Where a posterior keeps its last draws, and the parts they were drawn from.
_KEPT = "_tfp_vae_drawn"


class _Vectorized(tfd.Distribution):
    """A part of an AutoBatched joint distribution, known at one value.

    TFP runs such a model inside a vectorised map, out of which no distribution
    comes: only what it says of a value.
    """

    def __init__(self, value: Tensor, log_prob: Tensor, name: str) -> None:
        self._lead, self._known = len(log_prob.shape), log_prob
        self._value_shape = tuple(value.shape)
        super().__init__(
            dtype=value.dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name=name,
        )

    def _batch_shape(self) -> Any:
        return self._known.shape

    def _event_shape(self) -> Any:
        return type(self._known.shape)(self._value_shape[self._lead :])

    def _log_prob(self, value: Tensor) -> Tensor:
        return self._known


def is_joint(distribution: Any) -> bool:
    """Whether a distribution has parts.

    Args:
        distribution: any.

    Returns:
        A bool.
    """
    return isinstance(distribution, tfd.JointDistribution)


def refuse_joint(distribution: tfd.Distribution, task: str, way: str) -> None:
    """Refuses a joint distribution where one over one tensor is needed.

    Args:
        distribution: any.
        task: what is worked out, the subject of a sentence.
        way: the way out.

    Raises:
        NotImplementedError: if it is joint.
    """
    if is_joint(distribution):
        raise NotImplementedError(
            f"{task} is known for latents of one tensor. Received: a joint "
            f"distribution ({distribution.name}). {way}"
        )


def by_part(z: Any) -> dict[str, Any]:
    """The tensors of z by the names of their parts.

    Args:
        z: a tensor, a dict, or a tuple, whose parts are "0", "1", ...

    Returns:
        A dict.
    """
    if isinstance(z, dict):
        return dict(z)
    if hasattr(z, "_asdict"):
        return dict(z._asdict())
    if isinstance(z, (list, tuple)):
        return {str(i): part for i, part in enumerate(z)}
    return {ONLY: z}


def latent_of(joint: tfd.Distribution, parts: dict[str, Any]) -> Any:
    """z out of its parts: what `by_part` takes apart.

    Args:
        joint: whose z it is.
        parts: values by name.

    Returns:
        A tuple for a `JointDistributionSequential`, a dict for any other joint
        distribution, else the only value.
    """
    if not is_joint(joint):
        return parts[ONLY]
    return tuple(parts.values()) if _is_sequential(joint) else dict(parts)


def as_latent(z: Any) -> Any:
    """z as tensors, of named parts as a dict.

    Args:
        z: a tensor, or a structure of tensors by part; None stays None.

    Returns:
        A tensor, a dict or a tuple of tensors.
    """
    if z is None:
        return None
    parts = {n: ops.convert_to_tensor(v) for n, v in by_part(z).items()}
    if isinstance(z, dict) or hasattr(z, "_asdict"):
        return parts
    return tuple(parts.values()) if isinstance(z, (list, tuple)) else parts[""]


def rows_of(z: Any) -> Any:
    """The size of the first dimension of z.

    Args:
        z: as `by_part` takes it.

    Returns:
        An int, or a tensor where it is not known.
    """
    return ops.shape(next(iter(by_part(z).values())))[0]


def _is_sequential(joint: tfd.Distribution) -> bool:
    return isinstance(
        joint, tfd.JointDistributionSequential
    ) and not isinstance(joint, tfd.JointDistributionNamed)


def _is_vectorized(joint: tfd.Distribution) -> bool:
    return joint.batch_ndims is not None


def graph_of(joint: tfd.Distribution) -> dict[str, tuple[str, ...]] | None:
    """The parents of each part, where TFP tells.

    Args:
        joint: a joint distribution.

    Returns:
        Names by name, in the order of drawing; None where they are not known.
    """
    if isinstance(joint, tfd.JointDistributionNamed):
        return dict(joint.resolve_graph())
    return None


def trace(
    joint: tfd.Distribution,
    value_of: Callable[[str, tfd.Distribution], Tensor],
) -> dict[str, tuple[tfd.Distribution, Tensor]]:
    """Goes through the parts, each given the values of those before.

    Unlike TFP's own methods it does not run the model for its shapes before: a
    network in the model would be asked for one z without batch dimension.

    Args:
        joint: a joint distribution.
        value_of: from the name and the distribution of a part to its value.

    Returns:
        Distribution and value of each part, by name, in the order of drawing.

    Raises:
        TypeError: if a part is not a distribution, or joint itself.
    """
    graph = graph_of(joint)
    names = None if graph is None else list(graph)
    found: dict[str, tuple[tfd.Distribution, Tensor]] = {}
    model = joint._model_coroutine()
    item = next(model)
    while True:
        index, part = len(found), item
        if isinstance(item, tfd.JointDistribution.Root):
            part = item.distribution
        if names is not None:
            name = names[index]
        elif _is_sequential(joint):
            name = str(index)
        else:
            name = explicit_name(part) or f"var{index}"
        if not isinstance(part, tfd.Distribution) or is_joint(part):
            raise TypeError(
                "The parts of a joint distribution are distributions over one "
                f"tensor each. Received: {part!r} as the part {name!r} of "
                f"{joint.name}."
            )
        value = value_of(name, part)
        found[name] = part, value
        try:
            item = model.send(value)
        except StopIteration:
            return found
        except (TypeError, ValueError) as error:
            raise ValueError(
                "The functions of a joint distribution are given parts of "
                "shape [B, *latent], and where several samples are drawn for "
                "each example, [S, B, *latent]. Received: an error of the "
                f"function after the part {name!r} of shape "
                f"{tuple(value.shape)}: {str(error)[:500]} Wrap networks "
                "between the parts in layers.OverSamples, or make the "
                "distribution by layers.Joint."
            ) from error


def draw(
    distribution: tfd.Distribution,
    sample_shape: Any = (),
    seed: Any = None,
    keep: bool = False,
) -> Any:
    """Draws z.

    Args:
        distribution: q(z|x) or p(z).
        sample_shape: a tuple, such as `(S,)`.
        seed: of TFP's.
        keep: whether a joint distribution keeps the distributions of the parts
            at these draws for `parts_at`: a posterior, which is made anew for
            each batch. Networks between the parts then run once.

    Returns:
        Of a joint distribution, a dict or a tuple of draws, each
        `sample_shape + batch_shape + event_shape`, else one tensor.

    Raises:
        ValueError: if a part has more batch dimensions than the first one.
    """
    sample_shape = tuple(sample_shape)
    if not is_joint(distribution):
        return distribution.sample(sample_shape, seed=seed)
    if _is_vectorized(distribution):
        with warnings.catch_warnings():
            # That a seed of this kind makes a loop of the draws, on TensorFlow.
            warnings.filterwarnings("ignore", "Saw Tensor seed")
            return as_latent(distribution.sample(sample_shape, seed=seed))
    lead = list[Any]()
    seeds = [samplers.sanitize_seed(seed)]

    def value_of(name: str, part: tfd.Distribution) -> Tensor:
        if not lead:
            batch: Any = tuple(part.batch_shape)
            if None in batch:
                batch = ops.unstack(part.batch_shape_tensor(), len(batch))
            lead.extend([*sample_shape, *batch])
        missing = len(lead) - len(part.batch_shape)
        if missing < 0:
            raise ValueError(
                "All parts of a joint distribution have the batch dimensions "
                "of the first one: of a posterior, [B]. Received: batch shape "
                f"{tuple(part.batch_shape)} of the part {name!r}, for draws of "
                f"shape {tuple(lead)}. Draw first what depends on x; wrap what "
                "has dimensions left over in tfd.Independent."
            )
        own, seeds[0] = ops.unstack(samplers.split_seed(seeds[0], 2), 2)
        return part.sample(lead[:missing], seed=own)

    found = trace(distribution, value_of)
    z = latent_of(distribution, {n: value for n, (_, value) in found.items()})
    if keep:
        parts = {name: part for name, (part, _) in found.items()}
        # Past TensorFlow, which would replace the dict by one of its own.
        vars(distribution)[_KEPT] = z, parts
    return z


def parts_at(
    distribution: tfd.Distribution, z: Any
) -> dict[str, tfd.Distribution]:
    """The distributions of the parts, each given the parts that it depends on.

    Args:
        distribution: q(z|x) or p(z).
        z: values of all parts; not needed for a distribution that is not joint.

    Returns:
        By name, in the order of drawing.

    Raises:
        ValueError: if z has other parts.
    """
    if not is_joint(distribution):
        return {ONLY: distribution}
    kept = vars(distribution).get(_KEPT)
    if kept is not None and _are_same(kept[0], z):
        return dict(kept[1])
    values = by_part(z)
    if _is_vectorized(distribution):
        terms = distribution.log_prob_parts(
            **({} if _is_sequential(distribution) else values),
            **({"value": z} if _is_sequential(distribution) else {}),
        )
        return {
            name: _Vectorized(values[name], term, name)
            for name, term in by_part(terms).items()
        }

    def value_of(name: str, _: tfd.Distribution) -> Tensor:
        if name not in values:
            raise _other_parts(distribution, [name], values)
        return values[name]

    found = trace(distribution, value_of)
    if found.keys() != values.keys():
        raise _other_parts(distribution, found, values)
    return {name: part for name, (part, _) in found.items()}


def _other_parts(joint: tfd.Distribution, names: Any, values: Any) -> Exception:
    return ValueError(
        "Posterior, prior and z have parts of the same names. Received: "
        f"{', '.join(map(repr, names))} in {joint.name}, beside "
        f"{', '.join(map(repr, values))}. Give the parts the same names."
    )


def _are_same(a: Any, b: Any) -> bool:
    a, b = by_part(a), by_part(b)
    return a.keys() == b.keys() and all(a[name] is b[name] for name in a)


def log_prob_parts(distribution: tfd.Distribution, z: Any) -> dict[str, Tensor]:
    """log p(z_i | those that it depends on) of each part.

    Args:
        distribution: q(z|x) or p(z).
        z: `[B, *latent]` or `[S, B, *latent]`, by part.

    Returns:
        By name, each `[B]` or `[S, B]`, nats.
    """
    values = by_part(z)
    return {
        name: part.log_prob(values[name])
        for name, part in parts_at(distribution, z).items()
    }


def sum_over_parts(values: dict[str, Tensor]) -> Tensor:
    """The sum; of one part, its very tensor.

    Args:
        values: by name.

    Returns:
        A tensor of their shape.
    """
    first, *others = values.values()
    return sum(others, first)


def log_prob(distribution: tfd.Distribution, z: Any) -> Tensor:
    """log p(z), the sum over the parts.

    Args:
        distribution: q(z|x) or p(z).
        z: as for `log_prob_parts`.

    Returns:
        `[B]` or `[S, B]`, nats.
    """
    return sum_over_parts(log_prob_parts(distribution, z))


def _first(distribution: tfd.Distribution) -> tfd.Distribution:
    """The part that is drawn first."""
    if not is_joint(distribution) or _is_vectorized(distribution):
        return distribution
    first = next(distribution._model_coroutine())
    is_root = isinstance(first, tfd.JointDistribution.Root)
    return first.distribution if is_root else first


def has_batch(distribution: tfd.Distribution) -> bool:
    """Whether a prior is one for each example, and not one for all.

    Args:
        distribution: p(z).

    Returns:
        A bool; of a joint distribution, the first part tells.
    """
    return bool(tuple(_first(distribution).batch_shape))


def rows_of_posterior(posterior: tfd.Distribution) -> Any:
    """B.

    Args:
        posterior: q(z|x), of batch shape `[B]`.

    Returns:
        An int, or a tensor where it is not known.
    """
    first = _first(posterior)
    if None in tuple(first.batch_shape):
        return first.batch_shape_tensor()[0]
    return first.batch_shape[0]
