"""An engine as other packages see it: one record, exported by the `__init__.py` of its folder.

Facts that only the engine's own rules need are in the other files of its folder. Each field here is
read by code outside of it, which asks the record and never compares the engine's name.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
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
Changes = Mapping[Version, Mapping[str, Any]]  # release -> rules that change with it
Rules = TypeVar("Rules", bound="DataclassInstance")
LONGEST = "the engine's default, the model's maximum"
USUAL_CONTEXT = 4096  # tokens, if the user names none: contract of the command line


class Engine(NamedTuple):  # not a frozen dataclass: every start of the program makes some
    """An engine and what sets it apart. Only the first five fields have no default."""

    name: str  # as --engine takes it
    title: str  # as its makers write it
    package: str  # its folder, as a module: __name__
    oldest: Version  # the first release whose source was read
    newest: Version  # the last one
    spellings: tuple[str, ...] = ()  # what else people call it

    # Pattern of model references that choose this engine if the user names none
    named: str = ""

    # Command lines that launch it: parsed by DIALECT of its dialect.py
    programs: Mapping[str, tuple[str, ...]] = {}  # program -> subcommands that launch it, if any
    images: Mapping[str, str] = {}  # pattern of a container's name -> its program, or ""
    snippet: str = ""  # pattern of a Python line that launches it; `read` of dialect.py parses one

    # What it loads
    reads: Literal["any", "text", "gguf"] = "text"  # any model; language models; GGUF files only
    online: Mapping[str, str] = {}  # --quantization names that quantize while loading -> our format
    written: Mapping[str, str] = {}  # our format -> its name for --quantization
    formats: tuple[str, ...] = ()  # our formats that remedies may offer, best first
    quantizes: bool = False  # its formats.py describes files of its own quantizer
    registers: bool = True  # its classes.txt lists the model classes each release added
    usual: str = ""  # our format of its downloads if the user names none; "": as stored

    # What it is like
    metal: bool = False  # it runs on Apple GPUs, under the rules of Apple's allocator
    server: bool = False  # takes a budget of the card's memory and sizes what no flag sets
    drafts: bool = True  # our rules cover a draft model
    sets_length: bool = True  # it has a default context if its command sets none
    sizes_by_card: bool = False  # its default context depends on the cards' memory,
    # and it lowers a longer one to the model's maximum
    longer: str = ""  # environment variable that allows a context beyond the model's maximum
    stages: str = ""  # environment variable with the layers of each pipeline stage
    joins: str = ""  # key of the sentence on what a launch on {count} machines needs
    length: str = ""  # flag of the context, if it is not named as ours
    trains: str = ""  # key of the sentence that says why it takes no training questions
    splits: str = ""  # what lets it split a model over cards by layers
    by_room: bool = False  # it fills one card before it uses the next
    graphs: str = ""  # setting that switches CUDA graphs off
    offloads: bool = False  # --cpu-offload-gb leaves weights in host memory
    small_cache: Mapping[str, str] = {}  # settings of a KV cache in 8 bits
    least_cache: Mapping[str, str] = {}  # ... in 4 bits

    # How far its answers are from published runs (weighbridge.answers.bounds)
    peers: str = ""  # kind of engines with similar errors
    logged: Mapping[str, tuple[str, ...]] = {}  # parts in its logs -> our components

    @property
    def settings(self) -> "type[ServingSettings]":
        """Return the class of its settings: SETTINGS of the folder's settings.py."""
        declared: type[ServingSettings] = self.home("settings").SETTINGS
        return declared

    @property
    def infer(self) -> "Callable[[Subject, Infer, Budget | None], EngineAnswer]":
        """Return the function that answers a question: `infer` of the folder's infer.py."""
        answer: Callable[[Subject, Infer, Budget | None], EngineAnswer] = self.home("infer").infer
        return answer

    @property
    def holds(self) -> "Callable[[Subject, Infer, Budget], bool] | None":
        """Return the test whether an answer surely fits, faster than `infer`; None without one."""
        return getattr(self.home("infer"), "holds", None)

    @property
    def probe(self) -> "Callable[[Subject, Infer, Budget], Probe] | None":
        """Return the function that makes a search's probe: only the bytes of `infer`'s answer."""
        return getattr(self.home("infer"), "probe", None)

    @property
    def places(self) -> "Callable[[Subject, Infer, Budget, Fits], Iterator[PlacedWay]] | None":
        """Return the search for splits over cards and host memory; None without such flags."""
        return getattr(self.home("infer"), "places", None)

    @property
    def reading(self) -> "tuple[Reads, ...]":
        """Return the weight formats it reads, by release and card: formats.txt of its folder, or
        READS of its formats.py."""
        if not self.package:
            return ()
        rows: tuple[Reads, ...] = (
            self.home("formats").READS
            if self.quantizes
            else _room("weight_formats").rows(self.package)
        )
        return rows

    def tagged(self, name: str) -> str:
        """Return our format of what it downloads for `name` of the catalogue: `format_of` of the
        folder's library.py; "" if it has no usual format."""
        name_of_format: str = self.home("library").format_of(name) if self.usual else ""
        return name_of_format

    @property
    def quantizer(self) -> Callable[[Any], Any] | None:
        """Return the function that turns a GGUF Scheme into that of its own quantizer (QUANTIZER of
        the folder's formats.py), None without one."""
        return self.home("formats").QUANTIZER if self.quantizes else None

    @property
    def knowing(self) -> "tuple[Known, ...]":
        """Return the model classes that its releases added: classes.txt of its folder."""
        if not self.package or not self.registers:
            return ()
        rows: tuple[Known, ...] = _room("model_classes").known(self.package)
        return rows

    @property
    def has(self) -> str:
        """Return the classes of its newest release that no row of classes.txt has: before.txt. ""
        if its classes were not listed; then no class counts as missing."""
        return self._names("before.txt")

    @property
    def gone(self) -> Mapping[Version, str]:
        """Return the classes that it dropped, by the last release that has them: gone.txt."""
        names: Mapping[Version, str] = (
            _room("model_classes").dropped(self.package) if self.has else {}
        )
        return names

    @property
    def alone(self) -> str:
        """Return the model types whose classes in this library no server can run: alone.txt."""
        return self._names("alone.txt")

    def _names(self, file: str) -> str:
        names: str = _room("model_classes").names_in(self.package, file) if self.knowing else ""
        return names

    @property
    def backend(self) -> "Backend | None":
        """Return how it runs classes of transformers: backend.txt; None if it does not."""
        rule: Backend | None = (
            _room("model_classes").backend(self.package) if self.knowing else None
        )
        return rule

    def context(self, w: "Infer", end: int) -> tuple[int, str]:
        """Return (tokens of one request, why) if a launch command leaves them to the engine:
        `context` of the folder's infer.py, or `end`, the model's maximum."""
        rule = getattr(self.home("infer"), "context", None)
        if rule is None and not self.sets_length:  # the KV cache grows with each request
            return min(USUAL_CONTEXT, end), f"the usual default: {self.title} sets none"
        tokens: tuple[int, str] = (end, LONGEST) if rule is None else rule(w, end)
        return tokens

    def makes(self, quantization: str | None) -> str | None:
        """Return our format for the engine's --quantization name, None if it makes none."""
        return self.online.get((quantization or "").lower())

    def home(self, module: str) -> Any:
        """Return a module of its folder, imported at the first use."""
        return import_module(f"{self.package}.{module}")


