"""Speculative decoding: tokens drafted by a separate draft model, or by the model's MTP layers.

    draft model    its weights, a cache in f16 for as many tokens as the model's, a compute buffer
    MTP            a second context over the model itself: the MTP layers with the matrix that
                   joins two hidden states, their cache in f16, their own compute buffer, in which
                   a layer's queries, keys, values and MLP outputs are alive together; a recurrent
                   state is kept for each draft token, to roll back to. The MTP layers count among
                   those that are split over devices (-ngl, -ts)
    n-grams        no memory of their own

In each case the model computes logits of all draft tokens at once, for every slot.

A server before llama.cpp's contexts were one had a draft context per slot, for that slot's tokens:
as large a cache in all, and that many compute buffers, which is the high bound.

Source: llama-cpp-python 0.3.25 vendor/llama.cpp tools/server/server-context.cpp (load_model),
common/common.h (need_n_rs_seq; n_max 3, size_m 48), src/llama-arch.cpp
(llm_arch_supports_rs_rollback), src/llama-memory-recurrent.cpp, src/models/qwen35.cpp (the MTP
block); llama.cpp #23861 and #23988 (server_n_outputs_max).
"""

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import GGML_BY_NAME, DType
from weighbridge.base.errors import ContradictionError, TriedError, UsageError
from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import align_up
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight, block
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.models.arch.gguf_layers import Keys
from weighbridge.models.arch.mixers import Attention, Latent
from weighbridge.models.arch.predicting import counted

if TYPE_CHECKING:
    from weighbridge.workload import Infer

PROPOSED, OF_NGRAMS = 3, 48  # draft tokens by default (n_max; size_m)
GOES_BACK = ("qwen35", "qwen35moe")  # architectures that keep recurrent states to roll back to
F16, F32 = GGML_BY_NAME["F16"], GGML_BY_NAME["F32"]
KINDS = ("draft", "mtp", "ngram")


@dataclass(frozen=True, kw_only=True)
class DraftHoldings:
    """Bytes that the draft context holds besides the model, per device, the host last."""

    held: DeviceHoldings
    weights: tuple[int, ...]
    what: str
    layer: int = 0  # bytes of an MTP layer's outputs, which are alive together
    copied: int = 0  # bytes of a pipeline's further copies of the mask

    def buffer(self, device: int) -> Bytes:
        """Return the compute buffer's bytes; in older builds the high bound is one per slot."""
        size = self.held.buffer(device)
        if self.layer and size.high:
            more = max(size.expected, self.layer) + self.copied
            size = Bytes(size.low, more, size.high + self.layer + self.copied)
        rules, slots = self.held.launch.rules, self.held.launch.slots
        return size if rules.few_outputs else Bytes(size.low, size.expected, slots * size.high)

    def whole(self, device: int) -> int:
        """Return the most bytes that the draft takes on a device."""
        h = self.held
        return self.weights[device] + h.kv(device) + h.state(device) + self.buffer(device).high


def method(subject: Subject, w: "Infer") -> str:
    """Return the method of drafting, "draft" if a draft model is named, "" without one. Raises
    UsageError for methods that llama.cpp does not have."""
    if w.speculative_method is not None and w.speculative_method not in KINDS:
        raise ContradictionError(
            sentence("speculation.kinds", method=w.speculative_method, known=", ".join(KINDS))
        )
    if w.speculative_method == "draft" and subject.draft is None:
        raise UsageError(sentence("speculation.draft"))
    return w.speculative_method or ("draft" if subject.draft is not None else "")


def proposed(subject: Subject, w: "Infer") -> int:
    """Return the draft tokens at once per slot, 0 without drafting."""
    kind = method(subject, w)
    if not kind or w.num_speculative_tokens is not None:
        return (w.num_speculative_tokens or 0) if kind else 0
    return OF_NGRAMS if kind == "ngram" else PROPOSED


def goes_back(subject: Subject, w: "Infer", net: Network) -> int:
    """Return the recurrent states kept besides the current one: one per MTP draft token, or 0."""
    return proposed(subject, w) if method(subject, w) == "mtp" and net.arch in GOES_BACK else 0


def plain(w: "Infer") -> "Infer":
    """Return the workload that a draft model is launched with: all of it on the devices, a cache in
    f16. Patterns (-ot) apply to the main model only; a draft has its own (-otd), which are not
    supported. Source: llama.cpp 0c1e57098 tools/server/server-context.cpp (load_model sets the
    draft's tensor_buft_overrides to params.speculative's). ik_llama.cpp has no -otd, and its draft
    has the model's patterns, unless it is an MTP file: 8337e4cd3 common/speculative.cpp
    (common_speculative_load_draft_model)."""
    return w.but(
        cache_type_k=None,
        cache_type_v=None,
        kv_cache_dtype=None,
        n_gpu_layers=None,
        n_cpu_moe=None,
        override_tensor=None,
        quantization=None,
        mmproj=None,
        speculative_method=None,
        draft_model=None,
        main_gpu=None,
    )


