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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.estimator import Estimator, ended, remarked, with_launch_line
from weighbridge.answers.questions.opening import following, inventory, live
from weighbridge.answers.questions.question import (
    Asked,
    ModelQuestion,
    by_its_name,
    one_model,
    question,
    serving,
)
from weighbridge.base.errors import (
    ContradictionError,
    HubError,
    NotFoundError,
    NotServedError,
    UnsupportedError,
    UsageError,
    WeighbridgeError,
)
from weighbridge.base.records import dataclass, field, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import Hears, heard, hearing
from weighbridge.engines.table import engine as find_engine
from weighbridge.engines.table import record, usual
from weighbridge.memory.report import Report
from weighbridge.models.catalogue import LIBRARIES
from weighbridge.models.catalogue.pipelines import makes_pictures
from weighbridge.models.checkpoint.gather import (
    GatherOptions,
    gather,
    gather_pipeline,
    typical,
)
from weighbridge.models.checkpoint.inventory import Inventory
from weighbridge.models.checkpoint.model import Model, resolve

if TYPE_CHECKING:
    from weighbridge.answers.estimate.limits import Setting
    from weighbridge.memory.report.fit import Fit, Ranking
    from weighbridge.memory.report.verdict import Remedy
    from weighbridge.models.catalogue.pipelines import DenoiserFile
    from weighbridge.workload import Infer, Load, Train
    from weighbridge.workload.picture import Picture
    from weighbridge.workload.picture_training import PictureTraining

# Derived facts of an answer that fits but could be a better one
WANTING = frozenset(("runs_only", "layers_on_card"))
# Names of formats that are not quantized, and the dtype that each means
SIXTEEN = {
    "none": None,
    **dict.fromkeys(("bf16", "bfloat16"), "bfloat16"),
    **dict.fromkeys(("fp16", "f16", "float16"), "float16"),
}
SAME = "same"  # a critic that is like the model that is trained
TASKS = {
    "Load": "load",
    "Infer": "infer",
    "Train": "train",
    "Picture": "image",
    "PictureTraining": "train_image",
}  # record of the settings -> task
LONG = 1500  # tensors: to follow a run with more of them takes half a second or longer


