"""The core of a latent-variable model, without the methods for users."""

import contextlib
import functools
import inspect
from typing import Any

import keras
from keras import ops

from tfp_vae.checks import check_is_distribution, static_shape
from tfp_vae.entries import accepted, conditions_of, repeated, with_x, x_of
from tfp_vae.evaluation.model import prior_of
from tfp_vae.latents import (
    ONLY,
    by_part,
    parts_at,
    rows_of,
    rows_of_posterior,
)
from tfp_vae.layers.activations import warn_of_activation
from tfp_vae.models.conditional import Conditional
from tfp_vae.models.conditions import Entry, Part
from tfp_vae.models.data_checks import examine
from tfp_vae.models.dry_run import Trial, try_shapes
from tfp_vae.models.missing import Incomplete, check_missing
from tfp_vae.models.parts import (
    check_layer,
    check_objective,
    check_posterior,
    check_prior,
    fits,
)
from tfp_vae.models.saving import Saved
from tfp_vae.models.summary import summary
from tfp_vae.objectives import ELBO, ObjectiveTerms, default_prior
from tfp_vae.reduction import reduce_loss
from tfp_vae.samples import as_one_batch
from tfp_vae.substrate import Tensor, tfd, tfp_seed
from tfp_vae.training.fast_fit import FastFit

__all__ = ["LatentVariableModel"]


