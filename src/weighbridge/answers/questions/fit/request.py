"""The question of `fit` as it was asked, and the settings that go to each of its parts.

A setting goes to every question that has one of that name, and is pinned there. Four rules more:

    engine_version   is the inference engine's; training and loading have it where that engine is
                     transformers
    shared names     (-tp, --torch-version ...) go to training alone where the engine lacks them
    quantization     is of load, infer and qlora: LoRA and full training are of plain weights; a
                     type of GGUF's is of load and infer, since no trainer packs in one
    batch_size       is of the task that is asked about: users of a server, or sequences of a step
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.errors import NoCardError, UsageError, WeighbridgeError
from weighbridge.base.records import field, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.engines.engine import USUAL_CONTEXT
from weighbridge.engines.format_names import is_gguf_type
from weighbridge.engines.interface import LENGTHS
from weighbridge.engines.table import engine, record
from weighbridge.memory.report.fit import NAMES, SMALLEST, question_of
from weighbridge.workload import FIT, INFER, LOAD, TRAIN, TUNE, engines_of, read
from weighbridge.workload.consistency import OF_ADAPTERS, consistent
from weighbridge.workload.train import LEARNS

TABLES = {"load": LOAD, "infer": INFER, "train": TUNE}
ABOUT = (*NAMES, *LEARNS)
MAX = {  # what can be solved for -> the setting, and the questions that have it
    "context": ("context", ("infer",)),
    "users": ("batch_size", ("infer",)),
    "batch": ("batch_size", ("infer", "lora", "qlora", "train")),
    "seq-len": ("seq_len", ("lora", "qlora", "train")),
    "lora-r": ("lora_r", ("lora", "qlora")),
    "model-size": ("model", ("infer", "load", "lora", "qlora", "train")),
}
DEVICE = ("gpu", "gpu_memory", "headroom", "ram", "platform")
OWN = ("for", "max", "smallest", "as_published")
OF_PACKED = ("quantization", "bnb_4bit_quant_storage", "kbit_upcast", "gptq_kernel")
OPENS = "not_understood"  # opens the whole answer, once it is found
USERS = ("batch_size",)  # of a server; of training it is another number
PLAIN = ("lora", "train")  # questions about weights that are not packed


@frozen_record
class FitRequest:
    """The request, checked; values are as they were given."""

    settings: Mapping[str, Any]
    about: str = "infer"
    most: str | None = None
    smallest: str | None = None
    inference: str | None = None  # the engine that was named, in its usual spelling
    pinned: frozenset[str] = field(default_factory=frozenset)
    helped: bool = True  # whether changes are looked for that make it fit
    as_published: bool = False  # whether it is about the weights as they are published alone
    extra: Mapping[str, Any] = field(default_factory=dict)  # of the question `about` alone

    @property
    def names(self) -> tuple[str, ...]:
        """Return the questions that are asked: the five of all, and the one that it is about."""
        return (*dict.fromkeys((*NAMES, self.about)),)

    @property
    def solves(self) -> bool:
        """True where one number is looked for: changes that fit are then of its question alone."""
        return self.most is not None or self.smallest is not None

    @property
    def chooses(self) -> bool:
        """True where formats are tried: the question is how to run it, and a model is named."""
        sought = self.about == "infer" or not self.solves
        return self.helped and sought and self.most != "model-size"

    def sized(self, change: Mapping[str, Any], most: int | None = None) -> Mapping[str, Any]:
        """Return a change with the usual length of a request, or the `most` that the model has,
        where it chooses an engine that takes one by the card and nobody named or seeks any: formats
        are compared at one length."""
        chosen = "engine" in change and record(change["engine"]).sizes_by_card
        lengths = {*self.settings, *change}
        return (
            {**change, "context": min(USUAL_CONTEXT, most or USUAL_CONTEXT)}
            if chosen and lengths.isdisjoint(LENGTHS)
            else change
        )

    def planned(self, change: Mapping[str, Any]) -> "FitRequest":
        """Return the same request with the settings of a plan."""
        engine = change.get("engine", self.inference)
        return replace(self, settings={**self.settings, **change}, inference=engine)


def asked(given: Mapping[str, Any], *, named: bool = True) -> FitRequest:
    """Read a request. Raises UsageError for settings that no question of `fit` has. `named`: it is
    about one card."""
    settings = {
        name: value for name, value in given.items() if value is not None and value is not False
    }
    about = settings.pop("for", settings.pop("for_", None))
    searches = {name: settings.pop(name, None) for name in ("max", "smallest")}
    strictly = settings.pop("as_published", False)
    if not isinstance(strictly, bool):
        raise UsageError(sentence("as_published.bool", value=strictly))
    unknown = sorted(settings.keys() - FIT.keys())
    if unknown:
        raise UsageError(_unknown(unknown[0]))
    most = _one_of("max", searches["max"], MAX)
    if most and searches["smallest"]:
        raise UsageError(sentence("max_or_smallest"))
    if named:
        _device(settings, searches["smallest"])
    elif "gpu" in settings or "gpu_memory" in settings:
        raise UsageError(sentence("gpus.no_card"))
    _values(settings)
    return FitRequest(
        settings=settings,
        about=_one_of("for", about, ABOUT) or (MAX[most][1][0] if most else "infer"),
        most=most,
        smallest=_one_of("smallest", searches["smallest"], SMALLEST),
        as_published=strictly,
        inference=engine(settings["engine"]).name if "engine" in settings else None,
        pinned=frozenset(settings),
    )


def _values(settings: Mapping[str, Any]) -> None:
    """Raise UsageError for a value that no question can read: a slip of the pen, not an answer."""
    for name, value in settings.items():
        refused = [_refused(task, name, value) for task in TABLES if name in TABLES[task]]
        if refused and None not in refused:
            raise next(error for error in refused if error is not None)
    if "optimizer" in settings:
        from weighbridge.training.optimizers import optimizer  # where one is named

        optimizer(settings["optimizer"])


def _refused(task: str, name: str, value: Any) -> UsageError | None:
    """Return the error of one value, whatever else was asked; None where it can be read."""
    try:
        read(task, {name: value})
    except UsageError as error:
        return error
    return None


def _one_of(name: str, value: Any, known: Mapping[str, Any] | tuple[str, ...]) -> str | None:
    if value is None:
        return None
    if value not in known:
        raise UsageError(sentence("choice", flag=f"--{name}", known=", ".join(known), value=value))
    return str(value)


def _unknown(name: str) -> str:
    if name == "method":
        return sentence("fit.method")
    if name == "exact":
        return sentence("fit.exact")
    close = spelled_like(name, [*FIT, *OWN], 3)
    near = sentence("near", names=" or ".join(close)) if close else sentence("near.fit")
    return sentence("fit.no_setting", name=name, near=near)


def _device(settings: dict[str, Any], smallest: Any) -> None:
    """Leave the card that was named; without one, take the cards of this machine."""
    if smallest in ("gpu", "instance"):
        if "gpu" in settings:
            raise UsageError(sentence("smallest.card", name=smallest))
        return
    if "gpu" in settings or "gpu_memory" in settings:
        return
    if not has_card():
        raise NoCardError(sentence("card_none"))
    settings["gpu"] = "local"


def has_card() -> bool:
    """Tell whether this machine has an accelerator."""
    from weighbridge.machines.accelerators.budget import budget

    try:
        return budget("local", None, None) is not None
    except WeighbridgeError:
        return False


def workload(name: str, request: FitRequest, inference: str) -> Any:
    """The question's workload: a Load, an Infer or a Train, checked. Raises UsageError."""
    task, method = question_of(name)
    settings = dict(_own(name, request, inference))
    if name == request.about:
        settings |= {
            setting: value for setting, value in request.extra.items() if setting in TABLES[task]
        }
    if method is not None:
        settings["method"] = method
    checked = read(task, settings)
    if task == "train":
        consistent(checked)
    checked.check()
    return checked


def _own(name: str, request: FitRequest, inference: str) -> Iterator[tuple[str, Any]]:
    """Yield the settings that one question takes."""
    task, method = question_of(name)
    users = question_of(request.about)[0] != "train"
    table = TRAIN if method in LEARNS else TABLES[task]
    for setting, value in request.settings.items():
        if setting not in table or setting == OPENS:
            continue
        if setting in USERS and users is (task == "train"):
            continue
        if setting == "engine_version" and task != "infer" and record(inference).reads != "any":
            continue
        if task == "infer" and setting in TUNE and _is_foreign(setting, inference):
            continue
        if setting in OF_PACKED and name in PLAIN:
            continue
        if setting == "quantization" and task == "train" and is_gguf_type(str(value)):
            continue
        if setting in OF_ADAPTERS and method == "full":
            continue
        yield setting, value


def takers(setting: str, request: FitRequest, inference: str) -> frozenset[str]:
    """Return the names of the questions that take a setting."""
    names = request.names
    return frozenset(name for name in names if setting in dict(_own(name, request, inference)))


def _is_foreign(setting: str, inference: str) -> bool:
    engines = engines_of(INFER[setting])
    return bool(engines) and inference not in engines
