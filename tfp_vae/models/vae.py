"""The variational autoencoder as a Keras model."""

from typing import Any

import keras
from keras import ops

from tfp_vae.checks import check_distribution, in_dtype_of, static_shape
from tfp_vae.distributions import kl_divergence
from tfp_vae.distributions.serialization import deserialize, serialize
from tfp_vae.evaluation.importance import (
    MarginalLogLikelihood,
    marginal_log_likelihood,
)
from tfp_vae.evaluation.joint import joint_distribution
from tfp_vae.layers.sample import mean_or_mode
from tfp_vae.models.data_checks import examine, examine_validation
from tfp_vae.models.dry_run import Trial, try_shapes
from tfp_vae.models.nonfinite_guard import NonFiniteGuard, NonFiniteLossError
from tfp_vae.models.parts import (
    check_layer,
    check_objective,
    check_prior,
    fits,
    run_part,
    run_prior,
)
from tfp_vae.objectives import ELBO, Objective, ObjectiveTerms, standard_normal
from tfp_vae.reduction import mean_over_first, reduce_loss
from tfp_vae.samples import as_one_batch
from tfp_vae.substrate import Tensor, samplers, strategy_scope, tfd, tfp_seed
from tfp_vae.training.fast_fit import LoopedModel

__all__ = ["VAE"]

# Samples behind the `kl` of `predict`, where no closed form is known.
_PREDICT_KL_SAMPLES = 16

# The name under which the state of the training noise is saved.
_NOISE = "seed_generator_state"


