"""An engine as the rest of the house knows it: one record, which is the door of its folder.

Facts that only the engine's own rules need stand in other files of its folder. Each field here is
one that another room asks for: it asks the record, and never for the engine's name.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from weighbridge.engines.interface import EngineAnswer, Fits, PlacedWay, Probe, Subject
    from weighbridge.engines.model_classes import Backend, Known
    from weighbridge.engines.weight_formats import Reads
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.settings.shared import ServingSettings
    from weighbridge.workload import Infer

Version = tuple[int, ...]
Rules = TypeVar("Rules", bound="DataclassInstance")
LONGEST = "the engine's default, the model's maximum"
USUAL_CONTEXT = 4096  # tokens, where the user names none: contract of the command line


class Engine(NamedTuple):  # not a frozen dataclass: every start makes some
    """One engine. Only the first five fields have no default."""

    name: str  # as --engine takes it
    title: str  # as its makers write it
    package: str  # its folder, as a module: __name__
    oldest: Version  # releases whose sources were read: the first
    newest: Version  # and the last
    spellings: tuple[str, ...] = ()  # what else people call it

    # References that are questions to it, where nobody names an engine: a pattern of them
    named: str = ""

    # Command lines that launch it: read by DIALECT of its dialect.py
    programs: Mapping[str, tuple[str, ...]] = {}  # program -> subcommands that launch it, if any
    images: Mapping[str, str] = {}  # pattern of a container's name -> its program, or ""
    snippet: str = ""  # pattern of a line of Python that does; `read` of its dialect.py reads one

    # What it loads
    reads: Literal["any", "text", "gguf"] = "text"  # any model; language models; those in GGUF
    online: Mapping[str, str] = {}  # its own --quantization that packs while loading -> our format
    written: Mapping[str, str] = {}  # our format -> the name that its --quantization has for it
    formats: tuple[str, ...] = ()  # ours that it makes or reads, best first: what remedies offer
    quantizes: bool = False  # its library has files of its own quantizer: its formats.py
    registers: bool = True  # classes that came with its releases were read: its classes.txt
    usual: str = ""  # our format of what is downloaded where none is named; "": as it is stored

    # What it is like
    metal: bool = False  # its rules are those of Apple's own allocator
    server: bool = False  # takes a share of a card, and decides what its flags do not say
    drafts: bool = True  # a draft model is in our rules
    sets_length: bool = True  # its commands have a length where they name none
    sizes_by_card: bool = False  # its usual length of a request is by the memory of the cards,
    # and no length goes beyond the model's
    longer: str = ""  # variable of the environment that allows texts beyond the model's maximum
    stages: str = ""  # the one that has the layers of each stage of a pipeline
    joins: str = ""  # key of the sentence on what a line on {count} machines needs beside its flags
    length: str = ""  # flag of the longest text, where it is not ours
    trains: str = ""  # the sentence that says why no question about training is asked of it
    splits: str = ""  # what lets it split a model over cards by layers
    by_room: bool = False  # and it fills a card before it takes the next
    graphs: str = ""  # setting that switches CUDA graphs off
    offloads: bool = False  # --cpu-offload-gb leaves weights in host memory
    small_cache: Mapping[str, str] = {}  # settings for keys and values in 8 bits
    least_cache: Mapping[str, str] = {}  # ... in 4 bits

    # How far its answers are from published runs (weighbridge.answers.bounds)
    peers: str = ""  # kind of engines that err alike
    logged: Mapping[str, tuple[str, ...]] = {}  # parts that its logs print -> their components

    @property
    def settings(self) -> "type[ServingSettings]":
        """Return the class of its settings: SETTINGS of the folder's settings.py."""
        declared: type[ServingSettings] = self.home("settings").SETTINGS
        return declared

    @property
    def infer(self) -> "Callable[[Subject, Infer, Budget | None], EngineAnswer]":
        """Answer a question: `infer` of the folder's infer.py."""
        answer: Callable[[Subject, Infer, Budget | None], EngineAnswer] = self.home("infer").infer
        return answer

    @property
    def holds(self) -> "Callable[[Subject, Infer, Budget], bool] | None":
        """Say whether an answer surely fits, faster than by the answer; None: there is none."""
        return getattr(self.home("infer"), "holds", None)

    @property
    def probe(self) -> "Callable[[Subject, Infer, Budget], Probe] | None":
        """Prepare a search, whose probe says in numbers what `infer` would answer."""
        return getattr(self.home("infer"), "probe", None)

    @property
    def places(self) -> "Callable[[Subject, Infer, Budget, Fits], Iterator[PlacedWay]] | None":
        """Look for ways to place a model over cards and host memory; None: it has no such flags."""
        return getattr(self.home("infer"), "places", None)

    @property
    def reading(self) -> "tuple[Reads, ...]":
        """Return what it reads, by release and card: formats.txt of its folder, or READS of its
        formats.py."""
        if not self.package:
            return ()
        rows: tuple[Reads, ...] = (
            self.home("formats").READS
            if self.quantizes
            else _room("weight_formats").rows(self.package)
        )
        return rows

    def tagged(self, name: str) -> str:
        """Our format of what is downloaded of an entry of the catalogue: `format_of` of the
        folder's library.py, where it has a usual one."""
        name_of_format: str = self.home("library").format_of(name) if self.usual else ""
        return name_of_format

    @property
    def quantizer(self) -> Callable[[Any], Any] | None:
        """Return what makes a Scheme of GGUF the one of its own quantizer, where it has one:
        QUANTIZER of the folder's formats.py."""
        return self.home("formats").QUANTIZER if self.quantizes else None

    @property
    def knowing(self) -> "tuple[Known, ...]":
        """Return the classes that came to it, by release: classes.txt of its folder."""
        if not self.package or not self.registers:
            return ()
        rows: tuple[Known, ...] = _room("model_classes").known(self.package)
        return rows

    @property
    def has(self) -> str:
        """Return the classes of its newest release that no row of classes.txt has: before.txt of
        its folder. "": its classes were not listed, and a name that nobody has is not missed."""
        return self._names("before.txt")

    @property
    def gone(self) -> Mapping[Version, str]:
        """Return the classes that it has dropped, by the last release that has them: gone.txt."""
        names: Mapping[Version, str] = (
            _room("model_classes").dropped(self.package) if self.has else {}
        )
        return names

    @property
    def alone(self) -> str:
        """Return the model types that no server can run as this library has them: alone.txt."""
        return self._names("alone.txt")

    def _names(self, file: str) -> str:
        names: str = _room("model_classes").names_in(self.package, file) if self.knowing else ""
        return names

    @property
    def backend(self) -> "Backend | None":
        """Return how it runs classes of transformers: backend.txt; None: it does not."""
        rule: Backend | None = (
            _room("model_classes").backend(self.package) if self.knowing else None
        )
        return rule

    def context(self, w: "Infer", end: int) -> tuple[int, str]:
        """(tokens of one request, why) where a launch command leaves them to the engine: `context`
        of the folder's infer.py, or the model's maximum."""
        rule = getattr(self.home("infer"), "context", None)
        if rule is None and not self.sets_length:  # caches grow with what is asked
            return min(USUAL_CONTEXT, end), f"the usual default: {self.title} sets none"
        tokens: tuple[int, str] = (end, LONGEST) if rule is None else rule(w, end)
        return tokens

    def makes(self, quantization: str | None) -> str | None:
        """Our format that the engine makes under its own name of it; None where it makes none."""
        return self.online.get((quantization or "").lower())

    def home(self, module: str) -> Any:
        """A module of its folder, imported when it is first asked for."""
        return import_module(f"{self.package}.{module}")


