"""Blueprints of classes that are not in our tables: the library that has them builds them on the
meta device, and their modules are read.

Each library needs its extra; without it the error says what to install. Nothing is downloaded: the
config is at hand, and the meta device holds no data.

A live `nn.Module` (on any device, the meta device included) becomes a blueprint as well. Nothing
here imports torch at import: a caller with a module has torch already. Kinds come from the classes
of the modules that hold the parameters; ties from identity.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.blueprint import Blueprint, Buffer, Param, ParamKind


def _import_library(name: str, what: str) -> Any:
    try:
        import_module("torch")
        return import_module(name)
    except ImportError as error:
        build = sentence("build_on_meta", name=name, error=str(error))
        raise UnsupportedError(sentence("unlisted", what=what), then=build) from None


def _built(what: str, build: Any) -> Blueprint:
    """Return the blueprint of the model that `build()` makes on the meta device; library errors
    become one line."""
    torch = import_module("torch")
    try:
        with torch.device("meta"):
            return from_module(build())
    except WeighbridgeError:
        raise
    except AttributeError as error:  # transformers reads configs unchecked
        raise BadFileError(sentence("class_reads", what=what, name=shown(error.name))) from error
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise BadFileError(
            sentence("class_fails", what=what, error=type(error).__name__, line=line)
        ) from error


def _class_names(architectures: Any) -> list[str]:
    if not isinstance(architectures, list):
        return [str(architectures)] if architectures else []
    return [str(name) for name in architectures]


def _instantiate(config: Any, library: Any, name: str) -> Any:
    """Return an instance of a library's class for a config. Raises BadFileError if it takes another
    type of config."""
    cls = _class(library, name, library.PreTrainedModel)
    try:
        return cls(config)
    except Exception:
        expected = getattr(cls, "config_class", None)
        if not isinstance(expected, type) or isinstance(config, expected):
            raise
    other = getattr(expected, "model_type", "")
    raise BadFileError(
        sentence("class_of_another", name=shown(name), other=other, kind=config.model_type)
    )


def transformers(config: Mapping[str, Any], *, base_model: bool = False) -> Blueprint:
    """Return the blueprint of the config's class in `architectures`, or of its headless base."""
    model_type = str(config.get("model_type") or "")
    library = _import_library("transformers", f"model type {model_type!r}")
    raw = {k: v for k, v in config.items() if k not in ("auto_map", "quantization_config")}
    names = _class_names(raw.get("architectures"))
    what = f"model type {model_type!r} with transformers {library.__version__}"

    def build() -> Any:
        built = library.AutoConfig.for_model(**raw)
        if base_model or not names:
            return library.AutoModel.from_config(built)
        return _instantiate(built, library, names[0])

    if model_type not in library.models.auto.configuration_auto.CONFIG_MAPPING:
        raise UnsupportedError(
            sentence("needs_own_code", kind=model_type, version=library.__version__)
        )
    return _built(what, build)


def _class(library: Any, name: str, base: type) -> Any:
    """Return a library's model class by its name; other attributes of the library cannot be
    reached."""
    cls = getattr(library, name, None)
    if not isinstance(cls, type) or not issubclass(cls, base):
        raise UnsupportedError(
            sentence(
                "no_class_there",
                library=library.__name__,
                version=library.__version__,
                name=shown(name),
            )
        )
    return cls


def own_code(where: str, config: Mapping[str, Any], *, base_model: bool = False) -> Blueprint:
    """Return the blueprint of a class in the Python files of the folder or repository `where`.

    The config's `auto_map` names the Auto class for the class in `architectures`. This runs that
    code: only if the user allows it.
    """
    library = _import_library("transformers", f"the code of {where!r}")
    named = [str(name) for name in config.get("architectures") or ()]
    doors = {
        str(value).rpartition(".")[2]: door
        for door, value in config["auto_map"].items()
        if door.startswith("AutoModel") and isinstance(value, str)
    }
    door = "AutoModel" if base_model or not named else doors.get(named[0], "AutoModel")

    def build() -> Any:
        built = library.AutoConfig.from_pretrained(where, trust_remote_code=True)
        return getattr(library, door).from_config(built, trust_remote_code=True)

    return _built(f"the code of {where!r}", build)


