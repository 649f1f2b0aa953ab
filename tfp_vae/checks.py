"""The checks of an objective, and their messages.

All checks read types, static shapes and dtypes: they run while a function is
traced and cost nothing afterwards.
"""

from typing import Any

import keras
from keras import ops

from tfp_vae.latents import by_part, is_joint, parts_at
from tfp_vae.substrate import Tensor, is_discrete, tfd

__all__ = [
    "check_densities",
    "check_is_distribution",
    "check_latent",
    "check_likelihood",
    "check_log_prob",
    "in_dtype_of",
    "static_shape",
]


def static_shape(shape: Any) -> tuple[int | None, ...] | None:
    """A shape of any kind as a tuple, or None where its rank is unknown."""
    if getattr(shape, "rank", 0) is None:
        return None
    return tuple(shape)


def check_is_distribution(
    value: Any, source: str, example: str
) -> tfd.Distribution:
    """Refuses whatever is not a distribution of the running backend.

    Args:
        value: what was returned.
        source: what returned it, such as "the encoder".
        example: a layer that would be right.

    Returns:
        `value`.

    Raises:
        TypeError: if it is not a `tfd.Distribution`.
    """
    if isinstance(value, tfd.Distribution):
        return value
    received = type(value).__name__
    if hasattr(value, "shape"):
        received = f"a tensor of shape {tuple(value.shape)}"
    raise TypeError(
        f"{source[0].upper()}{source[1:]} returns a tfp.distributions object: "
        f"end it in a distribution layer, such as tfp_vae.layers.{example}. "
        f"Received: {received}."
    )


def check_likelihood(
    likelihood: tfd.Distribution, x: Tensor, samples: int | None
) -> None:
    """Refuses a likelihood that is not one distribution for each example.

    Args:
        likelihood: p(x|z), of batch shape `[B]`, `[S, B]` or `[S * B]`.
        x: data, `[B, *event]`.
        samples: S, or None if z has no dimension of samples.

    Raises:
        ValueError: if its event shape is not the shape of an example, or its
            batch shape not that of the data.
    """
    event = static_shape(likelihood.event_shape)
    batch = static_shape(likelihood.batch_shape)
    examples, *example = x.shape
    if event is None or batch is None:
        return
    allowed = 1 if samples is None else 2
    if event != tuple(example):
        left_over = len(example) - len(event)
        if left_over > 0 and (*batch[-left_over:], *event) == tuple(example):
            raise ValueError(_left_over("likelihood", batch, event, left_over))
        raise ValueError(
            "The event shape of the likelihood must be the shape of one "
            "example: log_prob would broadcast, and the sum would be silently "
            f"wrong. Received: event shape {event} ({likelihood.name}), "
            f"examples of shape {tuple(example)}. Declare the decoder's last "
            f"layer with event_shape={tuple(example)}, or reshape the data to "
            f"{event}."
        )
    if len(batch) > allowed:
        raise ValueError(
            _left_over("likelihood", batch, event, len(batch) - allowed)
        )
    rows = examples
    if samples is not None and len(batch) == 1 and examples is not None:
        rows = samples * examples
    if not batch or (None not in (batch[-1], rows) and batch[-1] != rows):
        raise ValueError(
            "The likelihood must have one distribution for each example: batch "
            "shape [B], or with S samples of z [S, B] or [S * B]. Received: "
            f"batch shape {batch} for {examples} examples and "
            f"{samples or 1} sample(s)."
        )


def check_densities(
    posterior: tfd.Distribution, prior: tfd.Distribution, z: Any = None
) -> None:
    """Refuses a probability and a density, whose ratio has no meaning.

    Args:
        posterior: q(z|x).
        prior: p(z).
        z: draws, for joint distributions.

    Raises:
        ValueError: if exactly one of the two is discrete.
    """
    if is_joint(posterior) or is_joint(prior):
        check_latent(posterior, prior, z)
        p = parts_at(prior, z)
        for name, part in parts_at(posterior, z).items():
            check_densities(part, p[name])
        return
    if is_discrete(posterior) != is_discrete(prior):
        raise ValueError(
            "log p(z) - log q(z|x) at draws needs two densities, or two "
            f"probabilities. Received: {posterior.name} as the posterior "
            f"and {prior.name} as the prior. Relaxed one-hot vectors with a "
            "categorical prior have an exact KL, and so only an ELBO; take "
            "tfd.RelaxedOneHotCategorical as the prior for anything else."
        )