@keras.saving.register_keras_serializable("tfp_vae")
class VAE(LoopedModel):
    """A variational autoencoder whose decoder returns any distribution.

    ```none
    q(z|x) = encoder(x)      p(x|z) = decoder(z)      p(z) = prior
    loss   = -mean over the batch of objective(x)     by default minus the ELBO
    ```

    Losses and metrics are in nats per example: summed over the dimensions of an
    example, averaged over examples.

    Args:
        encoder: a Keras layer or model from x, `[B, *event]`, to a
            `tfd.Distribution` of batch shape `[B]`, reparameterised.
        decoder: a Keras layer or model from z, `[B, *latent]`, to a
            `tfd.Distribution` of batch shape `[B]` over the examples.
        prior: a `tfd.Distribution` over the latent event, a Keras layer that
            returns one when it is called with None (a learned prior, such as
            `MixturePrior`; if its `call` takes `encoder`, it is given `encode`,
            as `VampPrior` is), or None for the standard normal.
        objective: a layer such as `ELBO`, by default `ELBO()`.
        seed: an int that makes the noise of training repeatable, or None.
        **kwargs: of `keras.Model`.

    Call arguments:
        x: `[B, *event]`.

    Returns:
        `(posterior, z, likelihood)`: two distributions and the draw between
        them, `[B, *latent]`. With `objective.num_samples = S > 1` the draws are
        `[S, B, *latent]` and the likelihood's batch shape is `[S * B]`.

    Raises:
        TypeError: if encoder, decoder or prior is not what it should be, or
            returns a tensor.
        ValueError: if shapes do not fit, or the posterior lets no gradient
            through.

    Example:
    ```python
    encoder = keras.Sequential([
        keras.layers.Input((64,)),
        keras.layers.Dense(32, "relu"),
        keras.layers.Dense(MultivariateNormalDiag.params_size(2)),
        MultivariateNormalDiag(2),
    ])
    decoder = keras.Sequential([
        keras.layers.Input((2,)),
        keras.layers.Dense(32, "relu"),
        keras.layers.Dense(IndependentHuber.params_size(64, scale="shared")),
        IndependentHuber(64, scale="shared"),
    ])
    vae = VAE(encoder, decoder)
    vae.compile("adam")
    vae.fit(x, epochs=10)
    ```

    Reference:
        Kingma, Welling. Auto-encoding variational Bayes. ICLR 2014.
        https://arxiv.org/abs/1312.6114
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        prior: tfd.Distribution | keras.layers.Layer | None = None,
        objective: keras.layers.Layer | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_layer(encoder, "encoder")
        check_layer(decoder, "decoder")
        check_prior(prior)
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.objective = check_objective(
            ELBO() if objective is None else objective
        )
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # Evaluation has noise of its own, the same at every call: two models,
        # or one before and after an epoch, are compared on the same draws.
        self._evaluation_seed = 0 if seed is None else seed
        self._evaluation_seed_generator = keras.random.SeedGenerator(
            self._evaluation_seed
        )
        # Whether it was said that the data are no outcomes of the likelihood.
        self.warned_of_values = False
        self._trial = Trial()
        self._log_likelihood_tracker = keras.metrics.Mean("log_likelihood")
        self._kl_tracker = keras.metrics.Mean("kl")
        self._report_trackers = [
            keras.metrics.Mean(name)
            for name in getattr(self.objective, "report_names", ())
        ]
        input_shape = getattr(encoder, "input_shape", None)
        if encoder.built and decoder.built and input_shape is not None:
            self.build(input_shape)

    # The model.

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes all weights, by passing zeros through once.

        Args:
            input_shape: the shape of x, the batch dimension included.

        Raises:
            TypeError, ValueError: as a call of the model does.
        """
        self.built = True  # `call` must not come back here

        def run(x: Tensor) -> tuple[tfd.Distribution, ...]:
            posterior, _, likelihood = self.call(x)
            return posterior, likelihood, self.prior_distribution(posterior)

        zeros = ops.zeros((1, *input_shape[1:]), dtype=self.compute_dtype)
        try_shapes(self, run, zeros)

    def call(
        self, x: Tensor, training: bool | None = None
    ) -> tuple[tfd.Distribution, Tensor, tfd.Distribution]:
        posterior = self.encode(x, training=training)
        if training and (
            posterior.reparameterization_type == tfd.NOT_REPARAMETERIZED
        ):
            raise ValueError(
                "The posterior must be reparameterised: no gradient of the "
                "likelihood would reach the encoder through its samples, and "
                f"nothing would complain. Received: {posterior.name}."
            )
        samples = self.objective.num_samples
        seed = tfp_seed(
            self.seed_generator if training else self._evaluation_seed_generator
        )
        if samples == 1:
            z = posterior.sample(seed=seed)
            return posterior, z, self.decode(z, training=training)
        z = posterior.sample(samples, seed=seed)
        if isinstance(self.objective, Objective):
            z = self.objective.latents(z)
        return posterior, z, self.decode(as_one_batch(z), training=training)

    def encode(
        self, x: Tensor, training: bool | None = None
    ) -> tfd.Distribution:
        """The posterior q(z|x).

        Args:
            x: `[B, *event]`.
            training: whether layers such as Dropout are in training.

        Returns:
            A distribution of batch shape `[B]` over the latent event.
        """
        return check_distribution(
            run_part(self.encoder, x, training),
            "the encoder",
            "MultivariateNormalDiag",
        )

    def decode(
        self, z: Tensor, training: bool | None = None
    ) -> tfd.Distribution:
        """The likelihood p(x|z).

        Args:
            z: `[B, *latent]`.
            training: whether layers such as Dropout are in training.

        Returns:
            A distribution of batch shape `[B]` over the examples.
        """
        expected = getattr(self.decoder, "input_shape", None)
        received = static_shape(ops.shape(z))
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
        return check_distribution(
            run_part(self.decoder, z, training),
            "the decoder",
            "IndependentNormal",
        )

    def prior_distribution(
        self, posterior: tfd.Distribution, training: bool | None = None
    ) -> tfd.Distribution:
        """The prior p(z).

        Args:
            posterior: q(z|x), whose event shape and dtype the default takes.
            training: whether layers such as Dropout are in training.

        Returns:
            A distribution over the latent event.
        """
        if isinstance(self.prior, keras.layers.Layer):
            return check_distribution(
                run_prior(self.prior, self.encode, training),
                "the prior",
                "MixturePrior",
            )
        if self.prior is not None:
            return self.prior
        return standard_normal(posterior)

    # What Keras' training loop calls.

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        steps_per_execution: int | str = "auto",
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Configures the model for training.

        Args:
            optimizer: as in `keras.Model.compile`.
            loss: None. The loss is minus the objective.
            steps_per_execution: as in Keras, or `"auto"`: `fit` takes up to 32
                steps at once, unless a callback follows single batches (or, on
                JAX, the data are no arrays). Results are the same.
            jit_compile: as in Keras, or `"auto"`: beside what Keras chooses, on
                TensorFlow XLA compiles steps that run at once, if `fit` takes
                1,000 of them or more and there are neither convolutions nor
                assertions in them. It draws other noise from the same seed.
            **kwargs: of `keras.Model.compile`, but for those that belong to a
                loss or to metrics of an output.

        Raises:
            ValueError: if a loss or metrics are given.
        """
        for name, value in {"loss": loss, **kwargs}.items():
            if value is None or name not in (
                "loss",
                "loss_weights",
                "metrics",
                "weighted_metrics",
            ):
                continue
            raise ValueError(
                f"A VAE is compiled without `{name}`: its loss is minus its "
                "objective, in which the likelihood that the decoder returns "
                "is the reconstruction term. Another loss beside it would be "
                "counted twice. Choose the likelihood by the decoder's last "
                "layer (IndependentHuber for a Huber loss, IndependentNormal "
                "for a squared error) and the objective by VAE(objective=...). "
                f"Received: {name}={value!r}."
            )
        self._trial = Trial()
        super().compile(
            optimizer=optimizer,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model, and makes the optimizer's variables.

        Args:
            config: what `get_compile_config` gave.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Any = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Minus the mean objective, plus what layers added to the loss.

        Args:
            x: data, `[B, *event]`.
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
        terms = self.compute_terms(x if y is None else y, y_pred, training)
        self._log_likelihood_tracker.update_state(
            terms.log_likelihood, sample_weight
        )
        self._kl_tracker.update_state(terms.kl, sample_weight)
        for tracker in self._report_trackers:
            # Of a batch: as many times as there are examples.
            tracker.update_state(
                terms.reports[tracker.name], ops.shape(terms.objective)[0]
            )
        return added + reduce_loss(-terms.objective, sample_weight)

    def compute_terms(
        self, x: Tensor, y_pred: Any, training: bool = False
    ) -> ObjectiveTerms:
        """The terms of the objective for each example.

        Args:
            x: the target, `[B, *event]`.
            y_pred: what `call` returned.
            training: whether in training.

        Returns:
            `log_likelihood`, `kl` and `objective`, each `[B]`, nats.
        """
        posterior, z, likelihood = y_pred
        return self.objective(
            x,
            posterior=posterior,
            likelihood=likelihood,
            prior=self.prior_distribution(posterior, training),
            z=z,
            training=training,
        )

    def predict_step(self, *args: Any) -> Any:
        """One batch of `predict`.

        Args:
            *args: the data; on JAX the state of the model comes before them.

        Returns:
            A dict of tensors; on JAX, beside it, the state.
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

    def _summary(self, x: Tensor) -> dict[str, Tensor]:
        posterior = self.encode(x)
        z_mean = posterior.mean()
        likelihood = self.decode(z_mean)
        prior = self.prior_distribution(posterior)
        try:
            kl = kl_divergence(posterior, prior)
        except NotImplementedError:
            z = posterior.sample(
                _PREDICT_KL_SAMPLES, seed=tfp_seed(self._evaluation_seed)
            )
            kl = mean_over_first(posterior.log_prob(z) - prior.log_prob(z))
        summary = {
            "mean": mean_or_mode(likelihood),
            "z_mean": z_mean,
            "z_stddev": posterior.stddev(),
            "kl": kl,
        }
        if static_shape(likelihood.event_shape) == tuple(x.shape)[1:]:
            summary["log_likelihood"] = likelihood.log_prob(
                in_dtype_of(likelihood, x)
            )
        return summary

    # What users call.

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains the model, as `keras.Model.fit` does.

        Args:
            x: data, `[N, *event]`, or a pipeline of batches `x`, `(x,)`,
                `(x, y)` or `(x, y, sample_weight)`.
            y: the target of the likelihood, by default x (given, for instance,
                the clean images when x are noisy ones).
            batch_size: as in Keras.
            epochs: as in Keras.
            verbose: as in Keras.
            callbacks: as in Keras.
            validation_split: as in Keras.
            validation_data: `x_val`, `(x_val,)`, `(x_val, y_val)` or a
                pipeline.
            shuffle: as in Keras; the order of arrays is drawn by `np.random`,
                which `keras.utils.set_random_seed` seeds.
            class_weight: as in Keras.
            sample_weight: `[N]`, the weight of each example in the loss.
            **kwargs: the further arguments of `keras.Model.fit`.

        The values of arrays are all looked at before the first step; of a
        pipeline, those of the first batch. Arrays of up to 1 GiB are copied to
        the device once a call, and the compiled steps take their rows there.

        Returns:
            The history, with `loss`, `log_likelihood` and `kl` in nats per
            example, what the objective reports beside them (such as a `beta`
            that changes), and `val_loss` and so on if there are validation
            data.

        Raises:
            TypeError, ValueError: before the first step, if the parts of the
                model, the shapes or the values of the data do not fit.
            NonFiniteLossError: if the loss becomes NaN or infinite; the
                weights are then those of the last good epoch.
        """
        x, y = examine(self, x, y, sample_weight)
        if validation_data is not None:
            validation_data = examine_validation(self, validation_data)
        if self.compiled and self.optimizer and not self.optimizer.built:
            # Now, so that the guard keeps its variables from the start.
            with strategy_scope(self):
                self.optimizer.build(self.trainable_variables)
        guard = NonFiniteGuard()
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(guard)
        else:
            if isinstance(callbacks, keras.callbacks.Callback):
                callbacks = [callbacks]
            # First, so that no callback saves what is no longer a number.
            callbacks = [guard, *(callbacks or [])]
        try:
            return super().fit(
                x,
                y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                **kwargs,
            )
        except NonFiniteLossError:
            guard.restore()
            raise

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        *args: Any,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """The loss and its terms, as `keras.Model.evaluate` gives them.

        The noise is the same at every call, so that the figures of two models,
        or of one after each epoch, differ by the models alone.

        Args:
            x: data, as in `fit`.
            y: the target, by default x.
            batch_size: as in Keras.
            verbose: as in Keras.
            sample_weight: `[N]`, the weight of each example.
            *args: of `keras.Model.evaluate`.
            seed: an int that chooses other noise.
            **kwargs: of `keras.Model.evaluate`.

        Returns:
            `[loss, log_likelihood, kl]`, and what the objective reports beside
            them, or a dict with `return_dict=True`, in nats per example.

        Raises:
            TypeError, ValueError: as `fit`.
        """
        # `fit` has looked at its validation data already.
        if not kwargs.get("_use_cached_eval_dataset", False):
            x, y = examine(self, x, y, sample_weight)
        self._evaluation_seed_generator.state.assign(
            [self._evaluation_seed if seed is None else seed, 0]
        )
        return super().evaluate(
            x, y, batch_size, verbose, sample_weight, *args, **kwargs
        )

    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """One step, as `keras.Model.train_on_batch`; values go unchecked.

        Args:
            x: data, `[B, *event]`.
            *args: of `keras.Model.train_on_batch`.
            **kwargs: of `keras.Model.train_on_batch`.

        Returns:
            The loss and its terms.
        """
        self._build_on(x)
        return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of one batch, as `keras.Model.test_on_batch`.

        Args:
            x: data, `[B, *event]`.
            *args: of `keras.Model.test_on_batch`.
            **kwargs: of `keras.Model.test_on_batch`.

        Returns:
            The loss and its terms.
        """
        self._build_on(x)
        return super().test_on_batch(x, *args, **kwargs)

    def _build_on(self, x: Any) -> None:
        # Keras would build the model symbolically on JAX, which no model that
        # returns distributions survives.
        if not self.built:
            examine(self, x, None, support=False)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What the model makes of each example, without noise.

        Args:
            x: data, as in `fit`.
            *args: of `keras.Model.predict`.
            **kwargs: of `keras.Model.predict`.

        Returns:
            A dict of numpy arrays: `z_mean` and `z_stddev`, of the posterior,
            `[N, *latent]`; `mean`, of the likelihood at `z_mean`,
            `[N, *event]`; `kl`, `[N]` nats; and `log_likelihood` of x at
            `z_mean`, `[N]` nats, if the likelihood is one over x.

        Raises:
            TypeError, ValueError: as `fit`, but for the support.
            NotImplementedError: if a distribution has no mean or no standard
                deviation.
        """
        x, _ = examine(self, x, None, support=False)
        return super().predict(x, *args, **kwargs)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of the likelihood at the mean of the posterior.

        The mode, of a likelihood that has no mean.

        Args:
            x: `[B, *event]`.

        Returns:
            `[B, *event]`.
        """
        return mean_or_mode(self.decode(self.encode(x).mean()))

    def sample(self, n: int, seed: int | None = None) -> Tensor:
        """Draws new data: z from the prior, x from the likelihood.

        Args:
            n: how many.
            seed: an int for the same draws again, or None.

        Returns:
            `[n, *event]`.

        Raises:
            ValueError: if the model is not built yet.
        """
        if not self.built:
            raise ValueError(
                "A model that is not built does not know its latent space. "
                "Call it on a batch, or fit it, before sample()."
            )
        z_seed, x_seed = samplers.split_seed(tfp_seed(seed))
        prior = self.prior_distribution(self.example_posterior())
        return self.decode(prior.sample(n, seed=z_seed)).sample(seed=x_seed)

    def marginal_log_likelihood(
        self,
        x: Any,
        num_samples: int = 100,
        batch_size: int = 128,
        seed: int | None = None,
        verbose: bool = False,
        y: Any = None,
    ) -> MarginalLogLikelihood:
        """Estimates log p(x) by importance sampling from the posterior.

        ```none
        log p(x) ~ log(1 / S sum_s w_s),   w_s = p(x|z_s) p(z_s) / q(z_s|x)
        ```

        A lower bound on average, tight as S grows. Compiled; memory does not
        grow with S.

        Args:
            x: data, `[N, *event]`, or a pipeline of batches `x`, `(x,)` or
                `(x, y)` that can be gone through several times.
            num_samples: S, draws of z for each example; rounded up to a whole
                number of equal chunks.
            batch_size: examples at a time.
            seed: an int for the same estimate again, or None.
            verbose: whether to show the progress.
            y: the target of the likelihood, `[N, *event]`, by default x; of a
                pipeline, that of its batches.

        Returns:
            `MarginalLogLikelihood`: for each example the estimate in nats, its
            standard error, the effective sample size, and the Pareto k-hat that
            tells when not to believe the first two.

        Raises:
            TypeError, ValueError: if the shapes or the values of the data do
                not fit the model, or a number is not positive.

        Reference:
            Burda, Grosse, Salakhutdinov. Importance weighted autoencoders. ICLR
            2016. https://arxiv.org/abs/1509.00519
        """
        return marginal_log_likelihood(
            self, x, num_samples, batch_size, seed, verbose, y
        )

    def joint_distribution(self) -> tfd.JointDistributionNamed:
        """The generative half of the model, p(z) p(x|z), for TFP's samplers.

        With x pinned it is the unnormalised posterior, on which any kernel of
        `tfp.mcmc` runs: what the encoder only approximates.

        ```none
        log p(z, x) = log p(z) + log p(x|z)
        ```

        Returns:
            A distribution over dicts of `z`, `[..., *latent]`, and `x`,
            `[..., *event]`. The decoder sees the leading dimensions of z as one
            batch; those of x broadcast against them. A learned prior is the one
            at the time of the call, the decoder follows its weights.

        Raises:
            ValueError: if the model is not built yet.

        Example:
        ```python
        posterior = vae.joint_distribution().experimental_pin(x=x)
        kernel = tfp.mcmc.HamiltonianMonteCarlo(
            lambda z: posterior.log_prob(z=z),
            step_size=0.1,
            num_leapfrog_steps=5,
        )
        z = vae.encode(x).sample(seed=tfp_seed(0))  # [B, *latent]
        draws = tfp.mcmc.sample_chain(
            1000, z, kernel=kernel, trace_fn=None, seed=tfp_seed(1)
        )
        ```
        """
        return joint_distribution(self)

    def example_posterior(self) -> tfd.Distribution:
        """The posterior of one example of zeros.

        Returns:
            A distribution of batch shape `[1]`: for the shape and the dtype of
            the latent space, which a prior takes from it.
        """
        shape = self.get_build_config()["input_shape"]
        return self.encode(ops.zeros((1, *shape[1:]), self.compute_dtype))

    def check_data(self, x: Any, support: bool = True) -> None:
        """Builds the model if need be, and refuses data that do not fit.

        Args:
            x: data, as `fit` takes them.
            support: whether x must have a finite density under the likelihood.

        Raises:
            TypeError, ValueError: as `fit`.
        """
        examine(self, x, None, support=support)

    # Saving.

    def get_config(self) -> dict[str, Any]:
        prior = self.prior
        if isinstance(prior, keras.layers.Layer):
            prior = keras.saving.serialize_keras_object(prior)
        elif prior is not None:
            prior = {"distribution": serialize(prior)}
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "prior": prior,
            "objective": keras.saving.serialize_keras_object(self.objective),
            "seed": self.seed,
        }

    def save_own_variables(self, store: Any) -> None:
        """Also saves where the noise is, which Keras leaves out.

        Without it a run that is resumed would see the noise of its first epochs
        again.
        """
        super().save_own_variables(store)
        store[_NOISE] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        own = {name: store[name] for name in store.keys() if name != _NOISE}  # noqa: SIM118
        super().load_own_variables(own)
        self.seed_generator.state.assign(store[_NOISE][...])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "VAE":
        config = dict(config)
        prior = config.pop("prior", None)
        if prior is not None and "distribution" in prior:
            prior = deserialize(prior["distribution"])
        elif prior is not None:
            prior = keras.saving.deserialize_keras_object(prior)
        parts: dict[str, Any] = {
            name: keras.saving.deserialize_keras_object(config.pop(name))
            for name in ("encoder", "decoder", "objective")
            if name in config
        }
        if prior is not None:
            parts["prior"] = prior
        return cls(**parts, **config)
