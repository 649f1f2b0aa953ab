"""What all objectives share: the checks, the samples and the schedules."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae import checks
from tfp_vae.arguments import check_one_of, check_positive_int, is_weight
from tfp_vae.distributions import kl_divergence
from tfp_vae.distributions.serialization import (
    deserialize_function,
    serialize_function,
)
from tfp_vae.keras_internals import leave_arguments_as_they_are
from tfp_vae.objectives.batch import (
    Batch,
    ObjectiveTerms,
    log_prob_of_draws,
)
from tfp_vae.reduction import mean_over_first
from tfp_vae.samples import log_likelihood_of_samples
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "Objective",
    "Schedule",
    "default_prior",
    "standard_normal",
]

#: A number, or a function from the training step to one.
Schedule = float | Callable[[Tensor], Tensor]


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
        vectors, uniform over the classes for relaxed one-hot vectors, otherwise
        the standard normal.
    """
    *leading, size = tuple(posterior.event_shape) or (1,)
    inner = posterior
    while isinstance(inner, tfd.Independent):
        inner = inner.distribution
    dtype = keras.backend.standardize_dtype(posterior.dtype)
    prior: tfd.Distribution
    if isinstance(inner, (tfd.PowerSpherical, tfd.VonMisesFisher)):
        prior = tfd.SphericalUniform(size, batch_shape=leading, dtype=dtype)
    elif isinstance(inner, tfd.RelaxedOneHotCategorical):
        zeros = ops.zeros((*leading, size), dtype)
        prior = tfd.OneHotCategorical(logits=zeros, dtype=zeros.dtype)
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
    #: The names in `ObjectiveTerms.reports`, except the scheduled arguments.
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

    def set_schedules(self, **values: Schedule) -> None:
        """Checks weights that may be scheduled, and keeps them.

        Args:
            **values: numbers >= 0, or functions of the step, by name.

        Raises:
            ValueError: for anything else.
        """
        for name, value in values.items():
            if not callable(value) and not is_weight(value):
                raise ValueError(
                    f"{name} is a number >= 0 or a function of the training "
                    f"step. Received: {name}={value!r}."
                )
            setattr(self, name, value)
        if any(map(callable, values.values())):
            self.count_steps()

    @property
    def report_names(self) -> tuple[str, ...]:
        """The names in `ObjectiveTerms.reports`."""
        moving = [n for n in self.scheduled if callable(getattr(self, n))]
        return (*self.reported, *moving)

    def latents(self, z: Tensor) -> Tensor:
        """Samples of the posterior for the decoder.

        Most objectives return their input; an objective that weights the
        gradient at the samples marks them.

        Args:
            z: `[B, *latent]` or `[S, B, *latent]`.

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
        value = getattr(self, name)
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
        z: Tensor | None = None,
        training: bool | None = None,
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
        z = None if z is None else ops.convert_to_tensor(z)
        samples = checks.check_latent(posterior, prior, z)
        checks.check_likelihood(likelihood, x, samples)
        x = checks.in_dtype_of(likelihood, x)

        log_likelihood = log_likelihood_of_samples(x, likelihood, samples)
        drawn = z
        if z is not None and samples is None:
            z = z[None]
        step = ops.cast(
            0 if self.step is None else self.step, log_likelihood.dtype
        )
        if training and self.step is not None:
            self.step.assign_add(1)
        kl = self._divergence(posterior, prior, drawn)
        batch = Batch(
            log_likelihood,
            kl,
            posterior,
            prior,
            z,
            step,
            bool(training),
            drawn,
        )
        objective, reports = self.combine(batch)
        for name in self.report_names:
            if name not in reports:
                reports[name] = self.at(name, batch)
        return ObjectiveTerms(
            mean_over_first(log_likelihood), kl, objective, reports
        )

    def _divergence(
        self,
        posterior: tfd.Distribution,
        prior: tfd.Distribution,
        z: Tensor | None,
    ) -> Tensor:
        if self.kl != "monte_carlo":
            try:
                return kl_divergence(posterior, prior)
            except NotImplementedError as error:
                if self.kl == "exact":
                    raise NotImplementedError(
                        "No closed form is known for the KL divergence of "
                        f"{posterior.name} from {prior.name}: take "
                        'kl="monte_carlo" or kl="auto".'
                    ) from error
        if z is None:
            raise ValueError(
                "A Monte Carlo KL is computed at samples of the posterior: "
                "pass them as z=posterior.sample()."
            )
        checks.check_densities(posterior, prior)
        return mean_over_first(
            log_prob_of_draws(posterior, z) - log_prob_of_draws(prior, z)
        )

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "num_samples": self.num_samples,
            "kl": self.kl,
        }
        for name in self.scheduled:
            value = getattr(self, name)
            if callable(value):
                owner = f"The {name} of {type(self).__name__}"
                value = serialize_function(value, owner)
            config[name] = value
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Objective":
        config = dict(config)
        for name in cls.scheduled:
            if isinstance(config.get(name), dict):
                owner = f"The {name} of {cls.__name__}"
                config[name] = deserialize_function(config[name], owner)
        return cls(**config)
