"""What a model takes under Ollama: llama.cpp's rules, for the launch that Ollama makes.

infer(subject, workload, budget) -> EngineAnswer
"""

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.engine import version
from weighbridge.engines.interface import EngineAnswer, Probe, SearchPoint, Subject
from weighbridge.engines.interface import HeldBytes as Numbers
from weighbridge.engines.llama_cpp import answering, probing
from weighbridge.engines.llama_cpp.held import DeviceHoldings
from weighbridge.engines.llama_cpp.rules import rules
from weighbridge.engines.llama_cpp.setting import launch
from weighbridge.engines.ollama import ENGINE, launching
from weighbridge.engines.ollama.rules import TIERS, build, usual_context
from weighbridge.engines.ollama.setting import Asked, asked
from weighbridge.engines.ollama.shown import shown
from weighbridge.report_keys import DerivedFacts, EffectiveSettings
from weighbridge.workload import Infer


def infer(subject: Subject, w: Infer, budget: Budget | None) -> EngineAnswer:
    """Raises UsageError for settings that llama-server refuses."""
    number = release(w)
    on = on_server(subject, w, budget)
    held = hold(on, number)
    found = answering.answer(held, on.subject, on.workload, on.budget)
    return replace(
        found,
        settings=settings(found.settings, number),
        derived=derived(found.derived, held, subject, w, on),
        warnings=(*found.warnings, *warnings(subject, w, budget, held)),
    )


def holds(subject: Subject, w: Infer, budget: Budget) -> bool:
    """Whether `infer` would say that it surely fits: for searches."""
    on = on_server(subject, w, budget)
    held = hold(on, release(w))
    return probing.holds(held, on.subject, on.workload, on.budget or budget)


def probe(subject: Subject, w: Infer, budget: Budget) -> Probe:
    """The numbers of `infer` alone, elsewhere: there one card may hold all, or all share it."""
    number, found = release(w), dict[int, Probe]()

    def numbers(at: SearchPoint) -> Numbers | None:
        on = on_server(replace(subject, context=at.context), at.of(w), budget)
        cards = on.budget or budget
        count = cards.choice.count
        if count not in found:
            towers = replace(w, mmproj=on.workload.mmproj)
            found[count] = probing.probe(
                lambda s, v: hold(on_server(s, v, budget), number), subject, towers, cards
            )
        return found[count](at)

    return numbers


def release(w: Infer) -> int:
    """The build of llama.cpp that the release runs."""
    return build(version(ENGINE, w.engine_version)[0])


def on_server(s: Subject, w: Infer, budget: Budget | None) -> Asked:
    return asked(s, w, budget, answering.known_network(s))


def hold(on: Asked, number: int) -> DeviceHoldings:
    s, budget = on.subject, on.budget
    net = answering.known_network(s)
    at = launch(s, on.workload, budget, rules(number), answering.model(net, s))
    return DeviceHoldings(net=net, at=at, model_type=s.model_type, free=answering.free(budget, at))


def settings(of_server: EffectiveSettings, number: int) -> EffectiveSettings:
    """What Ollama has a name for, and the build that runs."""
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
    of_server: DerivedFacts, h: DeviceHoldings, s: Subject, w: Infer, on: Asked
) -> DerivedFacts:
    """The server's facts under Ollama's line, and what `ollama ps` shows."""
    told = of_server.copy()
    told.pop("launch", None)
    told.pop("launch_note", None)
    told.pop("n_cpu_moe_that_fits", None)  # Ollama has no option for it
    return told | shown(h) | launching.facts(s, w, on.workload)


def warnings(s: Subject, w: Infer, budget: Budget | None, h: DeviceHoldings) -> Iterator[str]:
    if s.longest is not None and s.context > s.longest:
        yield f"Ollama lowers num_ctx to the {s.longest:,} tokens that the model was made for"
    if w.parallel and w.parallel > 1 and h.at.slots == 1:
        yield f"Ollama answers {h.net.arch} one request at a time, whatever --parallel says"
    usual = 0 if budget is None else usual_context(memory(budget))
    if usual > s.context:
        yield (
            f"on this machine Ollama gives {min(usual, s.longest or usual):,} tokens by itself; "
            f"OLLAMA_CONTEXT_LENGTH={s.context} is what was sized"
        )


def memory(budget: Budget) -> int:
    """Memory of all cards, as the driver shows it."""
    return budget.choice.count * budget.choice.part.total.bytes.expected


def context(w: Infer, end: int) -> tuple[int, str]:
    """(tokens of a request, why) where a command line leaves them to Ollama."""
    budget = w.budget()
    found = TIERS[-1][1] if budget is None else usual_context(memory(budget))
    return min(found, end), "Ollama's default for the memory of its cards"
