"""What all objectives share: the checks, the samples and the schedules."""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from tfp_vae.distributions import kl_divergence
from tfp_vae.distributions.serialization import serialize_function
from tfp_vae.means import mean_over_first
from tfp_vae.objectives import checks
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "Objective",
    "ObjectiveTerms",
    "Schedule",
    "Step",
    "as_one_batch",
    "copies",
    "log_likelihood_of_samples",
    "standard_normal",
]

#: A number, or a function from the training step to one.
Schedule = float | Callable[[Tensor], Tensor]


class ObjectiveTerms(NamedTuple):
    """The terms of an objective, each `[B]`, in nats per example.

    Attributes:
        log_likelihood: E_q[log p(x|z)], summed over the event, averaged over
            the samples of z.
        kl: KL(q(z|x) || p(z)), summed over the latent event.
        objective: what is maximised; the loss is minus its mean.
        reports: further scalars that an objective gives by name, such as the
            weight that a schedule has reached.
    """

    log_likelihood: Tensor
    kl: Tensor
    objective: Tensor
    reports: dict[str, Tensor] = {}


class Step(NamedTuple):
    """One batch, checked, as an objective combines it.

    Attributes:
        log_likelihood: log p(x|z) of every sample, `[S, B]`, nats.
        kl: KL(q(z|x) || p(z)), `[B]`, nats.
        posterior: q(z|x), of batch shape `[B]`.
        prior: p(z), of batch shape `[]` or `[B]`.
        z: the samples, `[S, B, *latent]`, or None.
        number: the training step, a scalar float tensor, from 0; it stays 0
            for an objective that does not count.
        training: whether in training.
    """

    log_likelihood: Tensor
    kl: Tensor
    posterior: tfd.Distribution
    prior: tfd.Distribution
    z: Tensor | None
    number: Tensor
    training: bool

    def samples(self) -> Tensor:
        """`z`, where it is needed.

        Returns:
            `[S, B, *latent]`.

        Raises:
            ValueError: if there are none.
        """
        if self.z is None:
            raise ValueError(
                "This objective is worked out at samples of the posterior: "
                "pass them as z=posterior.sample(). Received: z=None."
            )
        return self.z

    def log_ratio(self, path_only: bool = False) -> Tensor:
        """log p(z) - log q(z|x) of every sample.

        Args:
            path_only: whether the parameters of the posterior shall act
                through the samples alone (see `path_only_log_prob`).

        Returns:
            `[S, B]`, nats.
        """
        z = self.samples()
        log_q = (
            path_only_log_prob(self.posterior, z)
            if path_only
            else self.posterior.log_prob(z)
        )
        return self.prior.log_prob(z) - log_q

    def log_weights(self, path_only: bool = False) -> Tensor:
        """log p(x, z) - log q(z|x) of every sample.

        Args:
            path_only: as in `log_ratio`.

        Returns:
            `[S, B]`, nats.
        """
        return self.log_likelihood + self.log_ratio(path_only)


def path_only_log_prob(distribution: tfd.Distribution, z: Tensor) -> Tensor:
    """log q(z), whose gradient in q's parameters goes through z alone.

    What a second look at the same, constant samples gives has the score as its
    gradient, whose mean is zero: it is taken away. This needs no list of the
    parameters, so any distribution will do.

    Args:
        distribution: q.
        z: reparameterised samples, `[S, B, *latent]`.

    Returns:
        `[S, B]`, nats.

    Reference:
        Roeder, Wu, Duvenaud. Sticking the landing. NeurIPS 2017.
        https://arxiv.org/abs/1703.09194
    """
    score = distribution.log_prob(ops.stop_gradient(z))
    return distribution.log_prob(z) - (score - ops.stop_gradient(score))


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