@dataclass(frozen=True)  # not slotted: it caches what it has made
class Prepared:
    """A model whose files were read, for many questions; made by `weighbridge.prepare`."""

    given: Any  # what was typed: a reference, a path, a config or a live module
    options: GatherOptions = field(repr=False)  # they may hold a token
    source: Inventory | Model = field(repr=False)  # a Model for a live module
    literal: bool = field(default=False, repr=False)  # a bare size has no model that stands for it

    @property
    def reference(self) -> str:
        """The text that the user typed; "" for a config or a module."""
        return os.fspath(self.given) if isinstance(self.given, str | os.PathLike) else ""

    @property
    def tensors(self) -> int:
        """The number of tensor records that it holds: of its files, and of its classes so far."""
        models = (vars(self).get(name) for name in ("_whole", "_headless"))
        records = sum(len(p.blueprint.counted) for m in models if m is not None for p in m.parts)
        stored = self.source.parts if isinstance(self.source, Inventory) else ()
        return records + sum(len(part.tensors) for part in stored)

    def model(self, *, base_model: bool = False) -> Model:
        """Return the model as the class of its files, or as its headless class.

        Raises:
            weighbridge.WeighbridgeError: the class is not known, or files contradict it.
        """
        return self._headless if base_model else self._whole

    @cached_property
    def _shaped(self) -> "Prepared":
        """The model that stands for a bare size, which has layers; itself for others."""
        if self.literal or isinstance(self.source, Model):
            return self
        source = typical(self.source, self.options)
        return self if source is None else replace(self, source=source)

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
        """Return the memory of its weights in every format, and of loading them.

        Args:
            workload: all settings as one record; or give them by name, as for `weighbridge.load`.
            remedies: whether to search for changes that make it fit, if it does not.
            pinned: names of settings that remedies leave alone; None: all that the user set.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.WeighbridgeError: bad settings, or a model outside our rules.
        """
        asked = question("load", workload, settings)
        return self.answer(asked, remedies=remedies, pinned=pinned)

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
        """Return the memory that serving it takes, per device and phase, by one engine's rules.

        Args:
            workload: all settings as one record; or give them by name, as for `weighbridge.infer`.
            command: the engine's own launch command, which names this model.
            draft: the model that `draft_model` names, if it is prepared already.
            projector: the model that `mmproj` names, likewise.
            remedies: whether to search for changes that make it fit, if it does not.
            pinned: names of settings that remedies leave alone; None: all that the user set.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.WeighbridgeError: bad settings, or a model outside our rules.
        """
        asked = by_its_name(serving(workload, command, settings), self.reference)
        if asked.launched is not None and asked.launched.model not in self._names():
            one_model(self.reference, asked.launched)
        beside = {"draft": draft, "projector": projector}
        return self.answer(asked, beside, remedies=remedies, pinned=pinned)

    def image(
        self,
        workload: "Picture | None" = None,
        *,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
        **settings: Any,
    ) -> Report:
        """Return the memory that making pictures or video with it takes, stage by stage.

        Args:
            workload: all settings as one record; or give them by name.
            remedies, pinned: as for `load`.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.WeighbridgeError: bad settings, or a pipeline outside our rules.
        """
        asked = question("image", workload, settings)
        return self.answer(asked, remedies=remedies, pinned=pinned)

    def train_image(
        self,
        workload: "PictureTraining | None" = None,
        *,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
        **settings: Any,
    ) -> Report:
        """Return the memory that training a pipeline's denoiser takes, per device and phase.

        Args:
            workload: all settings as one record; or give them by name.
            remedies, pinned: as for `load`.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.WeighbridgeError: bad settings, or a pipeline outside our rules.
        """
        asked = question("train_image", workload, settings)
        return self.answer(asked, remedies=remedies, pinned=pinned)

    def train(
        self,
        workload: "Train | None" = None,
        *,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
        **settings: Any,
    ) -> Report:
        """Return the memory that fine-tuning or training it takes, per device and phase.

        Args:
            workload: all settings as one record; or give them by name, as for `weighbridge.train`.
            remedies: whether to search for changes that make it fit, if it does not.
            pinned: names of settings that remedies leave alone; None: all that the user set.

        Returns:
            A frozen `Report`; all sizes are bytes.

        Raises:
            weighbridge.WeighbridgeError: bad settings, settings that contradict each other,
                or a model outside our rules.
        """
        asked = question("train", workload, settings)
        return self.answer(asked, remedies=remedies, pinned=pinned)

    def answer(
        self,
        question: ModelQuestion[Any],
        beside: "Mapping[str, Prepared | None] | None" = None,
        *,
        remedies: bool = True,
        pinned: Iterable[str] | None = None,
    ) -> Report:
        """Return the answer to a parsed question: every interface ends here.

        Args:
            question: as `weighbridge.answers.questions.question` parsed it.
            beside: the models of "draft" and "projector", if they are prepared already.
            remedies, pinned: as for `load`.

        Raises:
            weighbridge.WeighbridgeError: a model outside our rules.
        """
        estimator = self._estimator(question, beside or {})
        w = estimator.question.workload
        hears = hearing()

        def part(known: Report, *, least: bool = False) -> None:
            if hears is not None:
                hears(remarked(known, question, w), least=least)

        with following(self.given):
            try:
                report = self._helped(estimator, remedies, pinned, part if hears else None)
            except NotServedError as error:
                if question.task != "infer":
                    raise
                from weighbridge.answers.estimate import (
                    refusals,  # asks engines, which answers do without
                )

                raise refusals.by_others(error, estimator.model, w) from None
            if question.task == "train":
                own = self._shaped
                report = with_launch_line(report, w, own._loads(), own._packed)
            return remarked(report, question, w)

    def briefly(self, workload: "Load | Infer | Train", *limits: "Setting") -> Report:
        """Return peaks and verdict only: no remedies, no launch line, and for a server no search
        for how far its settings go, except for `limits`."""
        estimator = self._estimator(
            question(TASKS.get(type(workload).__name__, "infer"), workload, {}), {}
        )
        with following(self.given):
            report = estimator(estimator.question.workload, limits)
        return replace(report, said=workload.said)

    def least(self, workload: "Train") -> Report:
        """Return a lower bound of what training takes, sooner than `train` answers; it is never
        above that answer."""
        estimator = self._estimator(question("train", workload, {}), {})
        with following(self.given):
            w = estimator.question.workload
            return estimator.least(w) if estimator.counts else estimator(w)

    def _estimator(
        self, question: ModelQuestion[Any], beside: "Mapping[str, Prepared | None]"
    ) -> Estimator:
        """Return the estimator of the question as it is meant: formats by the names that files use,
        other models by their own names."""
        if question.task != "load" and self._shaped is not self:
            return self._shaped._estimator(question, beside)
        meant = self._meant if question.launched is None else self._launched
        question = question._replace(workload=meant(question.workload, question.task))
        models: Mapping[str, Model | None] = {}
        if question.task == "infer":
            question, models = self._with(question, beside)
        elif question.task == "train" and question.workload.learns:
            models = self._roles(question.workload)
        model = self.model(base_model=question.workload.base_model)
        question, model = self._pictured(question, model)
        return Estimator(question, model, models, vars(self).get("_answers"))

    def _pictured(
        self, question: ModelQuestion[Any], model: Model
    ) -> tuple[ModelQuestion[Any], Model]:
        """Return the question and the model; for one of pictures, their question and pipeline."""
        bare = question.task == "infer" and _bare(self.source)
        if bare or question.task in ("image", "train_image"):
            model = _with_its_pipeline(model, self.source)
        if question.task == "infer" and any(p.library == "diffusers" for p in model.parts):
            question = _of_pictures(question, model)
            if question.task == "image":
                question = question._replace(workload=self._meant(question.workload, "image"))
        return question, model

    def _helped(
        self,
        estimator: Estimator,
        remedies: bool,
        pinned: Iterable[str] | None,
        part: Hears | None,
    ) -> Report:
        """Return the answer, with remedies if it does not fit. `part` receives what is known
        before: the lower bound of a long run, if nothing else is asked for, and each remedy."""
        task, workload = estimator.question.task, estimator.question.workload
        if part and not remedies and estimator.counts and estimator.followed() > LONG:
            part(estimator.least(workload), least=True)
        report = estimator(workload)
        if (report.pictures or report.sees) and remedies:
            return self._climbed(estimator, report, pinned)
        if not remedies or _is_enough(report):
            return report
        from weighbridge.answers.remedies import (  # of what does not fit, or not run
            RemedyCase,
            said,
            search,
        )
        from weighbridge.answers.remedies.case import UNMERGED
        from weighbridge.answers.remedies.learning import ladder

        def asks(answering: Callable[[Any], Report]) -> Callable[[Any], Report]:
            def ask(changed: Any) -> Report:
                with following(self.given):  # an error over a change: that change is refused
                    return answering(question(task, changed, {}).workload)

            return ask

        case = RemedyCase(
            task=task,
            workload=workload,
            report=report,
            ask=asks(estimator.again),
            count_least=asks(estimator.least) if estimator.counts else None,
            pinned=said(workload) if pinned is None else frozenset(pinned),
            loads=self._loads(),
            packed=self._packed,
            tensors=estimator.followed(),
            apart=estimator.followed(UNMERGED),
        )

        def hears(known: "tuple[Remedy, ...]") -> None:
            if part is not None:
                part(replace(report, remedies=known))

        looks = ladder if task == "train" and workload.learns else search
        changes = looks(case, hears=hears if part else None)
        return ended(replace(report, remedies=changes))

    def _climbed(
        self, estimator: Estimator, report: Report, pinned: Iterable[str] | None
    ) -> Report:
        """Return the answer about a pipeline, with remedies in the order that people use them."""
        from weighbridge.answers.remedies import images, picture_training, pictures, said

        workload, trains = estimator.question.workload, report.task == "train"
        if report.sees:
            fits = report.verdict is None or report.verdict.fits == "yes"
            typed = said(workload) if pinned is None else frozenset(pinned)
            steps = () if fits else images.ladder(report, workload, estimator, typed)
            return replace(report, remedies=steps)
        if report.verdict is None or not report.verdict.count:
            return report if trains else pictures.with_cards(report, workload, estimator)
        if report.verdict.fits == "yes":
            return report if trains else pictures.limited(report, workload, estimator)
        ladder = (picture_training if trains else pictures).ladder
        typed = frozenset(workload.said if pinned is None else pinned)
        return replace(report, remedies=ladder(report, workload, estimator, typed))

    def _names(self) -> tuple[str | None, ...]:
        """Return the names that a launch command may use; an inline config has none of its own."""
        known = self.source.repo_id, self.source.reference
        return self.reference, *known

    def _loads(self) -> str:
        """Return the name that a line of Python loads; "" for an inline config or a module."""
        named = self.source.repo_id or self.source.reference
        return named if isinstance(self.given, str | os.PathLike) else ""

    @cached_property
    def _packed(self) -> tuple[str, str]:
        """The quantization format of the files, and the quant_method of their config; "" if they
        are not quantized."""
        from weighbridge.engines.weight_formats import declared_name, quant_method

        part = self.model().parts[0]
        return declared_name(part), quant_method(part)

    def _with(
        self, question: ModelQuestion[Any], beside: "Mapping[str, Prepared | None]"
    ) -> "tuple[ModelQuestion[Any], Mapping[str, Model | None]]":
        """Return the question with the names of the models beside this one, and those models."""
        draft, projector = beside.get("draft"), beside.get("projector")
        w = question.workload
        w = w.but(
            draft_model=_named("draft", w.draft_model, draft),
            mmproj=_named("projector", w.mmproj, projector),
        )
        return question._replace(workload=w), {
            "draft": self._read(w.draft_model, draft, question),
            "projector": self._read(w.mmproj, projector, question),
        }

    def _roles(self, w: Any) -> Mapping[str, Model | None]:
        """Return the models that value and score answers, by role; None if they are this one."""
        critic = None if w.critic == SAME else w.critic
        return {"critic": self._beside(critic, None), "reward": self._beside(w.reward_model, None)}

    def _beside(self, name: str | None, prepared: "Prepared | None") -> Model | None:
        """Return the model of that name, which works beside this one; None without a name."""
        if name is None:
            return None
        return (prepared or opened(name, self.options)).model()

    def _read(
        self, name: str | None, prepared: "Prepared | None", question: ModelQuestion[Any]
    ) -> Model | None:
        """Return the model that works beside this one. It is None if a server's cannot be read, or
        is a file of the machine that its command runs on, which its answer says."""
        try:
            return self._beside(name, prepared)
        except (UnsupportedError, HubError, NotFoundError) as error:
            from weighbridge.engines.launch.paths import is_path

            server, launched = record(question.workload.engine or "").server, question.launched
            away = launched is not None and (f"{name}".endswith(".gguf") or is_path(f"{name}"))
            if not (away if isinstance(error, NotFoundError) else server):
                raise
            return None

    def fit(self, *, remedies: bool = True, **settings: Any) -> "Fit":
        """Return whether it fits an accelerator: for loading, inference, LoRA, QLoRA and full
        training; for a pipeline, whether it makes pictures there in any way.

        Args:
            remedies: whether to search for changes that make it fit, if it does not.
            settings: as for `weighbridge.fit`.

        Returns:
            A frozen `Fit`: one question each, with its verdict, its report and its remedies; for
            a pipeline one question, "image", "video" or "train_image".

        Raises:
            weighbridge.WeighbridgeError: bad settings, or a model outside our rules.
        """
        from weighbridge.answers.questions.fit.answers import fit
        from weighbridge.answers.questions.fit.request import asked as read_fit
        from weighbridge.engines.format_names import is_width

        if self._shaped is not self:
            return self._shaped.fit(remedies=remedies, **settings)
        if makes_pictures(self.given):
            from weighbridge.answers.questions.fit.pictures import fit_pipeline

            return fit_pipeline(self, settings, helped=remedies)
        self.model()
        typed = settings.pop("quantization", None)
        form = self.source.form if isinstance(self.source, Inventory) else ""
        named = typed or (form if is_width(form) and not settings.get("dtype") else None)
        if named and not self._is_stored_so(str(named)):  # the engine of the card has its own
            settings["quantization"] = named
        remembering = replace(self)  # shares answers among the questions of this call
        vars(remembering).update(vars(self), _answers={})
        hears = hearing()
        with heard(None):  # parts of the whole answer, not of those that it is made of
            request = replace(read_fit(settings), helped=remedies)
            return fit(remembering, request, self._sized, hears)

    def gpus(self, **settings: Any) -> "Ranking":
        """Return the cards of the catalogue for this model: those that fit first, smallest first.

        Args:
            settings: as for `weighbridge.fit`, without a card.
        """
        from weighbridge.answers.questions.fit.ranking import gpus
        from weighbridge.answers.questions.fit.request import asked as read_fit

        return gpus(self._shaped, read_fit(settings, named=False))

    def layouts(self, *, for_: str = "train", every: bool = False, **settings: Any) -> "Ranking":
        """Return its layouts over several devices, the cheapest first: for training, by Megatron
        unless a framework is given, or for serving.

        Args:
            for_: "train" or "infer".
            every: all that fit; else only those that no other one beats in all its costs.
            settings: as for `weighbridge.train` or `infer`, with `gpu` (h100:64); settings that
                are given stay.
        """
        if for_ not in ("train", "infer"):
            raise UsageError(sentence("layouts.task", value=for_))
        if for_ == "infer":
            from weighbridge.answers.questions.fit.serving import serving

            return serving(self._shaped, settings, every=every)
        if settings.get("engine"):
            raise UsageError(sentence("layouts.serves", engine=settings["engine"]))
        from weighbridge.answers.questions.fit.sharing import sharing

        return sharing(self._shaped, settings, every=every)

    def _sized(self, reference: str) -> "Prepared":
        """Prepare a bare size, for which no model stands: a search tries one after another."""
        return replace(opened(reference, self.options), literal=True)

    def _meant(self, w: Asked, task: str) -> Asked:
        """Return the workload with the format meant by an everyday name, or for serving by the
        model's own name (llama3.1:8b-q8_0). A quantized checkpoint is not quantized again by the
        name of its own format."""
        if task == "image":
            return w.but(**_of_a_file(self.source, w))
        if task == "train_image":  # has formats of its own (pictures/base.py)
            if getattr(w, "method", None) != "qlora":
                return w
            return w.but(method="lora", quantization=w.quantization or "nf4")
        engine = getattr(w, "engine", usual().name)
        if task == "infer" and engine is None and isinstance(self.source, Inventory):
            from weighbridge.answers.questions.naming import named_engine

            served: Any = w
            engine = named_engine(self.source.reference, self.model().parts[0], served)
            w = w.but(engine=engine) if engine else w
        if engine in LIBRARIES.values() and engine == self.model().parts[0].library:
            w, engine = w.but(engine=None), None  # as its own answer says
        engine = find_engine(engine).name if engine else usual().name
        if task == "infer" and engine == usual().name:
            w = _unpacked(w, self.source)
        named = w.quantization is not None or w.dtype is not None or task == "train"
        form = "" if named else self._named_form(engine)
        if w.quantization is None and not form:
            return w
        from weighbridge.engines.format_names import is_width, meant

        if form or w.quantization is None:
            return w.but(quantization=meant(form, engine))
        declared = {(part.quantization or {}).get("quant_method") for part in self.source.parts}
        if not declared - {None}:
            return w.but(quantization=meant(w.quantization, engine))
        stored = w.quantization.lower() in declared and engine == usual().name
        if stored or self._is_stored_so(w.quantization):
            return w.but(quantization=None)
        return w.but(quantization=meant(w.quantization, engine)) if is_width(w.quantization) else w

    def _launched(self, w: Asked, task: str) -> Asked:
        """Return the workload of a launch command with the format in a folder's name
        (./Qwen3-32B-AWQ). An engine finds it in the files, which are not here."""
        source, engine = self.source, str(getattr(w, "engine", usual().name))
        plain = w.quantization is None and isinstance(source, Inventory) and source.form
        form = self._named_form(engine) if plain else ""
        if not form:
            return w
        from weighbridge.engines.format_names import meant

        return w.but(quantization=meant(form, engine))

    def _is_stored_so(self, form: str) -> bool:
        """Return whether a format is a number of bits (4bit) in which the weights are stored."""
        from weighbridge.engines.format_names import as_wide
        from weighbridge.engines.weight_formats import declared_name

        return as_wide(form, declared_name(self.model().parts[0]))

    def _named_form(self, engine: str) -> str:
        """Return the format that a name implies to an engine; "" for what it uses by itself."""
        if not isinstance(self.source, Inventory):
            return ""
        if self.source.form:
            from weighbridge.engines.format_names import unpacked

            form = self.source.form
            return "" if unpacked(form, engine) or self._is_stored_so(form) else form
        kind = record(engine)
        tagged = kind.tagged(self.source.name) if self.source.parts[0].vouched else ""
        return "" if tagged == kind.usual else tagged


