"""Questions to an engine, and its answers: the records of both.

An engine is a folder whose `infer(subject, workload, budget)` returns an EngineAnswer. The subject
is the model as an engine loads it; `workload` has the user's settings, and the engine fills in its
own defaults and reports them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base.memory import Device, Doubt, NamedBytes
from weighbridge.base.records import NamedTuple, dataclass, field, frozen_record, replace
from weighbridge.engines import ignorance
from weighbridge.memory.components.weights import FormatChoice, PlacedTensor, formats, tensors
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.memory.report.verdict import Condition, judge
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import Layer
from weighbridge.models.checkpoint.model import Model, ModelPart

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer

Surely = Literal["yes", "no", "unknown"]
WORST, EXPECTED, BEST = range(3)  # WORST: the low bound of free memory, the high one of use


@dataclass(frozen=True, kw_only=True)  # not slotted: it caches properties
class Subject:
    """A model as an engine loads it, with the format of its weights."""

    model: Model
    part: ModelPart  # the part that answers; pipelines have others
    choice: FormatChoice
    why: str  # why this dtype, in words
    config: Config | None  # None: only headers, a GGUF file or a bare size
    layers: tuple[Layer, ...]  # what each layer caches
    body: Body
    longest: int | None  # maximum tokens of the model
    context: int  # tokens of one request
    context_from: str  # why, in words
    choices: Mapping[str, FormatChoice] = field(default_factory=dict)  # of each part, by name
    notes: tuple[str, ...] = ()  # sentences for the answer
    major: int = 5  # version of transformers: decides which buffers exist
    draft: "Subject | None" = None  # the draft model
    projector: Model | None = None  # llama.cpp's mmproj file
    guessed: bool = False  # its layers' caches are in no table, and taken as usual attention
    replaced: bool = False  # a class of transformers runs instead of the engine's own
    missing: str = ""  # what the answer leaves out, if the engine lacks the class
    narrowed: bool = False  # in another dtype, since the card has no bfloat16
    unsure: tuple[str, ...] = ()  # kinds of uncertainty: ignorance.py

    @property
    def model_type(self) -> str:
        """Return the model type of the language model; "" for a GGUF file."""
        if self.config is None:
            return ""
        if self.text is None:
            return str(self.config.model_type)
        inner = self.text.get("model_type") or self.config.held("text_config")
        return str(inner or self.config.model_type)

    @property
    def raw(self) -> Mapping[str, Any]:
        """Return the config as it is written; empty without one."""
        return {} if self.config is None else self.config.raw

    @property
    def text(self) -> Mapping[str, Any] | None:
        """Return the language model's config inside a multimodal model's, None without one."""
        inner = self.raw.get("text_config")
        return inner if isinstance(inner, Mapping) else None

    def without_towers(self) -> "Subject":
        return replace(self, body=replace(self.body, towers=()))

    @property
    def doubt(self) -> Doubt:
        return ignorance.doubt(self.unsure)

    @property
    def formats(self) -> Hashable:
        """Return the formats of all components by name: with the model they say what is loaded."""
        return formats({"": self.choice, **self.choices})

    @cached_property
    def tensors(self) -> tuple[PlacedTensor, ...]:
        """Return every tensor of every part, unsharded: what one device would hold."""
        choices = {p.name: self.choices.get(p.name, self.choice) for p in self.model.parts}
        return tensors(self.model, choices, major=self.major)


@frozen_record
class Serves:
    """Whether an engine starts and holds all requests at once, with the settings of the
    estimate."""

    conditions: tuple[Condition, ...]
    lacks: str = ""  # what the user's flags lack, in a sentence
    flags: str = ""  # of a launch that serves, if the user's do not
    change: Mapping[str, Any] = field(default_factory=dict)  # these flags, by names of settings
    changed: tuple[Device, ...] = ()  # the devices with them; () if as in the answer
    then: Surely = "yes"  # whether it surely serves with them
    caps: str = ""  # limit on requests, if a server starts with the memory left

    @property
    def surely(self) -> Surely:
        """Return whether it serves, by its conditions."""
        return judge(self.conditions)


@frozen_record
class EngineAnswer:
    """An engine's answer: bytes on each device, the host last, and the effective settings, defaults
    included."""

    devices: tuple[Device, ...]
    settings: EffectiveSettings
    derived: DerivedFacts = field(default_factory=DerivedFacts)
    warnings: tuple[str, ...] = ()
    serves: Serves | None = None  # for an engine that takes a budget of the card
    # Settings that the engine chooses if not all of a model is on the cards, the fullest first; ()
    # if all of it is, or if the engine moves nothing by itself
    divisions: tuple[Mapping[str, int], ...] = ()


Kinds = Sequence[Sequence[Sequence[NamedBytes]]]


class HeldBytes(NamedTuple):
    """An answer without texts, for searches: only its bytes.

    `kinds` are the different accelerators, each a list of phases, each phase a list of its
    components' names and bytes; components of one name may be summed.
    """

    gpus: int  # number of accelerators
    kinds: Kinds
    surely: Surely = "yes"  # as in `Serves`
    bounds: "HeldBounds | None" = None  # if `kinds` are only an upper bound


class HeldBounds(NamedTuple):
    """A lower bound of the bytes, and how to compute them exactly if the bounds disagree."""

    least: Kinds
    exactly: Callable[[], HeldBytes]


class SearchPoint(NamedTuple):
    """The settings of a workload that a search changes."""

    context: int  # tokens of one request
    prompt_len: int | None
    batch_size: int

    def of(self, w: "Infer") -> "Infer":
        """Return the workload with these settings."""
        return w.but(context=self.context, prompt_len=self.prompt_len, batch_size=self.batch_size)


LENGTHS = ("context", "prompt_len", "max_new_tokens")  # settings of a request's length
POINT = (*LENGTHS, "batch_size")  # what a search changes


def case_key(
    name: str, subject: Subject, w: "Infer", budget: "Budget | None"
) -> tuple[Hashable, ...]:
    """Return a key of all that an engine's case depends on but the model and the searched settings.
    The case holds the card and the draft model, so that no others can take their ids."""
    draft = subject.draft
    proposes = None if draft is None else (id(draft.model), draft.formats)
    cards = () if budget is None or not budget.mixed else budget.choice.cards
    several = tuple((id(c.part), c.room) for c in cards)
    card = (
        None
        if budget is None
        else (id(budget.choice.part), budget.choice.count, budget.headroom, several)
    )
    return name, subject.formats, subject.unsure, proposes, card, w.but(**dict.fromkeys(POINT))


# The same model and cards with other settings: bytes held; None if they surely do not fit
Probe = Callable[[SearchPoint], HeldBytes | None]


# Whether a search's settings surely fit; None: they do not for lack of host memory
Fits = Callable[["Infer"], bool | None]


class PlacedWay(NamedTuple):
    """Settings that split a model over cards and host memory, and what each device then has. Per
    device, the host last: `layers`, and `read`, bytes of weights read per token. `experts`: layers
    whose experts the host has; `sent`: bytes sent between cards per token; `guests`: per card,
    layers of other devices whose experts it has."""

    change: Mapping[str, Any]
    layers: tuple[int, ...]
    experts: int
    read: tuple[int, ...]
    sent: int
    guests: tuple[int, ...] = ()
