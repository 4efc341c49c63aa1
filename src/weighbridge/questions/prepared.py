"""A model that is read once and asked many times.

    >>> import weighbridge
    >>> model = weighbridge.prepare("llama-3.1-8b")
    >>> [model.infer(engine="vllm", gpu="h100", context=n).verdict.fits for n in (4096, 131072)]
    ['yes', 'yes']

What does not depend on the question is made once and kept with the model: what its files hold, its
class, and what an engine of one version derives from both. Answers are those that
`weighbridge.load`, `infer` and `train` give, whatever was asked before.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from weighbridge.checkpoint.gather import GatherOptions, gather, gather_config, has_name, naming
from weighbridge.checkpoint.inventory import Inventory
from weighbridge.checkpoint.model import Model, ModelPart, resolve
from weighbridge.engines.table import engine, record, usual
from weighbridge.errors import (
    BadFileError,
    NotFoundError,
    NotServedError,
    UnsupportedError,
    UsageError,
    WeighbridgeError,
)
from weighbridge.report import Report
from weighbridge.settings import besides, checked, read
from weighbridge.wording import clipped

if TYPE_CHECKING:
    from weighbridge.estimate.limits import Setting
    from weighbridge.launch import Launch
    from weighbridge.report.fit import Fit, Ranking
    from weighbridge.report.keys import EffectiveSettings
    from weighbridge.settings import Infer, Load, Train

OF_VALUES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
BROKEN = (*OF_VALUES, RecursionError, MemoryError)

Asked = TypeVar("Asked", "Load", "Infer", "Train")


class Serving(NamedTuple):
    """What is asked about serving, and the launch command that it was read from."""

    workload: "Infer"
    launched: "Launch | None" = None


def serving(workload: "Infer | None", command: str | None, settings: Mapping[str, Any]) -> Serving:
    """The question of `infer`, checked before anything is fetched. Raises UsageError."""
    launched = None if command is None else _parsed(command)
    if launched is None:
        found: Infer = asked("infer", workload, settings)
        return Serving(found)
    if workload is not None:
        raise UsageError("give settings beside a command by name, not as a workload")
    _one_engine(launched, settings.get("engine"))
    given = {"engine": launched.engine, **launched.settings, **settings}
    found = read("infer", given).but(engine_defaults=True)
    found.check()
    return Serving(found, launched)


def _one_engine(launched: "Launch", asked: Any) -> None:
    """Raises UsageError where a command launches another engine than the one that was asked for; a
    fork has its parent's programs."""
    if not isinstance(asked, str):
        return
    kind = engine(asked)
    program = launched.program.partition(" ")[0]
    if kind.name != launched.engine and program not in kind.programs:
        raise UsageError(
            f"the command launches {launched.engine}, and --engine says {kind.name}: leave one of "
            "them out"
        )


def asked(task: str, workload: Any, settings: Mapping[str, Any]) -> Any:
    """The workload of a task, as a record or by name, checked. Raises UsageError."""
    if workload is not None and settings:
        raise UsageError("give the settings as one workload or by name, not both")
    found = read(task, settings) if workload is None else checked(task, workload)
    if task == "train":
        from weighbridge.settings.consistency import consistent

        consistent(found)
    found.check()
    return found