def _is_enough(report: Report) -> bool:
    """Return whether no remedy is needed: no device was set, or it fits as it should."""
    fits = None if report.verdict is None else report.verdict.fits
    return fits is None or (fits == "yes" and WANTING.isdisjoint(report.derived))


def _with_its_pipeline(model: Model, source: Inventory | Model) -> Model:
    """Return the pipeline of a denoiser's file, with only that or all components, else `model`."""
    from weighbridge.models.catalogue import pipelines

    file = _file(source) if len(model.parts) == 1 else None
    if file is None:
        return model
    name = pipelines.file_name(model.reference)
    if pipelines.of_file(name) is not None:
        ending = "" if name.lower().endswith(pipelines.ENDS) else ".gguf"
        return resolve(gather(name + ending, GatherOptions(ours=False)), base_model=False)
    whole = resolve(gather(file.pipeline, GatherOptions(ours=False)), base_model=False)
    note = sentence("file_of_pipeline", component=file.component, pipeline=file.pipeline)
    return replace(whole, notes=(note, *whole.notes))


def _bare(source: Inventory | Model) -> bool:
    """Return whether tensors were read, and no config says what they are."""
    return isinstance(source, Inventory) and all(
        part.config is None and bool(part.tensors) for part in source.parts
    )


def _file(source: Inventory | Model) -> "DenoiserFile | None":
    """Return which pipeline's file it is, by its name or by its tensors' names; else None."""
    from weighbridge.models.catalogue import pipelines

    if not isinstance(source, Inventory):
        return None
    named = pipelines.of_file(source.reference)
    return named or pipelines.of_tensors(t.name for part in source.parts for t in part.tensors)


