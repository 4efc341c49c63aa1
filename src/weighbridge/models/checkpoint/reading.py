"""One source on its way to an inventory: which files, their parsers, and what was read.

A folder is a pipeline (model_index.json), a model (config.json, params.json or weights, and the
layers that sentence-transformers puts behind it), or a shelf of GGUF files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from weighbridge.base.errors import BadFileError, HubError, NotFoundError, UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import redacted, shown
from weighbridge.models.checkpoint.inventory import (
    CONFIGS,
    Bound,
    Inventory,
    StoredModel,
    declared_quantization,
    library_of,
    otherwise,
)
from weighbridge.models.checkpoint.layouts import (
    WEIGHTS,
    Folder,
    Weights,
    folder,
    shards,
    soon,
    weights,
)
from weighbridge.models.formats import PICKLES, Plan, weights_file, whole
from weighbridge.models.formats.strict_json import MAX_CONFIG, strict_object
from weighbridge.models.sources import select
from weighbridge.models.sources.base import (
    Ahead,
    Progress,
    Source,
    SourceFile,
    Together,
    read_plan,
    read_plans,
    together,
)
from weighbridge.models.tensors import CheckpointTensor

if TYPE_CHECKING:
    from weighbridge.models.formats.gguf import Gguf
    from weighbridge.models.formats.index import Index

T = TypeVar("T")
Raw = Mapping[str, Any]
Tensors = tuple[CheckpointTensor, ...]

# Files that hold the same beside the config: AutoGPTQ, AutoAWQ, NVIDIA's modelopt.
QUANTIZATION_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}

FILES = (*WEIGHTS, ".json")
BESIDE_WEIGHTS = {  # files of JSON that say nothing without others -> what each is
    "model_index.json": "alone.pipeline",
    "adapter_config.json": "alone.adapter",
    "modules.json": "alone.modules",
}


class Begun(NamedTuple):
    """Files whose headers are being read, and the limits that apply to them."""

    files: tuple[SourceFile, ...]
    headers: Together[Tensors]
    bound: Bound


class Reader:
    """Reads one source into an inventory."""

    def __init__(self, text: str, source: Source, progress: Progress | None) -> None:
        self._text, self._progress = redacted(text), progress
        self._entries = source.list()
        self._source = Ahead(source, soon(self._entries)) if source.waits else source
        self._read: list[str] = []
        self._notes: list[str] = []
        self._download = 0
        self._bound = Bound()
        self._indexes: dict[str, Index] = {}  # by path

    def inventory(self) -> Inventory:
        parts = tuple(self._parts())
        if not parts:
            root, name = folder(self._entries), self._source.name
            alone = next((file for file in BESIDE_WEIGHTS if root.get(file)), None)
            if alone is not None:
                what = sentence(BESIDE_WEIGHTS[alone])
                holds = sentence("holds_alone", name=name, what=what, file=alone)
                raise NotFoundError(holds, then=_what_to_give(alone, self._json(alone)))
            nothing = sentence("no_model_engine", folder=name, names=", ".join(WEIGHTS))
            code = sentence("trace.own_code", path=name) if name.endswith(".py") else ""
            raise NotFoundError(nothing, then=code)
        return Inventory(
            reference=self._text,
            name=_short_name(self._source.name),
            revision=self._source.revision,
            parts=parts,
            read_from=tuple(dict.fromkeys(self._read)),
            download_bytes=self._download if any(p.tensors for p in parts) else None,
            notes=(*self._source.notes, *self._notes),
            code=self._source.name,
        )

    def _parts(self) -> Iterator[StoredModel]:
        root = folder(self._entries)
        if self._is_one_file():
            yield self._file()
        elif root.get("model_index.json"):
            yield from self._pipeline(root)
        elif root.get("config.json") or root.get("params.json") or weights(root) != Weights():
            yield self._model(root)
            yield from self._modules(root)
        else:
            yield from self._gguf_repository(root)

    def _is_one_file(self) -> bool:
        """Return whether the user named one file, which may be split into several."""
        paths = {entry.path for entry in self._entries}
        first = self._entries[0].path if self._entries else ""
        if len(self._entries) == 1 and first.lower().endswith(FILES):
            return True
        return first.endswith(".gguf") and paths == set(select.parts(first))

    def _file(self) -> StoredModel:
        """Return the file that the user named: weights, or a config."""
        path = self._entries[0].path
        if path.lower().endswith(".gguf"):
            return self._gguf(path)
        if path.lower().endswith(".json"):
            return self._config_file(path)
        config = self._config_beside(path)
        tensors = self._tensors(Weights(tuple(self._entries)))
        if not tensors:
            raise BadFileError(sentence("path_no_tensors", path=path))
        return StoredModel(
            config=config, tensors=tensors, quantization=declared_quantization(config or {})
        )

    def _config_file(self, path: str) -> StoredModel:
        raw, name = self._json(path), path.rpartition("/")[2]
        key = "alone.index" if "weight_map" in raw else BESIDE_WEIGHTS.get(name)
        if key:
            what = sentence("is_alone", path=path, what=sentence(key))
            raise UsageError(what, then=_what_to_give(name, raw))
        if name == "params.json" or ("dim" in raw and "model_type" not in raw):
            raw = CONFIGS["params.json"](raw)
        return StoredModel(
            library=library_of(raw, "transformers"),
            config=raw,
            where=path,
            quantization=declared_quantization(raw),
        )

    def _config_beside(self, path: str) -> Raw | None:
        """Return the config.json next to the user's file; None if there is none."""
        head = path.rpartition("/")[0]
        place = f"{head}/config.json" if head else "config.json"
        try:
            return self._json(place)
        except (NotFoundError, HubError):
            return None

    def _model(self, files: Folder, name: str = "", library: str = "transformers") -> StoredModel:
        """Return the model of a folder with a config, weights, or both."""
        chosen = weights(files)
        begun = self._begun(chosen)  # headers are on their way while the config is read
        try:
            config = self._config(files)
            tensors = self._tensors(chosen, begun)
        finally:
            if begun is not None:
                begun.headers.stop()
        self._download += files.side_bytes()
        if tensors:
            from weighbridge.models.checkpoint.indexed import left_out

            self._notes += left_out(files, chosen, tensors)
        quantization = self._quantization(files, declared_quantization(config or {}))
        return StoredModel(
            name=name,
            library=library_of(config or {}, library),
            config=config,
            where=f"{files.path}/config.json" if files.path else "config.json",
            tensors=tensors,
            quantization=quantization,
            **({} if tensors else self._listed_in_index(chosen)),
        )

    def _listed_in_index(self, chosen: Weights) -> dict[str, Any]:
        """Return the tensors and bytes listed in an index whose shards are missing; {} without
        one."""
        index = self._indexes.get(chosen.listed_in.path) if chosen.listed_in else None
        if index is None:
            return {}
        return {"listed": tuple(index.weight_map), "listed_bytes": index.total_size}

    def _config(self, files: Folder) -> Raw | None:
        for name, read in CONFIGS.items():
            entry = files.get(name)
            if entry is not None:
                return read(self._json(entry.path))
        return None

    def _quantization(self, files: Folder, declared: Raw | None) -> Raw | None:
        """Return the quantization settings in the config, else those in a file next to it, else
        None."""
        for name, method in QUANTIZATION_FILES.items():
            if files.get(name) is not None:
                beside = {"quant_method": method, **self._json(files.files[name].path)}
                if declared is None:
                    return beside
                self._notes += otherwise(name, declared, beside)
        return declared

    def _pipeline(self, root: Folder) -> Iterator[StoredModel]:
        from weighbridge.models.formats.index import parse_model_index

        entry = root.get("model_index.json")
        assert entry is not None
        for component in self._parsed(entry.path, parse_model_index).parts:
            files = folder(self._entries, component.folder)
            if files.get("config.json") and component.library in ("diffusers", "transformers"):
                part = self._model(files, component.name, component.library)
                yield replace(part, cls=component.cls)

    def _modules(self, root: Folder) -> Iterator[StoredModel]:
        """Yield the layers that sentence-transformers puts after the transformer: Dense and
        others."""
        entry = root.get("modules.json")
        if entry is None:
            return
        from weighbridge.models.formats.index import parse_modules

        for module in self._parsed(entry.path, parse_modules).parts:
            files = folder(self._entries, module.folder)
            if module.folder and weights(files) != Weights():
                part = self._model(files, module.folder, "sentence-transformers")
                yield replace(part, cls=module.cls)

    def _gguf_repository(self, root: Folder) -> Iterator[StoredModel]:
        """Yield one file of a GGUF repository: Q4_K_M, llama.cpp's default (arg.cpp)."""
        paths = (e.path for e in self._entries if e.path.lower().endswith(".gguf"))
        names = sorted({select.parts(p)[0] for p in paths if "mmproj" not in p.lower()})
        if not names:
            return
        chosen = [n for n in names if "q4_k_m" in n.lower()] or (names if len(names) == 1 else [])
        if not chosen:
            shown = ", ".join(n.rpartition("/")[2] for n in names[:8])
            raise UsageError(
                sentence("many_gguf", name=self._source.name, count=len(names), files=shown)
            )
        yield self._gguf(chosen[0])

    def _gguf(self, path: str) -> StoredModel:
        """Return a GGUF file, with all its parts if it is split."""
        from weighbridge.models.formats.gguf import gguf

        def plan(file: SourceFile) -> "Plan[Gguf]":
            return self._bound.keep(gguf(file.size, file=file.path), lambda file: len(file.tensors))

        entries = select.file(self._entries, path, self._source.name)
        files = read_plans(plan, self._source, entries, progress=self._progress)
        self._download += sum(e.size or 0 for e in entries)
        self._read.append("GGUF header")
        metadata = dict(files[0].metadata)
        parts = metadata.get("split.count", 1)
        if parts != len(entries):
            self._notes.append(
                sentence("split_count", path=path, count=shown(parts), read=len(entries))
            )
        tensors = tuple(t for f in files for t in f.tensors)
        whole = metadata.get("split.tensors.count", len(tensors))
        if whole != len(tensors) and parts == len(entries):
            said = sentence("split_tensors", path=path, count=shown(whole), read=len(tensors))
            self._notes.append(said)
        return StoredModel(
            library="gguf",
            config={"gguf": metadata},
            cls=f"GGUF {metadata.get('general.architecture', 'model')}",
            tensors=tensors,
        )

    def _tensors(self, chosen: Weights, begun: "Begun | None" = None) -> Tensors:
        files, first = chosen.files, None
        if chosen.listed_in is not None:
            files = self._named(chosen.listed_in, self._shards(chosen.listed_in))
            first = _first_read(chosen.listed_in, len(files))
        if not files:
            return ()
        self._download += sum(e.size or 0 for e in files)
        self._read.append(
            "torch pickles" if files[0].path.endswith(PICKLES) else "safetensors headers"
        )
        if begun is not None and set(begun.files) == set(files):
            read = dict(zip(begun.files, begun.headers.results(self._progress), strict=True))
            headers = tuple(read[file] for file in files)
            self._bound = begun.bound
        else:
            plan = partial(_plan, self._bound, first)
            headers = read_plans(plan, self._source, files, progress=self._progress)
        return self._agreed(chosen.listed_in, tuple(t for tensors in headers for t in tensors))

    def _agreed(self, listed: SourceFile | None, tensors: Tensors) -> Tensors:
        from weighbridge.models.checkpoint.indexed import agreed  # rules of files beside each other

        path = listed.path if listed is not None else ""
        once, notes = agreed(path, self._indexes.get(path), tensors)
        self._notes += notes
        return once

    def _begun(self, chosen: Weights) -> "Begun | None":
        """Start to read all headers before the index is read; None if shards are missing or reads
        do not wait."""
        if not self._source.waits:
            return None
        listed = chosen.listed_in
        files = chosen.files if listed is None else shards(self._entries, listed)
        if not files:
            return None
        first = None if listed is None else _first_read(listed, len(files))
        bound = replace(self._bound)
        jobs = together(partial(_plan, bound, first), self._source, files)
        return Begun(files, jobs, bound)

    def _shards(self, entry: SourceFile) -> tuple[str, ...]:
        """Return the paths of an index's shards."""
        self._download += entry.size or 0
        head = entry.path.rpartition("/")[0]
        from weighbridge.models.formats.index import MAX_INDEX, parse_index

        index = self._indexes[entry.path] = self._parsed(entry.path, parse_index, MAX_INDEX)
        return tuple(f"{head}/{file}" if head else file for file in index.files)

    def _named(self, entry: SourceFile, names: Sequence[str]) -> tuple[SourceFile, ...]:
        by_path = {e.path: e for e in self._entries}
        missing = [path for path in names if path not in by_path]
        if len(missing) == len(names):
            self._notes.append(sentence("no_shards", path=entry.path, count=len(names)))
            return ()
        if missing:
            raise BadFileError(
                sentence(
                    "shards_missing",
                    path=entry.path,
                    name=missing[0],
                    count=len(missing),
                    all=len(names),
                )
            )
        return tuple(by_path[path] for path in names)

    def _json(self, path: str) -> Raw:
        value: Raw = self._parsed(path, lambda data: strict_object(data, constants=True))
        return value

    def _parsed(self, path: str, parse: Callable[[bytes], T], limit: int = MAX_CONFIG) -> T:
        """Return a small file, read whole and parsed."""
        value = read_plan(whole(parse, limit), self._source, path)
        self._read.append(path)
        return value


def _what_to_give(name: str, raw: Raw) -> str:
    """Return what the user should give instead of a file that means nothing by itself."""
    if name == "adapter_config.json":
        base = raw.get("base_model_name_or_path")
        if isinstance(base, str) and base:
            return sentence("give.adapter_or_base", base=shown(base))
        return sentence("give.adapter")
    if name == "model_index.json":
        return sentence("give.parts")
    return sentence("give.folder")


def _plan(bound: Bound, first_read: int | None, file: SourceFile) -> Plan[Tensors]:
    return bound.keep(weights_file(file.path, file.size, first_read), len)


def _first_read(index: SourceFile, shards: int) -> int | None:
    from weighbridge.models.formats.safetensors import expected

    return None if index.size is None else expected(index.size, shards)


def _short_name(name: str) -> str:
    """Return a repository's id unchanged; of a path, the file's name, or its folder's for a
    config."""
    if "/" not in name and "\\" not in name:
        return name
    path = PurePath(name)
    if not path.is_absolute() and len(path.parts) == 2:
        return name
    return (path.parent.name * (path.name in ("config.json", "params.json"))) or path.name
