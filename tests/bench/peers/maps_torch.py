"""Captum, pytorch-grad-cam and torch-cam on the network's twin in PyTorch, each with what it has of the estimators."""

import sys
from pathlib import Path

import numpy as np
import torch
from maps import LAYER, SAMPLES, arguments, baselines, inputs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import twins


def captum(model, layer, x, start, classes):
    from captum.attr import GuidedGradCam, InputXGradient, IntegratedGradients, LayerGradCam

    ways = {"method": "riemann_middle", "n_steps": SAMPLES, "internal_batch_size": 8}
    guided = GuidedGradCam(model, layer).attribute(x, target=classes, interpolate_mode="bilinear")
    return {
        "input-x-gradient": _last(InputXGradient(model).attribute(x, target=classes)),
        "integrated-gradients": _last(IntegratedGradients(model).attribute(x, start, target=classes, **ways)),
        "grad-cam": LayerGradCam(model, layer).attribute(x, target=classes, relu_attributions=True)[:, 0],
        "guided-grad-cam": _last(guided),
    }


def pytorch_grad_cam(model, layer, x, start, classes):
    from pytorch_grad_cam import GradCAM, HiResCAM, LayerCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    found = {}
    for name, method in {"grad-cam": GradCAM, "hires-cam": HiResCAM, "layer-cam": LayerCAM}.items():
        with method(model, [layer]) as cam:
            targets = [ClassifierOutputTarget(int(one)) for one in classes]
            cam(x, targets)  # scales and enlarges: what it makes of is asked for again
            held = cam.activations_and_grads
            value, slope = (each[0].detach().numpy() for each in (held.activations, held.gradients))
            found[name] = np.maximum(cam.get_cam_image(x, layer, targets, value, slope, False), 0)
    return found


def torch_cam(model, layer, x, start, classes):
    from torchcam.methods import GradCAM, LayerCAM

    found = {}
    for name, method in {"grad-cam": GradCAM, "layer-cam": LayerCAM}.items():
        with method(model, layer) as cam:
            scores = model(x)
            found[name] = cam(classes.tolist(), scores, normalized=False)[0]
    return found


def _last(found):
    return found.permute(0, 2, 3, 1)


TOOLS = {"captum": captum, "pytorch-grad-cam": pytorch_grad_cam, "torch-cam": torch_cam}


if __name__ == "__main__":
    folder, out, tool = arguments()
    images = inputs(folder)
    model = twins.in_torch(*twins.read(folder))
    x, start = (torch.from_numpy(each).permute(0, 3, 1, 2).contiguous() for each in (images, baselines(images)))
    with torch.no_grad():
        classes = model(x).argmax(1)
    found = TOOLS[tool](model, model.named[LAYER], x.requires_grad_(), start, classes)
    np.savez(out, **{name: torch.as_tensor(each).detach().numpy() for name, each in found.items()})