def _room(module: str) -> Any:
    """Import what reads the tables of all engines when one is first asked for: it asks engines."""
    return import_module(f"weighbridge.engines.{module}")


def release_of(text: str) -> Version:
    """Read a release of a table: 0.10.1."""
    return tuple(map(int, text.split(".")))


def by_release(
    first: Rules, changes: Mapping[Any, Mapping[str, Any]], release: Version | int
) -> Rules:
    """Return the rules of the newest change that is not newer than a release, or a build."""
    for since, changed in changes.items():
        if release >= since:
            first = replace(first, **changed)
    return first


def version(kind: Engine, text: str | None) -> tuple[Version, str]:
    """(the version whose rules are used, a warning or ""): the nearest known one."""
    if text is None:
        return kind.newest, ""
    number = release(kind, text)
    if number[: len(kind.newest)] > kind.newest:
        return kind.newest, _said(kind, text, kind.newest)
    if number < kind.oldest:
        return kind.oldest, _said(kind, text, kind.oldest)
    return number, ""


def release(kind: Engine, text: str) -> Version:
    """Read a release as it was asked for, known or not. Raises UsageError for what is none. A build
    between releases without their tags calls itself 0.1.devN (setuptools-scm, as vLLM's images of
    one model do): it is newer than what was read."""
    if re.match(r"\s*v?0\.1\.dev\d", text.lower()):
        return (*kind.newest[:-1], kind.newest[-1] + 1)
    match = re.fullmatch(r"[vb]?(\d+(?:\.\d+)*)(?:[.+-]?[a-z].*)?", text.strip().lower())
    if not match:
        raise UsageError(sentence("version_written", text=text, written=written(kind.newest)))
    return tuple(map(int, match[1].split(".")))


def written(number: Version) -> str:
    return ".".join(map(str, number))


def _said(kind: Engine, text: str, nearest: Version) -> str:
    return sentence(
        "releases",
        engine=kind.name,
        version=text,
        first=written(kind.oldest),
        last=written(kind.newest),
        nearest=written(nearest),
    )
