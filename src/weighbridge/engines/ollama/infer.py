"""Memory of a model under Ollama: llama.cpp's rules, for the launch that Ollama makes.

Before 0.30 its runners get that launch; the compute buffer of Ollama's own runner is an interval
around llama.cpp's.

infer(subject, workload, budget) -> EngineAnswer

What `ollama ps` shows of a loaded model: its size, and where it is.

    SIZE         buffers in llama-server's log, of weights, caches, states, computing and outputs:
                 only the GPUs' if all layers are there. Of two caches per device it keeps the
                 second, that of windows: 22 GB of Gemma 4 31B, not 44 (ollama#16763). Before 0.30
                 all buffers, the host's too, and with its own runner the encoders
    PROCESSOR    100% GPU, 100% CPU, or the parts of both in whole percent

Source: ollama fb30760 llm/llama_server.go (MemorySize, bufferSizeRegex, memoryBufferKey),
cmd/cmd.go (ListRunningHandler), format/bytes.go (HumanBytes); v0.21.0 llm/server.go (MemorySize).
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

from weighbridge.base.memory import Device
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.engine import Version, version
from weighbridge.engines.interface import EngineAnswer, Probe, SearchPoint, Subject
from weighbridge.engines.interface import HeldBytes as Numbers
from weighbridge.engines.llama_cpp import answers, search
from weighbridge.engines.llama_cpp.effective import launch
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.engines.llama_cpp.networks import as_heads
from weighbridge.engines.ollama import ENGINE, launching, rules
from weighbridge.engines.ollama.effective import Asked, asked, by_formula
from weighbridge.engines.ollama.layer_formula import Placed
from weighbridge.engines.ollama.rules import build, usual_context
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings

if TYPE_CHECKING:
    from weighbridge.workload import Infer

UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def infer(subject: Subject, w: "Infer", budget: Budget | None) -> EngineAnswer:
    """Return the answer. Raises UsageError for settings that llama-server refuses."""
    on = on_server(subject, w, budget)
    h = hold(on)
    answer = answers.answer(h, on.subject, on.workload, on.budget)
    return replace(
        answer,
        settings=settings(answer.settings, release(w)),
        derived=derived(answer, h, subject, w, on),
        divisions=tuple(_divisions(answer.devices, h, w, on)),
        warnings=(*answer.warnings, *warnings(subject, w, budget, h, on)),
    )


def holds(subject: Subject, w: "Infer", budget: Budget) -> bool:
    """Return whether `infer` would say that it surely fits: for searches."""
    on = on_server(subject, w, budget)
    h = hold(on)
    return search.holds(h, on.subject, on.workload, on.budget or budget)


def probe(subject: Subject, w: "Infer", budget: Budget) -> Probe:
    """Return a probe of `infer`'s bytes, for searches; one card may hold all, or all share it."""
    probes = dict[int, Probe]()

    def numbers(point: SearchPoint) -> Numbers | None:
        on = on_server(replace(subject, context=point.context), point.of(w), budget)
        cards = on.budget or budget
        count = cards.choice.count
        if count not in probes:
            towers = w.but(mmproj_auto=on.workload.mmproj_auto)
            probes[count] = search.probe(
                lambda s, v: hold(on_server(s, v, budget)), subject, towers, cards
            )
        return probes[count](point)

    return numbers


def release(w: "Infer") -> int:
    """Return the build of llama.cpp that the release runs."""
    return build(number(w))


def number(w: "Infer") -> Version:
    return version(ENGINE, w.engine_version)[0]


def on_server(subject: Subject, w: "Infer", budget: Budget | None) -> Asked:
    return asked(subject, w, budget, answers.known_network(subject), number(w))


