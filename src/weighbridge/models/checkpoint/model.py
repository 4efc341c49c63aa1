"""The model of a class: an inventory and a config become parameters, buffers and modules.

Four ways, in this order, and the report says which was taken:

1. the config's model type is in our tables: the class's own tensors (`arch/`);
2. headers were read: the stored tensors, unpacked where a format packs them;
3. an extra (transformers, timm, diffusers) builds the class on the meta device;
4. an index says how many bytes all tensors have: numbers of 16 bits, assumed.

Where 1 and headers are both at hand, stored tensors that the class does not load are told apart.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import about, clauses, sentence, without
from weighbridge.base.wording import printable, shown
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.builder import blueprint, family, known, stems
from weighbridge.models.arch.config import Config, has_sizes
from weighbridge.models.arch.possible import contradictions, doubts, impossible
from weighbridge.models.checkpoint.inventory import Inventory, StoredModel
from weighbridge.models.quantization.packed import unpacked
from weighbridge.models.sources.reference import Reference
from weighbridge.models.tensors import CheckpointTensor, Counted, counted

if TYPE_CHECKING:
    from weighbridge.models.checkpoint.loading import LoadSplit

PROGRAMS = "weighbridge.pictures.components"  # is found by name: programs read what is below them
PROGRAMMED = "diffusers", "torchvision", "ultralytics"  # libraries whose trees programs declare
MOST_PARAMETERS = 10**15  # published models have up to some 10**12
STORED = 2  # bytes per element in files by default
COUNTED = ("counted",)  # memo key of a part's counted tensors
WIDTH = 4096  # assumed for a bare size: groups and blocks of all formats divide it
WORD_ROWS = 8  # so that AWQ, which packs eight outputs into a word, packs a bare size, too
MOST_UNLIKE = 20_000  # tensors of a class without family; equal experts count once
MOST_NAMED = 6  # sizes in a note


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class ModelPart:
    """One class, with its tensors in the files."""

    name: str
    library: str = "transformers"
    blueprint: Blueprint
    config: Mapping[str, Any]
    stored: tuple[CheckpointTensor, ...] = ()  # tensors that the class loads
    unloaded: tuple[CheckpointTensor, ...] = ()  # stored, but not loaded
    quantization: Mapping[str, Any] | None = None

    @property
    def counted(self) -> Counted:
        """Return the stored tensors; equal experts as the first with a count."""
        return memo(self, COUNTED, lambda: counted(self.stored))

    @property
    def packed(self) -> bool:
        """Return whether the checkpoint is quantized in a format that the loader keeps."""
        return self.quantization is not None or self.library == "gguf"

    @property
    def declared_dtype(self) -> str:
        """Return the dtype in the config; "" without one."""
        text = self.config.get("text_config")
        for config in (self.config, text if isinstance(text, Mapping) else {}):
            for key in ("dtype", "torch_dtype"):
                named = config.get(key)
                if not isinstance(named, str | None):
                    raise BadFileError(sentence("dtype_name", key=key, value=named))
                if named and named != "auto":
                    return named
        return ""


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Model:
    """One whole model: its parts, and the sources of what is known."""

    reference: str
    name: str
    revision: str | None
    parts: tuple[ModelPart, ...]
    read_from: tuple[str, ...]
    stored_bytes: int | None = None
    download_bytes: int | None = None
    notes: tuple[str, ...] = ()
    rough: bool = False
    repo_id: str | None = None
    origin: Reference | None = None  # None: a config or a module in memory

    @property
    def loads_as(self) -> str:
        """Return the model's name for engines: its repository, else the reference."""
        return self.repo_id or self.reference

    @property
    def architecture(self) -> str:
        return " + ".join(dict.fromkeys(part.blueprint.cls for part in self.parts))

    @property
    def parameters(self) -> int:
        return sum(part.blueprint.parameters for part in self.parts)

    @cached_property
    def active_parameters(self) -> int:
        return sum(active(part.blueprint.counted) for part in self.parts)

    def part_sizes(self) -> tuple[tuple[str, int], ...]:
        """Return (name, parameters) of a pipeline's parts, or of a class's towers; () for a single
        part."""
        return self._part_sizes

    @cached_property
    def _part_sizes(self) -> tuple[tuple[str, int], ...]:
        if len(self.parts) == 1 and not self.parts[0].blueprint.parts:
            return ()
        sizes: dict[str, int] = defaultdict(int)
        for part in self.parts:
            for p, count in part.blueprint.distinct():
                sizes[part.name or part.blueprint.part(p.name)] += p.numel * count
        return tuple(sizes.items()) if len(sizes) > 1 else ()


