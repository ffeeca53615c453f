"""No tool: the signature of the SavedModel under a GradientTape in a tf.function. The plain gradient, for a tape knows no rule."""

import tensorflow as tf
from common import main


def load(folder, mode):
    model = tf.saved_model.load(str(folder / "saved_model"))
    signature = model.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]

    @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.float32)])
    def run(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            (scores,) = signature(**{name: images}).values()
            best = tf.reduce_max(scores, -1)
        return tape.gradient(best, images)

    def gradient(images, classes):
        assert model  # its variables live as long as it
        return run(tf.constant(images)).numpy()

    return None, gradient


if __name__ == "__main__":
    main(load)
