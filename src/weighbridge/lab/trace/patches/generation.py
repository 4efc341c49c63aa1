"""transformers' generation: what ends a search early is in the scores, and is not assumed."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from weighbridge.lab.trace.looks import cast, shadow
from weighbridge.lab.trace.patches import Patch

MODULE = "transformers.generation.utils"


def beams(module: ModuleType) -> Iterator[Patch]:
    """Patch beam search: beams go on until all of them are known to be at their end, the
    length's. Without this, the test whether any may still improve would be told 0, and stop
    after one step."""
    mixin: Any = module.GenerationMixin
    yield Patch(mixin, "_beam_search_has_unfinished_sequences", staticmethod(_unfinished))
    yield Patch(mixin, "_update_finished_beams", _finished(mixin._update_finished_beams))


def _finished(update: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a beam's update: behind its end, the place that a token came from is -1, and the longest
    beam is given back, since all have come as far as the search has."""

    def finished(self: Any, *args: Any, **kwargs: Any) -> Any:
        updated = update(self, *args, **kwargs)
        indices = updated[2]
        if shadow(indices) is None:
            done = kwargs["cur_len"] + 1 - kwargs["decoder_prompt_len"]
            with unset_fake_temporarily():
                known = torch.full(indices.shape, -1, dtype=indices.dtype)
                known[..., :done] = 0
            cast(indices, known)
        return updated

    return finished


def _unfinished(_: Any, __: Any, at_end: torch.Tensor, *___: Any) -> bool:
    ended = shadow(torch.all(at_end))
    return ended is None or not bool(ended.item())
