"""One request of `weighbridge run`: a line of JSON in, a report or an error out."""

import json
from collections.abc import Callable, Mapping, Set
from typing import Any

from weighbridge import api
from weighbridge.errors import BadFileError, UsageError, WeighbridgeError
from weighbridge.formats.strict_json import strict_json
from weighbridge.model import Model
from weighbridge.report import Report
from weighbridge.settings import INFER, TRAIN, read
from weighbridge.units import MIB
from weighbridge.wording import one_line, shown

KEYS = frozenset({"task", "model", "workload"})
EXTRA = {"load": ("revision",), "infer": ("revision", "command"), "train": ("revision",)}
COMMANDS: Mapping[str, Callable[..., Report]] = {
    "load": api.load,
    "infer": api.infer,
    "train": api.train,
}
MANY = 8  # models that are kept at once: a large mixture has 45,000 parameter records
MOST_KEPT = MIB  # characters of a config that is kept, and tensors of all that are kept
KEPT: dict[str, Model] = {}
MAX_LINE = 16 * MIB  # the largest config.json that we know of is below 1 MB


def answer(
    line: str | bytes, *, cache_dir: str | None = None, offline: bool = False
) -> dict[str, Any]:
    """The report of one request, or the error that takes its place."""
    try:
        return _answer(line, cache_dir=cache_dir, offline=offline)
    except WeighbridgeError as error:
        return {"error": {"code": error.code, "message": str(error)}}
    except Exception as error:  # the other requests go on
        message = one_line(f"this is a defect of weighbridge: {type(error).__name__}: {error}")
        return {"error": {"code": 2, "message": message}}


def _answer(line: str | bytes, *, cache_dir: str | None, offline: bool) -> dict[str, Any]:
    request = _request(line)
    task = request.get("task")
    if not isinstance(task, str) or task not in COMMANDS:
        raise UsageError(f"task {shown(task)} is not known; known: {', '.join(COMMANDS)}")
    workload = request.get("workload") or {}
    if not isinstance(workload, dict):
        raise UsageError(f"workload is an object of settings, not {shown(workload)}")
    given = {key: value for key, value in workload.items() if value is not None}
    expected = given.pop("engine", None) if task == "load" else None
    for name in EXTRA[task]:
        if not isinstance(given.get(name, ""), str):
            raise UsageError(f"workload.{name} is text, not {shown(given[name])}")
    read(task, {key: value for key, value in given.items() if key not in EXTRA[task]})
    model = _model(request, given)
    if model is not None and "command" not in given:
        source = {"revision": given.get("revision"), "cache_dir": cache_dir, "offline": offline}
        model = _kept(model, base_model=given.get("base_model", False), **source)
    report = COMMANDS[task](model, cache_dir=cache_dir, offline=offline, **given)
    engine = report.workload["engine"]
    if expected not in (None, engine):
        raise UsageError(f"workload.engine is {shown(expected)}, but {engine} loads such files")
    return report.to_dict()


def _kept(model: Any, **source: Any) -> Model:
    """Resolved once for all requests that name it alike."""
    key = json.dumps([model, source], sort_keys=True)
    if key in KEPT:
        return KEPT[key]
    found = api.resolved(model, **source)
    if len(key) <= MOST_KEPT:
        held = [*KEPT.values(), found]
        if len(held) > MANY or sum(len(p.stored) for m in held for p in m.parts) > MOST_KEPT // 4:
            KEPT.clear()
        KEPT[key] = found
    return found


def _request(line: str | bytes) -> dict[str, Any]:
    """The object of one line, with no keys but ours."""
    if len(line) > MAX_LINE:
        raise BadFileError(
            f"the request is longer than {MAX_LINE // MIB} MiB, our limit for a line: name a large"
            " config by its path"
        )
    raw = line.encode(errors="surrogatepass") if isinstance(line, str) else line
    try:
        request = strict_json(raw, MAX_LINE, constants=True)
    except BadFileError as error:
        raise BadFileError(f"the request {error}") from None
    if not isinstance(request, dict):
        raise UsageError(f"a request is an object with task and model, not {shown(request)}")
    misplaced = sorted((request.keys() - KEYS) & (INFER.keys() | TRAIN.keys()))
    if misplaced:
        raise UsageError(f'{misplaced[0]!r} is a setting: write it under "workload"')
    _only(request, KEYS, "a request")
    return request


def _model(request: dict[str, Any], given: dict[str, Any]) -> Any:
    model = request.get("model")
    if model is None and "command" in given:
        return None
    if isinstance(model, dict) and isinstance(model.get("config"), dict):
        return model["config"]
    if isinstance(model, str) and model:
        return model
    raise UsageError('model is a reference, or {"config": {...}} with the config itself')


def _only(given: dict[str, Any], known: Set[str], what: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise UsageError(f"{what} has no {shown(unknown[0])}; known: {', '.join(sorted(known))}")
