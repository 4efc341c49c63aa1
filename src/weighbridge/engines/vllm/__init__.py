"""vLLM (V1): a share of the whole card, of which the cache gets what is left.

    infer(subject, workload, budget) -> Answer

rules.py      what changed between versions          setting.py   flags and their defaults
forward.py    widths of one step                     sampling.py  logits and samplers
encoders.py   images and sounds                      profile.py   the profile run's moments
graphs.py     CUDA graphs                            weights.py   weights as they are held
pool.py       blocks of the cache                    reserve.py   who counts what, and what is left
talking.py    communicators                          hardware.py  what of a GPU matters
growth.py     kernels while it profiles              sleeping.py  what sleep mode frees
parts.py      the answer's components                launching.py the command line
serving.py    flags that make it serve               checks.py    what it refuses, or leaves waiting
"""

from collections.abc import Iterator, Sequence
from typing import Any

from weighbridge.accelerators.budget import Budget
from weighbridge.engines import cards, lines
from weighbridge.engines.caches import vllm as caches
from weighbridge.engines.serving import WOULD, Answer, Serves, Subject
from weighbridge.engines.table import ENGINES, version
from weighbridge.engines.vllm import checks, launching, parts, serving
from weighbridge.engines.vllm.reserve import Reserve
from weighbridge.engines.vllm.rules import rules
from weighbridge.engines.vllm.serving import Launched
from weighbridge.engines.vllm.setting import Launch
from weighbridge.memory import Device
from weighbridge.units import human
from weighbridge.workload import Infer

SPAN = 256  # tokens over which a marginal byte is measured


def infer(subject: Subject, w: Infer, budget: Budget | None) -> Answer:
    """Raises UsageError for settings that the engine refuses."""
    number, _ = version(ENGINES["vllm"], w.engine_version)
    subject = cards.suited(subject, w, budget, "vllm")
    subject = subject.without_towers() if w.language_model_only else subject
    checks.check(subject, w, number)
    own = serving.launched(subject, w, budget, rules(number))
    able = own if budget is None else serving.able(subject, own, budget)
    sized = own if w.engine_defaults or able is None else able  # a command is taken as it is
    return Answer(
        devices=_devices(subject, sized, budget),
        settings=sized.at.to_dict(sized.w) | {"dtype": subject.choice.dtype.name},
        derived=_derived(subject, sized, able, budget) | _served(own, able, budget),
        warnings=(
            *(() if budget is None else _warnings(own, able, budget)),
            *lines.warnings(subject, w, "vllm"),
            *checks.warnings(sized, w),
            *cards.caution(budget, "vllm"),
            *cards.packed_alone(subject, budget, "vllm"),
        ),
        serves=None if budget is None else _serves(subject, own, able, budget),
    )


def _devices(subject: Subject, made: Launched, budget: Budget | None) -> tuple[Device, ...]:
    gpus = (
        Device(
            index=i,
            kind="gpu",
            phases=parts.phases(r, subject, made.at),
            taken=r.taken(budget) if budget else None,
        )
        for i, r in enumerate(made.found)
    )
    return (*gpus, parts.host(subject, made.found, made.at))


def _served(own: Launched, able: Launched | None, budget: Budget | None) -> dict[str, Any]:
    if budget is None:
        return {}
    return {"serves_as_asked": own.serves(budget), "launch_serves": able is not None}


def _serves(subject: Subject, own: Launched, able: Launched | None, budget: Budget) -> Serves:
    """A command is taken as it is; else the launch line is what was sized."""
    alike = own.w.engine_defaults
    judged = own if alike or able is None else able
    surely, lacks = judged.surely(budget), _lacks(judged, budget)
    if able is own or able is None:
        return Serves(surely=surely, lacks=lacks)
    return Serves(
        surely=surely,
        lacks=lacks,
        flags=launching.changes(own.w, able.w),
        change=launching.change(own.w, able.w),
        changed=_devices(subject, able, budget) if alike else (),
        then=able.surely(budget),
    )


def _derived(
    subject: Subject, sized: Launched, able: Launched | None, budget: Budget | None
) -> dict[str, Any]:
    at, found = sized.at, sized.found
    replica = found[: at.tensor * at.pipeline]
    widest = max((r.profiled.total for r in found), key=lambda b: b.expected)
    facts: dict[str, Any] = {
        "dtype_from": subject.why,
        "kv_cache_bytes_per_token": sum(_marginal(r) for r in replica),
        "kv_cache_bytes_per_request": sum(r.blocks.request * r.blocks.pool.block for r in replica),
        "profile_peak_bytes": widest.expected,
        "profile_peak_interval": list(widest),
        "non_torch_bytes": max(r.non_torch.expected for r in found),
        "first_rank": {  # which vLLM's log is about; those above are of the fullest
            "profile_peak_bytes": found[0].profiled.total.expected,
            "profile_peak_interval": list(found[0].profiled.total),
            "non_torch_bytes": found[0].non_torch.expected,
        },
        "cuda_graph_bytes": max(r.captured.taken.expected for r in found),
        "cuda_graph_estimate_bytes": max(r.estimated.expected for r in found),
        **_line(subject, able or sized),
    }
    return facts if budget is None else facts | _of_card(at, found, budget)