def _unpacked(w: Any, source: Inventory | Model) -> Any:
    """Return the workload with a format name of 16 bits, or none, as transformers takes it: as
    dtype, and a quantized checkpoint as dequantized. GGUF files have formats of such names."""
    name = (w.quantization or "").lower()
    if name not in SIXTEEN or any(part.library == "gguf" for part in source.parts):
        return w
    packed = any((part.quantization or {}).get("quant_method") for part in source.parts)
    return w.but(
        quantization=None, dtype=w.dtype or SIXTEEN[name], dequantize=packed or w.dequantize
    )


def _of_a_file(source: Inventory | Model, w: Any) -> dict[str, str]:
    """Return the format of a denoiser that was named by its file, and ComfyUI if it loads such
    files: flux1-dev-Q4_K_S.gguf."""
    from weighbridge.models.catalogue import pipelines
    from weighbridge.pictures.request import COMFYUI, PROGRAMS_OF

    file = _file(source)
    if file is None:
        return {}
    by_comfy = source.reference.lower().endswith(pipelines.ENDS)
    others = [name for name, having in PROGRAMS_OF.items() if COMFYUI not in having]
    by_comfy = by_comfy and w.said.keys().isdisjoint(("engine", *others))
    engine = {"engine": COMFYUI} if by_comfy else {}
    if file.format in pipelines.FLOATS.values():
        return engine if w.dtype is not None else {**engine, "dtype": file.format}
    return {**engine, "quantization": _packed(file, w)} if file.format else engine


