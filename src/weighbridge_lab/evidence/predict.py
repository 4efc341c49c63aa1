"""Predictions of published figures, by the same rules that a user's question goes through.

    outcome(record) -> Prediction(bytes) or Skip(reason)

A figure whose log prints an input of it (what was left for the cache, tokens of the pool) is
predicted twice: from the setting alone, and with that input `given`. Figures of a program need
`found`, the peaks of its runs (traced.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from weighbridge.answers import bounds
from weighbridge.answers.bounds.phases import DETAIL
from weighbridge.answers.estimate.infer import widened
from weighbridge.answers.estimate.limits import runs as runs_of
from weighbridge.answers.estimate.load import load
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.memory import LEVELS, Bytes, Device, exactly, most, total
from weighbridge.base.records import dataclass
from weighbridge.engines.interface import EngineAnswer
from weighbridge.engines.servers.host import OFFLOADED
from weighbridge.engines.subject import subject
from weighbridge.engines.table import ENGINES, engine, version
from weighbridge.engines.vllm.host import ASLEEP
from weighbridge.memory.report.keys import CountName, IntervalName
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import Model, resolve
from weighbridge.workload import LOAD, foreign, read
from weighbridge_lab.evidence import training
from weighbridge_lab.evidence.programs import PROGRAMS
from weighbridge_lab.evidence.records import (
    Outcome,
    Prediction,
    PublishedFigure,
    Skip,
    config,
    origins,
)
from weighbridge_lab.evidence.traced import Failure, Found, Peaks, runs
from weighbridge_lab.trace import levels

GIVEN = ", given"  # suffix of the quantity's name
DRAFTED = "compute buffer, MTP layers"
FILES = tuple(name for name, kind in ENGINES.items() if kind.reads == "gguf")


def outcomes(
    records: Sequence[PublishedFigure],
    peaks: Found | None = None,
    *,
    table: bounds.MarginTable | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Return the prediction of each record, in order. One model's figures are predicted one after
    another, since engines cache what they derive from it. `table` replaces the package's own
    margins."""
    by_id = {}
    for record in sorted(records, key=_shared_key):
        by_id[record.id] = tuple(TASKS[record.task](record, peaks, table))
        progress()
    return [outcome for record in records for outcome in by_id[record.id]]


def _shared_key(record: PublishedFigure) -> tuple[str, ...]:
    return record.engine, record.model, str(record.setting.get("quantization"))


def _formula_outcomes(
    record: PublishedFigure, peaks: Found | None, table: bounds.MarginTable | None
) -> Iterator[Outcome]:
    """Yield the predictions of a record by closed forms, without torch."""
    if not record.only_given:
        yield _outcome(record, {}, table)
    if record.given:
        yield _outcome(record, record.given, table)


def _outcome(
    record: PublishedFigure, inputs: Mapping[str, int], table: bounds.MarginTable | None
) -> Outcome:
    reason = record.skip or _outside(record)
    quantity = record.quantity + (GIVEN if inputs else "")
    if reason is not None:
        return Skip(record, quantity, reason)
    try:
        return _predicted(record, inputs, table)
    except WeighbridgeError as error:
        return Skip(record, quantity, "refused by our rules", str(error))


def _outside(record: PublishedFigure) -> str | None:
    if record.model not in origins():
        return "model not at hand"
    if record.engine not in ENGINES:
        return "not modelled: this engine"
    if record.task == "infer" and record.version is not None:
        kind = engine(record.engine)
        if version(kind, record.version)[1]:
            return "version outside our rules"
    return None


def _predicted(
    record: PublishedFigure, inputs: Mapping[str, int], table: bounds.MarginTable | None
) -> Prediction:
    answer, like = _answer(record, tuple(sorted(inputs.items())))
    reader = READERS.get((record.engine, record.quantity)) or READERS[("", record.quantity)]
    value = reader(widened(answer, like, table), record)
    several = sum(d.kind == "gpu" for d in answer.devices) > 1
    kind = bounds.kind(like, _margined(record, reader), record.level, several=several)
    if reader in COUNTED and not inputs:
        value = bounds.around(
            value, like, kind.quantity, record.level, several=several, table=table
        )
    slack = _slack(record, value) if inputs else 0
    quantity = record.quantity + (GIVEN if inputs else "")
    return Prediction(
        record, quantity, value, record.resolution + slack, kind if kind.quantity else None, like
    )


