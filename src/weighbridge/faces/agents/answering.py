"""Answers to tool calls: a tool's arguments in, an answer out, without protocol or printing.

    Answers().call("infer", {"model": "llama-3.1-8b", "gpu": "4090"}).text

Models are read once for all questions about them (answers.questions.requests). An error in the
arguments is an answer too, of one line that says what to do next: an agent reads it and asks again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.requests import MAX_LINE, Requests, settled
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import printable, safe_json, shown, spelled_like
from weighbridge.faces.agents import brief
from weighbridge.faces.agents.tools import DETAILS, FORMS, OUTPUT, SLOW, Tool, tools
from weighbridge.faces.render import bounded
from weighbridge.files.runfiles import asked
from weighbridge.models.checkpoint.gather import GatherOptions
from weighbridge.models.formats.strict_json import strict_json
from weighbridge.workload import FIT, TABLES, Table

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.fit import Fit

Arguments = Mapping[str, Any]
LONG = (
    "model",
    "command",
    "explain_oom",
    "text",
)  # arguments of any length: a config, a launch line, a log
LONGEST = 200  # most characters of any other argument


class AgentAnswer(NamedTuple):
    """An answer as text for an agent, and as a few numbers; an error has no numbers."""

    text: str
    numbers: dict[str, Any] | None = None

    @property
    def failed(self) -> bool:
        return self.numbers is None


class Answers:
    """An answerer of tool calls, one after another, that keeps the models they name. With
    `hub_only` it reads no files of this machine and no addresses but the Hub's. `line` writes a
    request as a command, for answers that are shortened."""

    def __init__(
        self,
        *,
        cache_dir: str | None = None,
        offline: bool = False,
        hub_only: bool = False,
        line: Callable[[Arguments], str] | None = None,
    ) -> None:
        self._line = line
        self._requests = Requests(cache_dir=cache_dir, offline=offline, ours=not hub_only)
        self._options = GatherOptions(cache_dir=cache_dir, offline=offline, ours=not hub_only)
        self._tools = {tool.name: tool for tool in tools()}

    def call(self, name: str, arguments: Arguments | None) -> AgentAnswer:
        """Return the answer of the tool `name`; an error is an answer, too."""
        settled_call = settled(lambda: {"answer": self._called(name, arguments or {})})
        if "error" in settled_call:
            return AgentAnswer(safe_json(f"error: {printable(settled_call['error']['message'])}"))
        answer: AgentAnswer = settled_call["answer"]
        return answer

    def _called(self, name: str, arguments: Arguments) -> AgentAnswer:
        tool = self._tools.get(name)
        if tool is None:
            raise UsageError(
                sentence("agent.no_tool", name=shown(name), known=", ".join(self._tools))
            )
        settings = _checked_arguments(tool, arguments)
        form = _checked_choice("response_format", settings.pop("response_format", FORMS[0]), FORMS)
        detail = _checked_choice("detail", settings.pop("detail", DETAILS[0]), DETAILS)
        if name in LISTS:
            text, numbers = LISTS[name](settings)
            return _short_answer(text, numbers, form)
        words = "" if name != "weigh" or "kind" in settings else str(settings.get("text") or "")
        if question := asked.read(words):
            return self._answer_request(
                _question_request(question, settings), form, full=detail == "full"
            )
        if name == "weigh":
            return self._answer_file(settings, form, full=detail == "full")
        if name == "fit" and "explain_oom" in settings:
            return self._answer_oom(settings, form, full=detail == "full")
        others = settings.pop("together", None)
        if others is not None:
            if detail == "full":
                raise UsageError(sentence("agent.together_full"))
            services = self._requests.together(_joint_request(settings, others))
            return _short_answer(*brief.of_services(services), form)
        return self._answer_request(_as_request(name, settings), form, full=detail == "full")

    def _answer_request(self, request: dict[str, Any], form: str, *, full: bool) -> AgentAnswer:
        """Return the answer to a request, in brief or in full."""
        report = self._requests.report(request)
        if full:
            write = bounded.as_json if form == "json" else bounded.as_markdown
            line = "" if self._line is None else self._line(request)
            return AgentAnswer(write(report, line), _brief(report)[1])
        return _short_answer(*_brief(report), form)

    def _answer_oom(self, settings: dict[str, Any], form: str, *, full: bool) -> AgentAnswer:
        """Return the answer on why a run was out of memory, in brief or in full."""
        from weighbridge.faces.agents import oom

        model, revision = _model(settings.pop("model", None)), settings.pop("revision", None)
        config = model["config"] if isinstance(model, dict) else model
        oom_answer = oom.explain(settings, config, self._options._replace(revision=revision))
        text, numbers = oom.brief(oom_answer)
        return (
            AgentAnswer(oom.whole(oom_answer, form), numbers)
            if full
            else _short_answer(text, numbers, form)
        )

    def _answer_file(self, settings: dict[str, Any], form: str, *, full: bool) -> AgentAnswer:
        """Return the answer about a run file or a text, in brief or in full."""
        from weighbridge.faces.agents import runfile

        fix = _wants_fix(settings)
        weighed = runfile.weigh(settings, self._options)
        text, numbers = runfile.brief(weighed, fix=fix)
        whole = runfile.whole(weighed, form) if full else ""
        return AgentAnswer(whole, numbers) if full else _short_answer(text, numbers, form)


def _wants_fix(settings: dict[str, Any]) -> bool:
    fix = settings.get("fix", False)
    if not isinstance(fix, bool):
        raise UsageError(sentence("is_bool", name="fix", value=shown(fix)))
    return fix


def _checked_arguments(tool: Tool, arguments: Arguments) -> dict[str, Any]:
    """Return the arguments that have a value. Raises UsageError for unknown or too long ones."""
    known = tool.known
    for name in arguments:
        if name in SLOW and name in TABLES.get(tool.name, ()):
            raise UsageError(sentence("agent.slow", name=name, tool=tool.name))
        if name not in known:
            near = _suggestion(name, known, TABLES.get(tool.name, {}))
            raise UsageError(
                sentence("agent.no_argument", tool=tool.name, name=shown(name), near=near)
            )
        _check_length(name, arguments[name])
    saying = {name: value for name, value in arguments.items() if value not in (None, "")}
    return {name: _as_text(known[name], value) for name, value in saying.items()}


def _check_length(name: str, value: Any) -> None:
    """Check that a text has at most LONGEST characters, except in the arguments of LONG; raise
    UsageError if not."""
    if name not in LONG and isinstance(value, str) and len(value) > LONGEST:
        raise UsageError(sentence("agent.long", name=name, most=LONGEST, value=shown(value)))


def _suggestion(name: str, known: Mapping[str, Any], table: Table) -> str:
    flag = f"--{name.replace('_', '-')}"
    alias = next((n for n, setting in table.items() if flag in setting.flags), None)
    if alias is not None:
        return sentence("near.called", name=alias)
    close = spelled_like(name, known, 3)
    return sentence("near", names=" or ".join(close)) if close else sentence("near.tool")


def _as_text(schema: Mapping[str, Any], value: Any) -> Any:
    """Return an integer as text if the schema wants text, as in {"gpu": 4090}; other values
    unchanged."""
    whole_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole_number and schema["type"] == "string" else value


def _checked_choice(name: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise UsageError(
            sentence("is_one_of", name=name, known=", ".join(known), value=shown(value))
        )
    return str(value)


def _as_request(task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the request of `weighbridge run` for the arguments of a tool. Raises UsageError
    without a model or command."""
    model = settings.pop("model", None)
    if model is None and "command" not in settings:
        raise UsageError(sentence("agent.no_model"))
    return {"task": task, "model": _model(model), "workload": settings}


