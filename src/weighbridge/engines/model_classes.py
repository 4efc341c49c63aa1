"""Classes that each release of an engine knows: the rows of its table, and how they are searched.

Each engine has classes.txt in its folder. A row names what came with one release: classes as in
`architectures` of a config, model types for transformers, GGUF architectures for engines that load
GGUF. What no row names was there before our oldest release, or was not read. A folder may list
those too (before.txt): the engine never had a class whose name is in neither.

Refuses models whose class an engine's release does not know yet, and names the release that does.
For a class that it never had, or has dropped, an answer is only as sure as running a class of
transformers in its place allows.
"""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module

from weighbridge.base.errors import ReleaseError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import about, sentence
from weighbridge.engines.engine import Engine, Version, release_of, written
from weighbridge.engines.table import usual
from weighbridge.engines.weight_formats import Loader
from weighbridge.models.arch.config import of_transformers
from weighbridge.models.checkpoint.model import ModelPart

ENDINGS = ("ForCausalLM", "ForConditionalGeneration")
# Endings of a class's purpose; one replaces another (vLLM's registry.py: _normalize_arch)
WORKS = ("LMHeadModel", "ChatModel", "EmbeddingModel", "RewardModel", "Model")


class Known(NamedTuple):
    """Names that came between two releases that were read."""

    since: Version  # the first release read that has them
    before: Version  # the last release read that has not, written in full (0.19.1)
    names: str

    def lacking(self, version: Version) -> bool:
        """Return whether a release surely lacks these names. One between the two may have them, and
        so may one written short (0.10) if the first with them is of its series (0.10.1)."""
        return version <= self.before and version != self.since[: len(version)]


@cache
def known(package: str) -> tuple[Known, ...]:
    """Return the rows of classes.txt in an engine's folder, one per release: since, before, and
    names."""
    rows = (line.split(maxsplit=2) for line in _lines(package, "classes.txt"))
    return tuple(
        Known(release_of(since), release_of(before), names) for since, before, names in rows
    )


@cache
def dropped(package: str) -> Mapping[Version, str]:
    """Return the names of gone.txt in an engine's folder by the last release that has them."""
    rows = (line.split(maxsplit=1) for line in _lines(package, "gone.txt"))
    return {release_of(last): names for last, names in rows}


@cache
def names_in(package: str, file: str) -> str:
    """Return the names in a file of an engine's folder; "" if there is no such file."""
    return " ".join(_lines(package, file))


def _lines(package: str, file: str) -> list[str]:
    door = import_module(package).__file__ or ""
    exists = os.path.exists(os.path.join(os.path.dirname(door), file))
    return lines_beside(door, file) if exists else []


class Backend(NamedTuple):
    """A server's rule for running classes of transformers instead of its own: the first releases
    that do, and the newest transformers by release, () without a limit."""

    text: Version
    images: Version
    newest: Mapping[Version, Version]

    def runs(self, version: Version, name: str, since: Version) -> bool:
        """Return whether `version` may run the class `name`, which transformers has since release
        `since`, () for always."""
        least = self.images if name.endswith("ForConditionalGeneration") else self.text
        newest = self.newest[max(first for first in self.newest if first <= version)]
        return version >= least and (not newest or since <= newest)


@cache
def backend(package: str) -> Backend | None:
    """Return the rule in backend.txt of an engine's folder, None without that file."""
    rows = dict(map(str.split, _lines(package, "backend.txt")))
    if not rows:
        return None
    text, images = (release_of(rows.pop(kind)) for kind in ("text", "images"))
    newest = {release_of(first): () if n == "any" else release_of(n) for first, n in rows.items()}
    return Backend(text, images, newest)


def row_of(rows: Iterable[Known], name: str) -> Known | None:
    """Return the row that has `name`, None if no row has it."""
    return next((row for row in rows if name in row.names.split()), None)


# Models whose class a release lacks


def check(part: ModelPart, by: Loader) -> str:
    """Return a warning if a class of transformers may run instead of the engine's own, "" if the
    engine has the class. Raises ReleaseError if nothing in this release runs the model."""
    if by.version >= by.engine.newest:  # the newest release has every class of our tables
        return ""
    names = named(part, by.engine)
    rows = [row_of(by.engine.knowing, name) for name in names]
    lacked = [row for row in rows if row is not None and row.lacking(by.version)]
    if not names or len(lacked) < len(names):  # the engine takes the first one it has
        return ""
    name, row = min(zip(names, lacked, strict=True), key=lambda pair: pair[1].since)
    who, first = f"{by.engine.title} {written(by.version)}", written(row.since)
    if replaced(part, by, name):
        return sentence("no_class", engine=who, cls=name, other=first)
    if counterpart(name, by):
        return ""
    raise ReleaseError(
        about(by.reference, sentence("older", library=who, kind=name, first=first, least=first))
    )