def timm(name: str) -> Blueprint:
    """Return the blueprint of `timm.create_model(name)` ("resnet50.a1_in1k")."""
    if not re.fullmatch(r"\w+(\.\w+)*", name):  # timm itself would follow "hf-hub:" and paths
        raise BadFileError(sentence("no_timm_name", name=shown(name)))
    library = _import_library("timm", f"timm model {name!r}")
    return _built(f"timm model {name!r}", lambda: library.create_model(name, pretrained=False))


def diffusers(config: Mapping[str, Any]) -> Blueprint:
    """Return the blueprint of a diffusers component's class (`_class_name`)."""
    cls = str(config.get("_class_name") or "")
    library = _import_library("diffusers", f"diffusers class {cls!r}")
    kind = _class(library, cls, library.ModelMixin)
    return _built(f"diffusers class {cls!r}", lambda: kind.from_config(dict(config)))


# Class name of the holding module -> kind of its weight. Subclasses count as what they extend.
KINDS: dict[str, ParamKind] = {
    "Embedding": "embedding",
    "Conv1D": "conv1d",
    "Conv1d": "conv",
    "Conv2d": "conv",
    "Conv3d": "conv",
    "ConvTranspose1d": "conv",
    "ConvTranspose2d": "conv",
    "Linear": "linear",
}


def from_module(module: Any, *, dtype: str = "") -> Blueprint:
    """Return a blueprint with every parameter and buffer of `module`; tied parameters name their
    owner.

    With `dtype`, the dtype of the module, parameters in another dtype are marked with it.
    """
    holders = dict(module.named_modules(remove_duplicate=False))  # a module may have two paths
    return Blueprint(
        cls=type(module).__name__,
        params=tuple(_params(module, holders, dtype)),
        buffers=tuple(_buffers(module, holders)),
        blocks=tuple(_blocks(module, holders)),
    )


def own_dtype(module: Any) -> str:
    """Return the dtype of most elements of `module`; "" without parameters."""
    counts: Counter[str] = Counter()
    for tensor in module.parameters():
        counts[_dtype(tensor)] += tensor.numel()
    return max(counts, key=counts.__getitem__, default="")


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _params(module: Any, holders: dict[str, Any], dtype: str) -> Iterator[Param]:
    owners: dict[int, str] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        owner = owners.setdefault(id(tensor), name)
        path, _, leaf = name.rpartition(".")
        yield Param(
            name,
            tuple(tensor.shape),
            _kind(holders[path], leaf, tensor.dim()),
            dtype="" if not dtype or _dtype(tensor) == dtype else _dtype(tensor),
            tied="" if owner == name else owner,
        )


def _kind(holder: Any, leaf: str, dimensions: int) -> ParamKind:
    if leaf.endswith("bias"):
        return "bias"
    classes = [cls.__name__ for cls in type(holder).__mro__]
    if any("Norm" in name for name in classes):
        return "norm"
    if leaf == "weight":
        for name in classes:
            if name in KINDS:
                return KINDS[name]
    if dimensions == 3 and "Experts" in classes[0]:
        return "experts"
    return "other"


def _buffers(module: Any, holders: dict[str, Any]) -> Iterator[Buffer]:
    for name, tensor in module.named_buffers():
        path, _, leaf = name.rpartition(".")
        yield Buffer(
            name,
            tuple(tensor.shape),
            _dtype(tensor),
            persistent=leaf not in holders[path]._non_persistent_buffers_set,
        )


def _blocks(module: Any, holders: dict[str, Any]) -> Iterator[str]:
    """Return the paths of modules that device_map="auto" does not split."""
    whole = set(getattr(module, "_no_split_modules", None) or ())
    return (path for path, holder in holders.items() if type(holder).__name__ in whole)
