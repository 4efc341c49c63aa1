"""transformers' generation: what ends a search early is in the scores, and is not assumed."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from weighbridge.trace.looks import shadow
from weighbridge.trace.patches import Patch

MODULE = "transformers.generation.utils"


def beams(module: ModuleType) -> Iterator[Patch]:
    """Beams go on until all of them are known to be at their end: the length's. Without this, the
    test whether any may still improve would be told 0, and stop after one step."""
    mixin: Any = module.GenerationMixin
    yield Patch(mixin, "_beam_search_has_unfinished_sequences", staticmethod(_unfinished))


def _unfinished(_: Any, __: Any, at_end: torch.Tensor, *___: Any) -> bool:
    ended = shadow(torch.all(at_end))
    return ended is None or not bool(ended.item())