@dataclass(frozen=True)  # not slotted: it keeps what it has made
class Prepared:
    """A model that was read; made by `weighbridge.prepare`."""

    given: Any  # what was typed: a reference, a path, a config or a live module
    options: GatherOptions = field(repr=False)  # they may hold a token
    source: Inventory | Model = field(repr=False)  # a Model of a live module

    @property
    def reference(self) -> str:
        """The text that was typed; "" for a config and a module."""
        return os.fspath(self.given) if isinstance(self.given, str | os.PathLike) else ""

    @property
    def tensors(self) -> int:
        """How many tensor records it holds: those of its files, and those of classes so far."""
        made = (vars(self).get(name) for name in ("_whole", "_headless"))
        records = sum(len(p.blueprint.counted) for m in made if m is not None for p in m.parts)
        stored = self.source.parts if isinstance(self.source, Inventory) else ()
        return records + sum(len(part.tensors) for part in stored)

    def model(self, *, base_model: bool = False) -> Model:
        """The class that the files are of, or its headless class.

        Raises:
            weighbridge.errors.WeighbridgeError: the class is not known, or files contradict it.
        """
        return self._headless if base_model else self._whole

    @cached_property
    def _whole(self) -> Model:
        return self._resolved(base_model=False)

    @cached_property
    def _headless(self) -> Model:
        return self._resolved(base_model=True)

    def _resolved(self, *, base_model: bool) -> Model:
        if isinstance(self.source, Model):
            return self.source
        with following(self.given, WeighbridgeError):
            return resolve(self.source, base_model=base_model)

    def load(
        self,
        workload: "Load | None" = None,
        *,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
        **settings: Any,
    ) -> Report:
        """What its weights take, in every format, and what loading them allocates.

        Args:
            workload: all settings as one record; or give them by name, as for `weighbridge.load`.
            remedies: whether to look for what would make it fit, where it does not.
            pinned: names of settings that remedies leave alone; None is all that were given.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.errors.WeighbridgeError: bad settings, or a model outside our rules.
        """
        from weighbridge.estimate.load import load

        typed: Load = asked("load", workload, settings)
        w = self._meant(typed)
        model = self.model(base_model=w.base_model)
        with following(self.given):
            report = self._helped("load", w, partial(load, model), remedies, pinned)
            return _said(report, typed, w)

    def _helped(
        self,
        task: str,
        workload: Any,
        answer: Callable[[Any], Report],
        remedies: bool,
        pinned: Iterable[str] | None,
        again: Callable[[Any], Report] | None = None,
    ) -> Report:
        """The answer, with what would make it fit where it does not. `again` is a quicker way to
        say the same of other workloads."""
        report = answer(workload)
        if not remedies or report.verdict is None:
            return report
        if report.verdict.fits == "yes" and "runs_only" not in report.derived:
            return report
        from weighbridge.remedies import (  # of what does not fit, or not run
            RemedyCase,
            said,
            search,
        )

        def ask(changed: Any) -> Report:
            with following(self.given):  # what breaks over a change is a change that is refused
                return (again or answer)(asked(task, changed, {}))

        case = RemedyCase(
            task=task,
            workload=workload,
            report=report,
            ask=ask,
            pinned=said(workload) if pinned is None else frozenset(pinned),
            loads=self._loads(),
            packed=self._packed,
            tensors=self._followed(workload) if task == "train" else 0,
        )
        return replace(report, remedies=search(case))

    def _followed(self, w: "Train") -> int:
        from weighbridge.estimate.train import followed

        return followed(self.model(base_model=w.base_model), w)

    def _loads(self) -> str:
        """What a line of Python is told to load; "" of a config that is at hand."""
        named = self.source.repo_id or self.source.reference
        return named if isinstance(self.given, str | os.PathLike) else ""

    @cached_property
    def _packed(self) -> tuple[str, str]:
        """The format that the files are packed in, and the quant_method of their config; "" of
        plain ones."""
        from weighbridge.engines.readable import declared_name, method_of

        part = self.model().parts[0]
        return declared_name(part), method_of(part)

    def infer(
        self,
        workload: "Infer | None" = None,
        *,
        command: str | None = None,
        draft: "Prepared | None" = None,
        projector: "Prepared | None" = None,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
        **settings: Any,
    ) -> Report:
        """What serving it takes, per device and phase, by the rules of one engine.

        Args:
            workload: all settings as one record; or give them by name, as for `weighbridge.infer`.
            command: the engine's own launch command, which names this model.
            draft: what `draft_model` names, where it is prepared already.
            projector: what `mmproj` names, likewise.
            remedies: whether to look for what would make it fit, where it does not.
            pinned: names of settings that remedies leave alone; None is all that were given.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.errors.WeighbridgeError: bad settings, or a model outside our rules.
        """
        question = serving(workload, command, settings)
        if question.launched is not None and question.launched.model not in self._names():
            one_model(self.reference, question.launched)
        return self.serve(
            question, draft=draft, projector=projector, remedies=remedies, pinned=pinned
        )

    def _names(self) -> tuple[str | None, ...]:
        """What a launch command may call it: a config at hand has no name of its own."""
        known = self.source.repo_id, self.source.reference
        return self.reference, *known

    def serve(
        self,
        question: Serving,
        *,
        draft: "Prepared | None" = None,
        projector: "Prepared | None" = None,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
    ) -> Report:
        """Answers a question that `serving` has read."""
        typed, launched = question.workload, question.launched
        meant = typed if launched is not None else self._meant(typed)
        w, beside = self._with(meant, draft, projector)
        model = self.model(base_model=w.base_model)

        def answer(workload: "Infer", *, limits: "Sequence[Setting] | None" = None) -> Report:
            return _served(model, Serving(workload, question.launched), beside, limits=limits)

        with following(self.given):
            again = partial(answer, limits=())
            try:
                report = self._helped("infer", w, answer, remedies, pinned, again)
            except NotServedError as error:
                from weighbridge.estimate import elsewhere  # asks engines, which answers do without

                raise elsewhere.told(error, model, w) from None
            return _said(report, typed, w)

    def briefly(self, workload: "Infer", *limits: "Setting") -> Report:
        """The answer of `infer` about peaks and verdict, and how far these settings can go: nothing
        else is searched for."""
        w, beside = self._with(self._meant(asked("infer", workload, {})), None, None)
        model = self.model(base_model=w.base_model)
        with following(self.given):
            return _served(model, Serving(w), beside, limits=limits)

    def _with(
        self, w: "Infer", draft: "Prepared | None", projector: "Prepared | None"
    ) -> "tuple[Infer, Mapping[str, Model | None]]":
        """The workload, and the models that work beside this one."""
        w = w.but(
            draft_model=_named("draft", w.draft_model, draft),
            mmproj=_named("projector", w.mmproj, projector),
        )
        return w, {
            "draft": self._beside(w.draft_model, draft),
            "projector": self._beside(w.mmproj, projector),
        }

    def _beside(self, name: str | None, found: "Prepared | None") -> Model | None:
        """The model of that name, which works beside this one."""
        if name is None:
            return None
        return (found or opened(name, self.options)).model()

    def train(
        self,
        workload: "Train | None" = None,
        *,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
        **settings: Any,
    ) -> Report:
        """What fine-tuning or training it takes, per device and phase.

        Args:
            workload: all settings as one record; or give them by name, as for `weighbridge.train`.
            remedies: whether to look for what would make it fit, where it does not.
            pinned: names of settings that remedies leave alone; None is all that were given.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.errors.WeighbridgeError: bad settings, settings that contradict each other,
                or a model outside our rules.
        """
        typed: Train = asked("train", workload, settings)
        from weighbridge.estimate.train import train  # a third of all modules

        w = self._meant(typed, trained=True)
        model = self.model(base_model=w.base_model)
        with following(self.given):
            report = self._helped(
                "train", w, self._remembered(partial(train, model)), remedies, pinned
            )
            report = self._with_line(report, w) if remedies else report
            return _said(_named_optimizer(report, typed), typed, w)

    def _with_line(self, report: Report, w: "Train") -> Report:
        """Add the line of Python that trains it so, unless it is known not to fit."""
        v = report.verdict
        if v is not None and v.fits == "no":
            return report
        from weighbridge.training.launching import TrainerRun, line, start

        cls, packed = report.model.architecture, self._packed
        found = line(TrainerRun(report.workload, w, self._loads(), cls, *packed))
        count = 1 if v is None else v.count
        note = found.why or start(count)
        derived = report.derived | {"launch": found.text or None, "launch_note": note or None}
        return replace(report, derived=derived)

    def fit(self, *, remedies: bool = True, **settings: Any) -> "Fit":
        """Whether it fits an accelerator: for loading, inference, LoRA, QLoRA and full training.

        Args:
            remedies: whether to look for what would make it fit, where it does not.
            settings: as for `weighbridge.fit`.

        Returns:
            A frozen `Fit`: one question each, with its verdict, its report and its remedies.

        Raises:
            weighbridge.errors.WeighbridgeError: bad settings, or a model outside our rules.
        """
        from weighbridge.fitting.answers import fit
        from weighbridge.fitting.request import asked as read_fit

        self.model()
        remembering = replace(self)  # answers that several questions ask for, for this once
        vars(remembering).update(vars(self), _answers={})
        return fit(remembering, replace(read_fit(settings), helped=remedies), self._sized)

    def _remembered(self, answer: Callable[[Any], Report]) -> Callable[[Any], Report]:
        """The same, asked once for each workload where several questions look for remedies."""
        answers: dict[Any, Report] | None = vars(self).get("_answers")
        if answers is None:
            return answer

        def ask(workload: Any) -> Report:
            if workload not in answers:
                answers[workload] = answer(workload)
            return answers[workload]

        return ask

    def gpus(self, **settings: Any) -> "Ranking":
        """The cards of the catalogue for this model: what fits first, the smallest first.

        Args:
            settings: as for `weighbridge.fit`, without a card.
        """
        from weighbridge.fitting.ranking import gpus
        from weighbridge.fitting.request import asked as read_fit

        return gpus(self, read_fit(settings, named=False))

    def _sized(self, reference: str) -> "Prepared":
        """Prepare another model, of a bare size."""
        return opened(reference, self.options)

    def _meant(self, w: Asked, *, trained: bool = False) -> Asked:
        """The workload with the format that an everyday name of one stands for, or that the
        model's own name says (llama3.1:8b-q8_0), which is of serving. What a packed checkpoint
        declares is not packed again under its own name."""
        engine = getattr(w, "engine", usual().name)
        named = w.quantization is not None or w.dtype is not None or trained
        form = "" if named else self._named_form(engine)
        if w.quantization is None and not form:
            return w
        from weighbridge.quantization.everyday import meant

        if form or w.quantization is None:
            return w.but(quantization=meant(form, engine))
        declared = {(part.quantization or {}).get("quant_method") for part in self.source.parts}
        if declared - {None}:
            own = w.quantization.lower() in declared and engine == usual().name
            return w.but(quantization=None) if own else w
        return w.but(quantization=meant(w.quantization, engine))

    def _named_form(self, engine: str) -> str:
        """The format that a name alone means to an engine; "" for what it takes by itself."""
        if not isinstance(self.source, Inventory):
            return ""
        if self.source.form:
            return "" if _published(self.source.form, engine) else self.source.form
        kind = record(engine)
        tagged = kind.tagged(self.source.name) if self.source.parts[0].vouched else ""
        return "" if tagged == kind.usual else tagged


