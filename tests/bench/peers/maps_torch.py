"""Captum, pytorch-grad-cam, torch-cam and bare PyTorch on the network's twin, each with what it has of the estimators."""

import sys
from pathlib import Path

import numpy as np
import torch
from maps import SAMPLES, arguments, baselines, inputs, layer_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import twins


def captum(model, layer, x, start, classes):
    from captum.attr import InputXGradient, IntegratedGradients

    ways = {"method": "riemann_middle", "n_steps": SAMPLES, "internal_batch_size": 8}
    found = {
        "input-x-gradient": _last(InputXGradient(model).attribute(x, target=classes)),
        "integrated-gradients": _last(IntegratedGradients(model).attribute(x, start, target=classes, **ways)),
    }
    if x.dtype == torch.float32:
        found |= at_points(model, x, start, classes)
    return found | captum_of_layer(model, layer, x, classes) if layer else found


def captum_of_layer(model, layer, x, classes):
    """The guided map is of all ReLUs that Captum knows, which a capped one is not; and where it is one of these and a minimum."""
    from captum.attr import GuidedGradCam, LayerGradCam

    found = {"grad-cam": LayerGradCam(model, layer).attribute(x, target=classes, relu_attributions=True)[:, 0]}
    capped = any(isinstance(one, torch.nn.ReLU6) for one in model.modules())
    for said, one in {
        "guided-grad-cam": model,
        "guided-grad-cam as ReLU and minimum": apart() if capped else None,
    }.items():
        if one is not None:
            guided = GuidedGradCam(one, one.named[layer_of(folder)])
            found[said] = _last(guided.attribute(x, target=classes, interpolate_mode="bilinear"))
    return found


def apart():
    return twins.in_torch(*twins.read(folder), cap_apart=True)


def at_points(model, x, start, classes):
    """The gradient at each point between baseline and image, one after the other [n SAMPLES, h, w, c]: as it is, and of the
    same weights in float64."""
    exact = twins.in_torch(*twins.read(folder)).double()
    shares = ((torch.arange(SAMPLES) + 0.5) / SAMPLES)[:, None, None, None]
    points = torch.cat([base + shares * (image - base) for image, base in zip(x.detach(), start, strict=True)])
    wanted = classes.repeat_interleave(SAMPLES)
    return {"points": _slopes(model, points, wanted), "exact points": _slopes(exact, points.double(), wanted)}


def _slopes(model, points, wanted):
    found = []
    for point, of in zip(points, wanted, strict=True):
        point = point[None].clone().requires_grad_()
        found += torch.autograd.grad(model(point)[0, of], point)
    return _last(torch.cat(found))


def eager(model, layer, x, start, classes):
    """Equations 5 and 6 of Chefer et al. 2021, and those of Abnar & Zuidema 2020, for the patches behind a class token."""
    layers = [one for one in model.named.values() if type(one).__name__ == "Attention"]
    scores = model(x)[range(len(x)), classes].sum()
    weights = [one.weights for one in layers]
    slopes = torch.autograd.grad(scores, weights)
    same = torch.eye(weights[0].shape[-1], dtype=x.dtype).expand(len(x), -1, -1)
    relevance = flow = same
    for weight, slope in zip(weights, slopes, strict=True):
        relevance = relevance + (weight * slope).clamp(min=0).mean(1) @ relevance
        mixed = weight.mean(1) + same
        flow = mixed / mixed.sum(-1, keepdim=True) @ flow
    side = int((same.shape[-1] - 1) ** 0.5)
    found = {"chefer": relevance, "attention-rollout": flow}
    return {name: each[:, 0, 1:].reshape(-1, side, side) for name, each in found.items()}


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


TOOLS = {"captum": captum, "pytorch-grad-cam": pytorch_grad_cam, "torch-cam": torch_cam, "eager": eager}


if __name__ == "__main__":
    folder, out, tool = arguments()
    layers, weights = twins.read(folder)
    model = twins.in_torch(layers, weights)
    dtype = torch.from_numpy(next(iter(weights.values()))).dtype
    images = inputs(folder)
    x, start = (
        torch.from_numpy(each).permute(0, 3, 1, 2).contiguous().to(dtype) for each in (images, baselines(images))
    )
    with torch.no_grad():
        classes = model(x).argmax(1)
    found = TOOLS[tool](model, model.named.get(layer_of(folder)), x.requires_grad_(), start, classes)
    np.savez(out, **{name: torch.as_tensor(each).detach().numpy() for name, each in found.items()})
