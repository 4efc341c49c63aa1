"""transformers' caches of keys and values: what they keep is marked."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.recorder import Recorder

MODULE = "transformers.cache_utils"


def caches(recorder: Recorder) -> Callable[[ModuleType], Iterator[Patch]]:
    def patches(module: ModuleType) -> Iterator[Patch]:
        cache: Any = module.Cache
        update = cache.update

        def updated(
            self: Any, keys: Any, values: Any, layer_idx: int, *more: Any, **kw: Any
        ) -> Any:
            out = update(self, keys, values, layer_idx, *more, **kw)
            if torch.is_grad_enabled():  # backward has them, and no next step
                return out
            for tensor in vars(self.layers[layer_idx]).values():
                if isinstance(tensor, torch.Tensor):
                    recorder.mark(tensor, "kv cache")
            return out

        yield Patch(cache, "update", updated)

    return patches
