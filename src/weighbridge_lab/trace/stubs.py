"""Stand-ins for packages that are missing (`--stub NAME`), and for those that talk to the world.

Some are known for what they allocate: attention in one kernel keeps its output and a logsumexp,
apex's optimizers and norms are torch's in fewer kernels. Any other stand-in returns what it is
given: a decorator the function, a layer its input.
"""

import abc
import contextlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from weighbridge_lab.trace.patches import Patch, Patches
from weighbridge_lab.trace.program import catches, execute
from weighbridge_lab.trace.standins import FlexKernel

RELEASE = "99.0"  # of a stand-in, as programs ask for "at least"
HOSTED = ("google.colab", "kaggle_secrets")  # packages of a notebook's host, which nobody installs
LOGGERS = ("wandb", "mlflow", "comet_ml", "neptune", "clearml", "aim", "swanlab", "trackio")


class Anything:
    """A value for everything: when called, it returns the first tensor, layer or function among its
    arguments, else itself; its attributes are such values too."""

    def __init__(self, name: str = "", *, silent: bool = False) -> None:
        self._name, self._silent = name, silent

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        tensors = [one for one in values if isinstance(one, torch.Tensor)]
        if self._silent:
            return self
        first = (tensors or args or (self,))[0]
        return self if isinstance(first, str | bytes | int | float) else first

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _value(f"{self._name}.{name}", silent=self._silent)
        self.__dict__[name] = value
        return value

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


class LayerClass(abc.ABCMeta):
    """The metaclass of stand-in classes, which have every attribute that is asked for."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or "stands_in" not in vars(cls):
            raise AttributeError(name)
        return _value(f"{cls.__name__}.{name}", silent=False)


class IdentityLayer(nn.Module, metaclass=LayerClass):  # type: ignore[misc]
    """A layer of a missing package, which returns its input. Programs derive their own. Constructed
    from a tensor, it is that tensor, as a wrapper would be."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
        wraps = tensors and "stands_in" in vars(cls)
        return tensors[0] if wraps else super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return (*args, *kwargs.values())[0]


def _value(path: str, *, silent: bool) -> Any:
    known = KNOWN.get(path) or KNOWN_ANYWHERE.get((path.partition(".")[0], path.rpartition(".")[2]))
    name = path.rpartition(".")[2]
    if known or silent or not name[:1].isupper() or name.isupper():
        return known or Anything(path, silent=silent)
    if name.endswith(("Error", "Exception")):
        return type(name, (Exception,), {})
    return LayerClass(name, (IdentityLayer,), {"stands_in": True})


class StubModule(ModuleType):
    """A stand-in for a missing package."""

    silent = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _value(f"{self.__name__}.{name}", silent=self.silent)
        setattr(self, name, value)
        return value


class HostModule(StubModule):
    """A stand-in for a package of a notebook's host, which mounts and asks nothing."""

    silent = True


class LoggerModule(StubModule):
    """A stand-in for a package that reports to a service, which sends nothing."""

    silent = True

    def init(self, *_: Any, config: Any = None, **__: Any) -> Any:
        """Stand in for wandb.init: programs read their settings back from `wandb.config`."""
        run: Any = Anything(f"{self.__name__}.run", silent=True)
        run.config = self.config = LoggerSettings(config if isinstance(config, dict) else {})
        self.run = run
        return run


