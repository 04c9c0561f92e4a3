"""fastai's `vision_learner(…).fine_tune(EPOCHS)`, with the transforms of its vision tutorial.

One epoch of the head, then EPOCHS of everything, with its one-cycle schedule; the last epoch is the one
kept, as fastai does. Its table of networks has no entry for torchvision's MobileNetV2, so it gets one like
those that are there: cut before the classifier, body in two groups, ImageNet's normalisation.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
import torchvision
from answers import arguments, pictures, tell_answer, tell_epoch

TUTORIAL_RESIZE, TUTORIAL_SIZE = 460, 224  # docs.fast.ai/tutorial.vision.html, "adding data augmentation"


def main() -> None:
    args = arguments(__doc__)
    default = torchvision.models.get_model_weights(args.model).DEFAULT
    cache = args.out / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    shutil.copyfile(args.weights, cache / Path(default.url).name)  # where torchvision looks first
    os.environ["TORCH_HOME"] = str(args.out / "torch")
    from fastai.vision import all as fastai

    torch.set_num_threads(args.threads)
    fastai.set_seed(args.seed)
    arch = torchvision.models.get_model_builder(args.model)
    if arch not in fastai.model_meta:
        fastai.model_meta[arch] = {
            "cut": -1,
            "split": lambda m: fastai.L(
                m[0][0][: len(m[0][0]) // 2], m[0][0][len(m[0][0]) // 2 :], m[1:]
            ).map(fastai.params),
            "stats": fastai.imagenet_stats,
            "weights": "DEFAULT",
        }

    class Tell(fastai.Callback):
        """Says each epoch's validation accuracy."""

        order = fastai.Recorder.order + 1
        epochs, accuracy = 0, 0.0

        def after_epoch(self) -> None:
            Tell.epochs += 1
            Tell.accuracy = float(self.recorder.values[-1][-1])
            tell_epoch(args.out, Tell.epochs, Tell.accuracy)

    photos = fastai.ImageDataLoaders.from_folder(
        args.photos,
        train="train",
        valid="val",
        item_tfms=fastai.Resize(TUTORIAL_RESIZE),
        batch_tfms=fastai.aug_transforms(size=TUTORIAL_SIZE),
    )
    learner = fastai.vision_learner(photos, arch, metrics=fastai.accuracy, cbs=Tell())
    with learner.no_bar():
        learner.fine_tune(args.epochs)
        files = pictures(args.photos / "test")
        learner.remove_cbs(Tell)
        probabilities, labels = learner.get_preds(dl=photos.test_dl(files, with_labels=True))
    tell_answer(
        args.out,
        right=int((probabilities.argmax(1) == labels).sum()),
        photos=len(files),
        best_epoch=Tell.epochs,
        val_accuracy=Tell.accuracy,
        packages=("fastai", "torch", "torchvision", "pillow"),
    )


if __name__ == "__main__":
    main()