def _line(s: Subject, made: Launched) -> dict[str, str]:
    return lines.facts(s, made.w, "vllm", launching.command(s, made.at, made.w))


def _marginal(r: Reserve) -> int:
    """Bytes of one more token of a request."""
    s = r.blocks.setting
    span = min(SPAN, s.context - 1) or 1
    size = caches.content(r.blocks.layers, s).kv
    return (size - caches.content(r.blocks.layers, caches.shorter(s, span)).kv) // span


def _of_card(at: Launch, found: Sequence[Reserve], budget: Budget) -> dict[str, Any]:
    """The rank with the fewest blocks decides for all of a replica."""
    least = min(found, key=lambda r: _blocks(r, budget))
    available = max(0, least.available(budget))
    facts: dict[str, Any] = {
        "available_kv_cache_bytes": available,
        "available_kv_cache_interval": list(least.available_interval(budget)),
        "serving_bytes": max(r.serving(budget) for r in found),
        "serving_interval": list(max(r.serving_interval(budget) for r in found)),
        "gpu_memory_utilization_needed": serving.utilization(found, budget),
    }
    if not least.blocks.pool.groups:
        return facts
    logged = caches.logged_tokens(least.blocks.layers, least.blocks.setting, available)
    return facts | {
        "num_gpu_blocks": least.blocks.pool.count(available),
        "kv_cache_tokens": at.data * logged,
        "max_concurrency": round(at.data * _concurrency(least, available), 2),
    }


def _blocks(r: Reserve, budget: Budget) -> float:
    available = max(0, r.available(budget))
    return r.blocks.pool.count(available) if r.blocks.pool.groups else available


def _concurrency(r: Reserve, available: int) -> float:
    return r.blocks.pool.concurrency(available, r.blocks.setting.load)


def _warnings(own: Launched, able: Launched | None, budget: Budget) -> Iterator[str]:
    if able is not own:
        yield _lacks(own, budget) + _way(own, able, budget)


def _lacks(own: Launched, budget: Budget) -> str:
    """What the flags as they were asked leave no room for; "" where they surely serve."""
    least = min(own.found, key=lambda r: _blocks(r, budget))
    for said in (_refusal(least, budget), _room(least, budget), _nearly(own, least, budget)):
        if said:
            return said
    return ""


def _nearly(own: Launched, r: Reserve, budget: Budget) -> str:
    """What is expected to serve, and may not."""
    if own.surely(budget) == "yes":
        return ""
    if r.given is not None:
        return (
            f"{human(r.given)} of cache were asked for; with all else they take up to "
            f"{human(r.inside.high + r.given + r.outside.high)} of the card"
        )
    low, _, high = r.available_interval(budget)
    return (
        f"vLLM may not start: its share of {r.at.utilization:g} leaves {human(low)} to "
        f"{human(high)} for blocks, of which {human(r.blocks.nbytes)} are needed, and "
        f"{human(r.outside.low)} to {human(r.outside.high)} are outside of it"
    )


def _room(r: Reserve, budget: Budget) -> str:
    """What there is no room for."""
    room = max(0, r.available(budget))
    if r.available(budget) < 0:
        return (
            f"vLLM will not start: weights, the profile run and graphs take "
            f"{human(r.inside.expected)}, and its share, {r.at.utilization:g} of the card, is "
            f"{human(r.requested(budget))}"
        )
    if r.given is not None and r.taken(budget) > budget.usable.expected:
        return (
            f"{human(r.given)} of cache were asked for, and with all else they take "
            f"{human(r.taken(budget))} of the {human(budget.usable.expected)} that a process has"
        )
    if room >= r.blocks.nbytes:
        return ""
    if room < r.blocks.request * r.blocks.pool.block:
        return (
            f"vLLM will not start: one request of {r.at.context:,} tokens takes "
            f"{human(r.blocks.request * r.blocks.pool.block)} of blocks, and "
            f"{human(room)} are left for them"
        )
    return (
        f"{r.at.requests:,} requests of {r.at.context:,} tokens do not run at once: there is room "
        f"for {_concurrency(r, room):.2f}; the others wait"
    )


def _refusal(r: Reserve, budget: Budget) -> str:
    if not serving.refused(r, budget):
        return ""
    refuses = "refuses" if serving.refused(r, budget, serving.BEST) else "may refuse"
    return (
        f"--gpu-memory-utilization {r.at.utilization:g} asks for {human(r.requested(budget))}, and "
        f"{human(serving.at_start(r, budget))} are free once the context is there: vLLM {refuses}"
    )


def _way(own: Launched, able: Launched | None, budget: Budget) -> str:
    if able is None:
        return "; no flags that were left to vLLM would do"
    changes, would = launching.changes(own.w, able.w), WOULD[able.surely(budget)]
    return f"; the launch line asks for {changes}, which {would} do"