class Objective(keras.layers.Layer):
    """The base of objectives: a subclass says how the terms combine.

    It knows no likelihood by name: it calls `log_prob` and `kl_divergence`.
    Everything that broadcasting would hide is refused while tracing.

    Args:
        num_samples: how many samples of z a model draws for each example.
        kl: how the divergence that is reported is worked out: `"exact"` (the
            closed form, an error where none is known), `"monte_carlo"`
            (log q(z|x) - log p(z) at the samples), or `"auto"` (the first where
            it is known, else the second).
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: data, `[B, *event]`, of the likelihood's dtype or of an integer one.
        posterior: q(z|x), a distribution of batch shape `[B]`.
        likelihood: p(x|z), of batch shape `[B]`, or with S samples `[S, B]`, or
            `[S * B]`, sample by sample.
        prior: p(z), of batch shape `[]` or `[B]`; by default standard normal.
        z: the samples, `[B, *latent]` or `[S, B, *latent]`.
        training: whether the count of steps moves on.

    Returns:
        `ObjectiveTerms`: `log_likelihood`, `kl` and `objective`, each `[B]`,
        nats per example.

    Raises:
        TypeError: if one of the three is no distribution.
        ValueError: while tracing, if event, batch or latent shapes do not fit,
            if dtypes disagree, if samples are missing, or an argument is out
            of range.
        NotImplementedError: with `kl="exact"`, if no closed form is known.
    """

    #: The arguments that may be functions of the training step.
    scheduled: tuple[str, ...] = ()
    #: The names in `ObjectiveTerms.reports`, beside the scheduled arguments.
    reported: tuple[str, ...] = ()

    def __init__(
        self, num_samples: int = 1, kl: str = "auto", **kwargs: Any
    ) -> None:
        # Data must reach log_prob as they are, whatever the precision policy.
        super().__init__(autocast=False, **kwargs)
        # A distribution stays one, even if Keras could turn it into a tensor.
        self._convert_input_args = False
        if isinstance(num_samples, bool) or not (
            isinstance(num_samples, int) and num_samples >= 1
        ):
            raise ValueError(
                "num_samples is an int >= 1. Received: "
                f"num_samples={num_samples!r}."
            )
        if kl not in ("auto", "exact", "monte_carlo"):
            raise ValueError(
                'kl is one of "auto", "exact" and "monte_carlo". Received: '
                f"kl={kl!r}."
            )
        self.num_samples = num_samples
        self.kl = kl
        self.step: keras.Variable | None = None
        self.built = True

    def count_steps(self) -> None:
        """Has the training steps counted, from 0; saved with the model."""
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
        """Samples of the posterior as the decoder is to see them.

        Most objectives give back what they are given; one that weighs the
        gradient at the samples marks them.

        Args:
            z: `[B, *latent]` or `[S, B, *latent]`.

        Returns:
            The same values, to be passed to the decoder and to the objective.
        """
        return z

    def combine(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """What is maximised: each objective's own.

        Args:
            step: one batch.

        Returns:
            The objective, `[B]`, nats per example, and the scalars named in
            `reported`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must say what it maximises: override "
            "combine(self, step)."
        )

    def at(self, name: str, step: Step) -> Any:
        """What an argument that may be scheduled is at a step.

        Args:
            name: of the argument.
            step: the batch.

        Returns:
            A number or a scalar tensor.
        """
        value = getattr(self, name)
        if not callable(value):
            return value
        return ops.cast(value(step.number), step.number.dtype)

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
        checks.check_distribution(
            posterior, "the posterior", "MultivariateNormalDiag"
        )
        checks.check_distribution(
            likelihood, "the likelihood", "IndependentNormal"
        )
        if prior is None:
            prior = standard_normal(posterior)
        checks.check_distribution(prior, "the prior", "DistributionLambda")
        z = None if z is None else ops.convert_to_tensor(z)
        samples = checks.check_latent(posterior, prior, z)
        checks.check_likelihood(likelihood, x, samples)
        x = checks.in_dtype_of(likelihood, x)

        log_likelihood = log_likelihood_of_samples(x, likelihood, samples)
        if z is not None and samples is None:
            z = z[None]
        number = ops.cast(
            0 if self.step is None else self.step, log_likelihood.dtype
        )
        if training and self.step is not None:
            self.step.assign_add(1)
        kl = self._divergence(posterior, prior, z)
        step = Step(
            log_likelihood, kl, posterior, prior, z, number, bool(training)
        )
        objective, reports = self.combine(step)
        for name in self.report_names:
            if name not in reports:
                reports[name] = self.at(name, step)
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
                "A Monte Carlo KL is worked out at samples of the posterior: "
                "pass them as z=posterior.sample()."
            )
        return mean_over_first(posterior.log_prob(z) - prior.log_prob(z))

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
                config[name] = keras.saving.deserialize_keras_object(
                    config[name]
                )
        return cls(**config)


def is_weight(value: Any) -> bool:
    """Whether a value is a finite number >= 0.

    Args:
        value: anything.

    Returns:
        A bool.
    """
    return isinstance(value, numbers.Real) and 0 <= float(value) < float("inf")


def as_one_batch(z: Tensor) -> Tensor:
    """Samples for a decoder, which need take no more than one batch dimension.

    Args:
        z: `[S, B, *latent]`.

    Returns:
        `[S * B, *latent]`.
    """
    return ops.reshape(z, (-1, *z.shape[2:]))


def copies(x: Tensor, samples: int) -> Tensor:
    """Data for a likelihood of batch shape `[S * B]`, sample by sample.

    Args:
        x: `[B, *event]`.
        samples: S.

    Returns:
        `[S * B, *event]`.
    """
    return ops.tile(x, (samples, *[1] * (len(x.shape) - 1)))


def log_likelihood_of_samples(
    x: Tensor, likelihood: tfd.Distribution, samples: int | None
) -> Tensor:
    """log p(x|z) of every sample of z.

    Args:
        x: data, `[B, *event]`, as the likelihood takes them.
        likelihood: p(x|z), of batch shape `[B]`, `[S, B]` or `[S * B]`.
        samples: S, or None if z has no dimension of samples.

    Returns:
        `[S, B]`, nats; S is 1 without a dimension of samples.

    Raises:
        ValueError: if the likelihood gives more than one number an example.
    """
    if samples is not None and len(likelihood.batch_shape) == 1:
        x = copies(x, samples)
    log_likelihood = likelihood.log_prob(x)
    checks.check_log_prob(log_likelihood, likelihood)
    if samples is None:
        return log_likelihood[None]
    return ops.reshape(log_likelihood, (samples, -1))
