"""Requests of `weighbridge run`: a line of JSON in, a report or an error out.

A model that several requests name alike is prepared once, in whatever order they come. The cache is
bounded by the number of models and of their tensors; the oldest goes first.
"""

import gc
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions import echoes
from weighbridge.answers.questions.prepared import Prepared, opened, serving_beside
from weighbridge.answers.questions.question import by_its_name, question, served_model, serving
from weighbridge.base.canonical import key as config_key
from weighbridge.base.errors import BadFileError, UsageError, WeighbridgeError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB
from weighbridge.base.watching import NotWantedError
from weighbridge.base.wording import one_line, shown
from weighbridge.memory.report import Report
from weighbridge.models import catalogue
from weighbridge.models.catalogue.pipelines import makes_pictures
from weighbridge.models.checkpoint.gather import GatherOptions
from weighbridge.models.formats.strict_json import strict_json
from weighbridge.models.sources.answers import Silence
from weighbridge.workload import INFER, TABLES, TRAIN, named_task

if TYPE_CHECKING:
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services

KEYS = frozenset({"task", "model", "workload", "remedies"})
OF_SEVERAL = frozenset({"task", "models", "workload"})  # keys of a request for several models
OF_ANSWERS = frozenset({"schema", "version"})  # keys at the start of every answer
BESIDE = {
    "load": ("revision",),
    "infer": ("revision", "command"),
    "train": ("revision",),
    "fit": ("revision",),
    "image": ("revision",),
    "train_image": ("revision",),
}
OF_PIPELINES = {"infer": "image", "train": "train_image"}  # task -> the task for a pipeline
MANY = 64  # models in the cache
COLLECT_AFTER = 128  # answers
MOST_TENSORS = 1 << 18  # tensors of all cached models, in files or made from them
MOST_KEPT = MIB  # characters of a config that is cached
FAILED = '{"error": '  # how the JSON of a failed request begins
LONGEST_ID = 256
MAX_LINE = 16 * MIB  # the largest config.json that we know of is below 1 MB


class Requests:
    """Answers requests one after the other, and caches their models. For strangers (`ours` is
    False), files of this machine and addresses other than the Hub's are not read."""

    def __init__(
        self, *, cache_dir: str | None = None, offline: bool = False, ours: bool = True
    ) -> None:
        self._options = GatherOptions(
            cache_dir=cache_dir, offline=offline, ours=ours, silence=Silence()
        )
        self._kept: OrderedDict[str, Prepared] = OrderedDict()
        self._answered = 0
        self._salt = os.urandom(16)

    def answer(self, line: str | bytes) -> dict[str, Any]:
        """Return the report of one request as JSON, or an error in its place; with the request's
        `id` if it has one."""
        mark: dict[str, Any] = {}

        def told() -> dict[str, Any]:
            request = parsed(line)
            mark.update(_mark(request))
            return self.told(request).to_dict()

        return settled(told) | mark

    def told(self, request: dict[str, Any]) -> "Report | Fit | Services":
        """Return the answer to a request about one model, or about several on the same cards.
        Raises WeighbridgeError."""
        return self.together(request) if "models" in request else self.report(request)

    def together(self, request: dict[str, Any]) -> "Services":
        """Return whether several models can be served at once. Raises WeighbridgeError."""
        from weighbridge.answers.questions.together import together  # rarely needed

        self._collected()
        _only(request, OF_SEVERAL, "a request of several models")
        if request.get("task") != "infer":
            raise UsageError(sentence("several.infer", value=shown(request.get("task"))))
        names = request["models"]
        if not isinstance(names, list):
            raise UsageError(sentence("several.models", value=shown(names)))
        settings = _workload(request, "infer")
        for name in BESIDE["infer"]:
            if name in settings:
                raise UsageError(sentence("several.one", name=name))
        models = [_model({"model": name}, None) for name in names]
        return together(models, lambda model: self._prepared(model, None), settings)

    def report(self, request: dict[str, Any], token: str | None = None) -> "Report | Fit":
        """Return the answer to a parsed request about one model. Raises WeighbridgeError. `token`
        is for the Hub: nothing of this object holds it afterwards."""
        self._collected()
        _checked(request)
        task = meant_task(request)
        given = _workload(request, task)
        revision, command = given.pop("revision", None), given.pop("command", None)
        model = _model(request, command)
        helped = _remedies(request)
        pipeline = task == "fit" and makes_pictures(request.get("model"))
        of_pictures = pipeline or task in OF_PIPELINES.values()
        open_ = partial(self._prepared, token=token, pictures=of_pictures)
        if task == "fit":
            return open_(model, revision).fit(remedies=helped, **given)

        def ask(settings: Mapping[str, Any], remedies: bool) -> Report:
            if task == "infer":
                said = _SaidOfServing(model, revision, command, settings)
                return _served(said, open_, remedies, self._options.ours)
            return _answered(task, settings, partial(open_, model, revision), remedies)

        echo = request.get("workload") or {}
        if command is None and echoes.is_echo(echo):
            settings = {name: echo[name] for name in echo if name != "revision"}
            given = echoes.question(task, settings, lambda settings: ask(settings, False).workload)
        return ask(given, helped)

    def model(self, name: Any, token: str | None = None) -> Prepared:
        """Return the prepared model of a request without an estimate. Raises WeighbridgeError."""
        return self._prepared(_model({"model": name}, None), None, token)

    def _prepared(
        self,
        model: Any,
        revision: str | None,
        token: str | None = None,
        *,
        pictures: bool = False,
    ) -> Prepared:
        """Return the prepared model, read once for all requests with the same name or an equivalent
        config, and the same token or none."""
        if isinstance(model, Prepared):
            return model
        size = len(json.dumps(model))
        marks = revision, self._token_mark(token), pictures
        key = json.dumps([identity(model), *marks], sort_keys=True)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        how = self._options._replace(revision=revision, token=token, pictures=pictures)
        prepared = self._opened(model, how)
        if size <= MOST_KEPT:
            while len(self._kept) >= MANY or self._tensors() > MOST_TENSORS:
                self._kept.popitem(last=False)
            self._kept[key] = prepared
        return prepared

    def _opened(self, model: Any, options: GatherOptions) -> Prepared:
        """Return the model, read with the token and kept without it. What a stranger's token gives
        access to goes into no cache that serves others."""
        if options.token is None or options.ours:
            prepared = opened(model, options)
        else:
            from tempfile import TemporaryDirectory  # only for strangers

            with TemporaryDirectory() as folder:
                prepared = opened(model, options._replace(cache_dir=folder))
        return replace(prepared, options=options._replace(token=None))

    def _token_mark(self, token: str | None) -> str | None:
        """Return a hash that tells tokens apart and cannot be turned back into one."""
        if token is None:
            return None
        from hashlib import blake2b  # few requests bring a token

        return blake2b(token.encode(errors="surrogatepass"), key=self._salt).hexdigest()

    def _collected(self) -> None:
        """Run the garbage collector every COLLECT_AFTER answers. Memoized results refer back to
        their model, so only it frees dropped models; the command line delays it, for speed."""
        self._answered += 1
        if self._answered % COLLECT_AFTER == 0:
            gc.collect()

    def _tensors(self) -> int:
        return sum(prepared.tensors for prepared in self._kept.values())