def _published(form: str, engine: str) -> bool:
    """Whether a name's format is that of plain checkpoints (-fp16), which only files of GGUF tell
    apart."""
    from weighbridge.catalogue.everyday import FLOATS

    return form in FLOATS.values() and record(engine).reads != "gguf"


def _served(
    model: Model,
    question: Serving,
    beside: Mapping[str, Model | None],
    *,
    limits: "Sequence[Setting] | None",
) -> Report:
    """The answer about serving, judged by the launch command where one was given."""
    from weighbridge.estimate.infer import infer

    w, launched = question.workload, question.launched
    if launched is None:
        return infer(model, w, **beside, limits=limits)
    from weighbridge.estimate import commanded

    w = commanded.as_it_is(w, launched, model)
    sought = launched.longest and w.context is None
    report = infer(model, w, **beside, limits=None if sought else limits)
    length = commanded.longest(report, w, launched)
    if length is not None:
        again = infer(model, w.but(context=length), **beside, limits=limits)
        report = commanded.told_longest(again, length)
    return commanded.named(commanded.judged(report, launched, model), launched)


def _said(report: Report, typed: Asked, meant: Asked) -> Report:
    """The report, with all that was asked among its settings, and with a word on the format that a
    name was taken as."""
    more = besides(report.task, meant, report.workload)
    if more:
        report = replace(report, workload=cast("EffectiveSettings", {**report.workload, **more}))
    if meant.quantization in (None, typed.quantization):
        return report
    from weighbridge.quantization.everyday import said

    line = said(typed.quantization, meant.quantization or "")
    return replace(report, warnings=(line, *report.warnings)) if line else report


