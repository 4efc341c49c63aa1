"""From what the user typed to an inventory: choose the files, read their headers, nothing more."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, TypeVar

from weighbridge import catalogue
from weighbridge.errors import BadFileError, HubError, NotFoundError, UsageError
from weighbridge.formats import Plan, Range, gguf, safetensors
from weighbridge.formats.index import MAX_INDEX, parse_index
from weighbridge.formats.mistral_params import transformers_config
from weighbridge.formats.pipeline import parse_model_index, parse_modules
from weighbridge.formats.pytorch import pytorch
from weighbridge.formats.strict_json import MAX_CONFIG, strict_object
from weighbridge.inventory import Inventory, Part
from weighbridge.layouts import PICKLES, Folder, Weights, folder, weights
from weighbridge.reference import CatalogueRef, SizeRef, TimmRef
from weighbridge.sources import base
from weighbridge.sources.base import Entry, Progress, Source, read_plan, read_plans
from weighbridge.sources.opening import open_source, resolve
from weighbridge.tensors import Tensor

T = TypeVar("T")
Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to reach what was typed. None is what the environment says."""

    revision: str | None = None
    token: str | None = None
    cache_dir: str | None = None
    offline: bool = False
    trust_remote_code: bool = False
    progress: Progress | None = None

    def source(self) -> base.Options:
        return base.Options(
            token=self.token,
            cache_dir=self.cache_dir,
            offline=self.offline,
        )


def gather(text: str, options: Options) -> Inventory:
    """The inventory of a reference. Raises NotFoundError, BadFileError, UsageError, HubError."""
    ref = resolve(text, catalogue=catalogue.has, revision=options.revision)
    special = SPECIAL.get(type(ref))
    if special is not None:
        return special(text, ref, options)
    return _Reader(text, open_source(ref, options.source()), options.progress).inventory()


def gather_config(config: Raw, *, reference: str = "config") -> Inventory:
    """A config that is already at hand."""
    name = str(config.get("_name_or_path") or config.get("model_type") or "config")
    part = Part(config=config, quantization=_quantization(config))
    return Inventory(reference=reference, name=name, parts=(part,), read_from=("config",))


def _catalogued(text: str, ref: Any, options: Options) -> Inventory:
    entry = catalogue.find(ref.name)
    part = Part(config=entry.config, quantization=_quantization(entry.config))
    return Inventory(
        reference=text,
        name=entry.name,
        parts=(part,),
        read_from=(f"built-in catalogue ({entry.source})",),
    )


def _sized(text: str, ref: Any, options: Options) -> Inventory:
    return Inventory(
        reference=text,
        name=text,
        parts=(Part(library="size", config={"parameters": ref.parameters}),),
        read_from=("a bare size",),
        notes=("a bare size says nothing about layers, vocabulary or heads: all of this is rough",),
        rough=True,
    )


def _timm(text: str, ref: Any, options: Options) -> Inventory:
    """The Hub's `timm/NAME`, whose headers are enough; else the library by name."""
    try:
        source = open_source(ref, options.source())
        return _Reader(text, source, options.progress).inventory()
    except (HubError, NotFoundError) as error:
        part = Part(library="timm", config={"architecture": ref.name})
        note = f"built by the timm library: {error}"
        return Inventory(
            reference=text, name=ref.name, parts=(part,), read_from=("timm",), notes=(note,)
        )


SPECIAL: dict[type, Callable[[str, Any, Options], Inventory]] = {
    CatalogueRef: _catalogued,
    SizeRef: _sized,
    TimmRef: _timm,
}


