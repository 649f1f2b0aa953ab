"""Everything that is compared with `VAE.fit`, one function per rival.

Each takes a network, data and a batch size and returns a function that trains
for a number of epochs. The loss is the same in all: cross-entropy and KL,
summed over an example; the optimizer is Adam with a rate of 1e-3.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from networks import (
    Network,
    bare,
    encoder_parts,
    jax_network,
    keras_layers,
)

import tfp_vae
from tfp_vae import VAE
from tfp_vae.layers import IndependentBernoulli, MultivariateNormalDiag
from tfp_vae.losses import NegativeLogLikelihood

Trainer = Callable[[int], Any]
RATE = 1e-3


def our_vae(
    network: Network, objective: keras.layers.Layer | None = None
) -> VAE:
    """The network with distribution layers, compiled."""
    vae = VAE(
        keras.Sequential(
            [
                keras.Input(network.shape),
                *keras_layers(keras.layers, encoder_parts(network)),
                MultivariateNormalDiag(network.latent),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((network.latent,)),
                *keras_layers(keras.layers, network.decoder),
                IndependentBernoulli(network.shape),
            ]
        ),
        objective=objective,
        seed=1,
    )
    vae.compile(keras.optimizers.Adam(RATE))
    return vae


def ours(network: Network, x: np.ndarray, batch: int) -> Trainer:
    """`VAE.fit`."""
    return functools.partial(_fit, our_vae(network), x, batch)


def _fit(model: Any, x: np.ndarray, batch: int, epochs: int) -> Any:
    return model.fit(x, batch_size=batch, epochs=epochs, verbose=0)


def _autoencoder(network: Network, kind: Any, *last: Any) -> Any:
    """The network without noise, from a row to itself."""
    return kind(
        [
            keras.Input(network.shape),
            *keras_layers(keras.layers, encoder_parts(network)),
            keras.layers.Dense(network.latent),
            *keras_layers(keras.layers, network.decoder),
            *last,
        ]
    )


def our_autoencoder(network: Network, x: np.ndarray, batch: int) -> Trainer:
    """`tfp_vae.Sequential` with `NegativeLogLikelihood`."""
    model = _autoencoder(
        network, tfp_vae.Sequential, IndependentBernoulli(network.shape)
    )
    model.compile(keras.optimizers.Adam(RATE), NegativeLogLikelihood())
    return functools.partial(_fit_to_itself, model, x, batch)


def keras_autoencoder(network: Network, x: np.ndarray, batch: int) -> Trainer:
    """The same in plain Keras, with its cross-entropy."""
    model = _autoencoder(
        network, keras.Sequential, keras.layers.Reshape(network.shape)
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss)
    return functools.partial(_fit_to_itself, model, x, batch)


def _fit_to_itself(model: Any, x: np.ndarray, batch: int, epochs: int) -> Any:
    return model.fit(x, x, batch_size=batch, epochs=epochs, verbose=0)


class ByHand(keras.Model):
    """The recipe of keras.io, with summed KL and cross-entropy."""

    def __init__(self, encoder: keras.Model, decoder: keras.Model) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.seed_generator = keras.random.SeedGenerator(1)
        self.reconstruction = keras.metrics.Mean("reconstruction_loss")
        self.kl = keras.metrics.Mean("kl_loss")
        self.built = True

    def call(self, x):
        z_mean, z_log_var = ops.split(self.encoder(x), 2, axis=-1)
        noise = keras.random.normal(ops.shape(z_mean), seed=self.seed_generator)
        z = z_mean + ops.exp(0.5 * z_log_var) * noise
        return z_mean, z_log_var, self.decoder(z)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        z_mean, z_log_var, logits = y_pred
        entropy = keras.losses.binary_crossentropy(
            ops.reshape(x, (-1, 784)),
            ops.reshape(logits, (-1, 784)),
            from_logits=True,
        )
        reconstruction = ops.mean(784 * entropy)
        kl = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
        kl = ops.mean(ops.sum(kl, axis=1))
        self.reconstruction.update_state(reconstruction)
        self.kl.update_state(kl)
        return reconstruction + kl


def by_hand(
    network: Network, x: np.ndarray, batch: int, several: int = 1
) -> Trainer:
    """Keras 3 on the same backend; on TensorFlow the recipe's train_step."""
    model: Any = ByHand
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        class WithTrainStep(ByHand):
            def train_step(self, data):
                x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
                with tf.GradientTape() as tape:
                    loss = self.compute_loss(x, None, self(x))
                weights = self.trainable_weights
                grads = tape.gradient(loss, weights)
                self.optimizer.apply_gradients(zip(grads, weights, strict=True))
                self._loss_tracker.update_state(loss)
                return {m.name: m.result() for m in self.metrics}

        model = WithTrainStep
    model = model(
        keras.Sequential(
            [
                keras.Input(network.shape),
                *keras_layers(keras.layers, encoder_parts(network)),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((network.latent,)),
                *keras_layers(keras.layers, network.decoder),
            ]
        ),
    )
    model.compile(keras.optimizers.Adam(RATE), steps_per_execution=several)
    return functools.partial(_fit, model, x, batch)


