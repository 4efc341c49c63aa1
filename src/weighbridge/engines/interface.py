"""Questions to an engine, and its answers: the records of both.

An engine is a folder whose `infer(subject, workload, budget)` gives an EngineAnswer. The subject is
the model as an engine meets it; `workload` has what the user said, and the engine fills in its own
defaults and reports them.
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
WORST, EXPECTED, BEST = range(3)  # of what is free, the bound; of what is taken, the other one


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Subject:
    """A model with the format that its weights are loaded in."""

    model: Model
    part: ModelPart  # the one that answers; pipelines have others
    choice: FormatChoice
    why: str  # of the dtype, in words
    config: Config | None  # None: headers, a GGUF file or a bare size alone
    layers: tuple[Layer, ...]  # what they remember
    body: Body
    longest: int | None  # tokens that the model was made for
    context: int  # tokens of one request
    context_from: str  # in words
    choices: Mapping[str, FormatChoice] = field(default_factory=dict)  # of every part, by name
    notes: tuple[str, ...] = ()  # to be said with the answer
    major: int = 5  # of transformers: decides which buffers there are
    draft: "Subject | None" = None  # the model that proposes tokens
    projector: Model | None = None  # llama.cpp's mmproj file
    guessed: bool = False  # what its layers remember is in no table, and taken as usual attention
    replaced: bool = False  # a class of transformers runs in the place of the engine's own
    missing: str = ""  # what is not counted of a class that the engine has not
    narrowed: bool = False  # not in its bfloat16, which the card has not
    unsure: tuple[str, ...] = ()  # kinds of what nobody knows of its answers: ignorance.py

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
        """The config as it is written; empty where there is none."""
        return {} if self.config is None else self.config.raw

    @property
    def text(self) -> Mapping[str, Any] | None:
        """The language model's own config inside of that, where a model holds one."""
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
        """Every tensor of every part, whole: what one device would hold."""
        choices = {p.name: self.choices.get(p.name, self.choice) for p in self.model.parts}
        return tensors(self.model, choices, major=self.major)


@frozen_record
class Serves:
    """The answer whether an engine starts and holds all requests at once, by the flags that were
    sized."""

    conditions: tuple[Condition, ...]
    lacks: str = ""  # what the flags as they were asked lack, in a sentence
    flags: str = ""  # that a launch has which serves, where those that were asked do not
    change: Mapping[str, Any] = field(default_factory=dict)  # the same, by names of settings
    changed: tuple[Device, ...] = ()  # the devices with them; none where they are the answer's
    then: Surely = "yes"  # whether it surely serves with those
    caps: str = ""  # what requests are held to, of a server that starts with what is left

    @property
    def surely(self) -> Surely:
        """Tell whether it serves, by its conditions."""
        return judge(self.conditions)


@frozen_record
class EngineAnswer:
    """Bytes that an engine holds on each device, the host last. Settings are the effective ones,
    defaults included."""

    devices: tuple[Device, ...]
    settings: EffectiveSettings
    derived: DerivedFacts = field(default_factory=DerivedFacts)
    warnings: tuple[str, ...] = ()
    serves: Serves | None = None  # of an engine that takes a share of the card
    # Settings that the engine takes by itself where not all of a model is on the cards, the fullest
    # first; none where all of it is, and where it moves nothing by itself
    divisions: tuple[Mapping[str, int], ...] = ()


Kinds = Sequence[Sequence[Sequence[NamedBytes]]]


class HeldBytes(NamedTuple):
    """The numbers of an answer alone, for searches: no text is written for it.

    `kinds` are the accelerators that differ, each as its phases, each of those as its components'
    names and bytes; components of one name may be summed.
    """

    gpus: int  # accelerators in all
    kinds: Kinds
    surely: Surely = "yes"  # of `Serves`
    bounds: "HeldBounds | None" = None  # where `kinds` are no more than at most


class HeldBounds(NamedTuple):
    """Bytes that are at least held, and how to reckon them, where it lies between two bounds."""

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