def _quantization(config: Raw) -> Raw | None:
    """Where configs write how the checkpoint is packed; MLX writes `quantization`."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, Mapping) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            if isinstance(place.get(key), Mapping):
                found: Raw = place[key]
                return found
    return None


# Files that hold the same beside the config: AutoGPTQ, AutoAWQ, NVIDIA's modelopt.
QUANTIZATION_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}


class _Reader:
    """One source on its way to an inventory."""

    def __init__(self, text: str, source: Source, progress: Progress | None) -> None:
        self._text, self._source, self._progress = text, source, progress
        self._entries = source.list()
        self._read: list[str] = []
        self._notes: list[str] = []
        self._download = 0

    def inventory(self) -> Inventory:
        parts = tuple(self._parts())
        if not parts:
            raise NotFoundError(
                f"{self._source.name} holds neither a config.json nor weights that we can read"
            )
        return Inventory(
            reference=self._text,
            name=_short(self._source.name),
            revision=self._source.revision,
            parts=parts,
            read_from=tuple(dict.fromkeys(self._read)),
            download_bytes=self._download or None,
            notes=(*self._source.notes, *self._notes),
        )

    def _parts(self) -> Iterator[Part]:
        root = folder(self._entries)
        if len(self._entries) == 1 or self._one_split_file():
            yield self._file()
        elif root.get("model_index.json"):
            yield from self._pipeline(root)
        elif root.get("config.json") or root.get("params.json") or weights(root) != Weights():
            yield self._model(root)
            yield from self._modules(root)
        else:
            yield from self._gguf_repository(root)

    def _one_split_file(self) -> bool:
        first = self._entries[0].path if self._entries else ""
        return first.endswith(".gguf") and {e.path for e in self._entries} == set(
            gguf.siblings(first)
        )

    def _file(self) -> Part:
        """One file that the user named: weights, or a config."""
        path = self._entries[0].path
        if path.endswith(".gguf"):
            return self._gguf(self._entries)
        if path.endswith(".json"):
            return self._config_file(path)
        config = self._beside(path)
        tensors = self._tensors(Weights(tuple(self._entries)))
        return Part(config=config, tensors=tensors, quantization=_quantization(config or {}))

    def _config_file(self, path: str) -> Part:
        raw = self._json(path)
        if "weight_map" in raw:
            raise UsageError(f"{path} is an index of shards; give its folder, or its config.json")
        if path.rpartition("/")[2] == "params.json" or "model_type" not in raw:
            raw = transformers_config(raw)
        return Part(config=raw, where=path, quantization=_quantization(raw))

    def _beside(self, path: str) -> Raw | None:
        """The config.json in the folder of a file that was named."""
        head = path.rpartition("/")[0]
        place = f"{head}/config.json" if head else "config.json"
        try:
            return self._json(place)
        except (NotFoundError, HubError):
            return None

    def _model(self, found: Folder, name: str = "", library: str = "transformers") -> Part:
        """A folder with a config, weights, or both."""
        chosen = weights(found)
        config = self._config(found)
        tensors = self._tensors(chosen)
        self._download += found.side_bytes()
        quantization = _quantization(config or {}) or self._quantization_file(found)
        return Part(
            name=name,
            library=_library(config or {}, library),
            config=config,
            where=f"{found.path}/config.json" if found.path else "config.json",
            tensors=tensors,
            quantization=quantization,
        )

    def _config(self, found: Folder) -> Raw | None:
        for name, read in READ_CONFIG.items():
            entry = found.get(name)
            if entry is not None:
                return read(self._json(entry.path))
        return None

    def _quantization_file(self, found: Folder) -> Raw | None:
        for name, method in QUANTIZATION_FILES.items():
            entry = found.get(name)
            if entry is not None:
                return {"quant_method": method, **self._json(entry.path)}
        return None

    def _pipeline(self, root: Folder) -> Iterator[Part]:
        entry = root.get("model_index.json")
        assert entry is not None
        for component in self._parsed(entry.path, parse_model_index).parts:
            found = folder(self._entries, component.folder)
            if found.get("config.json") and component.library in ("diffusers", "transformers"):
                part = self._model(found, component.name, component.library)
                yield replace(part, cls=component.cls)

    def _modules(self, root: Folder) -> Iterator[Part]:
        """The layers that sentence-transformers puts behind the transformer: Dense and others."""
        entry = root.get("modules.json")
        if entry is None:
            return
        for module in self._parsed(entry.path, parse_modules).parts:
            found = folder(self._entries, module.folder)
            if module.folder and weights(found) != Weights():
                part = self._model(found, module.folder, "sentence-transformers")
                yield replace(part, cls=module.cls)

    def _gguf_repository(self, root: Folder) -> Iterator[Part]:
        """A repository of GGUF files: llama.cpp takes Q4_K_M when none is named (arg.cpp)."""
        names = sorted({gguf.siblings(e.path)[0] for e in self._entries if _is_gguf(e)})
        if not names:
            return
        chosen = [n for n in names if "q4_k_m" in n.lower()] or (names if len(names) == 1 else [])
        if not chosen:
            shown = ", ".join(n.rpartition("/")[2] for n in names[:8])
            raise UsageError(
                f"{self._source.name} holds {len(names)} GGUF files; name one, as in "
                f"{self._source.name}:QUANT: {shown}"
            )
        by_path = {e.path: e for e in self._entries}
        yield self._gguf(tuple(by_path[path] for path in gguf.siblings(chosen[0])))

    def _gguf(self, entries: tuple[Entry, ...]) -> Part:
        files = read_plans(
            lambda e: gguf.gguf(e.size, file=e.path), self._source, entries, progress=self._progress
        )
        self._download += sum(e.size or 0 for e in entries)
        self._read.append("GGUF header")
        metadata = dict(files[0].metadata)
        return Part(
            library="gguf",
            config={"gguf": metadata},
            cls=f"GGUF {metadata.get('general.architecture', 'model')}",
            tensors=tuple(t for f in files for t in f.tensors),
        )

    def _tensors(self, chosen: Weights) -> tuple[Tensor, ...]:
        files, names = chosen.files, {}
        if chosen.listed_in is not None:
            names = self._shards(chosen.listed_in)
            files = self._named(chosen.listed_in, names)
        if not files:
            return ()
        self._download += sum(e.size or 0 for e in files)
        self._read.append(
            "torch pickles" if files[0].path.endswith(PICKLES) else "safetensors headers"
        )

        def plan(e: Entry) -> Plan[tuple[Tensor, ...]]:
            return _tensors_of(e, names.get(e.path))

        found = read_plans(plan, self._source, files, progress=self._progress)
        return tuple(t for tensors in found for t in tensors)

    def _shards(self, entry: Entry) -> dict[str, list[str]]:
        """The shards that an index names, each with its tensors."""
        self._download += entry.size or 0
        head = entry.path.rpartition("/")[0]
        by_file: dict[str, list[str]] = {}
        found = self._parsed(entry.path, parse_index, MAX_INDEX)
        for name, file in found.weight_map.items():
            by_file.setdefault(f"{head}/{file}" if head else file, []).append(name)
        return by_file

    def _named(self, entry: Entry, names: Mapping[str, list[str]]) -> tuple[Entry, ...]:
        by_path = {e.path: e for e in self._entries}
        missing = [path for path in names if path not in by_path]
        if len(missing) == len(names):
            self._notes.append(
                f"{entry.path} names {len(names)} shards and none is here: nothing was read of them"
            )
            return ()
        if missing:
            raise BadFileError(
                f"{entry.path} names {missing[0]!r}, which is not there "
                f"({len(missing)} of {len(names)} shards are missing)"
            )
        return tuple(by_path[path] for path in names)

    def _json(self, path: str) -> Raw:
        found: Raw = self._parsed(path, lambda data: strict_object(data, constants=True))
        return found

    def _parsed(self, path: str, parse: Callable[[bytes], T], limit: int = MAX_CONFIG) -> T:
        """A whole small file through its parser."""
        found = read_plan(_whole(parse, limit), self._source, path)
        self._read.append(path)
        return found


def _whole(parse: Callable[[bytes], T], limit: int) -> Plan[T]:
    return parse((yield Range(0, limit + 1)))


def _adapted(raw: Raw) -> Raw:
    """An adapter's config: its tensors are weighed, not those of the base that it names."""
    return {"architectures": [f"PEFT {raw.get('peft_type', 'adapter')}"], "adapter": dict(raw)}


