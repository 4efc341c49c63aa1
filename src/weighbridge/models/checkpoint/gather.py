"""From what the user typed to an inventory, by kind of reference."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import AwayError, HubError, NotFoundError, UsageError, WeighbridgeError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import clauses, key_of, parts_of, sentence
from weighbridge.base.wording import clipped, redacted
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.inventory import Inventory, StoredModel, declared_quantization
from weighbridge.models.sources import open_source, resolve
from weighbridge.models.sources.reference import (
    CatalogueRef,
    HubRef,
    LocalRef,
    SizeRef,
    TimmRef,
    UrlRef,
)

if TYPE_CHECKING:
    from weighbridge.models.catalogue.pipelines import CataloguePipeline
    from weighbridge.models.sources import base
    from weighbridge.models.sources.answers import Silence
    from weighbridge.models.sources.reference import Reference

Raw = Mapping[str, Any]
MOST_BEGUN = 3  # other pipelines that are named
MOST_NAMED = 120  # characters of what was typed, in an error


class GatherOptions(NamedTuple):
    """Options for reading a reference. None: the environment's setting."""

    revision: str | None = None
    token: str | None = None
    cache_dir: str | None = None
    offline: bool = False
    trust_remote_code: bool = False
    progress: Callable[[int, int], None] | None = None
    ours: bool = True  # the user owns this machine: local files and any address may be read
    silence: "Silence | None" = None  # shared record of hosts that recently did not answer
    then: str = ""  # module to import while a source is waited for
    pictures: bool = False  # the question is about a pipeline: a prefix of its name is enough

    def source(self) -> "base.SourceOptions":
        from weighbridge.models.sources import base

        return base.SourceOptions(
            token=self.token if self.ours or self.token else False,  # never the owner's own
            cache_dir=self.cache_dir,
            offline=self.offline,
            silence=self.silence,
        )


def gather(text: str, options: GatherOptions) -> Inventory:
    """Return the inventory of a reference. Raises NotFoundError, BadFileError, UsageError,
    HubError."""
    if options.pictures and (begun := _by_prefix(text, options)):
        return begun
    ref = _resolved(text, options)
    if isinstance(ref, HubRef) and "/" not in text:
        ref = _with_owner(text, ref, options)
    inventory = SPECIAL.get(type(ref), _read)(text, ref, options)
    if isinstance(ref, HubRef) and "/" in ref.repo_id and "/" not in text:
        note = sentence("by_search", name=text, repo=ref.repo_id)
        inventory = replace(inventory, notes=(note, *inventory.notes))
    return replace(inventory, origin=ref)


def _by_prefix(text: str, options: GatherOptions) -> Inventory | None:
    """Return the first pipeline whose name begins with `text`, if `text` is no full name; else
    None."""
    from weighbridge.models.catalogue import pipelines

    known = has_name(text) or (options.ours and os.path.exists(text))
    begun = [] if known else pipelines.beginning(text)
    if not begun:
        return None
    first, *others = begun
    note = sentence("begun.alone", name=text, first=first)
    if others:
        listed = ", ".join(others[:MOST_BEGUN])
        note = sentence("begun", name=text, first=first, others=listed)
    inventory = gather(first, options)
    return replace(inventory, notes=(note, *inventory.notes))


def _resolved(text: str, options: GatherOptions) -> "Reference":
    """Return the parsed reference. On a public page, raises UsageError for local files, whether
    they exist or not."""
    if options.ours:
        return resolve(text, catalogue=has_name, revision=options.revision)
    try:
        ref = resolve(text, catalogue=has_name, revision=options.revision, disk=False)
    except NotFoundError:
        ref = None
    if ref is None or isinstance(ref, LocalRef | UrlRef):
        raise UsageError(sentence("not_read_here", reference=clipped(redacted(text), MOST_NAMED)))
    return ref


