"""Stand-ins for packages that are not here (`--stub NAME`), and for those that talk to the world.

Some are known for what they allocate: attention in one kernel keeps its output and a logsumexp,
apex's optimizers and norms are torch's in fewer kernels. Of any other a stand-in returns what it is
given: a decorator the function, a layer its input.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

LOGGERS = ("wandb", "mlflow", "comet_ml", "neptune", "clearml", "aim", "swanlab", "trackio")


class Anything:
    """A value that takes part in everything: called, it returns what it was given first, else
    itself, and one with the name of a class a layer; its attributes are such values, too."""

    def __init__(self, name: str = "", *, silent: bool = False) -> None:
        self._name, self._silent = name, silent

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        tensors = [one for one in values if isinstance(one, torch.Tensor)]
        if self._silent:
            return self
        if self._name.rpartition(".")[2][:1].isupper() and not tensors:
            return Layer()
        return (tensors or args or (self,))[0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _value(f"{self._name}.{name}", silent=self._silent)
        self.__dict__[name] = value
        return value

    def __mro_entries__(self, _: Any) -> tuple[type, ...]:
        return (nn.Module,)  # a layer of the package is what programs derive from

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def __getitem__(self, _: Any) -> Any:
        return self

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<stand-in for {self._name}>"


class Layer(nn.Module):  # type: ignore[misc]
    """A layer of a package that is not here: it returns its input."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return (*args, *kwargs.values())[0]


def _value(path: str, *, silent: bool) -> Any:
    known = KNOWN.get(path) or KNOWN_ANYWHERE.get((path.partition(".")[0], path.rpartition(".")[2]))
    return known or Anything(path, silent=silent)


class StubModule(ModuleType):
    """A package that is not here."""

    silent = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _value(f"{self.__name__}.{name}", silent=self.silent)
        setattr(self, name, value)
        return value


class LoggerModule(StubModule):
    """A package that sends what a program does to somebody: here it sends nothing."""

    silent = True

    def init(self, *_: Any, config: Any = None, **__: Any) -> Any:
        """Stand in for wandb.init: programs read their settings back from `wandb.config`."""
        run: Any = Anything(f"{self.__name__}.run", silent=True)
        run.config = self.config = Settings(config if isinstance(config, dict) else {})
        self.run = run
        return run


class Settings(dict[str, Any]):
    """Settings by key and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def update(self, *args: Any, allow_val_change: bool = True, **kwargs: Any) -> None:
        super().update(*args, **kwargs)


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds packages by name, and all below them."""

    def __init__(self, names: Sequence[str], notes: Callable[[str], None]) -> None:
        self.names, self.notes = tuple(names), notes
        self._modules: list[str] = []

    def __enter__(self) -> "Stubs":
        self._before = {
            name: sys.modules.pop(name)
            for name in [*sys.modules]
            if name.partition(".")[0] in (*self.names, *LOGGERS)
        }
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.meta_path.remove(self)
        for name in self._modules:
            sys.modules.pop(name, None)
        sys.modules.update(self._before)

    def find_spec(self, name: str, _: Any = None, __: Any = None) -> Any:
        package = name.partition(".")[0]
        if package in self.names or package in LOGGERS:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        package = spec.name.partition(".")[0]
        self._modules.append(spec.name)
        if package in self.names:
            self.notes(STUBBED.format(package))
            return StubModule(spec.name)
        self.notes(SILENT.format(package))
        return LoggerModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__version__"] = "99.0"  # programs ask for "at least"


STUBBED = "{}: a stand-in that returns what it is given, or allocates what the package is known for"
SILENT = "{} is off: a traced script sends nothing"


class FlashKernel(torch.autograd.Function):  # type: ignore[misc]
    """Attention in one kernel: the output, and a logsumexp of each row (flash_attn 2 and 3,
    csrc/flash_attn/flash_api.cpp; xformers' memory-efficient attention alike)."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> torch.Tensor:
        out = q.new_empty((*q.shape[:-1], v.shape[-1]))
        lse = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor, ...]:
        q, k, v, _, lse = ctx.saved_tensors
        torch.empty_like(lse)  # the sum over dO * O
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> Any:
    return FlashKernel.apply(q, k, v)


def packed(qkv: Any, *_: Any, **__: Any) -> Any:
    """Stand in for attention of one tensor, in which queries, keys and values lie side by side."""
    return FlashKernel.apply(*qkv.unbind(dim=-3))


def packed_pair(q: Any, kv: Any, *_: Any, **__: Any) -> Any:
    return FlashKernel.apply(q, *kv.unbind(dim=-3))


KNOWN: dict[str, Any] = {
    "xformers.ops.memory_efficient_attention": attention,
    "xformers.ops.SwiGLU": Anything("xformers.ops.SwiGLU"),
    "apex.normalization.FusedLayerNorm": nn.LayerNorm,
    "apex.normalization.FusedRMSNorm": nn.RMSNorm,
    "apex.normalization.MixedFusedLayerNorm": nn.LayerNorm,
    "apex.normalization.fused_layer_norm.FusedLayerNorm": nn.LayerNorm,
    "apex.optimizers.FusedAdam": torch.optim.AdamW,
    "apex.optimizers.FusedSGD": torch.optim.SGD,
}
KNOWN_ANYWHERE: dict[tuple[str, str], Any] = {
    ("flash_attn", "flash_attn_func"): attention,
    ("flash_attn", "flash_attn_varlen_func"): attention,
    ("flash_attn", "flash_attn_qkvpacked_func"): packed,
    ("flash_attn", "flash_attn_varlen_qkvpacked_func"): packed,
    ("flash_attn", "flash_attn_kvpacked_func"): packed_pair,
    ("flash_attn", "flash_attn_varlen_kvpacked_func"): packed_pair,
    ("flash_attn", "layer_norm"): nn.functional.layer_norm,
    ("flash_attn", "RMSNorm"): nn.RMSNorm,
}