def _packed(file: "DenoiserFile", w: Any) -> str:
    """Return the format of a file with those asked of other components. Raises ContradictionError
    if another format is asked of one that is in the file."""
    from weighbridge.pictures.formats import DENOISER, TEXT, by_name, canonical

    asked, form = by_name(w.quantization), canonical(file.format)
    inside = (DENOISER, file.component, *((TEXT,) if file.whole else ()))
    other = next((asked[name] for name in inside if asked.get(name, form) != form), None)
    if other is not None:
        raise ContradictionError(sentence("file_format", form=form, other=other))
    forms = [file.format] if asked.keys().isdisjoint(inside[:2]) else []
    forms += [f"{TEXT}={file.format}"] if file.whole and TEXT not in asked else []
    return "+".join([*forms, *([w.quantization] if w.quantization else ())])


def _of_pictures(question: ModelQuestion[Any], model: Model) -> ModelQuestion[Any]:
    """Return the question about pictures for a pipeline that nobody knew by its name, with the
    settings of serving that pictures have, too. A question that no program computes stays."""
    from weighbridge.pictures.spec import row_of
    from weighbridge.settings.setting import fields
    from weighbridge.workload.picture import Picture

    try:
        row_of(model)
    except UnsupportedError:
        return question
    typed, known = question.workload.said, fields(Picture)
    if typed.get("engine") is not None:  # of language models, who take no pipeline
        return question
    return ModelQuestion("image", Picture(**{n: v for n, v in typed.items() if n in known}))