def _bounds(n: int, batch: int) -> tuple[int, int]:
    """How many whole batches there are, and where the last rows begin."""
    return n // batch, n - n % batch


def _tf_epochs(
    step: Callable[[Any], Any], x: np.ndarray, batch: int
) -> Trainer:
    """Epochs of a TensorFlow step in one graph, which shuffles the data."""
    import tensorflow as tf

    data = tf.constant(x)
    whole, rest = _bounds(len(x), batch)

    @tf.function
    def epoch() -> Any:
        order = tf.random.shuffle(tf.range(len(x)))
        total = 0.0
        for i in tf.range(whole):
            rows = tf.reshape(order[i * batch : (i + 1) * batch], [batch])
            total += step(tf.gather(data, rows))
        if rest < len(x):
            total += step(tf.gather(data, order[rest:]))
        return total

    return lambda epochs: [epoch().numpy() for _ in range(epochs)]


def tf_loop(
    network: Network, x: np.ndarray, batch: int, xla: bool = False
) -> Trainer:
    """A `tf.function` of a whole epoch, with TensorFlow's fused Adam."""
    import tensorflow as tf
    import tf_keras

    encoder = tf_keras.Sequential(
        keras_layers(tf_keras.layers, encoder_parts(network))
    )
    decoder = tf_keras.Sequential(
        keras_layers(tf_keras.layers, network.decoder)
    )
    encoder.build((None, *network.shape))
    decoder.build((None, network.latent))
    weights = [*encoder.trainable_weights, *decoder.trainable_weights]
    moments = [
        (tf.Variable(tf.zeros_like(w)), tf.Variable(tf.zeros_like(w)))
        for w in weights
    ]
    powers = tf.Variable(0.9), tf.Variable(0.999)

    @tf.function(jit_compile=xla)
    def step(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            mean, log_var = tf.split(encoder(rows), 2, axis=-1)
            noise = tf.random.normal(tf.shape(mean))
            logits = decoder(mean + tf.exp(0.5 * log_var) * noise)
            entropy = tf.nn.sigmoid_cross_entropy_with_logits(rows, logits)
            kl = -0.5 * (1 + log_var - tf.square(mean) - tf.exp(log_var))
            count = tf.cast(tf.shape(rows)[0], tf.float32)
            loss = (tf.reduce_sum(entropy) + tf.reduce_sum(kl)) / count
        gradients = tape.gradient(loss, weights)
        for weight, (m, v), gradient in zip(
            weights, moments, gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=RATE,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-7,
                grad=gradient,
            )
        powers[0].assign(0.9 * powers[0])
        powers[1].assign(0.999 * powers[1])
        return loss

    return _tf_epochs(step, x, batch)


def tfp_layers(
    network: Network, x: np.ndarray, batch: int, xla: bool = False
) -> Trainer:
    """Keras 2 with `tfp.layers`, as in TFP's VAE tutorial."""
    import tensorflow as tf
    import tensorflow_probability as tfp
    import tf_keras

    tfd, tfpl = tfp.distributions, tfp.layers
    latent = network.latent
    prior = tfd.Independent(tfd.Normal(tf.zeros(latent), 1.0), 1)
    encoder = tf_keras.Sequential(
        [
            tf_keras.Input(network.shape),
            *keras_layers(tf_keras.layers, encoder_parts(network)),
            tfpl.IndependentNormal(
                latent,
                activity_regularizer=tfpl.KLDivergenceRegularizer(
                    prior, use_exact_kl=True
                ),
            ),
        ]
    )
    decoder = tf_keras.Sequential(
        [
            tf_keras.Input((latent,)),
            *keras_layers(tf_keras.layers, network.decoder),
            tf_keras.layers.Flatten(),
            tfpl.IndependentBernoulli(network.shape),
        ]
    )
    model = tf_keras.Model(encoder.inputs, decoder(encoder.outputs[0]))
    model.compile(
        tf_keras.optimizers.Adam(RATE),
        loss=lambda data, likelihood: -likelihood.log_prob(data),
        jit_compile=xla,
    )

    def fit(epochs: int) -> Any:
        return model.fit(x, x, batch_size=batch, epochs=epochs, verbose=0)

    return fit


def _jax_epochs(
    step: Callable[[Any, Any, Any], Any], state: Any, x: np.ndarray, batch: int
) -> Trainer:
    """Epochs of a JAX step under `lax.scan`, which shuffles the data.

    The step returns the state and its loss, which is summed.
    """
    import jax

    data = jax.numpy.asarray(x)
    whole, rest = _bounds(len(x), batch)
    held = [state, jax.random.key(0)]

    def rows_step(state: Any, given: Any) -> Any:
        rows, key = given
        return step(state, data[rows], key)

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state: Any, key: Any) -> Any:
        key, shuffle, last = jax.random.split(key, 3)
        order = jax.random.permutation(shuffle, len(x))
        keys = jax.random.split(last, whole + 1)
        batches = order[:rest].reshape(whole, batch)
        state, losses = jax.lax.scan(rows_step, state, (batches, keys[1:]))
        total = losses.sum()
        if rest < len(x):
            state, loss = rows_step(state, (order[rest:], keys[0]))
            total += loss
        return state, key, total

    def train(epochs: int) -> None:
        for _ in range(epochs):
            *held[:], total = epoch(*held)
            float(total)

    return train


