"""No tool: the recipe that is passed around, a Keras model whose ReLUs get a custom gradient, under an eager tape."""

import keras
import tensorflow as tf
from common import main


@tf.custom_gradient
def guided_relu(x):
    y = tf.nn.relu(x)
    return y, lambda upstream: tf.cast(upstream > 0, tf.float32) * tf.cast(y > 0, tf.float32) * upstream


def load(folder, mode):
    model = keras.models.load_model(folder / "model.keras")
    model.layers[-1].activation = keras.activations.linear
    for layer in model.layers:
        if getattr(layer, "activation", None) is keras.activations.relu:
            layer.activation = guided_relu

    def gradient(images, classes):
        images = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            best = tf.reduce_max(model(images), -1)
        return tape.gradient(best, images).numpy()

    return None, gradient


if __name__ == "__main__":
    main(load)