def _named(what: str, name: str | None, prepared: Prepared | None) -> str | None:
    """Return the name of a model beside another one, which must be that of `prepared` if given."""
    if prepared is None:
        return name
    if not isinstance(prepared, Prepared):
        raise UsageError(sentence("prepared.kind", name=what, kind=type(prepared).__name__))
    reference = prepared.reference or prepared.model().name
    if name not in (None, reference):
        raise UsageError(sentence("prepared.other", name=what, reference=reference, other=name))
    return reference


def serving_beside(
    w: Any, open_: Callable[..., Prepared], revision: str | None
) -> "dict[str, Prepared | None]":
    """Open the models that serve beside another; those not found are left out, which the answer
    says, or raises again."""
    beside: dict[str, Prepared | None] = {}
    for role, name in (("draft", w.draft_model), ("projector", w.mmproj)):
        with suppress(NotFoundError):
            beside[role] = None if name is None else open_(name, revision)
    return beside


def opened(model: Any, options: GatherOptions) -> Prepared:
    """Read the files of a model; its class is looked up later."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return Prepared(model, options, live(model))
    if isinstance(model, os.PathLike) and not os.path.exists(model):
        raise NotFoundError(sentence("path", path=repr(os.fspath(model))))
    if isinstance(getattr(model, "components", None), Mapping):
        return Prepared(type(model).__name__, options, gather_pipeline(model))
    if not isinstance(model, str | os.PathLike | Mapping):
        raise TypeError(
            f"model must be a reference, a path, a config or a module, not a {type(model).__name__}"
        )
    if isinstance(model, Mapping):
        model = deepcopy(dict(model))  # the caller may change it later
    with following(model, WeighbridgeError):
        return Prepared(model, options, inventory(model, options))
