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
            self: Any, keys: Any, values: Any, layer_idx: int, *rest: Any, **kw: Any
        ) -> Any:
            out = update(self, keys, values, layer_idx, *rest, **kw)
            if torch.is_grad_enabled():  # backward has them, and no next step
                return out
            for kept in vars(self.layers[layer_idx]).values():
                if isinstance(kept, torch.Tensor):
                    recorder.mark(kept, "kv cache")
            return out

        yield Patch(cache, "update", updated)

    return patches