def has_name(text: str) -> bool:
    """Return whether the built-in catalogue has a name, exactly or as an everyday name."""
    if catalogue.has(text):
        return True
    # imported here and below: catalogue names do not need it
    from weighbridge.models.catalogue import everyday, pipelines

    return everyday.has(text) or pipelines.find(text) is not None


def _with_owner(text: str, ref: HubRef, options: GatherOptions) -> HubRef:
    """Return the repository of a name without owner: an early one without owner, else the Hub's
    search result of exactly that name. Raises NotFoundError if there is none."""
    from weighbridge.models.catalogue import everyday

    if everyday.may_be_an_id(text):
        return ref
    name, sign, _ = text.partition("@")
    if sign and has_name(name):
        raise UsageError(
            sentence("no_revisions", reference=clipped(redacted(text), MOST_NAMED), name=name)
        )
    from weighbridge.models.quantization.schemes import NAMES, OFTEN
    from weighbridge.models.sources.search import named

    if text in (*NAMES, *OFTEN):
        raise UsageError(sentence("format_as_name", name=text))
    listed = named(ref.repo_id, options.source())
    owners = sorted(listed.exact, key=everyday.is_mirrored)  # makers before mirrors
    if owners:
        return replace(ref, repo_id=owners[0])
    near = [*listed.others[:2], *everyday.nearest(text)][:3]
    name = clipped(redacted(text), MOST_NAMED)
    if not near:
        raise NotFoundError(sentence("name", name=name))
    raise NotFoundError(sentence("name_near", name=name, near=", ".join(near)))


def naming(text: str, error: WeighbridgeError) -> WeighbridgeError:
    """Return `error` with the user's text and similar catalogue names added."""
    message, place = str(error), clipped(redacted(text).partition("@")[0], MOST_NAMED)
    there = place in message or repr(place)[1:-1] in message
    hint = ""
    if isinstance(error, AwayError | NotFoundError) and error.key not in ("name", "name_near"):
        from weighbridge.models.catalogue import everyday

        near = everyday.nearest(place.rpartition("/")[2])
        hint = sentence("catalogue_has", near=", ".join(near)) if near else ""
    return error.added("" if there else clipped(redacted(text), MOST_NAMED), hint)


def _read(text: str, ref: Any, options: GatherOptions) -> Inventory:
    from weighbridge.models.sources.base import Together

    source = open_source(ref, options.source())
    listed = Together([source.list]) if source.waits else None
    from weighbridge.models.checkpoint.reading import (
        Reader,  # parsers, which a catalogue name does without
    )

    if listed is not None:
        if options.then:
            import_module(options.then)
        listed.results()
    inventory = Reader(text, source, options.progress).inventory()
    return inventory if options.trust_remote_code else replace(inventory, code=None)


NAMELESS = "config"  # the reference of a model from a mapping, without a name


def gather_config(config: Raw, *, reference: str = NAMELESS) -> Inventory:
    """Return the inventory of a config in memory. Raises UsageError if a key is no string."""
    keys: Iterable[Any] = config  # of a caller that mypy does not see
    odd = next((key for key in keys if not isinstance(key, str)), None)
    if odd is not None:
        raise UsageError(sentence("config_keys", key=odd), where=reference)
    name = str(config.get("_name_or_path") or config.get("model_type") or "config")
    part = StoredModel(config=config, quantization=declared_quantization(config))
    return Inventory(reference=reference, name=name, parts=(part,), read_from=("config",))


def gather_pipeline(pipeline: Any) -> Inventory:
    """Return the inventory of a diffusers pipeline object, from its networks' configs. Raises
    UsageError if it has no networks."""
    name = type(pipeline).__name__
    networks = {part: _config_of(network) for part, network in pipeline.components.items()}
    parts = _networks_of({part: config for part, config in networks.items() if config})
    if not parts:
        raise UsageError(sentence("no_component"), where=name)
    return Inventory(reference=name, name=name, parts=parts, read_from=("the pipeline",))


