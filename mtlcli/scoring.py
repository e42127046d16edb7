"""Scores of any predictor on whole pictures, shared by all processes there are."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mtlcli.data.batches import WholePictures, whole_pictures
from mtlcli.distributed import gather, rank, world

Predict = Callable[[Tensor], Mapping[str, Tensor]]


def score(
    predict: Predict,
    pictures: WholePictures,
    tasks: Mapping[str, Any],
    options: Mapping[str, Mapping[str, Any]],
    workers: int,
    quiet: bool,
    save: Callable[[str, Mapping[str, Tensor]], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Scores of any predictor: image (1, 3, h, w) -> {task: logits (1, C, h', w')}.

    Logits are resized bilinearly to the size of the labels and scored there (ATRC's protocol). A
    picture does not count for a task it has no label for, or whose option "ids" leaves it out.
    `save` is given the id and the resized logits of every picture. Each process measures its share
    of the pictures; all get the same scores, which are those of one process.
    """
    measured: dict[int, dict[str, Any]] = {}  # picture -> task -> statistics
    options = merged(options, {}, tasks)
    counted = {n: set(options[n].get("ids") or pictures.ids) for n in tasks}
    own = range(rank(), len(pictures), world())
    batches = tqdm(
        whole_pictures(pictures, own, workers),
        desc="eval",
        leave=None,
        disable=True if quiet or rank() else None,
    )
    for index, batch in zip(own, batches):
        ident = pictures.ids[index]
        height, width = batch["size"][0].tolist()
        logits = {
            n: at_size(x.float(), (height, width)) for n, x in predict(batch["image"]).items()
        }
        measured[index] = {
            name: task.measure(
                logits[name][0], batch[name][0].to(logits[name].device), options[name]
            )
            for name, task in tasks.items()
            if name in batch and ident in counted[name]
        }
        if save:
            save(ident, logits)
    everything = {index: found for share in gather(measured) for index, found in share.items()}
    in_order = [everything[index] for index in sorted(everything)]
    return {
        name: task.score([found[name] for found in in_order if name in found], options[name])
        for name, task in tasks.items()
    }


def merged(
    dataset: Mapping[str, Mapping[str, Any]],
    overrides: Mapping[str, Mapping[str, Any]],
    tasks: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Each task's options: the dataset's, replaced by those the user gave."""
    return {n: {**dataset.get(n, {}), **overrides.get(n, {})} for n in tasks}


def at_size(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to (H, W) unless already so."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
