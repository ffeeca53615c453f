"""PAIR saliency: its GuidedBackprop for TensorFlow 1 graphs, one image a call, for it takes no more.

It wants a session with variables, which no SavedModel of Keras 3 gives: the network is built anew from its layers.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import saliency.tf1 as saliency
import tensorflow.compat.v1 as tf
from common import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import twins


def load(folder, mode):
    layers, weights = twins.read(folder)
    graph = tf.Graph()
    with graph.as_default():
        image, neuron = tf.placeholder(tf.float32, [None, 224, 224, 3]), tf.placeholder(tf.int32, [])
        variables = {
            name: tf.get_variable(f"v{i}", value.shape, initializer=tf.zeros_initializer())
            for i, (name, value) in enumerate(weights.items())
        }
        logits = twins.in_tensorflow(layers, variables, image, lambda x, cap: tf.nn.relu6(x) if cap else tf.nn.relu(x))
        session = tf.Session(graph=graph)
        for name, variable in variables.items():
            variable.load(weights[name], session)
        with tempfile.TemporaryDirectory() as scratch:
            guided = saliency.GuidedBackprop(graph, session, logits[0, neuron], image, tmp_ckpt_path=f"{scratch}/model")

    def classes(images):
        return session.run(logits, {image: images}).argmax(-1)

    def gradient(images, classes):
        pairs = zip(images, classes, strict=True)
        return np.stack([guided.GetMask(each, feed_dict={neuron: one}) for each, one in pairs])

    return classes, gradient


if __name__ == "__main__":
    tf.disable_eager_execution()
    main(load)
