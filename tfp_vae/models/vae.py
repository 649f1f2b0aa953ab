"""The variational autoencoder as a Keras model."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.entries import accepted, conditions_of
from tfp_vae.evaluation.compiled import forget
from tfp_vae.evaluation.importance import (
    MarginalLogLikelihood,
    marginal_log_likelihood,
)
from tfp_vae.evaluation.joint import joint_distribution
from tfp_vae.evaluation.model import prior_of
from tfp_vae.keras_internals import has_value
from tfp_vae.latents import draw, has_batch
from tfp_vae.layers.sample import mean_or_mode
from tfp_vae.models.data_checks import examine
from tfp_vae.models.dry_run import Trial
from tfp_vae.models.latent_variable_model import LatentVariableModel
from tfp_vae.models.nonfinite_guard import NonFiniteGuard, NonFiniteLossError
from tfp_vae.models.on_batch import OnBatch
from tfp_vae.models.unscaled import warn_of_unscaled_divergence
from tfp_vae.substrate import Tensor, samplers, strategy_scope, tfd, tfp_seed
from tfp_vae.training.data import Data

__all__ = ["VAE"]


@keras.saving.register_keras_serializable("tfp_vae")
class VAE(OnBatch, LatentVariableModel):
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
            `MixturePrior`; if its `call` takes `encoder`, like `VampPrior`, it
            gets `encode`), or None for the standard normal.
        objective: a layer such as `ELBO`, by default `ELBO()`.
        seed: an int that makes the noise of training repeatable, or None.
        missing_values: the number that marks elements of x that are missing,
            such as `np.nan`; None if none may be. The encoder sees 0 instead,
            and a mask of 1 where observed if it asks for `observed`; the
            log-likelihood is that of the observed elements.
        missing_model: a layer from completed data, `[B, *event]`, to a
            `tfd.Distribution` over the mask, such as `SelfMasking`, if being
            missing depends on the value; None if it does not.
        **kwargs: of `keras.Model`.

    Data are arrays, or dicts of arrays: the likelihood is the density of `"x"`,
    every other entry is a condition. Each part is called with the entries it
    asks for: a functional model by the names of its inputs, a subclass by the
    arguments of its `call`; a part with one input gets only x (z).

    Call arguments:
        x: `[B, *event]`, or a dict of it and of conditions.

    Returns:
        `(posterior, z, likelihood)`: two distributions and the draw between
        them, `[B, *latent]`. With `objective.num_samples = S > 1` the draws are
        `[S, B, *latent]` and the likelihood's batch shape is `[S * B]`.

    Raises:
        TypeError: if encoder, decoder or prior is not what it should be, or
            returns a tensor.
        ValueError: if shapes do not fit, the posterior lets no gradient
            through, an entry is missing or not used, or the likelihood cannot
            leave out missing elements.

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
                JAX, the data are not arrays). Results are the same.
            jit_compile: as in Keras, or `"auto"`: in addition to Keras' choice,
                on TensorFlow XLA compiles steps that run at once, if `fit`
                takes 1,000 or more and they have neither convolutions nor
                assertions. XLA draws other noise from the same seed.
            **kwargs: of `keras.Model.compile`, except those that belong to a
                loss or to metrics of an output.

        Raises:
            ValueError: if a loss or metrics are given, or one of the last two
                arguments is out of range.
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
                "is the reconstruction term. With another loss the data would "
                "be counted twice. Choose the likelihood by the decoder's last "
                "layer (IndependentHuber for a Huber loss, IndependentNormal "
                "for a squared error) and the objective by VAE(objective=...). "
                f"Received: {name}={value!r}."
            )
        self.dry_run = Trial()
        forget(self)
        super().compile(
            optimizer=optimizer,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )

    # Hooks of `fit`.

    def before_fit(self, data: Data) -> Data:
        """Refuses data on which the model cannot be trained: see `examine`.

        Args:
            data: as `fit` was given them, or those to validate on.

        Returns:
            The data to be used.

        Raises:
            TypeError, ValueError: if the parts of the model, the shapes or the
                values of the data do not fit.
        """
        x, y = examine(self, *data)
        warn_of_unscaled_divergence(self)
        if self.compiled and self.optimizer and not self.optimizer.built:
            # Now, so that the guard keeps the variables from the start.
            with strategy_scope(self):
                self.optimizer.build(self.trainable_variables)
        return Data(x, y, data.sample_weight)

    def before_evaluate(self, data: Data) -> Data:
        """The same before `evaluate`, whose noise it does not change.

        Args:
            data: as `evaluate` was given them.

        Returns:
            The data to be used.

        Raises:
            TypeError, ValueError: as `before_fit`.
        """
        noise = self._evaluation_seed_generator.state
        before = ops.convert_to_numpy(noise)
        x, y = examine(self, *data)
        noise.assign(before)
        return Data(x, y, data.sample_weight)

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """The guard, which comes first.

        So no callback saves weights that are no longer finite.

        Returns:
            A list of one.
        """
        return [NonFiniteGuard()]

    def after_failure(
        self, error: BaseException, own: list[keras.callbacks.Callback]
    ) -> None:
        """Puts back the weights of the last good epoch, if they are lost.

        Args:
            error: what was raised.
            own: what `own_callbacks` gave.
        """
        (guard,) = own
        if isinstance(error, NonFiniteLossError) or not all(
            map(has_value, self.trainable_variables)
        ):
            guard.restore()

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
        or of one after each epoch, differ only by the models.

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
            `[loss, log_likelihood, kl]`, then the reports of the objective, or
            a dict with `return_dict=True`, in nats per example.

        Raises:
            TypeError, ValueError: as `fit`.
        """
        self._evaluation_seed_generator.state.assign(
            [self._evaluation_seed if seed is None else seed, 0]
        )
        return super().evaluate(
            x, y, batch_size, verbose, sample_weight, *args, **kwargs
        )

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The results of the model for each example, without noise.

        Args:
            x: data, as in `fit`.
            *args: of `keras.Model.predict`.
            **kwargs: of `keras.Model.predict`.

        Returns:
            A dict of numpy arrays: `z_mean` and `z_stddev`, of the posterior,
            `[N, *latent]`; `mean`, of the likelihood at `z_mean`,
            `[N, *event]`; `kl`, `[N]` nats; and, if the likelihood is over x,
            `log_likelihood` of x at `z_mean`, `[N]` nats, and `elbo`, which is
            `log_likelihood - kl`. (`evaluate` takes the likelihood at a draw of
            z, as in the definition of the ELBO.) Where TFP knows no mean, see
            `reconstruct`; where it knows no standard deviation, it is that of
            100 draws, the same at each call for batches of one size.

        Raises:
            TypeError, ValueError: as `fit`, except that data outside the
                support are accepted.
        """
        x, _ = examine(self, x, None, support=False)
        return super().predict(x, *args, **kwargs)

    def reconstruct(self, x: Any) -> Tensor:
        """The mean of the likelihood at the mean of the posterior.

        For either, where TFP knows no mean, the first that exists of: the mode;
        the median, for independent numbers; the mean of 100 draws (for instance
        of a flow, or of a relaxed categorical), the same at each call for
        batches of one size.

        Args:
            x: `[B, *event]`, or a dict of it and of conditions.

        Returns:
            `[B, *event]`.
        """
        z = mean_or_mode(self.encode(x))
        return mean_or_mode(
            self.decode(z, **accepted(self.decode, conditions_of(x)))
        )

    def sample(
        self,
        n: int,
        seed: int | None = None,
        mean: bool = False,
        **conditions: Any,
    ) -> Tensor:
        """Draws new data: z from the prior, x from the likelihood.

        Args:
            n: how many.
            seed: an int for the same draws again, or None.
            mean: whether to return the mean of the likelihood at each z, as in
                `reconstruct`, instead of a draw. z is the same in both cases.
            **conditions: by name, `[n, ...]` or one value for all:
                `vae.sample(16, label=7)`.

        Returns:
            `[n, *event]`.

        Raises:
            ValueError: if the model is not built yet, n is not an int >= 1, or
                a condition is missing, not used, or has another shape.
        """
        check_positive_int("n", n)
        if not self.built:
            raise ValueError(
                "A model that is not built does not know its latent space. "
                "Call it on a batch, or fit it, before sample()."
            )
        z_seed, x_seed = samplers.split_seed(tfp_seed(seed))
        self._check_generative(conditions)
        conditions = self._rows(conditions, n)
        prior = prior_of(self, self.example_posterior(), conditions | {"x": ()})
        # A prior that is conditional is one for each row already.
        z = draw(prior, () if has_batch(prior) else (n,), z_seed)
        likelihood = self.decode(z, **accepted(self.decode, conditions))
        return (
            mean_or_mode(likelihood) if mean else likelihood.sample(seed=x_seed)
        )

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

        It calls `tfp_vae.evaluation.marginal_log_likelihood`, which documents
        formula, limits and source.

        Args:
            x: data, `[N, *event]`, or a pipeline of batches.
            num_samples: draws of z for each example.
            batch_size: examples at a time.
            seed: an int for the same estimate again, or None.
            verbose: whether to show the progress.
            y: the target of the likelihood, by default x.

        Returns:
            `MarginalLogLikelihood`, each field `[N]`, in nats per example.

        Raises:
            TypeError, ValueError: as the function does.
        """
        return marginal_log_likelihood(
            self, x, num_samples, batch_size, seed, verbose, y
        )

    def joint_distribution(
        self, **conditions: Any
    ) -> tfd.JointDistributionNamed:
        """The generative half of the model, p(z) p(x|z), for TFP's samplers.

        With x pinned it is the unnormalised posterior, which the encoder only
        approximates; any kernel of `tfp.mcmc` can sample it.

        ```none
        log p(z, x) = log p(z) + log p(x|z)
        ```

        Args:
            **conditions: by name, one value for all.

        Returns:
            A distribution over dicts of `z`, `[..., *latent]`, and `x`,
            `[..., *event]`. The decoder sees the leading dimensions of z as one
            batch; those of x broadcast against them. A learned prior stays as
            it is at the time of the call; the decoder follows its weights.

        Raises:
            ValueError: if the model is not built yet, or a condition is
                missing, not used, or has another shape.

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
        self._check_generative(conditions)
        return joint_distribution(self, conditions)