def _networks_of(configs: Mapping[str, Raw]) -> tuple[StoredModel, ...]:
    """Return a pipeline's networks from their configs; diffusers' configs name the class."""
    return tuple(
        StoredModel(
            name=name,
            library="diffusers" if "_class_name" in config else "transformers",
            config=config,
            where=f"{name}/config.json",
            vouched=True,
        )
        for name, config in configs.items()
    )


def _config_of(network: Any) -> dict[str, Any]:
    """Return a network's config; {} for schedulers, tokenizers and processors."""
    config = getattr(network, "config", None)
    if config is None or not callable(getattr(network, "parameters", None)):
        return {}
    if hasattr(config, "to_dict"):
        return {**config.to_dict(), "architectures": [type(network).__name__]}
    plain = dict(config)
    return {"_class_name": type(network).__name__, **plain}


def _repository(text: str, ref: HubRef, options: GatherOptions) -> Inventory:
    """Return the inventory of a Hub repository's files; if the Hub cannot be reached, of the
    built-in catalogue's config."""
    try:
        return _read(text, ref, options)
    except AwayError as error:
        inventory = _packed(text, ref) or (_from_catalogue(text, ref) if _whole(ref) else None)
        if inventory is None:
            raise
        why = sentence("offline_set") if options.offline else error.why
        base = _base_entry(inventory.name)
        shapes = "" if inventory.repo_id == _repository_of(base) else sentence("shapes_of")
        note = sentence("catalogue", name=text, shapes=shapes, entry=base, why=why)
        return replace(inventory, notes=_with_continuations(note, inventory.notes))


def _from_catalogue(text: str, ref: HubRef) -> Inventory | None:
    """Return the built-in catalogue's inventory for a repository: its config, its pipeline's, or a
    base's shapes of the same owner; None if unknown."""
    from weighbridge.models.catalogue import everyday, pipelines

    entry, pipeline = catalogue.of_repository(ref.repo_id), pipelines.of_repository(ref.repo_id)
    if entry is not None:
        return _entry(text, entry)
    if pipeline is not None:
        return _pipeline(text, pipeline)
    tuned = everyday.of_owner(ref.repo_id)
    if tuned is None:
        return None
    notes = (tuned.note,) if tuned.note else ()
    inventory = replace(_entry(text, tuned.entry), name=tuned.name)
    return replace(inventory, repo_id=ref.repo_id, notes=notes)


def _packed(text: str, ref: HubRef) -> Inventory | None:
    """Return the catalogue's shapes for a GGUF repository: with the type of `ORG/NAME-GGUF:TYPE`,
    or the default type of `ORG/NAME-GGUF`; None if unknown."""
    from weighbridge.models.catalogue import everyday

    name = re.fullmatch(r"(?i)(.+)[-_.]gguf", ref.repo_id.rpartition("/")[2])
    if name is None or not _whole(replace(ref, quant=None)):
        return None
    typed = f"{name[1]}-{ref.quant}" if ref.quant else name[0]
    floats = (ref.quant or "").lower() in everyday.FLOATS  # of a file of GGUF, or of a copy
    tag = everyday.meaning(f"{typed}.gguf" if floats else typed)
    if tag is None or not tag.quantization:
        return None
    inventory = replace(_entry(text, tag.entry), name=tag.name, form=tag.quantization)
    return replace(inventory, notes=(tag.note,) if tag.note else ())


def _base_entry(name: str) -> str:
    """Return the catalogue entry with a model's shapes: a tune's base, else `name`."""
    from weighbridge.models.catalogue import tunes

    return tunes.TUNES[name].base if name in tunes.TUNES else name


def _repository_of(name: str) -> str | None:
    """Return the Hub id of a catalogue name; None without one."""
    from weighbridge.models.catalogue import pipelines

    if catalogue.has(name):
        return catalogue.find(name).repo_id
    pipeline = pipelines.find(name)
    return None if pipeline is None else pipeline.repo_id


