"""Which storages of a tape are caches, states and logits: told by the objects that hold them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from weighbridge.lab.trace.recorder import Recorder
from weighbridge.lab.trace.tape import TracedStorage

CACHES = ("past_key_values", "cache_params", "state", "mems")  # of a model's output
KEYS = ("key", "value")  # how names of what grows with the tokens begin
DEEPEST = 4  # cache, layers, layer, its tensors
WORKSPACE = "workspace"


class Keeping:
    """Names the components of storages, from every output of `model` that it is told."""

    def __init__(self, recorder: Recorder, model: nn.Module, outputs: int) -> None:
        self.recorder = recorder
        self.names: dict[int, str] = {}
        self.row = 4 * outputs  # bytes of a token's logits in float32
        self.outside = ("", type(model).__name__)  # modules: none, and the model itself
        self.cache: Any = None
        for tensor in model.parameters():
            self._name(tensor, "weights")
        for tensor in model.buffers():
            self._name(tensor, "buffers")
        head = getattr(model, "get_output_embeddings", lambda: None)()
        if head is not None:
            head.register_forward_hook(lambda _, __, out: self._name(out, "logits"))

    def output(self, out: Any) -> None:
        for name in CACHES:
            cache = getattr(out, name, None)
            if cache is not None:
                self.cache = cache
                self._cached()
        self._name(getattr(out, "logits", None), "logits")

    def _cached(self) -> None:
        for name, tensor in tensors(self.cache):
            if not name.startswith("_"):  # a number of its own, such as a window's length
                self._name(tensor, "kv_cache" if name.startswith(KEYS) else "recurrent_state")

    def _name(self, tensor: Any, name: str) -> None:
        number = self.recorder.number(tensor) if isinstance(tensor, torch.Tensor) else None
        if number is not None:
            self.names[number] = name

    def component(self, number: int, storage: TracedStorage) -> str:
        if number in self.names:
            return self.names[number]
        if storage.op.endswith(WORKSPACE):  # others live within one operation
            return "workspaces"
        copied = storage.role == "temporary" and storage.module in self.outside
        if copied and self.row and storage.nbytes % self.row == 0:
            return "logits"  # in float32
        return "activations"


def tensors(value_of: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (attribute, tensor) of everything that an object of transformers holds."""
    if isinstance(value_of, torch.Tensor):
        yield name, value_of
    elif depth > DEEPEST:
        return
    elif isinstance(value_of, dict):
        for key, value in value_of.items():
            yield from tensors(value, key if isinstance(key, str) else name, depth + 1)
    elif isinstance(value_of, list | tuple):
        for value in value_of:
            yield from tensors(value, name, depth + 1)
    elif type(value_of).__module__.startswith("transformers."):
        yield from tensors(vars(value_of), name, depth)
