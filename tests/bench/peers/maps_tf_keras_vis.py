"""tf-keras-vis: Gradcam of the Keras model. A layer that ends in an activation is not what it takes by itself."""

import keras
import numpy as np
from maps import arguments, inputs, layer_of
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
from tf_keras_vis.utils.scores import CategoricalScore

if __name__ == "__main__":
    folder, out, _ = arguments()
    model = keras.models.load_model(folder / "model.keras")
    images = inputs(folder)
    score = CategoricalScore(model.predict(images, verbose=0).argmax(-1).tolist())
    cam = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)
    options = {"expand_cam": False, "normalize_cam": False, "activation_modifier": lambda each: np.maximum(each, 0)}
    found = {}
    for name, more in {"grad-cam": {}, "grad-cam as it seeks": {"seek_penultimate_conv_layer": True}}.items():
        more = more or {"seek_penultimate_conv_layer": False}
        found[name] = np.asarray(cam(score, images, layer_of(folder), **more, **options))
    np.savez(out, **found)
