"""MLPs as programs: dense, and experts of which each token uses a few.

    gated      gate, its activation, up, their product: three of width F at once
    fused      one tensor of 2 F, the activation, the product
    plain      one of width F, its activation
    experts    since 5: tokens are gathered k times, all experts at once (grouped_mm); in decode
               each token with copies of the matrices of its experts (batched_mm); before: a loop
               over experts, each with its tokens
    repeated   gpt-oss and Qwen3-VL-MoE before 5: in inference every expert processes every token
    Llama 4    in all versions every expert processes every token, times 0 if it was not chosen

Source: transformers 5.23 integrations/moe.py (grouped_mm_experts_forward,
batched_mm_experts_forward), generation/utils.py (_optimize_model_for_decode); 4.57
models/qwen3_moe/modeling_qwen3_moe.py, models/gpt_oss/modeling_gpt_oss.py (GptOssExperts),
models/qwen3_vl_moe/modeling_qwen3_vl_moe.py (Qwen3VLMoeTextExperts); models/llama/modeling_llama.py
(LlamaMLP); 5.23 and 4.57 models/llama4/modeling_llama4.py (Llama4TextMoe, Llama4TextExperts).
"""

from collections.abc import Sequence
from typing import assert_never

from weighbridge.base.units import ceil_div
from weighbridge.engines.transformers.step import ForwardStep, linear
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.models.arch.body import Dense, Experts, Feed


def feed(heap: Heap, step: ForwardStep, feed: Feed) -> LiveTensor:
    """Return the MLP's output, as wide as the model; the input belongs to the caller."""
    match feed:
        case Dense():
            return dense(heap, step, feed)
        case Experts():
            return experts(heap, step, feed)
        case _:
            assert_never(feed)


def _inputs(step: ForwardStep, feed: Feed) -> int:
    return feed.inputs or step.hidden


def dense(
    heap: Heap, step: ForwardStep, dense: Dense, read: Sequence[LiveTensor] = ()
) -> LiveTensor:
    """Return the output; without a gate, the tensors in `read` are freed on the way."""
    wide = step.wide(dense.width)
    if dense.gated and dense.fused:
        both = linear(heap, step, _inputs(step, dense), 2 * dense.width)
        active = activated(heap, step, wide)
        output = heap.into(wide, active)
        made_from = [both, output]
    elif dense.gated:
        gate = linear(heap, step, _inputs(step, dense), dense.width)
        active = activated(heap, step, wide)
        heap.drop(gate)
        up = linear(heap, step, _inputs(step, dense), dense.width)
        made_from = [heap.into(wide, active, up)]
    else:
        up = linear(heap, step, _inputs(step, dense), dense.width)
        heap.drop(*read)
        read = ()
        active = activated(heap, step, wide)
        heap.drop(up)
        made_from = [active]
    out = linear(heap, step, dense.width, _inputs(step, dense))
    heap.drop(*made_from, *read)
    return out


def activated(heap: Heap, step: ForwardStep, nbytes: int) -> LiveTensor:
    """Return the activation's output beside its input, which the caller frees."""
    several = heap.all([nbytes] * step.style.several, "activations")
    out = heap.take(nbytes)
    heap.drop(*several)
    return out