def of_model(holdings: DeviceHoldings) -> DraftHoldings:
    return DraftHoldings(held=holdings, weights=holdings.weights, what="draft model")


def predicting(subject: Subject, main: DeviceHoldings) -> DraftHoldings:
    """Return the context of the model's MTP layers, on its output's device."""
    if not main.launch.rules.predicts:
        raise TriedError(
            sentence("speculation.mtp_since"),
            seen="llama.cpp b9180 of May 2026 is the first release that loads such layers",
        )
    net = memo(main.net, ("predicting",), lambda: _network(subject, main.net))
    device = main.placed.layer(len(main.net.layers))
    gpus = device < main.launch.gpus
    launch = replace(
        main.launch,
        layers=len(net.layers) + 1,
        gpu_layers=len(net.layers) + 1 if gpus else 0,
        cpu_moe=0,
        split_mode="none",
        main_gpu=device if gpus else 0,
        type_k=F16,
        type_v=F16,
        rollback=0,
        proposed=0,
        rules=replace(main.launch.rules, few_outputs=True),
    )
    holdings = replace(
        main,
        net=net,
        launch=launch,
        draft=None,
        foreign=sentence("mtp_graph"),
    )
    stored = any((block(name) or 0) >= len(main.net.layers) for name in main.net.weights)
    blocks = (t for name, t in net.weights.items() if block(name) is not None)
    nbytes = 0 if stored else sum(align_up(t.nbytes, 128) for t in blocks)  # else with the model's
    return DraftHoldings(
        held=holdings,
        weights=tuple(nbytes * (d == device) for d in range(main.launch.gpus + 1)),
        what="MTP layers",
        layer=F32.size(launch.step_tokens * _outputs(net)),
        copied=F16.size((main.placed.copies - 1) * launch.step_tokens * launch.n_ctx),
    )


def dealt(subject: Subject, launch: LlamaCppLaunch) -> LlamaCppLaunch:
    """Return the launch with the MTP layers counted among those that are split over devices."""
    layers = launch.layers + _count(subject)
    full = launch.gpu_layers >= launch.layers
    return replace(launch, layers=layers, gpu_layers=layers if full else launch.gpu_layers)


def _outputs(net: Network) -> int:
    """Return the elements per token of one layer's outputs: queries with gates, keys, values, the
    MLP's gate, up and their product. Qwen3.8 27B at 2,048 tokens: 520.06 MiB in two logs, of 8,192
    and 32,768 tokens of context."""
    rows = {t.name.split(".", 2)[2]: t for t in net.of_layer(0)}
    projections = sum(rows[f"attn_{n}.weight"].ne[1] for n in "qkv" if f"attn_{n}.weight" in rows)
    fed = sum(
        t.ne[0] * (net.top_k if "_exps" in name else 1)
        for name, t in rows.items()
        if name.startswith("ffn_down")
    )
    return projections + 3 * fed


def _count(subject: Subject) -> int:
    """Return the number of MTP layers that the config or the file's metadata name."""
    metadata = subject.part.config.get("gguf")
    if metadata:
        return Keys(metadata).num("nextn_predict_layers", default=0)
    return counted((subject.raw, subject.text or {})) or 0


def _network(subject: Subject, net: Network) -> Network:
    """Return the MTP layers, each like the last layer with attention over all tokens."""
    count = _count(subject)
    like = next((i for i in reversed(range(len(net.layers))) if _attends(net, i)), None)
    if not count or like is None:
        raise UsageError(sentence("speculation.no_mtp", method="mtp", name=subject.model.name))
    whole = {name: t for name, t in net.weights.items() if block(name) is None}
    copied = {t.name: t for i in range(count) for t in _layer(net, like, i)}
    return replace(net, layers=(net.layers[like],) * count, weights=whole | copied)


def _attends(net: Network, i: int) -> bool:
    return any(
        (isinstance(m, Attention) and m.reach is None) or isinstance(m, Latent)
        for m in net.layers[i].mixers
    )


def _layer(net: Network, like: int, i: int) -> Iterator[Weight]:
    for t in net.of_layer(like):
        yield replace(t, name=f"blk.{i}.{t.name.split('.', 2)[2]}")
    kind = _widest(net.of_layer(like))
    ne = 2 * net.hidden, net.hidden
    yield Weight(f"blk.{i}.nextn.eh_proj.weight", kind, ne, kind.rows(ne[0], prod(ne)))


def _widest(of: tuple[Weight, ...]) -> DType:
    return max(of, key=lambda t: prod(t.ne)).dtype
