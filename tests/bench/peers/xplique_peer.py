"""xplique: GuidedBackprop and DeconvNet on a Keras model without the final softmax, labels one-hot, as in its tutorials."""

import keras
import tensorflow as tf
from common import BATCH, main
from xplique.attributions import DeconvNet, GuidedBackprop

METHODS = {"guided": GuidedBackprop, "deconv": DeconvNet}


def load(folder, mode):
    model = keras.models.load_model(folder / "model.keras")
    model.layers[-1].activation = keras.activations.linear
    explainer = METHODS[mode](model, batch_size=BATCH, reducer=None)

    def classes(images):
        return model.predict(images, verbose=0).argmax(-1)

    def gradient(images, classes):
        return explainer(images, tf.one_hot(classes, model.output_shape[-1])).numpy()

    return classes, gradient


if __name__ == "__main__":
    main(load)