READ_CONFIG: dict[str, Callable[[Raw], Raw]] = {  # the first that is there
    "config.json": dict,
    "params.json": transformers_config,
    "adapter_config.json": _adapted,
}


def _short(name: str) -> str:
    """A repository's id as it is; of a path, the folder or the file that says most."""
    if "/" not in name and "\\" not in name:
        return name
    path = PurePath(name)
    if not path.is_absolute() and len(path.parts) == 2:
        return name
    return path.parent.name if path.name in ("config.json", "params.json") else path.name


def _is_gguf(entry: Entry) -> bool:
    return entry.path.lower().endswith(".gguf") and "mmproj" not in entry.path.lower()


def _library(config: Raw, library: str) -> str:
    """timm's configs name an `architecture`, diffusers' a `_class_name`."""
    if "_class_name" in config:
        return "diffusers"
    return "timm" if "architecture" in config and "model_type" not in config else library


def _tensors_of(entry: Entry, names: list[str] | None) -> Plan[tuple[Tensor, ...]]:
    """The tensors of one file; `names` are those that an index promises, to size the first read."""
    if entry.path.endswith(PICKLES):
        checkpoint = yield from pytorch(entry.size, file=entry.path)
        tied = checkpoint.ties()
        return tuple(s.tensor for s in checkpoint.tensors if s.tensor.name not in tied)
    first = safetensors.FIRST_READ if names is None else safetensors.expected(names)
    found = yield from safetensors.header(entry.size, first_read=first, file=entry.path)
    return found.tensors