def experts(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    if step.style.every_expert:
        return _everywhere(heap, step, experts)
    first = experts.shared and step.style.shared_first and step.rules.stacked_experts
    beside = [_shared(heap, step, experts)] if first else []
    chosen = _routed(heap, step, experts)
    stacked = step.rules.stacked_experts and not step.style.looped_experts
    run = _grouped if stacked else _looped
    if step.style.sorted_experts and not stacked:
        run = _sorted
    if step.style.repeated_experts and not step.rules.stacked_experts and step.packed is None:
        run = _repeated
    if step.rules.batched_experts and stacked and not step.prompt and step.packed is None:
        run = _batched
    if step.style.expert_attention:  # JetMoE's own in every release
        run = _sorted
    out = run(heap, step, experts)
    if experts.shared:
        beside = beside or [_shared(heap, step, experts)]
        out = heap.into(step.wide(step.hidden), out, *beside)
    heap.drop(*chosen)
    return out


def _shared(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    """Return the output of the shared experts, which process all tokens."""
    return dense(heap, step, Dense(width=experts.shared, gated=experts.gated))


def _everywhere(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    """Return the output if all tokens go through every expert, times its scores, in two products.
    The shared expert runs beside them, and their sum is added to its output in place."""
    rows = step.rows * experts.count
    hidden, wide = rows * _inputs(step, experts) * step.size, rows * experts.width * step.size
    logits, filled = heap.take(step.wide(experts.count)), heap.take(step.wide(experts.count))
    sigmoid = heap.into(4 * rows, heap.take(4 * rows), filled)
    scores = heap.into(step.wide(experts.count), sigmoid)
    repeated = heap.take(hidden)
    column = heap.take(rows * step.size)
    routed = heap.into(hidden, repeated, column)
    both = heap.take(2 * wide if experts.gated else wide)
    product = heap.into(wide, heap.take(wide)) if experts.gated else heap.take(wide)
    output = heap.into(hidden, both, product)
    out = _shared(heap, step, experts) if experts.shared else None
    total = heap.into(step.wide(step.hidden), output, routed)
    heap.drop(logits, scores)
    if out is None:
        return total
    heap.drop(total)
    return out


def _routed(heap: Heap, step: ForwardStep, experts: Experts) -> tuple[LiveTensor, ...]:
    """Return the router's tensors: logits, their float32 softmax, the top_k with their indices."""
    logits = heap.take(step.wide(experts.count))
    soft = heap.take(4 * step.rows * experts.count)
    weights = heap.take(4 * step.rows * experts.top_k)
    numbers = heap.take(8 * step.rows * experts.top_k)
    heap.drop(soft)
    cast = heap.into(step.wide(experts.top_k), weights)
    return logits, cast, numbers


def _grouped(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    """Return the output of all experts in one product: each token k times, sorted by expert."""
    pairs = step.rows * experts.top_k
    order = heap.all((8 * pairs, 8 * pairs), "activations")
    hidden, wide = pairs * _inputs(step, experts) * step.size, pairs * experts.width * step.size
    gathered = heap.take(hidden)
    weights = heap.take(pairs * step.size)
    biases = heap.take(2 * wide if step.style.clamped else 0)
    up = heap.take((2 if experts.gated else 1) * wide)
    active = heap.take(wide)
    if step.style.clamped:
        heap.passing(*[wide] * 4)  # both halves, clamped; the gate's sigmoid, and the other half
    elif experts.gated:
        product = heap.take(wide)
        heap.drop(active)
        active = product
    heap.drop(up, biases)
    down = heap.into(hidden, active)
    wider = hidden * 4 // step.size if step.style.float_routes else hidden
    weighted = heap.take(wider)
    numbers = heap.all((8 * pairs, 8 * pairs), "activations")
    back = heap.into(wider, weighted)
    out = heap.take(step.wide(step.hidden) * wider // hidden)
    heap.drop(gathered, weights, down, back, *numbers, *order)
    return heap.into(step.wide(step.hidden), out)


def _batched(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    """Return the output of each token's experts as batched products over gathered weights. Both
    gathered copies live together while the second is made."""
    pairs = step.rows * experts.top_k
    matrix = pairs * _inputs(step, experts) * experts.width * step.size
    gathered = heap.take(pairs * _inputs(step, experts) * step.size)
    up = heap.take((2 if experts.gated else 1) * matrix)
    wide = heap.take(pairs * experts.width * step.size)
    down = heap.take(matrix)
    heap.drop(up, wide)
    out = heap.into(step.wide(_inputs(step, experts)), gathered)
    heap.drop(down)
    return out


def _repeated(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    """Return the output of two batched products, each token per expert; variables live on."""
    rows = step.rows * experts.count * step.size
    hidden, wide = rows * _inputs(step, experts), rows * experts.width
    repeated, both = heap.take(hidden), heap.take(2 * wide)
    if step.style.clamped:
        both = heap.into(2 * wide, both)
        halves = heap.all((wide, wide), "activations")
        sigmoid = heap.into(wide, heap.take(wide))
        glu = heap.into(wide, sigmoid)
        product = heap.into(wide, heap.take(wide))
        variables = (*halves, glu)
    else:
        variables, product = (), heap.into(wide, activated(heap, step, wide))
    down = heap.into(hidden, product)
    for _ in range(2 if step.style.clamped else 1):  # a bias, and weights
        down = heap.into(hidden, down)
    out = heap.into(step.wide(_inputs(step, experts)), down)
    heap.drop(repeated, both, *variables)
    return out


def _sorted(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    """Return the output of one linear per expert in turn, over tokens in expert order, joined;
    local variables live to the end."""
    pairs = step.rows * experts.top_k
    hidden, wide = pairs * _inputs(step, experts) * step.size, pairs * experts.width * step.size
    inputs = heap.take(hidden)
    order = heap.all((8 * pairs, 8 * pairs, pairs * step.size), "activations")
    both = heap.into(2 * wide, heap.take(2 * wide))
    product = heap.into(wide, activated(heap, step, wide))
    heap.drop(both)
    down = heap.into(hidden, heap.take(hidden))
    weighted = heap.take(hidden)
    if not step.style.expert_attention:  # JetMoE adds them in a separate function
        heap.drop(down)
    zeros = heap.take(step.wide(step.hidden))
    out = heap.take(step.wide(step.hidden))
    if step.style.expert_attention:
        heap.drop(down)
    heap.drop(inputs, *order, product, weighted, zeros)
    return out


def _looped(heap: Heap, step: ForwardStep, experts: Experts) -> LiveTensor:
    """Return the output of a loop over experts, each with an even share of tokens. The previous
    expert's tensors live until they are replaced. float32 weights make the sum float32."""
    wider = 4 if step.style.float_routes else step.size
    out = heap.take(wider * step.rows * step.hidden)
    mask = heap.take(8 * step.rows * experts.top_k * experts.count)
    share = min(step.rows, ceil_div(step.rows * experts.top_k, experts.count))
    wide, hidden = share * experts.width * step.size, share * step.hidden * step.size
    before = heap.all((hidden, wider * share * step.hidden), "activations")
    state = heap.into(hidden, before[0])
    active = heap.into(wide, heap.take(wide))
    if experts.gated:
        active = heap.into(wide, active, heap.take(wide))
    down = heap.into(hidden, active)
    weighted = heap.into(wider * share * step.hidden, before[1])
    heap.drop(state, down, weighted, mask)
    return heap.into(step.wide(step.hidden), out) if wider > step.size else out
