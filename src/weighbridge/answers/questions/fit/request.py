"""The request of `fit`, and the settings that go to each of its questions.

A setting goes to every question that has one of that name, and is fixed there. Four more rules:

    engine_version   belongs to the inference engine; training and loading use it only if that
                     engine is transformers
    shared names     (-tp, --torch-version ...) go only to training if the engine lacks them
    quantization     is for load, infer and qlora: LoRA and full training use plain weights; a GGUF
                     type is for load and infer, since no trainer quantizes to one
    batch_size       is for the task in question: users of a server, or sequences per step
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
OPENS = "not_understood"  # goes to the top of the answer
USERS = ("batch_size",)  # for a server; in training it means sequences
PLAIN = ("lora", "train")  # questions about unquantized weights


@frozen_record
class FitRequest:
    """The checked request; values are as the user gave them."""

    settings: Mapping[str, Any]
    about: str = "infer"
    most: str | None = None
    smallest: str | None = None
    inference: str | None = None  # the engine the user named, in its canonical spelling
    pinned: frozenset[str] = field(default_factory=frozenset)
    helped: bool = True  # whether to search for changes that make it fit
    as_published: bool = False  # whether only published weights are considered
    extra: Mapping[str, Any] = field(default_factory=dict)  # settings of the question `about` only

    @property
    def names(self) -> tuple[str, ...]:
        """Return the questions to answer: the usual five, and the one it is about."""
        return (*dict.fromkeys((*NAMES, self.about)),)

    @property
    def solves(self) -> bool:
        """Return whether one number is solved for; changes are then only for its question."""
        return self.most is not None or self.smallest is not None

    @property
    def chooses(self) -> bool:
        """Return whether formats are tried: the question is how to run a named model."""
        sought = self.about == "infer" or not self.solves
        return self.helped and sought and self.most != "model-size"

    def sized(self, change: Mapping[str, Any], most: int | None = None) -> Mapping[str, Any]:
        """Return a change with the usual context, or the model's maximum `most`. Only if its engine
        would choose one by the card and the user neither sets nor solves for any: formats are
        compared at one length."""
        chosen = "engine" in change and record(change["engine"]).sizes_by_card
        lengths = {*self.settings, *change}
        return (
            {**change, "context": min(USUAL_CONTEXT, most or USUAL_CONTEXT)}
            if chosen and lengths.isdisjoint(LENGTHS)
            else change
        )

    def planned(self, change: Mapping[str, Any]) -> "FitRequest":
        """Return a copy of the request with the settings of a plan."""
        engine = change.get("engine", self.inference)
        return replace(self, settings={**self.settings, **change}, inference=engine)


def asked(given: Mapping[str, Any], *, named: bool = True) -> FitRequest:
    """Return the parsed request. Raises UsageError for settings that no question of `fit` has.
    `named`: whether it is about one card."""
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
    """Raise UsageError for a value that no question accepts: a typing error, not an answer."""
    for name, value in settings.items():
        refused = [_refused(task, name, value) for task in TABLES if name in TABLES[task]]
        if refused and None not in refused:
            raise next(error for error in refused if error is not None)
    if "optimizer" in settings:
        from weighbridge.training.optimizers import optimizer  # only if one is named

        optimizer(settings["optimizer"])


def _refused(task: str, name: str, value: Any) -> UsageError | None:
    """Return the error for one value, regardless of other settings; None if it is accepted."""
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
    """Set this machine's cards as `gpu` unless the user names a card. May raise NoCardError."""
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
    """Return whether this machine has an accelerator."""
    from weighbridge.machines.accelerators.budget import budget

    try:
        return budget("local", None, None) is not None
    except WeighbridgeError:
        return False


def workload(name: str, request: FitRequest, inference: str) -> Any:
    """Return the question's checked workload: a Load, an Infer or a Train. Raises UsageError."""
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
    """Yield the settings that go to one question."""
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
    """Return the names of the questions that a setting goes to."""
    names = request.names
    return frozenset(name for name in names if setting in dict(_own(name, request, inference)))


def _is_foreign(setting: str, inference: str) -> bool:
    engines = engines_of(INFER[setting])
    return bool(engines) and inference not in engines