def _question_request(question: asked.AskedQuestion, settings: dict[str, Any]) -> dict[str, Any]:
    """Return a question in words as a request, on the device that the other arguments name. Raises
    UsageError for arguments that only files take."""
    beside = {name: value for name, value in settings.items() if name != "text"}
    for name in ("model", "fix"):
        if beside.pop(name, False):
            raise UsageError(sentence("agent.question", name=name))
    return question.request(beside)


def _joint_request(settings: dict[str, Any], others: Any) -> dict[str, Any]:
    """Return the request for several models together on one card. Raises UsageError if `others` is
    no list."""
    if not isinstance(others, list):
        raise UsageError(sentence("agent.together", value=shown(others)))
    for other in others:
        _check_length("together", other)
    models = [_model(settings.pop("model", None)), *others]
    return {"task": "infer", "models": models, "workload": settings}


def _model(model: Any) -> Any:
    """Return a config, as text or as an object, under the key "config"; a model reference
    unchanged."""
    if isinstance(model, str) and model.lstrip().startswith("{"):
        try:
            model = strict_json(model.encode(errors="surrogatepass"), MAX_LINE, constants=True)
        except BadFileError as error:
            raise BadFileError(sentence("agent.config", why=error.line)) from None
    if isinstance(model, dict) and not isinstance(model.get("config"), dict):
        return {"config": model}
    return model


