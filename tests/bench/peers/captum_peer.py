"""Captum: GuidedBackprop, Deconvolution and Saliency on the same network in PyTorch. It reads no SavedModel."""

import sys
from pathlib import Path

import torch
from captum.attr import Deconvolution, GuidedBackprop, Saliency
from common import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import twins

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cudnn.allow_tf32 = False  # as gradviz

METHODS = {"guided": GuidedBackprop, "deconv": Deconvolution, "backprop": Saliency}


def load(folder, mode):
    model = twins.in_torch(*twins.read(folder)).to(DEVICE)
    method = METHODS[mode](model)

    def classes(images):
        with torch.no_grad():
            return model(_tensor(images)).argmax(1).cpu().numpy()

    def gradient(images, classes):
        given = torch.as_tensor(classes, device=DEVICE)
        options = {"abs": False} if mode == "backprop" else {}
        return (
            method.attribute(_tensor(images).requires_grad_(), target=given, **options)
            .permute(0, 2, 3, 1)
            .detach()
            .cpu()
            .numpy()
        )

    return classes, gradient


def _tensor(images):
    return torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    main(load)
