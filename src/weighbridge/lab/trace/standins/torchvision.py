"""torchvision's detectors: what they draw out of boxes whose values are not known.

samples   of the regions of an image that are learned from, as many show an object as may:
          `positive_fraction` of `batch_size_per_image`. The heads for masks and keypoints see these
levels    of a pyramid: all regions are on the finest. One level at a time is pooled, so that is the
          most that any distribution takes
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.lab.trace.looks import cast, shadow
from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.patches.arrivals import Patches


def table() -> dict[str, Patches]:
    return {"torchvision.models.detection.roi_heads": _heads, "torchvision.ops.poolers": _poolers}


def _heads(module: ModuleType) -> Iterator[Patch]:
    heads: Any = module.RoIHeads
    yield Patch(heads, "select_training_samples", _sampled(heads.select_training_samples))


def _sampled(select: Callable[..., Any]) -> Callable[..., Any]:
    def samples(self: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = select(self, *args, **kwargs)
        sampler = self.fg_bg_sampler
        most = int(sampler.batch_size_per_image * sampler.positive_fraction)
        for labels in chosen[2]:
            if shadow(labels) is None:
                with unset_fake_temporarily():
                    cast(labels, (torch.arange(labels.numel()) < most).to(labels.dtype))
        return chosen

    return samples


def _poolers(module: ModuleType) -> Iterator[Patch]:
    mapper: Any = module.LevelMapper
    find = mapper.__call__

    def levels(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        numbers: torch.Tensor = find(self, *args, **kwargs)
        if shadow(numbers) is None:
            with unset_fake_temporarily():
                cast(numbers, torch.zeros(numbers.shape, dtype=numbers.dtype))
        return numbers

    yield Patch(mapper, "__call__", levels)
