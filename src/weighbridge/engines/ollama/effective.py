"""From a question to the launch of llama-server that Ollama makes of it.

-c             num_ctx x OLLAMA_NUM_PARALLEL, at most the model's maximum
-np            OLLAMA_NUM_PARALLEL: 1, or the concurrent requests of the question
-b, -ub        num_batch, both
-ngl           num_gpu, if it is set
--split-mode   none, and the card with most room, if one holds all
--mmproj       an encoder that the tag has

Before 0.30 there was no such server, and its runners got the same settings (`of_runner`).
"""

from typing import TYPE_CHECKING

from weighbridge.base.records import dataclass, replace
from weighbridge.engines.engine import Version, version
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.ollama import ENGINE, rules
from weighbridge.engines.ollama.layer_formula import ELEMENTS, Placed, Reckoned, place
from weighbridge.engines.ollama.rules import (
    ALONE,
    BATCH,
    BATCHES,
    FILLED,
    FLASH_SINCE,
    LEAST,
    LEAST_SEEING,
    LONG,
    NO_FLASH,
    OF_VECTORS,
    SMALL,
    WITHOUT_FLASH,
)
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.models.arch.mixers import Attention

if TYPE_CHECKING:
    from weighbridge.workload import Infer

TEXT_ALONE = "Gemma3n"  # classes loaded without encoders: convert/convert_gemma3n.go


@dataclass(frozen=True, slots=True)
class Asked:
    """The model, workload and cards as llama-server gets them."""

    subject: Subject
    workload: "Infer"
    budget: Budget | None


def asked(
    subject: Subject, w: "Infer", budget: Budget | None, net: Network, release: Version
) -> Asked:
    if not rules.ollama_rules(release).own_server:
        return of_runner(subject, w, budget, net, release)
    slots = parallel(subject, w, net)
    context = num_ctx(subject)
    size = batch(subject, w, budget, net, slots)
    workload = w.but(
        program="server",
        context=context,
        parallel=slots,
        n_batch=size,
        ubatch_size=size,
        flash_attn=flash_attention(w, budget),
    )
    alone = placed(w, budget, predicted(net, context * slots))
    return _on_cards(subject, workload, budget, alone)


def _on_cards(subject: Subject, w: "Infer", budget: Budget | None, alone: int | None) -> Asked:
    """Return the launch on its cards; `alone` is the index of the card that holds all."""
    if alone is not None and budget is not None and not budget.mixed:  # other cards are hidden
        budget, alone = replace(budget, choice=replace(budget.choice, count=1)), None
    workload = w.but(
        split_mode="layer" if alone is None else "none",
        main_gpu=alone,
        n_gpu_layers=-1 if w.n_gpu_layers is None else w.n_gpu_layers,  # not the build's default
        no_mmap=w.no_mmap or w.n_gpu_layers == 0,
        mmproj_auto=not w.mmproj and _has_tower(subject),
    )
    return Asked(replace(subject, context=w.context or subject.context), workload, budget)


def _has_tower(subject: Subject) -> bool:
    """Return whether a model from a checkpoint, or with a tag, has an encoder."""
    converted = subject.part.library != "gguf" and not subject.part.blueprint.cls.startswith(
        TEXT_ALONE
    )
    return bool(subject.body.towers) and converted


# Before 0.30


def of_runner(
    subject: Subject, w: "Infer", budget: Budget | None, net: Network, release: Version
) -> Asked:
    """Return the launch before 0.30. A batch is 512 tokens, whatever the context. llama.cpp's C
    interface keeps whole windows; Ollama's own runner lets them slide."""
    context = num_ctx(subject)
    flash = rules.flash_attention_before(net.arch, release, _flash_asked(w, budget))
    workload = w.but(
        program="server",
        context=context,
        n_batch=w.n_batch or min(rules.BATCH_BEFORE, context),
        ubatch_size=w.n_batch or min(rules.BATCH_BEFORE, context),
        flash_attn=flash,
        kv_cache_dtype=w.kv_cache_dtype if flash == "on" else None,
        swa_full=not rules.own_runner(net.arch, release),
        cache_ram=0,
    )
    slots = _tried(subject, workload, budget, net, release)
    workload = workload.but(parallel=slots)
    return _on_cards(subject, workload, budget, _alone(workload, budget, net))


def _flash_asked(w: "Infer", budget: Budget | None) -> str | None:
    unable = budget is not None and budget.choice.part.capability == NO_FLASH
    return "off" if unable else w.flash_attn


def reckoned(w: "Infer", net: Network, slots: int) -> Reckoned:
    """Return the inputs of the formula of old releases."""
    return Reckoned(
        net=net,
        context=(w.context or 0) * slots,
        parallel=slots,
        element=ELEMENTS.get(w.kv_cache_dtype or "", 2),
        flash=w.flash_attn == "on",
        release=version(ENGINE, w.engine_version)[0],
    )