def _room(module: str) -> Any:
    """Import a module with the engines' tables at the first use, since it imports this one."""
    return import_module(f"weighbridge.engines.{module}")


def release_of(text: str) -> Version:
    """Return the release written in a table, such as 0.10.1."""
    return tuple(map(int, text.split(".")))


def changes(module: str, part: str = "", **made: Callable[[Any], Any]) -> Changes:
    """Return which rules each release changes, in order, from changes.toml beside a module.

    Args:
        module: the module's `__file__`.
        part: the table of the file that has the releases; "": the file itself.
        made: by the name of a rule, what makes its value from the file's. Of others a list is a
            tuple, and "" is None.
    """
    import tomllib

    tables = tomllib.loads(text_beside(module, "changes.toml"))
    releases = tables[part] if part else tables
    return {
        release_of(since): {name: made.get(name, _value)(value) for name, value in row.items()}
        for since, row in releases.items()
    }


def _value(written: Any) -> Any:
    if isinstance(written, list):
        return tuple(written)
    return None if written == "" else written


def by_release(first: Rules, changes: Changes, release: Version) -> Rules:
    """Return the rules of a release or build: `first` with all changes up to `release`."""
    for since, changed in changes.items():
        if release >= since:
            first = replace(first, **changed)
    return first


def version(kind: Engine, text: str | None) -> tuple[Version, str]:
    """Return (the nearest version with known rules, a warning or "") for the user's `text`."""
    if text is None:
        return kind.newest, ""
    number = release(kind, text)
    if number[: len(kind.newest)] > kind.newest:
        return kind.newest, _said(kind, text, kind.newest)
    if number < kind.oldest:
        return kind.oldest, _said(kind, text, kind.oldest)
    return number, ""


def release(kind: Engine, text: str) -> Version:
    """Return the release that `text` names, known or not. Raises UsageError if it names none. A
    build between releases without git tags calls itself 0.1.devN (setuptools-scm, as vLLM's images
    of one model do): it is newer than what was read."""
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