def _brief(answer: "Report | Fit") -> tuple[str, dict[str, Any]]:
    from weighbridge.memory.report.fit import Fit

    return brief.of_fit(answer) if isinstance(answer, Fit) else brief.of_report(answer)


def _short_answer(text: str, numbers: dict[str, Any], form: str) -> AgentAnswer:
    return AgentAnswer(bounded.dumped(numbers) if form == "json" else text, numbers)


def _list_gpus(filters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    from weighbridge.machines.accelerators.listing import matching as listed

    pattern = _take_text("pattern", filters)
    return brief.of_gpus(*listed(pattern, _check_filters("gpus", filters)))


def _models(filters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    from weighbridge.models.catalogue import pipelines
    from weighbridge.models.catalogue.listing import matching as listed

    pattern = _take_text("pattern", filters)
    entries = listed(pattern, {})
    if not filters:
        return brief.of_models(entries, pipelines.search(pattern))
    ranking = _rank_models([entry.name for entry in entries], filters)
    if not entries:
        from weighbridge.answers.questions.fit.pipelines import FIRST, with_pipelines

        named = [one.name for one in pipelines.search(pattern)]
        ranking = with_pipelines(ranking, named, filters, shown=FIRST)
    return brief.of_ranking(ranking)


def _rank_models(names: list[str], filters: dict[str, Any]) -> Any:
    from weighbridge.answers.questions.fit.ranking import models_for

    if "gpu" not in filters and "gpu_memory" not in filters:
        raise UsageError(sentence("rank_card", how="gpu (4090, or local) or gpu_memory"))
    return models_for(names, filters, shown=brief.ROWS)


def _take_text(name: str, filters: dict[str, Any]) -> str:
    value = filters.pop(name, "")
    if not isinstance(value, str):
        raise UsageError(sentence("is_text", name=name, value=shown(value)))
    return value


def _check_filters(name: str, filters: dict[str, Any]) -> dict[str, Any]:
    """Return the filters of a list, checked against the types of its schema. Raises UsageError for
    a wrong one."""
    schema = next(tool.schema for tool in tools() if tool.name == name)
    for key, value in filters.items():
        declared = schema["properties"][key]
        if declared["type"] == "boolean" and not isinstance(value, bool):
            raise UsageError(sentence("is_bool", name=key, value=shown(value)))
        if declared["type"] == "string" and not isinstance(value, str):
            raise UsageError(sentence("is_text", name=key, value=shown(value)))
        if "enum" in declared:
            _checked_choice(key, value, declared["enum"])
    return filters


def _list_settings(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the settings of a tool as text and as schemas: those that its schema leaves out, or
    those matching a pattern."""
    if "task" not in asked:
        raise UsageError(sentence("agent.which_tool"))
    pattern = _take_text("pattern", asked).lower().replace("-", "_")
    tool = next(tool for tool in tools() if tool.name == _check_filters("settings", asked)["task"])
    every = tool.known if pattern else tool.more
    listed = {
        name: schema
        for name, schema in every.items()
        if pattern in name or pattern in schema.get("description", "").lower().replace("-", "_")
    }
    if not listed:
        raise NotFoundError(sentence("agent.no_setting", tool=tool.name, pattern=shown(pattern)))
    return brief.of_settings(listed), {"settings": listed}


LISTS: Mapping[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]] = {
    "gpus": _list_gpus,
    "models": _models,
    "settings": _list_settings,
}
assert not OUTPUT.keys() & FIT.keys()  # no output argument hides a setting
