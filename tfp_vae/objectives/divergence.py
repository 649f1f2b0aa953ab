"""The KL of a posterior from a prior, part by part."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tfp_vae.checks import check_densities
from tfp_vae.distributions import kl_divergence
from tfp_vae.latents import (
    ONLY,
    by_part,
    graph_of,
    is_joint,
    parts_at,
    rows_of_posterior,
    sum_over_parts,
)
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor, tfd

__all__ = ["Part", "closed_parts", "divergence", "divergences"]


class Part(NamedTuple):
    """A part of the latents: the only one, or one of a joint distribution.

    Attributes:
        posterior: q(z_i|x, parents), of batch shape `[B]` or `[S, B]`.
        prior: p(z_i|parents), of batch shape `[]`, `[B]` or `[S, B]`.
        z: its draws, `[B, *latent]` or `[S, B, *latent]`, or None.
        kl: `[B]`, nats.
        is_closed: whether the KL may be taken in closed form at the parents
            that were drawn; see `closed_parts`.
    """

    posterior: tfd.Distribution
    prior: tfd.Distribution
    z: Tensor | None
    kl: Tensor
    is_closed: bool


def divergences(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    z: Any,
    like: Tensor,
    kl: str = "auto",
) -> dict[str, Part]:
    """The KL of each part, at draws of those that it depends on.

    ```none
    KL_i = E_q[KL(q(z_i|x, parents) || p(z_i|parents))]    in closed form, or
         = E_q[log q(z_i|x, parents) - log p(z_i|parents)]
    ```

    Args:
        posterior: q(z|x).
        prior: p(z).
        z: draws; of a distribution that is not joint only a Monte Carlo KL
            needs them.
        like: `[B]`, of the shape and dtype of the result.
        kl: `"auto"`, `"exact"` or `"monte_carlo"`: see `Objective`.

    Returns:
        By name; the only part of a distribution that is not joint is "".

    Raises:
        ValueError: if draws are lacking.
        NotImplementedError: with `kl="exact"`, if no closed form is known.
    """
    if is_joint(posterior) and z is None:
        raise ValueError(
            "The parts of a joint posterior depend on each other: pass draws "
            "of all as z=posterior.sample(). Received: z=None."
        )
    values = by_part(z)
    q, p = parts_at(posterior, z), parts_at(prior, z)
    closed = closed_parts(posterior, prior, q, p)
    found = {}
    for name, part in q.items():
        is_closed, drawn = name in closed, values[name]
        each = _divergence(part, p[name], drawn, kl, is_closed)
        each = _mean_of_draws(each, like)
        found[name] = Part(part, p[name], drawn, each, is_closed)
    return found


def divergence(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    drawn: Callable[[], Any],
) -> Tensor:
    """KL(q(z|x) || p(z)) of each example, drawn for only if need be.

    Args:
        posterior: q(z|x), of batch shape `[B]`.
        prior: p(z).
        drawn: gives draws of the posterior, `[S, B, *latent]`.

    Returns:
        `[B]`, nats.
    """
    if not is_joint(posterior):
        try:
            return kl_divergence(posterior, prior)
        except NotImplementedError:
            pass
    z = drawn()
    first = next(iter(by_part(z).values()))
    like = ops.zeros((rows_of_posterior(posterior),), first.dtype)
    parts = divergences(posterior, prior, z, like)
    return sum_over_parts({name: part.kl for name, part in parts.items()})


def _divergence(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    z: Tensor | None,
    kl: str,
    is_closed: bool,
) -> Tensor:
    """Of one part: `[]`, `[B]` or `[S, B]`."""
    if kl == "exact" and not is_closed:
        raise NotImplementedError(
            "There is no closed form for the KL divergence of a part whose "
            "prior depends on parts that the posterior draws from it: take "
            'kl="auto" or kl="monte_carlo", or a posterior that is drawn in '
            f"the order of the prior. Received: the prior {prior.name} and the "
            f"posterior {posterior.name}."
        )
    if kl != "monte_carlo" and is_closed:
        try:
            return kl_divergence(posterior, prior)
        except NotImplementedError as error:
            if kl == "exact":
                raise NotImplementedError(
                    "No closed form is known for the KL divergence of "
                    f"{posterior.name} from {prior.name}: take "
                    'kl="monte_carlo" or kl="auto".'
                ) from error
    if z is None:
        raise ValueError(
            "A Monte Carlo KL is worked out at samples of the posterior: pass "
            "them as z=posterior.sample()."
        )
    check_densities(posterior, prior)
    return posterior.log_prob(z) - prior.log_prob(z)


def _mean_of_draws(values: Tensor, like: Tensor) -> Tensor:
    """A figure of each example, out of what was worked out at draws.

    Args:
        values: `[]`, `[B]` or `[S, B]`.
        like: `[B]`.

    Returns:
        `[B]`.
    """
    if len(values.shape) == 2:
        return mean_over_first(values)
    return values if len(values.shape) else values + ops.zeros_like(like)


def closed_parts(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    q: dict[str, tfd.Distribution],
    p: dict[str, tfd.Distribution],
) -> set[str]:
    """The parts whose KL may be taken in closed form at the drawn parents.

    ```none
    KL_i = E_q[log q(z_i | parents in q) - log p(z_i | parents in p)]
    ```

    The expectation over z_i is that of the closed form only if its parents in
    the prior tell nothing more of z_i: if none of them was drawn from z_i. In a
    top-down posterior all parts are so; in a bottom-up one, where z_2 is drawn
    from z_1, the part z_1 with its prior p(z_1|z_2) is not. Which part depends
    on which is known for a `JointDistributionNamed`; of any other, a part may
    depend on all before.

    Args:
        posterior: q(z|x).
        prior: p(z).
        q: the parts of the posterior, in the order of drawing.
        p: those of the prior.

    Returns:
        Names.
    """
    if not is_joint(posterior):
        return {ONLY}
    q_graph = graph_of(posterior) or _each_on_all_before(q)
    p_graph = graph_of(prior) or _each_on_all_before(p)
    ancestors: dict[str, set[str]] = {}
    for name, parents in q_graph.items():
        ancestors[name] = set(parents).union(*(ancestors[n] for n in parents))
    return {
        name
        for name in q
        if not any(name in ancestors[parent] for parent in p_graph[name])
    }


def _each_on_all_before(parts: Any) -> dict[str, tuple[str, ...]]:
    names = list(parts)
    return {name: tuple(names[:i]) for i, name in enumerate(names)}
