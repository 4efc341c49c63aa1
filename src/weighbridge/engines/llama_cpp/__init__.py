"""llama.cpp: buffers that are allocated before the first token, on each GPU and on the host.

    infer(subject, workload, budget) -> Answer

rules.py      what changed between builds         setting.py    flags and their defaults
naming.py     checkpoint names to GGUF's          tensors.py    the file's tensors
networks.py   what graphs are built of            placement.py  which device has what
graphs/       the step's graph, by architecture   ggml/         scheduler and graph allocator
compute.py    compute buffers                     held.py       what each device holds
pool.py       CUDA's pool                         projector.py  mmproj
parts.py      the answer's components             fitting.py    what would fit
"""

from collections.abc import Iterator
from typing import Any

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.mixers import Attention, Latent
from weighbridge.engines.llama_cpp import fitting, launching, parts
from weighbridge.engines.llama_cpp.compute import PAIRS
from weighbridge.engines.llama_cpp.graphs import architectures
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.held import Held, as_heads
from weighbridge.engines.llama_cpp.networks import network
from weighbridge.engines.llama_cpp.projector import projector
from weighbridge.engines.llama_cpp.rules import LATENT, NEWEST, Rules, rules
from weighbridge.engines.llama_cpp.setting import Launch, Model, launch
from weighbridge.engines.serving import Answer, Subject
from weighbridge.engines.table import ENGINES, version
from weighbridge.workload import Infer


def infer(subject: Subject, w: Infer, budget: Budget | None) -> Answer:
    """Raises UsageError for settings that llama.cpp refuses."""
    build = number(w.engine_version)
    held = hold(subject, w, budget, build)
    found = projector(subject, w)
    gpus = [parts.gpu(held, subject, d, found) for d in range(held.at.gpus) if used(held, d)]
    return Answer(
        devices=(*gpus, parts.host(held, subject)),
        settings=held.at.to_dict(),
        derived=derived(held, subject, w, budget),
        warnings=tuple(warnings(held, budget)),
    )


def number(text: str | None) -> int:
    """The build. Releases of late 2026 are also called 0.1 and 0.2; those are the newest rules."""
    if text is not None and text.strip().lower().removeprefix("v").startswith("0."):
        return NEWEST
    return version(ENGINES["llama.cpp"], text)[0][0]


def hold(s: Subject, w: Infer, budget: Budget | None, build: int) -> Held:
    net = _network(s)
    if build < LATENT:
        net = as_heads(net)
    at = launch(s, w, budget, rules(build), model(net, s, rules(build)))
    return Held(net=net, at=at, model_type=s.model_type, free=free(budget, at))


def _network(s: Subject) -> Network:
    """Of the model whatever the context: kept for the next question about it."""
    key = (id(s.model), id(s.part), s.choice.name, s.choice.as_stored)
    if key not in _NETWORKS:
        if len(_NETWORKS) > 8:
            _NETWORKS.clear()
        _NETWORKS[key] = (s, network(s))
    return _NETWORKS[key][1]


_NETWORKS: dict[tuple[Any, ...], tuple[Subject, Network]] = {}


def model(net: Network, s: Subject, r: Rules) -> Model:
    pairs = [
        (m.rank + m.rotary, m.rank) if isinstance(m, Latent) else (m.key_dim, m.value_dim)
        for la in net.layers
        for m in la.mixers
        if isinstance(m, Attention | Latent)
    ]
    return Model(
        layers=len(net.layers),
        causal=s.body.causal,
        embeds=s.body.embeds or net.encodes,
        flash=all(pair in PAIRS for pair in pairs),
    )


def free(budget: Budget | None, at: Launch) -> tuple[int, ...]:
    size = budget.usable.expected if budget is not None else 1
    return (size,) * at.gpus


def used(held: Held, device: int) -> bool:
    """GPUs that hold a layer, or compute what the host's tensors are brought for."""
    return held.at.gpu_layers > 0 or held.compute.sizes[device] > 0


def derived(held: Held, s: Subject, w: Infer, budget: Budget | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kv_cache_bytes_per_token": fitting.marginal(held),
        "compute_buffer_bytes": list(held.compute.sizes),
        "graph_nodes": held.compute.nodes,
        "launch": launching.command(s, held.at, w),
    }
    return facts | (fitting.fitting(held, budget) if budget is not None and held.at.gpus else {})


def warnings(held: Held, budget: Budget | None) -> Iterator[str]:
    if budget is None and held.at.gpus:
        yield "without --gpu one GPU is assumed that takes all layers; name one to see what fits"
    if not architectures.known(held.net.arch):
        yield (
            f"llama.cpp's graph of {held.net.arch!r} is not in our tables; its compute buffer is "
            "that of a Llama with the same tensors"
        )
    if held.at.asked_flash == "on" and not held.at.flash:
        yield "flash attention has no CUDA kernel for these heads; it runs on the host"


__all__ = ["infer"]