def hold(on: Asked) -> DeviceHoldings:
    s, w, budget = on.subject, on.workload, on.budget
    net, since = answers.known_network(s), number(w)
    computed_by_ollama = rules.own_runner(net.arch, since)
    known = answers.on_device(net, build(since), budget)
    known = replace(known, leaves=0, windows=known.windows or computed_by_ollama)
    if not known.latents:
        net = as_heads(net)
    settings = launch(s, w, budget, known, answers.model(net, s))
    if computed_by_ollama:  # ml/backend/ggml/ggml.go: no pipeline of devices
        settings = replace(settings, copies=1, rollback=rules.checkpoints(since))
    free = answers.free(budget, settings)
    why = sentence("own_runner", kind=net.arch) if computed_by_ollama else ""
    return DeviceHoldings(net=net, launch=settings, model_type=s.model_type, free=free, foreign=why)


def settings(of_server: EffectiveSettings, number: int) -> EffectiveSettings:
    """Return the server's settings that Ollama has names for, and the llama.cpp build."""
    return {
        "context": of_server["context"],
        "batch_size": of_server["batch_size"],
        "parallel": of_server["parallel"],
        "n_batch": of_server["ubatch_size"],
        "flash_attn": of_server["flash_attn"],
        "kv_cache_dtype": of_server["cache_type_k"],
        "n_gpu_layers": of_server["n_gpu_layers"],
        "split_mode": of_server["split_mode"],
        "main_gpu": of_server["main_gpu"],
        "no_mmap": of_server["no_mmap"],
        "n_ctx": of_server["n_ctx"],
        "llama_cpp_build": number,
    }


def derived(
    of_server: EngineAnswer, holdings: DeviceHoldings, subject: Subject, w: "Infer", on: Asked
) -> DerivedFacts:
    """Return the server's facts with Ollama's launch line, and what `ollama ps` shows."""
    facts = of_server.derived.copy()
    facts.pop("launch", None)
    facts.pop("launch_note", None)
    facts.pop("n_cpu_moe_that_fits", None)  # Ollama has no option for it
    cards = w.budget()
    usual = None if cards is None else usual_context(memory(cards), number(w))
    if usual is not None and subject.longest is not None:
        usual = min(usual, subject.longest)
    line = launching.facts(subject, w, on.workload, usual=usual)
    return facts | _shown(of_server.devices, holdings, w, on) | line


def _shown(
    devices: Sequence[Device], holdings: DeviceHoldings, w: "Infer", on: Asked
) -> DerivedFacts:
    """Return what `ollama ps` shows: in old releases the formula's estimate, not real buffers."""
    placed = estimated(holdings, w, on)
    if placed is not None:
        return shown_as(placed.size, placed.on_cards)
    if rules.ollama_rules(number(w)).own_server:
        return shown(holdings)
    towers = _towers(devices) if holdings.foreign else 0
    return shown_as(*sizes_before(holdings, towers))


def _towers(devices: Sequence[Device]) -> int:
    """Return the bytes of encoder weights, which Ollama's own runner counts to the model."""
    loaded = (c for device in devices for c in device.phases[0].components)
    return sum(c.bytes.expected for c in loaded if (c.name, c.detail) == ("weights", "mmproj"))


def _divisions(
    devices: Sequence[Device], holdings: DeviceHoldings, w: "Infer", on: Asked
) -> Iterator[Mapping[str, int]]:
    """Yield the numbers of layers that Ollama leaves on the cards by itself, the most first: by the
    formula of old releases, else those that fit beside an encoder and the margin for its buffers
    (llm/llama_server.go, mmprojFitTargetMiB)."""
    if w.n_gpu_layers is not None:
        return
    placed = estimated(holdings, w, on)
    if placed is None:
        towers = _towers(devices)
        left = towers + rules.HEADROOM if towers else 0
        yield from answers.divisions(holdings, on.budget, apart=False, tower=left)
    elif sum(placed.layers) < holdings.launch.layers:
        yield {"n_gpu_layers": sum(placed.layers)}


def estimated(holdings: DeviceHoldings, w: "Infer", on: Asked) -> Placed | None:
    """Return the layers placed by old releases' formula; None if real buffers decide."""
    since, cards = number(w), on.budget
    old = rules.ollama_rules(since)
    formula = old.own_formula if rules.own_runner(holdings.net.arch, since) else old.formula
    if not formula or cards is None:
        return None
    return by_formula(on.workload, cards, holdings.net, holdings.launch.slots)


