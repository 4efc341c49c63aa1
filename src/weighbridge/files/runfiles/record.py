"""What a file says of a run, as records: a reader returns them, and nothing else reads files."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.records import NamedTuple, field, frozen_record
from weighbridge.files.runfiles.document import Document

FEW_CARDS = "cards"  # the key of the note that the run has fewer cards than processes
SEVERAL_CARDS = "card"  # the key of the note that the card's name may mean several cards
Value = Any  # text, a number, true or false, or a list of these


@frozen_record
class Understood:
    """A key of a file that affects memory, read as our `setting`. `start` and `end`: the characters
    of its value in the text; 0, 0 if it cannot be changed in place."""

    key: str  # as the file writes it: "fsdp_config.offload_params"
    value: Value
    setting: str
    line: int = 0
    start: int = 0
    end: int = 0
    file: str = ""  # the file it is in, if not the run file


@frozen_record
class Unread:
    """A key that affects memory, or may, and was not understood; `why` is a clause. `lowers`: the
    run needs less than estimated, so "no" is not sure; `raises`: it needs more, so "yes" is not
    sure."""

    key: str
    line: int
    why: str
    lowers: bool = False
    raises: bool = False
    missing: str = ""  # a file that the answer needs but that is missing
    file: str = ""  # where it stands, if that is not the run file


class StartPart(NamedTuple):
    """A part of the memory that a server allocated when it started. `name`: a component of ours, or
    one of the log's; `value`: bytes, or a count from the log."""

    name: str
    value: int
    line: int
    device: str = ""  # "CUDA0", as in the log


class ServerStart(NamedTuple):
    """What one server logged when it started. `parts`: bytes; `counts`: cached "tokens", "context"
    in tokens, "layers"; `free`: free bytes per card."""

    program: str
    parts: tuple[StartPart, ...]
    counts: Mapping[str, int]
    free: tuple[int, ...] = ()

    def size(self, name: str) -> int | None:
        """Return the bytes of part `name` over all devices, None if the log lacks it."""
        sizes = [part.value for part in self.parts if part.name == name]
        return sum(sizes) if sizes else None


@frozen_record
class PlannedRun:
    """One training or server that a file starts. `command`: an engine's launch line, with all that
    is not in `settings`. `defaults`: (setting, value, why) of sizes that affect memory and that the
    file leaves to its program's defaults."""

    task: str  # train or infer
    model: str = ""  # "" if the file names none
    config: Mapping[str, Value] = field(default_factory=dict)  # of a model the file describes
    name: str = ""  # the service's name, if the file has several
    settings: Mapping[str, Value] = field(default_factory=dict)
    command: str = ""
    understood: tuple[Understood, ...] = ()
    unread: tuple[Unread, ...] = ()
    defaults: tuple[tuple[str, Value, str], ...] = ()
    notes: tuple[str, ...] = ()  # remarks on the whole run
    cards: int = 0  # cards that the command or batch script requests, of any kind; 0: not stated
    engine_cards: int = 0  # further cards, for the inference engine that generates answers
    larger: tuple[str, ...] = ()  # larger cards that the name may mean too, as --gpu takes them
    refused: str = ""  # why there is no estimate for a run that was read
    replicas: int = 1  # number of copies that the file starts
    devices: tuple[str, ...] = ()  # ids of the machine's cards that the run uses
    nodes: Mapping[str, str] = field(default_factory=dict)  # labels of its machines
    words: tuple[str, ...] = ()  # settings that only the prose of a text states
    missing: tuple[str, ...] = ()  # what decides memory and the text does not state
    open: bool = False  # `refused` is no verdict: the text states too little
    step: tuple[str, Value] | None = None  # DeepSpeed's config file, its train_batch_size


@frozen_record
class RunFile:
    """A run file: its kind, and the runs that it starts."""

    kind: str
    title: str  # "axolotl config"
    name: str  # the file's name; "the text" for a paste
    runs: tuple[PlannedRun, ...]
    text: str = field(default="", repr=False)
    folder: str = ""  # folder for files that it refers to; "" for a paste


def unwritten(change: Mapping[str, Value]) -> None:
    """Return None, for a kind that weighbridge only reads: it has no keys to write a change
    with."""


@frozen_record
class Kind:
    """A kind of run file, the record at the end of its module (docs/contributing/runfile.md)."""

    name: str  # the value of --as
    title: str  # in sentences: "axolotl config"
    syntaxes: tuple[str, ...]  # syntaxes of document.py, tried in this order
    source: str  # where its keys and defaults were read
    tells: Callable[[Document], bool]  # returns whether a document is of this kind
    read: Callable[[Document], Iterator[PlannedRun]]
    # changed settings of ours -> keys of the file; None if it has no keys for them
    written: Callable[[Mapping[str, Value]], Mapping[str, Value] | None] = unwritten
    # adds the places of values, for syntaxes without keys
    placed: Callable[[Document], Document] | None = None
    fresh: Callable[[PlannedRun], Mapping[str, Value]] | None = None  # run -> keys of a new file
    # a repository -> the command that downloads its model to where the file reads it
    fetches: Callable[[str], str] | None = None
    starts: Callable[[Mapping[str, Value]], str] | None = None  # keys -> the starting command
