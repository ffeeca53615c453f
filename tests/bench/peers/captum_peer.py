"""Captum: GuidedBackprop, Deconvolution and Saliency on the same network in PyTorch. It reads no SavedModel."""

import sys
from pathlib import Path

import torch
from captum.attr import Deconvolution, GuidedBackprop, Saliency
from common import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import twins

METHODS = {"guided": GuidedBackprop, "deconv": Deconvolution, "backprop": Saliency}


def load(folder, mode):
    model = twins.in_torch(*twins.read(folder))
    method = METHODS[mode](model)

    def classes(images):
        with torch.no_grad():
            return model(_tensor(images)).argmax(1).numpy()

    def gradient(images, classes):
        given = torch.as_tensor(classes)
        options = {"abs": False} if mode == "backprop" else {}
        return (
            method.attribute(_tensor(images).requires_grad_(), target=given, **options)
            .permute(0, 2, 3, 1)
            .detach()
            .numpy()
        )

    return classes, gradient


def _tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    main(load)