def warnings(
    subject: Subject, w: "Infer", budget: Budget | None, holdings: DeviceHoldings, on: Asked
) -> Iterator[str]:
    placed = estimated(holdings, w, on)
    if placed is not None and sum(placed.layers) < holdings.launch.gpu_layers:
        yield sentence(
            "ollama_estimate",
            version=w.engine_version,
            size=human(placed.size),
            kept=sum(placed.layers),
            all=holdings.launch.layers,
        )
    if w.kv_cache_dtype and not on.workload.kv_cache_dtype:
        form = w.kv_cache_dtype.lower()
        yield sentence("ollama_drops", version=w.engine_version, form=form, kind=holdings.net.arch)
    if subject.longest is not None and (w.context or 0) > subject.longest:
        yield sentence("ollama_lowers", tokens=subject.longest)
    if w.parallel and w.parallel > 1 and holdings.launch.slots == 1:
        yield sentence("ollama_alone", kind=holdings.net.arch)
    usual = 0 if budget is None else usual_context(memory(budget), number(w))
    usual = min(usual, subject.longest or usual)
    if usual > subject.context:
        yield sentence(
            "ollama_context",
            tokens=usual,
            context=subject.context,
        )


def memory(budget: Budget) -> int:
    """Return the total bytes of all cards, as the driver shows it."""
    return budget.choice.count * budget.choice.part.total.bytes.expected


def context(w: "Infer", end: int) -> tuple[int, str]:
    """Return (tokens per request, reason) if a command line leaves the context to Ollama."""
    budget = w.budget()
    tokens = usual_context(0 if budget is None else memory(budget), number(w))
    return min(tokens, end), "Ollama's default for the memory of its cards"


# What `ollama ps` shows


def shown(holdings: DeviceHoldings) -> DerivedFacts:
    """Return the two columns, and their bytes."""
    return shown_as(*sizes(holdings))


# Factors of the size: eight published ones, of 0.21 to 0.34, were 0.912 to 1.084 of it, one model
# by two releases both; a ninth, on Windows, was 0.80
SHOWN = 0.91, 1.085


def shown_as(size: int, on_gpus: int) -> DerivedFacts:
    low, high = SHOWN
    return {
        "ollama_ps_bytes": size,
        "ollama_ps_interval": [int(low * size), size, ceil(high * size)],
        "ollama_ps": f"{human(size)}, {processor(size, on_gpus)}",
    }


def sizes(holdings: DeviceHoldings) -> tuple[int, int]:
    """Return (bytes of all buffers, those on GPUs), of two caches per device only the second."""
    on_gpus = sum(_counted(holdings, d) for d in range(holdings.launch.gpus))
    if holdings.placed.full:
        return on_gpus, on_gpus
    return on_gpus + _counted(holdings, holdings.launch.gpus) + holdings.output, on_gpus


def _counted(holdings: DeviceHoldings, device: int) -> int:
    caches_of = holdings.caches[device]
    twice = caches_of[""].kv if caches_of["sliding"].kv else 0
    return holdings.whole(device) - twice


def sizes_before(holdings: DeviceHoldings, towers: int) -> tuple[int, int]:
    """Return the same before 0.30: if no layer is on the host, all is on the GPUs."""
    on_gpus = towers + sum(holdings.whole(d) for d in range(holdings.launch.gpus))
    whole = on_gpus + holdings.whole(holdings.launch.gpus)
    return whole, whole if holdings.placed.full else on_gpus


def processor(size: int, on_gpus: int) -> str:
    if not on_gpus:
        return "100% CPU"
    if on_gpus >= size:
        return "100% GPU"
    host = round((size - on_gpus) / size * 100)
    return f"{host}%/{100 - host}% CPU/GPU"


def human(nbytes: int) -> str:
    """Return a size in decimal units, truncated to whole ones from ten on."""
    scale, unit = next(((s, u) for s, u in UNITS if nbytes >= s), (1, "B"))
    value = nbytes / scale
    return f"{value:.1f} {unit}" if value < 10 and value % 1 else f"{int(value)} {unit}"