def named(part: ModelPart, engine: Engine) -> tuple[str, ...]:
    """Return the names by which an engine knows a model, the preferred one first; () if it runs the
    model's own code, or if the model is not from transformers."""
    if engine.reads == "gguf":
        return (of_gguf(part),)
    if part.library != "transformers":
        return ()
    if engine.name == usual().name:
        return () if part.config.get("auto_map") else (kind(part),)
    classes = part.config.get("architectures")
    names = classes if isinstance(classes, list) and classes else [part.blueprint.cls]
    return tuple(map(str, names))


def of_gguf(part: ModelPart) -> str:
    """Return the architecture in a GGUF file, or the one that a model is converted to."""
    from weighbridge.models.arch.gguf_layers import architecture

    metadata = part.config.get("gguf")
    return str(metadata.get("general.architecture")) if metadata else architecture(kind(part))


def kind(part: ModelPart) -> str:
    return str(part.config.get("model_type") or "")


def replaced(part: ModelPart, by: Loader, name: str) -> bool:
    """Return whether a class of transformers may run instead of the engine's own."""
    backend = by.engine.backend
    if backend is None:
        return False
    row: Known | None = row_of(usual().knowing, kind(part))
    unlisted = row is None or part.config.get("auto_map")
    return backend.runs(by.version, name, () if unlisted or row is None else row.since)


def counterpart(name: str, by: Loader) -> bool:
    """Return whether the release may have the same model's class with the other ending, which vLLM
    since 0.10.1 takes instead (registry.py: _normalize_arch)."""
    if by.engine.backend is None:
        return False
    stem, ending = next(((name.removesuffix(e), e) for e in ENDINGS if name.endswith(e)), ("", ""))
    others = (row_of(by.engine.knowing, stem + e) for e in ENDINGS if stem and e != ending)
    return any(row is not None and not row.lacking(by.version) for row in others)


# Models whose class is in no table of the engine


class Missing(NamedTuple):
    """Sentences on a model whose class the engine never had, or has dropped."""

    warning: str = ""  # a class of transformers may run it
    uncounted: str = ""  # what the answer then leaves out


def missing(part: ModelPart, by: Loader) -> Missing:
    """Return the sentences on a model whose class the engine's release does not have under any
    name; empty if `check` covers it, or if the engine's classes were not listed."""
    names = named(part, by.engine) if by.engine.has else ()
    if not names or any(_listed(name, by) for name in names):
        return Missing()
    name, who = names[0], f"{by.engine.title} {written(by.version)}"
    if not generic(part, by, name):
        return Missing(uncounted=sentence("never_had", engine=who, cls=name))
    inner = sentence("held_on_a_rank", cls=part.blueprint.cls)
    return Missing(
        sentence("no_class_ever", engine=who, cls=name),
        inner if any(p.routed[1] > 1 for p in part.blueprint.counted) else "",
    )


def _listed(name: str, by: Loader) -> bool:
    """Return whether a table has the class or one of its model, and it is not dropped yet."""
    engine = by.engine
    dropped = (last for last, names in engine.gone.items() if name in names.split())
    if any(by.version[:2] > last[:2] for last in dropped):
        return False
    names = {*engine.has.split(), *(n for row in engine.knowing for n in row.names.split())}
    names.update(n for gone in engine.gone.values() for n in gone.split())
    return name in names or _stem(name) in map(_stem, names)


def _stem(name: str) -> str:
    stem = name.partition("For")[0] if "For" in name else name
    return next((stem.removesuffix(w) for w in WORKS if stem.endswith(w)), stem).lower()


def generic(part: ModelPart, by: Loader, name: str) -> bool:
    """Return whether the release may run a class of transformers instead of its own. False for a
    model's own code, which may or may not be made for that."""
    backend, library, model_type = by.engine.backend, usual(), kind(part)
    if backend is None or model_type in library.alone.split() or part.config.get("auto_map"):
        return False
    row = row_of(library.knowing, model_type)
    return (row is not None or of_transformers(model_type)) and backend.runs(
        by.version, name, () if row is None else row.since
    )
