"""Memory that ik_llama.cpp allocates for a workload: llama.cpp's answer with rules of its own."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.engine import version
from weighbridge.engines.ik_llama_cpp import ENGINE
from weighbridge.engines.ik_llama_cpp.rules import Defaults, ik_rules
from weighbridge.engines.interface import EngineAnswer, Fits, PlacedWay, Probe, Subject
from weighbridge.engines.llama_cpp import placing, search
from weighbridge.engines.llama_cpp.answers import answer, free, known_network, model
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch, ModelTraits, launch
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.engines.llama_cpp.networks import all_heads, complete
from weighbridge.engines.llama_cpp.rules import LlamaCppRules
from weighbridge.machines.accelerators.budget import Budget

if TYPE_CHECKING:
    from weighbridge.workload import Infer


def infer(subject: Subject, w: "Infer", budget: Budget | None) -> EngineAnswer:
    """Return the memory of a workload. Raises UsageError for settings that ik_llama.cpp refuses."""
    build = number(w)

    def laid_out(asked: "Infer") -> DeviceHoldings:
        return hold(subject, asked, budget, build)

    def held(asked: "Infer") -> bool:
        return budget is not None and holds(subject, asked, budget)

    return placing.helped(answer(laid_out(w), subject, w, budget), laid_out, held, w, budget)


def holds(subject: Subject, w: "Infer", budget: Budget) -> bool:
    """Return whether `infer` would find that the workload surely fits: for searches."""
    return search.holds(hold(subject, w, budget, number(w)), subject, w, budget)


def probe(subject: Subject, w: "Infer", budget: Budget) -> Probe:
    """Return a probe of other settings, which gives only the bytes of `infer`'s answer."""
    build = number(w)
    return search.probe(lambda s, v: hold(s, v, budget, build), subject, w, budget)


def places(subject: Subject, w: "Infer", budget: Budget, fits: Fits) -> Iterator[PlacedWay]:
    """Yield splits of the model over cards and host memory: those that `fits` accepts, if any."""
    build = number(w)
    yield from placing.ways(
        lambda v: hold(subject, v, budget, build),
        lambda v: holds(subject, v, budget),
        fits,
        w,
        budget,
    )


def number(w: "Infer") -> int:
    return version(ENGINE, w.engine_version)[0][0]


def hold(subject: Subject, w: "Infer", budget: Budget | None, build: int) -> DeviceHoldings:
    net = known_network(subject)
    settings = ik_launch(
        subject, w, budget, ik_rules(build), model(net, subject), latent=net.latent
    )
    net = complete(net) if settings.latent_mode else all_heads(net)
    holdings = DeviceHoldings(
        net=net, launch=settings, model_type=subject.model_type, free=free(budget, settings)
    )
    if settings.rules.names_end_mmap and holdings.placed.names_host:
        return replace(holdings, launch=replace(settings, mmap=False))
    return holdings


__all__ = ["holds", "infer", "places", "probe"]


# The launch: llama.cpp's effective settings, and those of ik_llama.cpp

MODES = (0, 1, 2, 3)


def ik_launch(
    subject: Subject,
    w: "Infer",
    budget: Budget | None,
    rules: tuple[LlamaCppRules, Defaults],
    traits: ModelTraits,
    *,
    latent: bool,
) -> LlamaCppLaunch:
    common, defaults = rules
    mode = defaults.latent_mode if w.mla_attn is None else w.mla_attn
    if mode not in MODES:
        raise UsageError(sentence("mla_modes", mode=mode, known=", ".join(map(str, MODES))))
    return replace(
        launch(subject, w, budget, common, traits),
        forked=True,
        latent_mode=mode if latent and mode else None,
        largest_batch=defaults.largest_batch if w.attn_max_b is None else w.attn_max_b,
        repacks=w.run_time_repack,
        mmap=not (w.no_mmap or w.run_time_repack),
        fused_experts=defaults.fused_experts if w.fused_moe is None else w.fused_moe,
    )