def _answered(
    task: str, asked_for: Mapping[str, Any], open_: Callable[[], Prepared], helped: bool
) -> Report:
    """Return the report of a task other than `infer`."""
    settings = dict(asked_for)
    expected = settings.pop("engine", None) if task == "load" else None
    asked = question(task, None, settings)
    report = open_().answer(asked, remedies=helped)
    engine = report.workload.get("engine")
    if expected not in (None, engine):
        raise UsageError(sentence("request.engine", value=shown(expected), engine=engine))
    return report


class _SaidOfServing(NamedTuple):
    """The parts of a request for serving."""

    model: Any
    revision: str | None
    command: str | None
    settings: Mapping[str, Any]


def _served(
    said: _SaidOfServing, open_: Callable[..., Prepared], helped: bool, disk: bool
) -> Report:
    """Return the report of `infer`; models that serve together with this one are cached, too."""
    meant = by_its_name(serving(None, said.command, said.settings), said.model, disk=disk)
    model, revision = served_model(meant, said.model, said.revision)
    beside = serving_beside(meant.workload, open_, revision)
    return open_(model, revision).answer(meant, beside, remedies=helped)


def settled(answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the answer, or an error in its place, so that other requests go on."""
    try:
        return answer()
    except NotWantedError:
        raise
    except WeighbridgeError as error:
        return refused(error)
    except Exception as error:
        message = f"this is a defect of weighbridge: {type(error).__name__}: {error}"
        return failed(one_line(message))


def refused(error: WeighbridgeError) -> dict[str, Any]:
    """Return the error object for a refusal, with its class and, if a program refuses, that
    program's own message."""
    answer = failed(str(error), error.code)
    if error.ground:
        answer["error"]["ground"] = error.ground
    if error.seen:
        answer["error"]["seen"] = error.seen
    return answer


def failed(message: str, code: int = 2) -> dict[str, Any]:
    """Return the object in place of a report: an error with its exit code."""
    return {"error": {"code": code, "message": message}}


def marked(line: str | bytes) -> dict[str, Any]:
    """Return the `id` of a request as its answer has it; empty if it cannot be read."""
    try:
        return _mark(parsed(line))
    except WeighbridgeError:
        return {}


def _mark(request: dict[str, Any]) -> dict[str, Any]:
    """Remove and return the `id` of a request, as its answer has it. Raises UsageError."""
    if "id" not in request:
        return {}
    mark = request.pop("id")
    if isinstance(mark, bool) or not isinstance(mark, str | int) or len(str(mark)) > LONGEST_ID:
        raise UsageError(sentence("request.id", most=LONGEST_ID, value=shown(mark)))
    return {"id": mark}


def _workload(request: dict[str, Any], task: str) -> dict[str, Any]:
    """Return the settings of a request that are not null. Raises UsageError."""
    workload = request.get("workload")
    if workload is None:
        return {}
    if not isinstance(workload, dict):
        raise UsageError(sentence("oom.workload", value=shown(workload)))
    settings = {key: value for key, value in workload.items() if value is not None}
    for name in BESIDE[task]:
        if not isinstance(settings.get(name, ""), str):
            raise UsageError(
                sentence("is_text", name=f"workload.{name}", value=shown(settings[name]))
            )
    _one_device(settings.get("gpu"))
    return settings


def _one_device(gpu: Any) -> None:
    """Raise UsageError for a list of cards, which only the command line answers side by side. A
    card's name may contain a comma."""
    if not isinstance(gpu, str) or "," not in gpu:
        return
    from weighbridge.machines.accelerators.names import find  # only for names with a comma

    pieces = [piece.strip() for piece in gpu.split(",")]
    try:
        for piece in pieces:
            find(piece)
    except UsageError:
        return
    raise UsageError(
        sentence(
            "request.cards", value=shown(gpu), count=len(pieces), joined=shown("+".join(pieces))
        )
    )


def parsed(line: str | bytes, most: int = MAX_LINE) -> dict[str, Any]:
    """Return the object of one line. Raises UsageError, or BadFileError if it is not JSON."""
    if len(line) > most:
        raise BadFileError(sentence("request.long", most=most // MIB))
    raw = line.encode(errors="surrogatepass") if isinstance(line, str) else line
    try:
        request = strict_json(raw, most, constants=True)
    except BadFileError as error:
        raise BadFileError(f"the request {error}") from None
    if not isinstance(request, dict):
        raise UsageError(sentence("compare.request", value=shown(request)))
    return request


def _checked(request: dict[str, Any]) -> None:
    """Raise UsageError for unknown keys or an unknown task."""
    misplaced = sorted((request.keys() - KEYS) & (INFER.keys() | TRAIN.keys()))
    if misplaced:
        raise UsageError(sentence("request.setting", name=misplaced[0]))
    if "question" in request:
        raise UsageError(sentence("request.question", text=shown(request["question"])))
    if request.keys() >= OF_ANSWERS:
        raise UsageError(sentence("request.report"))
    _only(request, KEYS, "a request")
    task = request.get("task")
    if not isinstance(task, str) or named_task(task) not in BESIDE:
        known = ", ".join((*BESIDE, "video"))
        raise UsageError(sentence("task.unknown", task=shown(task), known=known))


def meant_task(request: Mapping[str, Any]) -> str:
    """Return the task that is meant: serving a pipeline means making pictures, and training one has
    other settings."""
    task, workload = str(named_task(request["task"])), request.get("workload")
    command = isinstance(workload, dict) and workload.get("command") is not None
    if task not in OF_PIPELINES or command:
        return task
    model, of_pictures = request.get("model"), OF_PIPELINES[task]
    pictured = TABLES[of_pictures].keys() - TABLES[task].keys()
    unlike = isinstance(workload, dict) and not pictured.isdisjoint(workload)
    unknown = isinstance(model, str) and not catalogue.has(model) and "/" not in model
    return of_pictures if makes_pictures(model) or (unknown and unlike) else task


def _remedies(request: dict[str, Any]) -> bool:
    """Return whether a request wants remedies; it does by default."""
    wanted = request.get("remedies", True)
    if not isinstance(wanted, bool):
        raise UsageError(sentence("is_bool", name="remedies", value=shown(wanted)))
    return wanted


def _model(request: dict[str, Any], command: str | None) -> Any:
    model = request.get("model")
    if model is None and command is not None:
        return None
    if isinstance(model, dict) and isinstance(model.get("config"), dict):
        return model["config"]
    if (isinstance(model, str) and model) or isinstance(model, Prepared):
        return model
    raise UsageError(sentence("request.model"))


def identity(model: Any) -> Any:
    """Return a JSON value that tells answers about this model from those about others: for a config
    its key and the name in answers."""
    if not isinstance(model, dict):
        return model
    try:
        return {"key": config_key(model), "name": model.get("_name_or_path")}
    except WeighbridgeError:  # raised when it is read
        return model


def _only(request: dict[str, Any], known: Set[str], what: str) -> None:
    unknown = sorted(request.keys() - known)
    if unknown:
        raise UsageError(
            sentence(
                "request.unknown", what=what, name=shown(unknown[0]), known=", ".join(sorted(known))
            )
        )
