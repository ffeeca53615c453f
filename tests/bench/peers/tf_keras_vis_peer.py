"""tf-keras-vis: Saliency with the modifiers ReplaceToLinear and GuidedBackpropagation, as in its examples."""

import keras
from common import main
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.utils.model_modifiers import GuidedBackpropagation, ReplaceToLinear
from tf_keras_vis.utils.scores import CategoricalScore

MODIFIERS = {"guided": [GuidedBackpropagation(), ReplaceToLinear()], "backprop": [ReplaceToLinear()]}


def load(folder, mode):
    model = keras.models.load_model(folder / "model.keras")
    saliency = Saliency(model, model_modifier=MODIFIERS[mode], clone=True)

    def classes(images):
        return model.predict(images, verbose=0).argmax(-1)

    def gradient(images, classes):
        score = CategoricalScore(classes.tolist())
        return saliency(score, images, keepdims=True, normalize_map=False, gradient_modifier=None)

    return classes, gradient


if __name__ == "__main__":
    main(load)