def _margined(record: PublishedFigure, reader: "Reader") -> str:
    """Return the name under which a figure's margin is stored; "" if the report has the rules' own
    interval, or one that follows from another figure's."""
    if reader in WHOLE_DEVICES:
        return bounds.PEAK
    has_margin = reader in COUNTED or (record.engine, record.quantity) in TOLD_BESIDE
    has_margin = has_margin or record.quantity in ENGINES[record.engine].logged
    return record.quantity if has_margin else ""


def _slack(record: PublishedFigure, value: Bytes) -> int:
    """Return the bytes by which the rounding of the given input can change the prediction, in
    proportion."""
    (amount,) = record.given.values()
    return -(-value.expected * record.given_resolution // amount)


@dataclass(frozen=True, slots=True)
class EngineRunKey:
    """One run of an engine, as a key: figures of one log share the answer."""

    engine: str
    version: str | None
    model: str
    task: str
    gpu: str | None
    setting: tuple[tuple[str, Any], ...]


def _answer(
    record: PublishedFigure, inputs: tuple[tuple[str, int], ...]
) -> tuple[EngineAnswer, bounds.RunForm]:
    setting = {n: tuple(v) if isinstance(v, list) else v for n, v in record.setting.items()}
    return _run(
        EngineRunKey(
            engine=record.engine,
            version=record.version,
            model=record.model,
            task=record.task,
            gpu=_gpu(record),
            setting=tuple(sorted({**setting, **dict(inputs)}.items())),
        )
    )


def _gpu(record: PublishedFigure) -> str | None:
    """Return the card to ask about. llama.cpp's buffers are the same on any card, so None is asked,
    which avoids a slow search for what fits; if no layer is on the card, it still states one."""
    alone = ENGINES[record.engine].reads == "gguf" and record.count == 1
    if record.accelerator is None or (alone and record.setting.get("n_gpu_layers") != 0):
        return None
    return f"{record.accelerator}:{record.count}"


@cache
def _run(key: EngineRunKey) -> tuple[EngineAnswer, bounds.RunForm]:
    """Return one run's answer by the rules alone, without margins, and the form of the run."""
    settings = {**dict(key.setting), "engine_version": key.version, "gpu": key.gpu}
    model = _model(key.model)
    if key.task == "load":
        asked_for = read("load", {n: v for n, v in settings.items() if n in LOAD})
        report = load(model, asked_for, bounds.NOTHING)
        answer = EngineAnswer(
            devices=report.devices, settings=report.workload, derived=report.derived
        )
        form = bounds.form(report.workload["quantization"])
        return answer, bounds.RunForm("load", str(report.workload["engine"]), form)
    served = ENGINES[key.engine].server
    workload = read("infer", settings).but(engine=key.engine, engine_defaults=served)
    kind = engine(key.engine)
    foreign(workload, kind.name)
    number, _ = version(kind, key.version)
    about = subject(model, workload, kind, number)
    return kind.infer(about, workload, workload.budget()), runs_of(about, kind, workload)


@cache
def _model(name: str) -> Model:
    return resolve(gather_config(config(origins()[name]), reference=name))


def _part(*names: str) -> "Reader":
    """Return a reader of the most bytes that components with these names hold in one phase."""

    def read_part(device: Device) -> Bytes:
        return most(p.of(*names) for p in device.phases)

    return lambda answer, record: _over(answer.devices, record.device, read_part)


def _named(name: str, detail: str) -> "Reader":
    """Return a reader of one component, in the phase where it is largest."""

    def read_named(device: Device) -> Bytes:
        return most(
            total(c.bytes for c in p.components if c.name == name and c.detail in (detail, DETAIL))
            for p in device.phases
        )

    return lambda answer, record: _over(answer.devices, record.device, read_named)


def _loaded(answer: EngineAnswer, record: PublishedFigure) -> Bytes:
    """Return the growth of driver memory by loading: everything but the context, which was there
    before."""

    def read_loaded(device: Device) -> Bytes:
        return total(c.bytes for c in device.phases[0].components if c.level != "driver")

    return _over(answer.devices, record.device, read_loaded)


def _grown(*names: str) -> "Reader":
    """Return a reader of the growth of components with these names, from loading to the first
    step."""

    def read_grown(device: Device) -> Bytes:
        before, after = (
            total(c.bytes for c in phase.components if c.name in names and c.detail != DETAIL)
            for phase in device.phases[:2]
        )
        return Bytes(*(b - a for a, b in zip(before, after, strict=True)))

    return lambda answer, record: _over(answer.devices, record.device, read_grown)


def _peak(answer: EngineAnswer, record: PublishedFigure) -> Bytes:
    level = next(known for known in LEVELS if known == record.level)
    return _over(answer.devices, record.device, lambda device: device.peak(level))


def _decoding(answer: EngineAnswer, record: PublishedFigure) -> Bytes:
    level = next(known for known in LEVELS if known == record.level)

    def read_decoding(device: Device) -> Bytes:
        return next(p for p in device.phases if p.name == "decode").at(level)

    return _over(answer.devices, record.device, read_decoding)


def _logged(name: CountName, of: IntervalName | None = None) -> "Reader":
    """Return a reader of a number in the engine's own log. Its interval is in proportion to that of
    `of`, if that has one."""

    def read_logged(answer: EngineAnswer, record: PublishedFigure) -> Bytes:
        count = answer.derived[name]
        assert count is not None, f"{record.id}: {name} is not counted"
        bounds = None if of is None else answer.derived.get(of)
        if bounds is None or not bounds[1]:
            return exactly(count)
        return Bytes(*(count * bound // bounds[1] for bound in bounds))

    return read_logged


def _concurrency(answer: EngineAnswer, record: PublishedFigure) -> Bytes:
    """Return how many requests of the whole context fit in the cache, in hundredths."""
    tokens = _logged("kv_cache_tokens", ROOM)(answer, record)
    requests = answer.derived["max_concurrency"]
    assert requests is not None, f"{record.id}: its requests are not counted"
    share = 100 * requests / max(1, tokens.expected)
    return Bytes(*(round(share * bound) for bound in tokens))


def _profiled(answer: EngineAnswer, record: PublishedFigure) -> Bytes:
    """Return the peak of the profile run; the log is the first rank's."""
    return Bytes(*answer.derived["first_rank"]["profile_peak_interval"])


def _outside_torch(answer: EngineAnswer, record: PublishedFigure) -> Bytes:
    """Return the first rank's growth outside torch: stages communicate only after the profile
    run."""
    return Bytes(*answer.derived["first_rank"]["non_torch_interval"])


def _over(devices: Sequence[Device], which: str, part: Callable[[Device], Bytes]) -> Bytes:
    if which == "fullest":
        return max((part(d) for d in devices), key=lambda b: b.expected)
    kind, _, number = which.partition(" ")
    chosen = [d for d in devices if which == "all" or d.kind == kind.removesuffix("s")]
    return total(part(d) for d in (chosen[int(number) :][:1] if number else chosen))


def _traced(
    record: PublishedFigure, peaks: Found | None, table: bounds.MarginTable | None
) -> Iterator[Outcome]:
    """Yield the predictions of a record from programs re-run on a fake GPU."""
    if record.skip is not None:
        yield Skip(record, record.quantity, record.skip)
    elif peaks is None:
        yield Skip(record, record.quantity, "needs torch: --trace")
    else:
        results = [peaks[one] for one in runs(record)]
        failures = [one for one in results if isinstance(one, Failure)]
        if failures:
            yield Skip(record, record.quantity, failures[0].reason, failures[0].detail)
        else:
            told_peaks = [one for one in results if isinstance(one, Peaks)]
            yield _rerun(record, told_peaks, table)


def _rerun(
    record: PublishedFigure, peaks: Sequence[Peaks], table: bounds.MarginTable | None
) -> Prediction:
    """Return the prediction of a figure by its run's peaks. Growth or difference at the driver
    level was reserved."""
    level = "allocated" if record.level == "allocated" else "reserved"
    assert record.program is not None
    like = levels.runs(convolves=PROGRAMS[record.program].convolves(record.setting))
    if record.quantity == "peak":
        level, value = record.level, peaks[0].at(record.level, like, table)
    else:
        difference = (
            peaks[0].growth() if record.quantity == "growth" else peaks[0].beyond(peaks[1], level)
        )
        value = bounds.around(difference, like, bounds.PEAK, level, table=table)
    kind = bounds.kind(like, bounds.PEAK, level, several=False)
    return Prediction(record, record.quantity, value, record.resolution, kind)


def _trained(
    record: PublishedFigure, peaks: Found | None, table: bounds.MarginTable | None
) -> Iterator[Outcome]:
    """Yield the predictions of a record of a training step, by the closed form."""
    quantity = record.quantity + (GIVEN if record.given else "")
    reason = record.skip or (None if record.model in origins() else "model not at hand")
    if reason is not None:
        yield Skip(record, quantity, reason)
        return
    try:
        value = TRAINED[record.quantity](record, table)
        kind, like = training.kind(record), training.like(record)
        yield Prediction(record, quantity, value, record.resolution, kind, like)
    except WeighbridgeError as error:
        yield Skip(record, quantity, "refused by our rules", str(error))


TRAINED: Mapping[str, Callable[[PublishedFigure, bounds.MarginTable | None], Bytes]] = {
    "peak": training.peak,
    "first": training.first,
    **dict.fromkeys(("host", *training.PARTS), training.host),
}
TASKS: Mapping[
    str, Callable[[PublishedFigure, Found | None, bounds.MarginTable | None], Iterator[Outcome]]
] = {
    "infer": _formula_outcomes,
    "load": _formula_outcomes,
    "trace": _traced,
    "train": _trained,
}
Reader = Callable[[EngineAnswer, PublishedFigure], Bytes]
WHOLE = ("weights", "buffers")
ROOM: IntervalName = "available_kv_cache_interval"
READERS: Mapping[tuple[str, str], Reader] = {
    ("", "weights"): _part(*WHOLE),
    ("", "load"): _peak,
    ("", "peak"): _peak,
    ("", "decode"): _decoding,
    ("", "context"): _part("context"),
    ("", "kv_bytes"): _part("kv_cache", "recurrent_state"),
    ("", "states"): _part("recurrent_state"),
    ("", "kv_tokens"): _logged("kv_cache_tokens", ROOM),
    ("", "concurrency"): _concurrency,
    ("", "cuda_graphs"): _part("cuda_graphs"),
    ("vllm", "weights"): _logged("model_loading_bytes", "model_loading_interval"),
    ("vllm", "peak"): _logged("serving_bytes", "serving_interval"),
    ("vllm", "activation"): _profiled,
    ("vllm", "non_torch"): _outside_torch,
    ("vllm", "kv_available"): _logged("available_kv_cache_bytes", ROOM),
    ("vllm", "asleep"): _named("weights", ASLEEP),
    ("vllm", "offloaded"): _named("weights", OFFLOADED),
    ("vllm", "kv_blocks"): _logged("num_gpu_blocks", ROOM),
    ("sglang", "weights"): _loaded,
    ("sglang", "kv_bytes"): _named("kv_cache", ""),
    ("sglang", "kv_tokens"): _logged("kv_cache_tokens", "max_total_num_tokens_interval"),
    ("sglang", "kv_tokens_sliding"): _logged(
        "swa_max_total_num_tokens", "swa_max_total_num_tokens_interval"
    ),
    ("ollama", "ps"): _logged("ollama_ps_bytes", "ollama_ps_interval"),
    **{(name, "kv_bytes"): _part("kv_cache") for name in FILES},
    **{(name, "kv_target"): _named("kv_cache", "") for name in FILES},
    **{(name, "compute"): _named("activations", "compute buffer") for name in FILES},
    **{(name, "draft_compute"): _named("activations", DRAFTED) for name in FILES},
    **{(name, "output"): _named("logits", "output buffer") for name in FILES},
}
WHOLE_DEVICES = (_peak, _decoding)  # the devices include their margins
# Figures with an interval of their own beside the devices (estimate/infer.py, TOLD)
TOLD_BESIDE = frozenset(
    (
        *(("vllm", name) for name in ("weights", "kv_available", "activation", "peak")),
        *(("sglang", name) for name in ("kv_tokens", "kv_tokens_sliding")),
        ("ollama", "ps"),
    )
)
COUNTED = (READERS["sglang", "weights"],)
