"""What all objectives share: the checks, the samples and the schedules."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae import checks
from tfp_vae.arguments import check_one_of, check_positive_int, is_weight
from tfp_vae.distributions.serialization import (
    deserialize_function,
    serialize_function,
)
from tfp_vae.keras_internals import keep_message, leave_arguments_as_they_are
from tfp_vae.latents import (
    ONLY,
    as_latent,
    draw,
    is_joint,
    latent_of,
    parts_at,
    sum_over_parts,
)
from tfp_vae.objectives.batch import (
    Batch,
    ObjectiveTerms,
)
from tfp_vae.objectives.divergence import divergences
from tfp_vae.reduction import mean_over_first
from tfp_vae.samples import log_likelihood_of_samples
from tfp_vae.substrate import Tensor, tfd, tfp_seed

__all__ = [
    "Objective",
    "PartSchedule",
    "Schedule",
    "default_prior",
    "standard_normal",
]

#: A number, or a function from the training step to one.
Schedule = float | Callable[[Tensor], Tensor]

#: One for all parts of the latents, or one for each, by name.
PartSchedule = Schedule | dict[str, Schedule]

# The key of a dict of weights in a config, beside those of functions.
_BY_PART = "by_part"


def standard_normal(posterior: tfd.Distribution) -> tfd.Distribution:
    """The standard normal over the posterior's event shape and dtype.

    Args:
        posterior: any distribution.

    Returns:
        A distribution of empty batch shape.
    """
    event_shape = tuple(posterior.event_shape)
    dtype = keras.backend.standardize_dtype(posterior.dtype)
    return tfd.Independent(
        tfd.Normal(ops.zeros(event_shape, dtype), ops.ones(event_shape, dtype)),
        reinterpreted_batch_ndims=len(event_shape),
    )


def default_prior(posterior: tfd.Distribution) -> tfd.Distribution:
    """The prior if none is given: the simplest one of the same support.

    Args:
        posterior: any distribution.

    Returns:
        A distribution of empty batch shape: uniform on the sphere for unit
        vectors, uniform over the classes for classes, one-hot vectors and
        relaxed ones, else the standard normal. Of a joint distribution,
        this of each part, independent of the others.
    """
    if is_joint(posterior):
        z = draw(posterior, seed=tfp_seed(0))
        priors = latent_of(
            posterior,
            {n: default_prior(q) for n, q in parts_at(posterior, z).items()},
        )
        if isinstance(priors, dict):
            return tfd.JointDistributionNamed(priors)
        return tfd.JointDistributionSequential(priors)
    *leading, size = tuple(posterior.event_shape) or (1,)
    inner = posterior
    while isinstance(inner, tfd.Independent):
        inner = inner.distribution
    dtype = keras.backend.standardize_dtype(posterior.dtype)
    prior: tfd.Distribution
    if isinstance(inner, (tfd.PowerSpherical, tfd.VonMisesFisher)):
        prior = tfd.SphericalUniform(size, batch_shape=leading, dtype=dtype)
    elif isinstance(
        inner, (tfd.RelaxedOneHotCategorical, tfd.OneHotCategorical)
    ):
        zeros = ops.zeros((*leading, size), dtype)
        prior = tfd.OneHotCategorical(logits=zeros, dtype=zeros.dtype)
    elif isinstance(inner, tfd.Categorical):
        classes = inner.logits_parameter().shape[-1]
        prior = tfd.Categorical(
            logits=ops.zeros((*posterior.event_shape, classes)), dtype=dtype
        )
        leading = list(posterior.event_shape)
    else:
        return standard_normal(posterior)
    return tfd.Independent(prior, len(leading)) if leading else prior


class Objective(keras.layers.Layer):
    """The base of objectives: a subclass says how the terms combine.

    It knows no likelihood by name: it calls `log_prob` and `kl_divergence`.
    Errors that broadcasting would hide are refused while tracing.

    Args:
        num_samples: how many samples of z a model draws for each example.
        kl: how the reported divergence is computed: `"exact"` (the
            closed form, an error where none is known), `"monte_carlo"`
            (log q(z|x) - log p(z) at the samples), or `"auto"` (the first where
            it is known, otherwise the second).
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: data, `[B, *event]`, of the likelihood's dtype or of an integer one.
        posterior: q(z|x), a distribution of batch shape `[B]`.
        likelihood: p(x|z), of batch shape `[B]`, or with S samples `[S, B]`, or
            `[S * B]`, sample by sample.
        prior: p(z), of batch shape `[]` or `[B]`; by default standard normal
            (see `default_prior`).
        z: the samples, `[B, *latent]` or `[S, B, *latent]`.
        training: whether the count of training steps advances.

    Returns:
        `ObjectiveTerms`: `log_likelihood`, `kl` and `objective`, each `[B]`,
        nats per example.

    Raises:
        TypeError: if one of the three is not a distribution.
        ValueError: while tracing, if event, batch or latent shapes do not fit,
            if dtypes disagree, if samples are missing, or an argument is out
            of range.
        NotImplementedError: with `kl="exact"`, if no closed form is known.
    """

    #: The arguments that may be functions of the training step.
    scheduled: tuple[str, ...] = ()
    #: Those that may be a dict by part of the latents.
    by_part: tuple[str, ...] = ()
    #: The names in `ObjectiveTerms.reports`, beside the scheduled arguments.
    reported: tuple[str, ...] = ()

    def __init__(
        self, num_samples: int = 1, kl: str = "auto", **kwargs: Any
    ) -> None:
        # Data must reach log_prob unchanged, for any precision policy.
        super().__init__(autocast=False, **kwargs)
        # A distribution stays one, even if Keras could turn it into a tensor.
        leave_arguments_as_they_are(self)
        self.num_samples = check_positive_int("num_samples", num_samples)
        self.kl = check_one_of("kl", kl, ("auto", "exact", "monte_carlo"))
        self.step: keras.Variable | None = None
        self.built = True

    def count_steps(self) -> None:
        """Makes a counter of training steps, from 0; saved with the model."""
        self.step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="step",
        )

    def set_schedules(self, **values: PartSchedule) -> None:
        """Checks weights that may be scheduled, and keeps them.

        Args:
            **values: numbers >= 0, or functions of the step, by name; or dicts
                of them by part of the latents.

        Raises:
            ValueError: for anything else.
        """
        for name, value in values.items():
            each_of = [value]
            if isinstance(value, dict) and name in self.by_part:
                each_of = [*value.values()]
            for each in each_of:
                if not callable(each) and not is_weight(each):
                    raise ValueError(
                        f"{name} is a number >= 0 or a function of the "
                        f"training step. Received: {name}={value!r}."
                    )
            setattr(self, name, value)
        if self._moving():
            self.count_steps()

    def _moving(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The weights that follow the step, by the names of their reports."""
        found = {}
        for name in self.scheduled:
            value = getattr(self, name, None)
            if not isinstance(value, dict):
                value = {ONLY: value}
            for part, each in value.items():
                if callable(each):
                    found[f"{name}_{part}" if part else name] = each
        return found

    @property
    def report_names(self) -> tuple[str, ...]:
        """The names in `ObjectiveTerms.reports`."""
        return (*self.reported, *self._moving())

    def draw(self, posterior: tfd.Distribution, seed: Any) -> Any:
        """The z at which a model decodes.

        Args:
            posterior: q(z|x), of batch shape `[B]`.
            seed: of TFP's.

        Returns:
            `[B, *latent]`, or with several samples `[S, B, *latent]`, by part.
        """
        shape = () if self.num_samples == 1 else (self.num_samples,)
        return draw(posterior, shape, seed, keep=True)

    def expectation(self, values: Tensor, batch: Batch) -> Tensor:
        """The average of what was worked out at samples of z.

        Args:
            values: `[S, B]`.
            batch: the batch, of which the samples are.

        Returns:
            `[B]`.
        """
        return mean_over_first(values)

    def latents(self, z: Any) -> Any:
        """Samples of the posterior as the decoder is to see them.

        Most objectives return their input; an objective that weights the
        gradient at the samples marks them.

        Args:
            z: `[B, *latent]` or `[S, B, *latent]`, by part.

        Returns:
            The same values, to be passed to the decoder and to the objective.
        """
        return z

    def combine(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """What is maximised; each objective overrides this.

        Args:
            batch: one batch.

        Returns:
            The objective, `[B]`, nats per example, and the scalars named in
            `reported`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must say what it maximises: override "
            "combine(self, batch)."
        )

    def at(self, name: str, batch: Batch) -> Any:
        """The value of an argument that may be a schedule.

        Args:
            name: of the argument.
            batch: the batch, which knows its training step.

        Returns:
            A number or a scalar tensor.
        """
        return self._now(getattr(self, name), batch)

    def at_parts(self, name: str, batch: Batch) -> dict[str, Any]:
        """The values of an argument that may be given by part.

        Args:
            name: of the argument.
            batch: the batch, which knows its parts and its training step.

        Returns:
            For each part a number or a scalar tensor.

        Raises:
            ValueError: if it is given for other parts than there are.
        """
        value = getattr(self, name)
        if not isinstance(value, dict):
            return dict.fromkeys(batch.parts, self._now(value, batch))
        if value.keys() != batch.parts.keys():
            there = ", ".join(map(repr, batch.parts))
            raise ValueError(
                f"{name} is one number for all parts of the latents, or a dict "
                f"of one for each. Received: {name} of "
                f"{', '.join(map(repr, value))}, and "
                + (
                    "a posterior that is not joint."
                    if ONLY in batch.parts
                    else f"a posterior of the parts {there}."
                )
            )
        return {part: self._now(each, batch) for part, each in value.items()}

    def _now(self, value: Any, batch: Batch) -> Any:
        if not callable(value):
            return value
        return ops.cast(value(batch.step), batch.step.dtype)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> ObjectiveTerms:
        return super().__call__(ops.convert_to_tensor(x), *args, **kwargs)

    def call(
        self,
        x: Tensor,
        posterior: tfd.Distribution,
        likelihood: tfd.Distribution,
        prior: tfd.Distribution | None = None,
        z: Any = None,
        training: bool | None = None,
    ) -> ObjectiveTerms:
        try:
            return self._terms(x, posterior, likelihood, prior, z, training)
        except Exception as error:
            if is_joint(posterior) or is_joint(prior):
                keep_message(error)
            raise

    def _terms(
        self,
        x: Tensor,
        posterior: tfd.Distribution,
        likelihood: tfd.Distribution,
        prior: tfd.Distribution | None,
        z: Any,
        training: bool | None,
    ) -> ObjectiveTerms:
        checks.check_is_distribution(
            posterior, "the posterior", "MultivariateNormalDiag"
        )
        checks.check_is_distribution(
            likelihood, "the likelihood", "IndependentNormal"
        )
        if prior is None:
            prior = default_prior(posterior)
        checks.check_is_distribution(prior, "the prior", "DistributionLambda")
        z = as_latent(z)
        samples = checks.check_latent(posterior, prior, z)
        checks.check_likelihood(likelihood, x, samples)
        x = checks.in_dtype_of(likelihood, x)

        log_likelihood = log_likelihood_of_samples(x, likelihood, samples)
        drawn = z
        if z is not None and samples is None:
            z = keras.tree.map_structure(lambda part: part[None], z)
        step = ops.cast(
            0 if self.step is None else self.step, log_likelihood.dtype
        )
        if training and self.step is not None:
            self.step.assign_add(1)
        parts = divergences(posterior, prior, drawn, log_likelihood[0], self.kl)
        kl_parts = {name: part.kl for name, part in parts.items()}
        kl = sum_over_parts(kl_parts)
        batch = Batch(
            log_likelihood,
            kl,
            posterior,
            prior,
            z,
            step,
            bool(training),
            drawn,
            parts,
        )
        objective, reports = self.combine(batch)
        for name, schedule in self._moving().items():
            reports.setdefault(name, self._now(schedule, batch))
        return ObjectiveTerms(
            self.expectation(log_likelihood, batch),
            kl,
            objective,
            reports,
            {name: each for name, each in kl_parts.items() if name != ONLY},
        )

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "num_samples": self.num_samples,
            "kl": self.kl,
        }
        for name in self.scheduled:
            value = getattr(self, name)
            owner = f"The {name} of {type(self).__name__}"
            if isinstance(value, dict):
                each = {n: _saved(v, owner) for n, v in value.items()}
                config[name] = {_BY_PART: each}
            else:
                config[name] = _saved(value, owner)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Objective":
        config = dict(config)
        for name in cls.scheduled:
            value, owner = config.get(name), f"The {name} of {cls.__name__}"
            if isinstance(value, dict) and _BY_PART in value:
                config[name] = {
                    n: _loaded(v, owner) for n, v in value[_BY_PART].items()
                }
            else:
                config[name] = _loaded(value, owner)
        return cls(**config)


def _saved(value: Any, owner: str) -> Any:
    return serialize_function(value, owner) if callable(value) else value


def _loaded(value: Any, owner: str) -> Any:
    is_function = isinstance(value, dict)
    return deserialize_function(value, owner) if is_function else value