def by_formula(w: "Infer", budget: Budget, net: Network, slots: int, count: int = 0) -> Placed:
    """Return the layers placed by Ollama's own formula on `count` cards, or on all of them."""
    rooms = tuple(budget.of(d).expected for d in range(count or budget.choice.count))
    most = -1 if w.n_gpu_layers is None else w.n_gpu_layers
    return place(reckoned(w, net, slots), rooms, metal=budget.choice.part.stack == "own", most=most)


def _tried(
    subject: Subject, w: "Infer", budget: Budget | None, net: Network, release: Version
) -> int:
    """Return the concurrent requests: the user's, else the first number that fits the cards."""
    if subject.body.embeds or not subject.body.causal or net.arch in ALONE:
        return 1
    if w.parallel or w.batch_size:
        return w.parallel or w.batch_size or 1
    tries = rules.ollama_rules(release).tries
    if budget is None:
        return tries[0]
    whole = len(net.layers) + 1
    fit = (n for n in tries if sum(by_formula(w, budget, net, n).layers) >= whole)
    return next(fit, 1)


def _alone(w: "Infer", budget: Budget | None, net: Network) -> int | None:
    """Return the index of the card that holds all by the formula; None without one."""
    if w.main_gpu is not None or budget is None or budget.choice.count == 1:
        return w.main_gpu
    one = by_formula(w, budget, net, w.parallel or 1, count=1)
    return 0 if w.split_mode != "layer" and sum(one.layers) > len(net.layers) else None


# Since 0.30


def parallel(subject: Subject, w: "Infer", net: Network) -> int:
    """Return the server's slots; embedding models and some architectures have one."""
    if subject.body.embeds or not subject.body.causal or net.arch in ALONE:
        return 1
    return w.parallel or w.batch_size or 1


def num_ctx(subject: Subject) -> int:
    """Return the tokens per slot."""
    least = LEAST_SEEING if subject.body.towers else LEAST
    return min(max(subject.context, least), subject.longest or subject.context)


def flash_attention(w: "Infer", budget: Budget | None) -> str:
    """Return OLLAMA_FLASH_ATTENTION; if unset, auto if the cards support it."""
    if w.flash_attn:
        return w.flash_attn
    capability = None if budget is None else budget.choice.part.capability
    return (
        "auto"
        if capability is None or (capability >= FLASH_SINCE and capability != NO_FLASH)
        else "off"
    )


def predicted(net: Network, tokens: int) -> int:
    """Return Ollama's own estimate: the file, and 16-bit keys and values of every layer."""
    heads = [m for la in net.layers for m in la.mixers if isinstance(m, Attention)]
    every = len(heads) >= len(net.layers)
    shared = min((m.kv_heads for m in heads), default=1) if every else 1
    width = net.hidden // max((m.heads for m in heads), default=net.hidden or 1)
    file = sum(t.nbytes for t in net.weights.values())
    return file + 4 * len(net.layers) * shared * width * tokens


def placed(w: "Infer", budget: Budget | None, needed: int) -> int | None:
    """Return the index of the card that holds all; None if layers are split. `split_mode` "layer"
    is OLLAMA_SCHED_SPREAD."""
    if w.main_gpu is not None:
        return w.main_gpu
    if budget is None or budget.choice.count == 1 or w.split_mode == "layer":
        return None
    rooms = [budget.of(d).expected for d in range(budget.choice.count)]
    best = max(range(len(rooms)), key=lambda d: rooms[d])
    return best if needed <= rooms[best] * FILLED // 100 else None


def batch(subject: Subject, w: "Infer", budget: Budget | None, net: Network, slots: int) -> int:
    """Return num_batch, which is both the logical and the physical batch."""
    context = num_ctx(subject)
    if w.n_batch is not None:
        return w.n_batch
    if subject.body.embeds or not subject.body.causal:
        return min(OF_VECTORS, context)
    cuda = budget is not None and budget.choice.part.stack == "cuda"
    if budget is not None and cuda and flash_attention(w, budget) == "off":
        small = budget.usable.expected <= SMALL and context * slots > LONG
        return WITHOUT_FLASH if small else BATCH
    return _automatic(context * slots, predicted(net, context * slots), _room(w, budget))


def _room(w: "Infer", budget: Budget | None) -> int:
    """Return the free bytes of all cards; 0 if unknown."""
    if budget is None:
        return 0
    if w.main_gpu is not None:
        return budget.of(w.main_gpu).expected
    return sum(budget.of(d).expected for d in range(budget.choice.count))


def _automatic(tokens: int, needed: int, room: int) -> int:
    for beyond, size, most, cost in BATCHES:
        fits = not room or (needed <= room * most // 100 and needed + cost <= room * FILLED // 100)
        if tokens > beyond and fits:
            return size
    return BATCH