class LatentVariableModel(Saved, Conditional, Incomplete, FastFit, keras.Model):
    """Encoder, decoder, prior and objective, put together as one Keras model.

    It defines the model and how it is saved; `VAE` adds the methods for users.

    Args:
        encoder: from x to q(z|x), as for `VAE`.
        decoder: from z to p(x|z), as for `VAE`.
        prior: p(z), as for `VAE`.
        objective: as for `VAE`.
        seed: as for `VAE`.
        missing_values: as for `VAE`.
        missing_model: as for `VAE`.
        **kwargs: of `keras.Model`.

    Call arguments:
        x: `[B, *event]`.

    Returns:
        `(posterior, z, likelihood)`, as for `VAE`.

    Raises:
        TypeError, ValueError: as `VAE`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Makes each model build itself after its own `__init__` has ended.

        Not earlier, since `build` and `compute_terms` of a subclass need what
        its `__init__` sets after `super().__init__()`. Not by a metaclass,
        which would conflict with that of an abstract class.

        Args:
            **kwargs: of the next class.
        """
        super().__init_subclass__(**kwargs)
        own = cls.__init__

        @functools.wraps(own)
        def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
            own(self, *args, **kwargs)
            if type(self).__init__ is initialise:  # the outermost one
                self._build_if_parts_are_built()

        # Keras reads the signature in a way that does not follow `wraps`.
        signature = inspect.signature(own)
        initialise.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = initialise  # type: ignore[method-assign]

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        prior: tfd.Distribution | keras.layers.Layer | None = None,
        objective: keras.layers.Layer | None = None,
        seed: int | None = None,
        missing_values: float | None = None,
        missing_model: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.missing_values = check_missing(missing_values, missing_model)
        self.missing_model = missing_model
        if missing_values is not None:
            # In half precision a value might equal the marker by rounding.
            self.autocast = False
        check_layer(encoder, "encoder")
        check_layer(decoder, "decoder")
        check_prior(prior)
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.objective = check_objective(
            ELBO() if objective is None else objective
        )
        # The entries for which the model was built, if the data have
        # conditions.
        self.entries: dict[str, Entry] = {}
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # Evaluation has its own noise, the same at every call: two models, or
        # one model before and after an epoch, are compared on the same draws.
        self._evaluation_seed = 0 if seed is None else seed
        self._evaluation_seed_generator = keras.random.SeedGenerator(
            self._evaluation_seed
        )
        # Whether a warning said that the data are not outcomes of the
        # likelihood.
        self.warned_of_values = False
        self.dry_run = Trial()
        self._log_likelihood_tracker = keras.metrics.Mean("log_likelihood")
        self._kl_tracker = keras.metrics.Mean("kl")
        # One for each part of joint latents, once they are known.
        self._part_trackers: dict[str, keras.metrics.Mean] = {}
        self._report_trackers = [
            keras.metrics.Mean(name) for name in self.objective.report_names
        ]

    # The model.

    def _may_use_any_entry(self) -> bool:
        return any(
            getattr(type(self), name) is not getattr(LatentVariableModel, name)
            for name in (
                "call",
                "encode",
                "decode",
                "prior_distribution",
                "compute_loss",
                "compute_terms",
            )
        )

    def build(self, input_shape: Any) -> None:
        """Makes all weights, by passing zeros through the model once.

        Args:
            input_shape: the shape of x, the batch dimension included; with
                conditions, a dict of the shapes of all entries.

        Raises:
            TypeError, ValueError: as a call of the model does.
        """
        self.built = True  # `call` must not return here

        names: list[str] = []

        def run(x: Any) -> tuple[tfd.Distribution, ...]:
            posterior, z, likelihood = self.call(x)
            names[:] = by_part(z)
            if self.missing_model is not None:
                event = tuple(likelihood.event_shape)
                self.missing_model(ops.zeros((1, *event), likelihood.dtype))
            return posterior, likelihood, prior_of(self, posterior, x)

        zeros = self._zeros(input_shape)
        try_shapes(self, run, zeros)
        self._part_trackers = {
            n: keras.metrics.Mean(f"kl_{n}") for n in names if n != ONLY
        }
        compute_terms = type(self).compute_terms
        if compute_terms is not LatentVariableModel.compute_terms:
            self._build_for_terms(zeros)
        warn_of_activation(self.encoder)
        warn_of_activation(self.decoder)

    def _build_for_terms(self, x: Any) -> None:
        """Makes the weights of layers that `compute_terms` of a subclass calls.

        Keras loads weights only into layers that are built. The target is a
        draw of the likelihood, whose shape and support are right. Other
        requirements of a subclass on its target are not known before there are
        data: the first batch then builds the rest, and shows any error.
        """
        with contextlib.suppress(Exception):
            outputs = self.call(x)
            target = outputs[-1].sample(seed=tfp_seed(0))[:1]
            self.compute_terms(with_x(x, target), outputs)

    def call(
        self, x: Any, training: bool | None = None
    ) -> tuple[tfd.Distribution, Tensor, tfd.Distribution]:
        posterior = self.encode(x, training=training)
        conditions = conditions_of(x)
        z = self.objective.draw(posterior, self._next_seed(training))
        is_enumerated = getattr(self.objective, "enumerate", False)
        for part in parts_at(posterior, z).values():
            check_posterior(part, training and not is_enumerated)
        if self.objective.num_samples == 1 and not is_enumerated:
            given = accepted(self.decode, conditions)
            return posterior, z, self.decode(z, training=training, **given)
        z = self.objective.latents(z)
        samples = rows_of(z)
        given = accepted(self.decode, repeated(conditions, samples))
        likelihood = self.decode(as_one_batch(z), training=training, **given)
        return posterior, z, likelihood

    def _next_seed(self, training: bool | None) -> Tensor:
        return tfp_seed(
            self.seed_generator if training else self._evaluation_seed_generator
        )

    def encode(self, x: Any, training: bool | None = None) -> tfd.Distribution:
        """The posterior q(z|x), or q(z|x, conditions).

        Args:
            x: `[B, *event]`, or a dict of it and of conditions, each
                `[B, ...]` or one value for all.
            training: whether layers such as Dropout are in training.

        Returns:
            A distribution of batch shape `[B]` over the latent event.

        Raises:
            TypeError, ValueError: if an entry that the encoder asks for is
                missing or does not fit, or no part asks for a given entry.
        """
        conditions = conditions_of(x)
        x, observed = self._split(x_of(x))
        if conditions:
            conditions = self._rows(conditions, ops.shape(x)[0])
        entries = {**conditions, "x": x, "observed": observed}
        part = Part(self.encoder, "encoder", "x", conditions)
        return check_is_distribution(
            part(entries, training=training),
            "the encoder",
            "MultivariateNormalDiag",
        )

    def decode(
        self, z: Any, training: bool | None = None, **conditions: Any
    ) -> tfd.Distribution:
        """The likelihood p(x|z), or p(x|z, conditions).

        Args:
            z: `[B, *latent]`, by part where there are several.
            training: whether layers such as Dropout are in training.
            **conditions: by name, `[B, ...]` or one value for all.

        Returns:
            A distribution of batch shape `[B]` over the examples.

        Raises:
            TypeError, ValueError: as `encode`.
        """
        if conditions:
            conditions = self._rows(conditions, rows_of(z))
        expected = getattr(self.decoder, "input_shape", None)
        parts = by_part(z)
        received = static_shape(ops.shape(z)) if ONLY in parts else None
        if (
            isinstance(expected, tuple)
            and received is not None
            and not fits(received, expected)
        ):
            raise ValueError(
                "The decoder must take what the posterior draws. Received: z "
                f"of shape {received}, a decoder for {expected}. Give encoder "
                "and decoder the same latent size."
            )
        part = Part(self.decoder, "decoder", "z", conditions, z)
        return check_is_distribution(
            part({**parts, **conditions, "z": z}, training=training),
            "the decoder",
            "IndependentNormal",
        )

    def prior_distribution(
        self,
        posterior: tfd.Distribution,
        training: bool | None = None,
        **conditions: Any,
    ) -> tfd.Distribution:
        """The prior p(z), or p(z|conditions).

        Args:
            posterior: q(z|x), whose event shape and dtype the default takes.
            training: whether layers such as Dropout are in training.
            **conditions: by name, `[B, ...]` or one value for all.

        Returns:
            A distribution over the latent event.

        Raises:
            TypeError, ValueError: as `encode`.
        """
        if isinstance(self.prior, keras.layers.Layer):
            if conditions:
                rows = rows_of_posterior(posterior)
                conditions = self._rows(conditions, rows, check=False)
            part = Part(self.prior, "prior", None, conditions)
            return check_is_distribution(
                part(conditions, encoder=self.encode, training=training),
                "the prior",
                "MixturePrior",
            )
        if self.prior is not None:
            return self.prior
        return default_prior(posterior)

    # What Keras' training loop calls.

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor = None,
        y_pred: Any = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Minus the mean objective, plus what layers added to the loss.

        Args:
            x: data, `[B, *event]`, or a dict of it and of conditions.
            y: the target, by default x.
            y_pred: what `call` returned.
            sample_weight: `[B]`. The loss is the mean of weight times loss, as
                in Keras; the metrics are weighted means.
            training: whether in training.

        Returns:
            A scalar in nats per example.
        """
        added = 0.0
        if self.losses:
            added = super().compute_loss(
                x=x, y=y, y_pred=y_pred, training=training
            )
        target = x if y is None else with_x(x, y)
        terms = self.compute_terms(target, y_pred, training)
        self._log_likelihood_tracker.update_state(
            terms.log_likelihood, sample_weight
        )
        self._kl_tracker.update_state(terms.kl, sample_weight)
        for name, tracker in self._part_trackers.items():
            tracker.update_state(terms.kl_parts[name], sample_weight)
        for tracker in self._report_trackers:
            # One value for the batch: it counts once for each example.
            tracker.update_state(
                terms.reports[tracker.name], ops.shape(terms.objective)[0]
            )
        return added + reduce_loss(-terms.objective, sample_weight)

    def compute_terms(
        self, x: Any, y_pred: Any, training: bool = False
    ) -> ObjectiveTerms:
        """The terms of the objective for each example.

        Args:
            x: the target, `[B, *event]`; a dict where the data are one.
            y_pred: what `call` returned.
            training: whether in training.

        Returns:
            `log_likelihood`, `kl` and `objective`, each `[B]`, nats.
        """
        posterior, z, likelihood = y_pred
        seed = None
        if self.missing_model is not None:
            seed = self._next_seed(training)
        likelihood = self.observed_likelihood(likelihood, seed)
        return self.objective(
            x_of(x),
            posterior=posterior,
            likelihood=likelihood,
            prior=prior_of(self, posterior, x, training=training),
            z=z,
            training=training,
        )

    def predict_step(self, *args: Any) -> Any:
        """One batch of `predict`.

        Args:
            *args: the data; on JAX the state of the model comes before them.

        Returns:
            A dict of tensors; on JAX also the state.
        """
        *state, data = args
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        if not state:
            return self._summary(x)
        trainable, non_trainable = state[0]
        with keras.StatelessScope(
            [
                *zip(self.trainable_variables, trainable, strict=True),
                *zip(self.non_trainable_variables, non_trainable, strict=True),
            ]
        ):
            return self._summary(x), non_trainable

    def _summary(self, data: Any) -> dict[str, Tensor]:
        return summary(self, data, self._evaluation_seed)

    def check_data(self, x: Any, support: bool = True) -> None:
        """Builds the model if necessary, and refuses data that do not fit.

        Args:
            x: data, as `fit` takes them.
            support: whether x must have a finite density under the likelihood.

        Raises:
            TypeError, ValueError: as `fit`.
        """
        examine(self, x, None, support=support)