def _with_continuations(first: str, notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the notes, those that continue the sentence `first` joined to it."""
    from weighbridge.models.catalogue.everyday import GOES_ON

    behind = [note for note in notes if {*map(key_of, parts_of(note))} <= GOES_ON]
    return clauses(first, *behind), *(note for note in notes if note not in behind)


def _whole(ref: HubRef) -> bool:
    """Return whether a reference means a whole repository at its main revision, which the catalogue
    can stand for."""
    return ref.revision in (None, "main") and not (ref.filename or ref.subfolder or ref.quant)


def _catalogued(text: str, ref: Any, options: GatherOptions) -> Inventory:
    if catalogue.has(ref.name):
        return _entry(text, catalogue.find(ref.name))
    from weighbridge.models.catalogue import everyday, pipelines

    tag = everyday.meaning(ref.name)
    if tag is None:
        pipeline = pipelines.find(ref.name)
        assert pipeline is not None  # or it were another kind of reference
        inventory, file = _pipeline(text, pipeline), pipelines.of_file(ref.name)
        if file is None or not ref.name.lower().endswith(pipelines.ENDS):
            return inventory
        values = {"component": file.component, "pipeline": file.pipeline}
        about = "file_of_pipeline" if file.whole else "file_of_denoiser"
        if file.either:
            about, values = "file_of_either", {**values, "form": file.format}
        note = sentence(about, **values)
        return replace(inventory, notes=(note,))
    notes = (tag.note,) if tag.note else ()
    inventory = replace(_entry(text, tag.entry), name=tag.name)
    return replace(inventory, notes=notes, form=tag.quantization)


def _entry(text: str, entry: catalogue.CatalogueEntry) -> Inventory:
    part = StoredModel(
        library=catalogue.LIBRARIES.get(entry.model_type, "transformers"),
        config=entry.config,
        quantization=declared_quantization(entry.config),
        vouched=True,
    )
    return Inventory(
        reference=text,
        name=entry.name,
        parts=(part,),
        read_from=(f"built-in catalogue ({entry.source})",),
        repo_id=entry.repo_id,
    )


def _pipeline(text: str, entry: "CataloguePipeline") -> Inventory:
    return Inventory(
        reference=text,
        name=entry.name,
        parts=_networks_of(entry.parts),
        read_from=(f"built-in catalogue ({entry.source})",),
        repo_id=entry.repo_id,
    )


def _sized(text: str, ref: Any, options: GatherOptions) -> Inventory:
    return Inventory(
        reference=text,
        name=text,
        parts=(StoredModel(library="size", config={"parameters": ref.parameters}),),
        read_from=("a bare size",),
        notes=(sentence("bare_size"),),
        rough=True,
    )


def typical(inventory: Inventory, options: GatherOptions) -> Inventory | None:
    """Return the catalogue's model that stands for a bare size where a question needs layers; None
    for a size without one, and for what is no bare size."""
    from weighbridge.models.catalogue import everyday

    size = inventory.reference.strip().lower()
    if not inventory.rough or size not in everyday.SIZES:
        return None
    model = gather(everyday.SIZES[size], options)
    note = sentence("size_as", typed=size, name=model.name, repo=model.repo_id)
    return replace(model, reference=inventory.reference, notes=(note,))


def _timm(text: str, ref: Any, options: GatherOptions) -> Inventory:
    """Return the inventory of a timm name: the Hub's headers of `timm/NAME`, else its class by
    name."""
    try:
        return _read(text, ref, options)
    except (HubError, NotFoundError) as error:
        part = StoredModel(library="timm", config={"architecture": ref.name})
        reason = error.why if isinstance(error, AwayError) else error.sentence
        why = sentence("offline_set") if options.offline else reason
        note = sentence("named_alone", name=text, why=why)
        return Inventory(
            reference=text, name=ref.name, parts=(part,), read_from=("the name",), notes=(note,)
        )


SPECIAL: dict[type, Callable[[str, Any, GatherOptions], Inventory]] = {
    CatalogueRef: _catalogued,
    HubRef: _repository,
    SizeRef: _sized,
    TimmRef: _timm,
}