class LoggerSettings(dict[str, Any]):
    """Settings by key and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def update(self, *args: Any, allow_val_change: bool = True, **kwargs: Any) -> None:
        super().update(*args, **kwargs)


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook that finds packages by name, and all their submodules."""

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
        self._version = importlib.metadata.version
        setattr(importlib.metadata, "version", self._release)  # noqa: B010  a patch
        return self

    def __exit__(self, *_: Any) -> None:
        sys.meta_path.remove(self)
        setattr(importlib.metadata, "version", self._version)  # noqa: B010
        for name in self._modules:
            sys.modules.pop(name, None)
        sys.modules.update(self._before)

    def _release(self, name: str) -> str:
        return RELEASE if name.replace("-", "_") in self.names else self._version(name)

    def find_spec(self, name: str, _: Any = None, __: Any = None) -> Any:
        package = name.partition(".")[0]
        if package in self.names or package in LOGGERS or self._hosts(name):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def _hosts(self, name: str) -> bool:
        """Return whether a module is a notebook host's, or a missing package above one. False if
        the program only checks for it, and goes on without."""
        wanted = any(
            f"{one}.".startswith(f"{name}.") or f"{name}.".startswith(f"{one}.") for one in HOSTED
        )
        if not wanted or catches(ModuleNotFoundError, sys._getframe(2), execute.__code__):
            return False
        others = (finder for finder in sys.meta_path if finder is not self)
        return name in HOSTED or not any(finder.find_spec(name, None) for finder in others)

    def create_module(self, spec: Any) -> ModuleType:
        package = spec.name.partition(".")[0]
        self._modules.append(spec.name)
        if package in self.names:
            self.notes(STUBBED.format(package))
            return StubModule(spec.name)
        if package not in LOGGERS:
            return HostModule(spec.name)
        self.notes(SILENT.format(package))
        return LoggerModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__version__"] = RELEASE


# Extensions that a program compiles when it starts (torch.utils.cpp_extension)

EXTENSIONS = "torch.utils.cpp_extension"
CUDA_SOURCES = (".cu", ".cuh")


class CompiledExtensionError(ImportError):
    """Code for a GPU that a program would compile: tensors without values cannot enter it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is compiled CUDA, which does not run in a trace", name=name)


def extensions(names: Sequence[str], notes: Callable[[str], None]) -> dict[str, Patches]:
    """Return the patches of `load` and `load_inline` by module name; `names`: extensions with a
    stand-in."""

    def patches(module: Any) -> Iterator[Patch]:
        for loader in ("load", "load_inline"):
            yield Patch(module, loader, _built(vars(module)[loader], names, notes))

    return {EXTENSIONS: patches}


def _built(
    inner: Callable[..., Any], names: Sequence[str], notes: Callable[[str], None]
) -> Callable[..., Any]:
    def built(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in names:
            notes(STUBBED.format(name))
            return StubModule(name)
        sources = kwargs.get("sources", args[0] if args else ())
        sources = [sources] if isinstance(sources, str) else sources
        if kwargs.get("cuda_sources") or any(str(s).endswith(CUDA_SOURCES) for s in sources):
            raise CompiledExtensionError(name)
        return inner(name, *args, **kwargs)

    return built


STUBBED = "{}: a stand-in that returns what it is given, or allocates what the package is known for"
SILENT = "{} is off: a traced script sends nothing"


def attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> Any:
    """Stand in for attention in one kernel: the output, and a logsumexp per row (flash_attn 2 and
    3, csrc/flash_attn/flash_api.cpp; xformers' memory-efficient attention likewise)."""
    return FlexKernel.apply(q, k, v)[0]


def packed(qkv: Any, *_: Any, **__: Any) -> Any:
    """Stand in for attention of one tensor, in which queries, keys and values lie side by side."""
    return attention(*qkv.unbind(dim=-3))


def packed_pair(q: Any, kv: Any, *_: Any, **__: Any) -> Any:
    return attention(q, *kv.unbind(dim=-3))


def amp_models(models: Any, optimizers: Any = None, *_: Any, **__: Any) -> Any:
    """Stand in for apex.amp.initialize: return what is given, unchanged. Its casts are left out:
    numbers keep their width."""
    return models if optimizers is None else (models, optimizers)


def amp_loss(loss: Any, *_: Any, **__: Any) -> Any:
    return contextlib.nullcontext(loss)


KNOWN: dict[str, Any] = {
    "apex.amp.initialize": amp_models,
    "apex.amp.scale_loss": amp_loss,
    "xformers.ops.memory_efficient_attention": attention,
    "apex.normalization.FusedLayerNorm": nn.LayerNorm,
    "apex.normalization.FusedRMSNorm": nn.RMSNorm,
    "apex.normalization.MixedFusedLayerNorm": nn.LayerNorm,
    "apex.normalization.fused_layer_norm.FusedLayerNorm": nn.LayerNorm,
    "apex.optimizers.FusedAdam": torch.optim.AdamW,
    "apex.optimizers.FusedSGD": torch.optim.SGD,
    "google.colab.userdata.get": lambda *_: "",
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