def check_latent(
    posterior: tfd.Distribution, prior: tfd.Distribution, z: Any
) -> int | None:
    """Refuses a posterior, prior and sample that do not fit together.

    Args:
        posterior: q(z|x), of batch shape `[B]`.
        prior: p(z), of batch shape `[]` or `[B]`.
        z: draws, `[B, *event]` or `[S, B, *event]`, or None; of joint
            distributions those of each part.

    Returns:
        S, if z has a dimension of samples, otherwise None.

    Raises:
        ValueError: if the event shapes differ, or a batch dimension was left
            over.
    """
    if is_joint(posterior) or is_joint(prior):
        return _check_joint(posterior, prior, z)
    event = static_shape(posterior.event_shape)
    batch = static_shape(posterior.batch_shape)
    prior_event = static_shape(prior.event_shape)
    if event is None or batch is None or prior_event is None:
        return None
    if len(batch) > 1:
        raise ValueError(_left_over("posterior", batch, event, len(batch) - 1))
    if event != prior_event:
        raise ValueError(
            "Posterior and prior must be distributions over the same latent "
            f"space. Received: a posterior over {event} ({posterior.name}), a "
            f"prior over {prior_event} ({prior.name})."
        )
    if len(static_shape(prior.batch_shape) or ()) > 1:
        raise ValueError(
            _left_over(
                "prior",
                tuple(prior.batch_shape),
                prior_event,
                len(prior.batch_shape) - 1,
            )
        )
    prior_batch = static_shape(prior.batch_shape)
    if prior_batch not in ((), None, batch) and None not in (
        *prior_batch,
        *batch,
    ):
        raise ValueError(
            "A prior is one for all examples, of batch shape [], or one for "
            f"each, [B]. Received: {prior_batch} for a posterior of {batch} "
            f"({prior.name})."
        )
    _check_dtypes(posterior, prior)
    if z is None:
        return None
    if by_part(z).keys() != {""}:
        raise ValueError(
            "z of several parts is drawn from a joint distribution. Received: "
            f"z of the parts {', '.join(by_part(z))}, and {posterior.name}."
        )
    sample_dims = len(z.shape) - len(batch) - len(event)
    if sample_dims not in (0, 1) or tuple(z.shape)[
        len(z.shape) - len(event) :
    ] != tuple(event):
        raise ValueError(
            "z must be draws from the posterior, of shape [B, *event] or "
            f"[S, B, *event]. Received: z of shape {tuple(z.shape)}, a "
            f"posterior of batch shape {batch} over {event}."
        )
    return z.shape[0] if sample_dims else None


def _check_dtypes(posterior: tfd.Distribution, prior: tfd.Distribution) -> None:
    dtypes = {
        name: keras.backend.standardize_dtype(part.dtype)
        for name, part in (("posterior", posterior), ("prior", prior))
    }
    if dtypes["posterior"] != dtypes["prior"]:
        raise ValueError(
            "Posterior and prior must have the same dtype. Received: "
            f"{dtypes}. Under a mixed precision policy give the layer of a "
            'learned prior dtype="float32".'
        )


def _check_joint(
    posterior: tfd.Distribution, prior: tfd.Distribution, z: Any
) -> int | None:
    """`check_latent` of joint distributions, part by part."""
    if not (is_joint(posterior) and is_joint(prior)):
        raise ValueError(
            "Posterior and prior are both joint distributions, with parts of "
            f"the same names, or neither is. Received: {posterior.name} as the "
            f"posterior, {prior.name} as the prior."
        )
    if z is None:
        return None
    values, p_parts = by_part(z), parts_at(prior, z)
    lead: int | None = None
    for name, q in parts_at(posterior, z).items():
        p, shape = p_parts[name], tuple(values[name].shape)
        events = [static_shape(part.event_shape) for part in (q, p)]
        event = events[0]
        if event is None or events[1] is None:
            continue
        if events[1] != event:
            raise ValueError(
                "Posterior and prior must be distributions over the same "
                f"latent space. Received: of the part {name!r} a posterior "
                f"over {event} ({q.name}), a prior over {events[1]} ({p.name})."
            )
        own = len(shape) - len(event)
        lead = own if lead is None else lead
        if own != lead or own not in (1, 2) or shape[own:] != event:
            raise ValueError(
                "z must be draws from the posterior, of shape [B, *event] or "
                "[S, B, *event] in each part. Received: of the part "
                f"{name!r} z of shape {shape}, a posterior over {event}, of "
                f"batch shape {tuple(q.batch_shape)} ({q.name})."
            )
        for role, part in (("posterior", q), ("prior", p)):
            batch = static_shape(part.batch_shape) or ()
            if len(batch) > own:
                raise ValueError(
                    f"{_left_over(role, batch, event, len(batch) - own)} It is "
                    f"the part {name!r}."
                )
        _check_dtypes(q, p)
    return next(iter(values.values())).shape[0] if lead == 2 else None


def in_dtype_of(likelihood: tfd.Distribution, x: Tensor) -> Tensor:
    """Data as the likelihood takes them: integers become its floats.

    Args:
        likelihood: p(x|z).
        x: data.

    Returns:
        `x`, or its cast for integer data and a floating likelihood. Floating
        data stay unchanged for a likelihood over integers.

    Raises:
        ValueError: if both are floating and differ.
    """
    data = keras.backend.standardize_dtype(x.dtype)
    density = keras.backend.standardize_dtype(likelihood.dtype)
    if data != density and "float" in data and "float" in density:
        raise ValueError(
            "Data and likelihood must have the same dtype. Received: data of "
            f"{data}, a likelihood of {density} ({likelihood.name}). Cast the "
            f'data: x.astype("{density}").'
        )
    return ops.cast(x, density) if "float" in density else x


def check_log_prob(log_prob: Tensor, likelihood: tfd.Distribution) -> None:
    """Refuses a log density that is not one number for each distribution.

    Args:
        log_prob: the result of the likelihood.
        likelihood: p(x|z), for its batch shape.

    Raises:
        ValueError: if its rank is not that of the batch shape.
    """
    batch = static_shape(likelihood.batch_shape)
    if batch is not None and len(log_prob.shape) != len(batch):
        raise ValueError(
            "log_prob of the likelihood must be one number for each example. "
            f"Received: shape {tuple(log_prob.shape)} from {likelihood.name} "
            f"of batch shape {batch}. A distribution of your own sums over its "
            "event dimensions in _log_prob."
        )


def _left_over(
    role: str,
    batch: tuple[int | None, ...],
    event: tuple[int | None, ...],
    count: int,
) -> str:
    return (
        f"The {role} has {count} batch dimension{'s' * (count > 1)} left over, "
        "which belong to the event: the log density would be one number for "
        f"each element, not for each example. Received: batch shape {batch}, "
        f"event shape {event}. Wrap it: tfd.Independent({role}, "
        f"reinterpreted_batch_ndims={count})."
    )