def _named_optimizer(report: Report, typed: "Train") -> Report:
    """The report, with a word on the optimizer that a name was read as."""
    if typed.optimizer is None:
        return report
    from weighbridge.training.optimizers import said

    line = said(typed.optimizer)
    return replace(report, warnings=(line, *report.warnings)) if line else report


def _named(what: str, name: str | None, found: Prepared | None) -> str | None:
    """The name of a model beside another one, which must be that of the one that is prepared."""
    if found is None:
        return name
    if not isinstance(found, Prepared):
        raise UsageError(f"{what} is what `prepare` gave, not {type(found).__name__}")
    own = found.reference or found.model().name
    if name not in (None, own):
        raise UsageError(f"{what} is {own!r}, and the settings name {name!r}: leave one out")
    return own


def opened(model: Any, options: GatherOptions) -> Prepared:
    """A model whose files were read, and whose class was not looked for yet."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return Prepared(model, options, _live(model))
    if isinstance(model, os.PathLike) and not os.path.exists(model):
        raise NotFoundError(f"{os.fspath(model)!r}: no such file or folder")
    if not isinstance(model, str | os.PathLike | Mapping):
        raise TypeError(
            f"model must be a reference, a path, a config or a module, not a {type(model).__name__}"
        )
    if isinstance(model, Mapping):
        model = deepcopy(dict(model))  # the caller may change it later
    with following(model, WeighbridgeError):
        return Prepared(model, options, _inventory(model, options))


def one_model(model: Any, launched: "Launch") -> None:
    """Raises UsageError where a command serves another model than the one that was named."""
    if model != launched.model:
        raise UsageError(f"the command serves {launched.model!r}, not {model!r}; name one model")


def _parsed(command: str) -> "Launch":
    from weighbridge.launch import parse  # tables of flags, which few ask for

    if not isinstance(command, str):
        raise UsageError(f"command is the text of a launch command, not {type(command).__name__}")
    return parse(command)


@contextmanager
def following(model: Any, *named: type[WeighbridgeError]) -> Iterator[None]:
    """What is wrong with a file may show only when it is estimated: its error names it as well.

    A stranger's config or metadata can contradict itself in more ways than are checked one by one.
    Where arithmetic over it breaks, the error says so in one line, and where. The built-in
    catalogue is ours: what breaks over it is a defect, as is what breaks over a live module.
    """
    text = os.fspath(model) if isinstance(model, str | os.PathLike) else ""
    known = named or (BadFileError, UnsupportedError)
    try:
        yield
    except known as error:
        if not text:
            raise
        raise naming(text, error) from error
    except BROKEN as error:
        if not isinstance(model, str | os.PathLike | Mapping) or has_name(text):
            raise
        raise _unfollowed(text, error) from error


def _unfollowed(text: str, error: Exception) -> BadFileError:
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    told = BadFileError(
        f"what it holds could not be followed ({type(error).__name__}: {clipped(str(error), 50)}"
        f" at {os.path.basename(place.filename)}:{place.lineno}): its values contradict each other,"
        " or that no model has; if other programs load it, report this"
    )
    return naming(text, told) if text else told  # type: ignore[return-value]


def _inventory(model: Any, options: GatherOptions) -> Inventory:
    if isinstance(model, Mapping):
        return gather_config(model)
    return gather(os.fspath(model), options)


def _live(module: Any) -> Model:
    from weighbridge.arch.live import from_module, own_dtype

    dtype = own_dtype(module)
    plan = from_module(module, dtype=dtype)
    config = getattr(module, "config", None)
    raw = config.to_dict() if config is not None and callable(getattr(config, "to_dict", 0)) else {}
    return Model(
        reference=plan.cls,
        name=plan.cls,
        revision=None,
        parts=(
            ModelPart(name="", library="torch", blueprint=plan, config={**raw, "dtype": dtype}),
        ),
        read_from=("the live module",),
    )
