"""What a file says of a run, as records: a reader returns them, and nothing else reads files."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.records import NamedTuple, field, frozen_record
from weighbridge.files.runfiles.document import Document

FEW_CARDS = "cards"  # the key of what says that a run is given fewer than it starts with
SEVERAL_CARDS = "card"  # and of a card whose name may mean a smaller or a larger one
Value = Any  # text, a number, true or false, or a list of these


@frozen_record
class Understood:
    """One key of a file that decides memory: `setting` is ours, and `start` to `end` is where its
    value stands in the text (0, 0: nowhere that could be written to)."""

    key: str  # as the file writes it: "fsdp_config.offload_params"
    value: Value
    setting: str
    line: int = 0
    start: int = 0
    end: int = 0
    file: str = ""  # where it stands, if that is not the run file


@frozen_record
class Unread:
    """One key that decides memory, or may, and that was not understood; `why` is a clause.
    `lowers`: it takes less than is counted without it, so that "no" is not sure; `raises`: it takes
    more, so that "yes" is not."""

    key: str
    line: int
    why: str
    lowers: bool = False
    raises: bool = False
    missing: str = ""  # a file that decides and is not there
    file: str = ""  # where it stands, if that is not the run file


class StartPart(NamedTuple):
    """One part of what a server took when it started. `name` is a component of ours, or of the
    log alone; `value` is bytes, or a count of the log."""

    name: str
    value: int
    line: int
    device: str = ""  # as the log names it: "CUDA0"


class ServerStart(NamedTuple):
    """What one server wrote when it started: its parts in bytes, and its counts (cached "tokens",
    "context" in tokens, "layers"); `free` are bytes, card by card."""

    program: str
    parts: tuple[StartPart, ...]
    counts: Mapping[str, int]
    free: tuple[int, ...] = ()

    def size(self, name: str) -> int | None:
        """Return the bytes of a part, over all devices; None where the log does not say it."""
        sizes = [part.value for part in self.parts if part.name == name]
        return sum(sizes) if sizes else None


@frozen_record
class PlannedRun:
    """One run: a question of ours. `command` is an engine's own launch line, which then holds all
    that is not in `settings`. `defaults` are sizes that decide, are not in the file and were taken
    from the program that reads it: (setting, value, why)."""

    task: str  # train or infer
    model: str = ""  # "" where the file does not say it
    config: Mapping[str, Value] = field(default_factory=dict)  # of a model that the file describes
    name: str = ""  # of a service among several
    settings: Mapping[str, Value] = field(default_factory=dict)
    command: str = ""
    understood: tuple[Understood, ...] = ()
    unread: tuple[Unread, ...] = ()
    defaults: tuple[tuple[str, Value, str], ...] = ()
    notes: tuple[str, ...] = ()  # what a reader has to say of the whole run
    cards: int = 0  # that its line or its batch script asks for, of whatever kind; 0: not said
    engine_cards: int = 0  # beside those that train: what writes answers has them
    larger: tuple[str, ...] = ()  # cards that the name of its card may mean, too, as --gpu has them
    refused: str = ""  # why there is no answer, though it was read
    replicas: int = 1  # as many of it are started
    devices: tuple[str, ...] = ()  # the cards of its machine that it is given, by their ids
    nodes: Mapping[str, str] = field(default_factory=dict)  # labels of the machines it runs on
    words: tuple[str, ...] = ()  # settings that the words of a text alone say
    missing: tuple[str, ...] = ()  # what decides, and the text does not say
    open: bool = False  # `refused` says nothing of whether it fits: the text says too little
    step: tuple[str, Value] | None = None  # DeepSpeed's config, and what it says of all samples


@frozen_record
class RunFile:
    """A file that was read: its kind, and the runs that it starts."""

    kind: str
    title: str  # "axolotl config"
    name: str  # of the file; "the text" of a paste
    runs: tuple[PlannedRun, ...]
    text: str = field(default="", repr=False)
    folder: str = ""  # below which files that it names were read; "" of what was pasted


def unwritten(change: Mapping[str, Value]) -> None:
    """Say that nothing can be written: of kinds that are read alone."""


@frozen_record
class Kind:
    """One kind of run file, which its module ends with (docs/contributing/runfile.md)."""

    name: str  # as --as has it
    title: str  # as sentences have it: "axolotl config"
    syntaxes: tuple[str, ...]  # of document.py, in the order in which they are tried
    source: str  # where its keys and defaults were read
    tells: Callable[[Document], bool]  # whether a document is of this kind
    read: Callable[[Document], Iterator[PlannedRun]]
    # a change of our settings as keys of the file; None where it has no words for it
    written: Callable[[Mapping[str, Value]], Mapping[str, Value] | None] = unwritten
    # the same document with places of its values, where its syntax has no keys
    placed: Callable[[Document], Document] | None = None
    fresh: Callable[[PlannedRun], Mapping[str, Value]] | None = None  # a run, as a new file's keys
    # the command that brings a repository's model to where the file reads it
    fetches: Callable[[str], str] | None = None
    starts: Callable[[Mapping[str, Value]], str] | None = None  # the one that starts it