def active(params: Iterable[Param]) -> int:
    """Return the parameters that one token uses: all but the experts that it is not routed to."""
    by_share: dict[tuple[int, int], int] = defaultdict(int)
    for p in params:
        if not p.tied:
            by_share[p.routed] += p.numel * p.copies
    return sum(numel * k // of for (k, of), numel in by_share.items())


def resolve(inventory: Inventory, *, base_model: bool = False) -> Model:
    """Return the model: every part with its class. Raises UnsupportedError for an unknown class
    without stored tensors."""
    notes = list(inventory.notes)
    parts = []
    for part in inventory.parts:
        read, remarks = _part(part, inventory.code, base_model=base_model)
        parts.append(read)
        notes += remarks
    return Model(
        reference=inventory.reference,
        name=inventory.name,
        revision=inventory.revision,
        parts=tuple(parts),
        read_from=inventory.read_from,
        stored_bytes=inventory.stored_bytes,
        download_bytes=inventory.download_bytes,
        notes=tuple(notes),
        rough=inventory.rough,
        repo_id=inventory.repo_id,
        origin=inventory.origin,
    )


def _part(part: StoredModel, code: str | None, *, base_model: bool) -> tuple[ModelPart, list[str]]:
    notes: list[str] = []
    part = replace(part, quantization=_quantization_settings(part, notes))
    kind = (part.config or {}).get("model_type")
    if not isinstance(kind, str | None):
        raise BadFileError(sentence("model_type_text", kind=shown(kind)), where=part.where)
    plan = _from_tables(part, notes, base_model=base_model)
    files: LoadSplit | None = None
    if part.tensors:
        plan, files = _with_headers(plan, part, notes)
    elif plan is None:
        plan = _from_library(part, code, notes, base_model=base_model)
    _check_size(plan, part)
    stored, unloaded = ((), ()) if files is None else files[:2]
    if unloaded:
        from weighbridge.models.checkpoint import (
            agreement,  # rules of files, which a config does without
        )

        notes += agreement.unloaded(plan, unloaded)
    if part.library == "gguf":
        from weighbridge.models.arch import gguf_agreement  # rules, which a config does without

        notes += gguf_agreement.check((part.config or {})["gguf"], part.tensors)
    read = ModelPart(
        name=part.name,
        library=part.library,
        blueprint=plan,
        config=part.config or {},
        stored=stored,
        unloaded=unloaded,
        quantization=part.quantization,
    )
    if files is not None and files.counted is not None:
        memo(read, COUNTED, lambda: files.counted)
    return read, [about(part.name, note) for note in notes]


def _quantization_settings(part: StoredModel, notes: list[str]) -> Mapping[str, Any] | None:
    """Return the checkpoint's quantization settings; None, with a note, if no tensor is
    quantized."""
    if part.quantization is None:
        return None
    if not unpacked(part.tensors):
        from weighbridge.models.quantization.declared import untold  # of packed weights

        notes += filter(None, [untold(part.quantization)])
        return part.quantization
    from weighbridge.models.checkpoint import agreement

    notes.append(agreement.unstored(part.quantization))
    return None


NO_SIZES = "drop|prob|token|std|image|patch|window"  # may be 0, whatever else their names say
SIZES = re.compile(rf"(?!.*({NO_SIZES}))(.*(size|dim|head|width|channel)|d_model|d_ff|n_embd)")


def zeros(config: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Yield the config keys whose names say size and whose value is 0."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from zeros(value, f"{within}{key}.")
        elif type(value) is int and value == 0 and SIZES.match(key):
            yield printable(f"{within}{key}")


def _check_size(plan: Blueprint, part: StoredModel) -> None:
    """Raise BadFileError for a tensor without elements, or for more than MOST_PARAMETERS."""
    empty = next((p for p in plan.counted if 0 in p.shape), None)
    if empty is not None:
        keys = list(zeros(part.config or {}))
        form = min(len(keys), 2)
        values = {"name": empty.name, "cls": plan.cls, "keys": ", ".join(keys)}
        shape = " x ".join(map(str, empty.shape))
        raise BadFileError(sentence(f"zero_size.{form}", shape=shape, **values), where=part.where)
    if plan.parameters <= MOST_PARAMETERS:
        return
    if part.library == "size":
        raise BadFileError(sentence("size_beyond", count=plan.parameters, most=MOST_PARAMETERS))
    largest = max(plan.counted, key=lambda p: p.numel)
    raise BadFileError(
        sentence(
            "no_such_size",
            cls=plan.cls,
            count=plan.parameters,
            name=largest.name,
            shape=" x ".join(map(str, largest.shape)),
        ),
        where=part.where,
    )


def _with_headers(
    plan: Blueprint | None, part: StoredModel, notes: list[str]
) -> "tuple[Blueprint, LoadSplit]":
    from weighbridge.models.checkpoint import (
        loading,  # a config alone, the usual case, does without
    )

    if plan is not None:
        return plan, loading.split(plan, part, notes)
    if part.config is not None and "adapter" in part.config:
        from weighbridge.models.checkpoint import adapters

        notes += adapters.differences(part.config["adapter"], part.tensors)
    blueprint = loading.from_stored(part, loading.class_of(part), notes)
    if len(blueprint.counted) > MOST_UNLIKE:
        raise BadFileError(
            sentence(
                "unlike_parameters",
                count=len(blueprint.counted),
                cls=blueprint.cls,
                most=MOST_UNLIKE,
            ),
            where=part.where,
        )
    return blueprint, loading.LoadSplit(part.tensors)


def _from_tables(part: StoredModel, notes: list[str], *, base_model: bool) -> Blueprint | None:
    """Return the family's blueprint; None if the model type or its class is unknown."""
    if part.library == "timm" and part.config is not None:
        from weighbridge.models.arch.families import (
            timm_nets,  # rules, which language models do without
        )

        return timm_nets.of_config(part.config)
    if part.library in PROGRAMMED and part.config is not None and not part.tensors:
        return _from_program(part, notes)
    if part.library != "transformers" or part.config is None or not known(part.config):
        return None
    config = Config(part.config, where=part.where, cls=part.cls or _encoder_alone(part))
    try:
        plan = blueprint(config, base_model=base_model)
    except UnsupportedError as error:
        instead = "counted_from_headers" if part.tensors else "counted_from_library"
        notes.append(clauses(error.sentence, sentence(instead)))
        return None
    unread = config.unread()
    if unread:
        notes.append(sentence("unread_keys", keys=", ".join(unread)))
    _check_size(plan, part)
    notes += _config_notes(part, config)
    return plan


def _from_program(part: StoredModel, notes: list[str]) -> Blueprint | None:
    """Return the tensors of a diffusers network from its traced forward's module tree; None if no
    program supports it."""
    try:
        plan: Blueprint | None = import_module(PROGRAMS).blueprint(part.config)
    except UnsupportedError as error:
        notes.append(clauses(error.sentence, sentence("counted_from_library")))
        return None
    return plan


def _config_notes(part: StoredModel, config: Config) -> Iterator[str]:
    """Yield notes on missing or contradictory settings of the config. Raises BadFileError for
    impossible values, and for a config without any size, which is a class and no model."""
    if not part.tensors and not part.vouched:
        if not has_sizes(config.raw):
            raise BadFileError(sentence("no_sizes", where=part.where, kind=config.model_type))
        yield from _assumed(part, config)
    layers = None if part.vouched else _impossible(config)
    contradiction = next(contradictions(config), None) or (layers and about(part.where, layers))
    if contradiction:
        raise BadFileError(contradiction, then=sentence("correct_config"))
    yield from doubts(config, vouched=part.vouched)


def _impossible(config: Config) -> str | None:
    from weighbridge.models.arch.cache_layers import (
        layers,  # a model of the catalogue is asked nothing
    )

    try:
        return impossible(layers(config))
    except UnsupportedError:  # its weights alone have an answer
        return None


def _assumed(part: StoredModel, config: Config) -> Iterator[str]:
    assumed = config.assumed()
    if assumed:
        names, more = ", ".join(assumed[:MOST_NAMED]), len(assumed) - MOST_NAMED
        if more > 0:
            names = sentence("and_more", names=names, count=more)
        key = "sizes_unsaid.one" if len(assumed) == 1 else "sizes_unsaid"
        yield sentence(key, where=part.where, names=names)


def _encoder_alone(part: StoredModel) -> str:
    """Return an encoder's class if the files lack a decoder and the config names no class, as in a
    pipeline's second text encoder opened alone; else ""."""
    config = part.config or {}
    classes = family(str(config.get("model_type"))).classes
    if config.get("architectures") or "EncoderModel" not in classes:
        return ""
    names = {t.name for t in part.tensors} or set(part.listed)
    begins = {name.partition(".")[0] for name in names}
    if "encoder" not in begins:
        return ""
    stem = stems(family(str(config.get("model_type"))))[0]
    return f"{stem}EncoderModel" if begins <= {"encoder", "shared"} else ""


def _of_index(part: StoredModel, parameters: int, notes: list[str]) -> Blueprint:
    """Return parameters without shapes, for an index whose class is unknown."""
    from weighbridge.models.checkpoint.loading import class_of

    notes.append(sentence("index_alone", cls=class_of(part), size=part.listed_bytes))
    return replace(_of_size(parameters), cls=class_of(part))


def _of_size(parameters: int) -> Blueprint:
    """Return the tensors of a bare parameter count: a matrix of width WIDTH, and a vector for the
    rest."""
    rows = (parameters - 1) // WIDTH
    rows -= rows % WORD_ROWS
    matrix = Param("layers.weight", (rows, WIDTH))
    remaining = parameters - rows * WIDTH
    return Blueprint(cls="a bare size", params=(matrix, Param("rest.weight", (remaining,), "norm")))


def _from_library(
    part: StoredModel, code: str | None, notes: list[str], *, base_model: bool
) -> Blueprint:
    """Return the class as its library builds it. If that fails, the error first says why our tables
    had none."""
    try:
        return _built(part, code, base_model=base_model)
    except UnsupportedError as error:
        if part.listed_bytes is not None:
            return _of_index(part, part.listed_bytes // STORED, notes)
        refused = [without(note, "counted_from_library") for note in notes]
        reason = error.then or error.sentence if refused else error.sentence
        raise UnsupportedError(clauses(*refused, reason)) from None


def _built(part: StoredModel, code: str | None, *, base_model: bool) -> Blueprint:
    config = part.config or {}
    if part.library == "size":
        return _of_size(config["parameters"])
    from weighbridge.models.arch import torch_modules  # libraries, which a known class does without

    if part.library == "diffusers":
        return torch_modules.diffusers(config)
    if part.library == "timm":
        return torch_modules.timm(str(config["architecture"]))
    if part.library == "gguf" and not part.tensors:
        raise BadFileError(sentence("no_tensors"))
    if not config.get("model_type"):
        raise BadFileError(sentence("no_model_type", where=part.where))
    if code is not None and "auto_map" in config:
        return torch_modules.own_code(code, config, base_model=base_model)
    return torch_modules.transformers(config, base_model=base_model)