def jax_scan(network: Network, x: np.ndarray, batch: int) -> Trainer:
    """JAX by hand, an epoch in one `lax.scan`."""
    import jax
    from jax import numpy as jnp
    from jax.example_libraries.optimizers import adam

    keys = jax.random.split(jax.random.key(1))
    encoder, encode = jax_network(
        encoder_parts(network), network.shape, keys[0]
    )
    decoder, decode = jax_network(network.decoder, (network.latent,), keys[1])
    start, update, get = adam(RATE)

    def loss(params: Any, rows: Any, key: Any) -> Any:
        mean, log_var = jnp.split(encode(params[0], rows), 2, axis=-1)
        noise = jax.random.normal(key, mean.shape)
        logits = decode(params[1], mean + jnp.exp(0.5 * log_var) * noise)
        entropy = jnp.maximum(logits, 0) - logits * rows
        entropy += jnp.log1p(jnp.exp(-jnp.abs(logits)))
        kl = -0.5 * (1 + log_var - jnp.square(mean) - jnp.exp(log_var))
        return (entropy.sum() + kl.sum()) / len(rows)

    def step(state: Any, rows: Any, key: Any) -> Any:
        count, inner = state
        nats, gradients = jax.value_and_grad(loss)(get(inner), rows, key)
        return (count + 1, update(count, gradients, inner)), nats

    state = jnp.zeros((), jnp.int32), start((encoder, decoder))
    return _jax_epochs(step, state, x, batch)


def jax_products(network: Network, x: np.ndarray, batch: int) -> Trainer:
    """The products of a step in JAX: a linear network, forward and backward.

    It is the limit, so its convolutions have the form that is fast in XLA.
    """
    import jax

    from tfp_vae.training.jax_convolutions import with_fast_convolutions

    keys = jax.random.split(jax.random.key(1))
    encoder, encode = jax_network(
        bare(encoder_parts(network)), network.shape, keys[0]
    )
    decoder, decode = jax_network(
        bare(network.decoder), (network.latent,), keys[1]
    )

    def forward(params: Any, rows: Any) -> Any:
        z = encode(params[0], rows)[:, : network.latent]
        return decode(params[1], z)

    def step(params: Any, rows: Any, key: Any) -> Any:
        # With the output as its own cotangent no product can be left out.
        out, backward = jax.vjp(lambda p: forward(p, rows), params)
        (gradients,) = backward(out)
        params = jax.tree.map(lambda p, g: p - 1e-9 * g, params, gradients)
        return params, out.ravel()[0]

    step = with_fast_convolutions(step)
    return _jax_epochs(step, (encoder, decoder), x, batch)


def tf_products(network: Network, x: np.ndarray, batch: int) -> Trainer:
    """The products of a step in TensorFlow: a linear network."""
    import tensorflow as tf
    import tf_keras

    encoder = tf_keras.Sequential(
        keras_layers(tf_keras.layers, bare(encoder_parts(network)))
    )
    decoder = tf_keras.Sequential(
        keras_layers(tf_keras.layers, bare(network.decoder))
    )
    encoder.build((None, *network.shape))
    decoder.build((None, network.latent))
    weights = [*encoder.trainable_weights, *decoder.trainable_weights]

    @tf.function
    def step(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            out = decoder(encoder(rows)[:, : network.latent])
        # With the output as its own cotangent no product can be left out.
        gradients = tape.gradient(out, weights, output_gradients=out)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.assign_sub(1e-9 * gradient)
        return out[(0,) * len(out.shape)]

    return _tf_epochs(step, x, batch)
