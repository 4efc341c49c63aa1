"""Attention over a sequence sharded over N ranks: each has 1 / N of the tokens (L).

    ulysses     between two all-to-all exchanges a rank has all N L tokens, of 1 / N of the heads
    allgather   queries of L tokens attend to one block of L keys and values after the other, all
                of which are gathered at once
    ring        the same, but the next block is received while one is attended to
    heads       keys and values of all tokens are gathered, of one head after the other

T is a rank's queries in bytes, K its keys and values together. In all of them the graph keeps what
it keeps for only L tokens: q, k, v, the output (T each, K) and a float32 per row and head; ulysses
keeps T more, since the output projection reads what came back. In addition:

    ulysses     what is sent is a copy in the order of the ranks; what is received is copied to
                have heads before tokens, and the output back. With fewer KV heads than ranks each
                is copied for the ranks that need it. Gradients have another order: next to each are
                one that is like it or sent, and one received
    allgather   copies of k and v, both joined, N K; in backward again
    ring        two buffers of K instead of N K
    both        a block's output in float32, and the sum so far: 2 T each; their difference, its
                product, and the new sum, three of them at once: 8 T and the block's own T. In
                backward float32 sums of dq, dk and dv; dk and dv are sent on with what others
                added: 6 K temporarily (two buffers, and the summands)
    heads       N K / heads of keys, and of gradients in backward; outputs of heads are joined

The last rank is estimated, which attends to the most blocks with all of its queries (torch shards a
causal sequence in pairs of head and tail: half of the keys of each block but its own). Further
steps of a ring repeat the third. A selective checkpoint keeps the output and recomputes nothing.

Source: DeepSpeed 016d2f70 runtime/sequence_parallel/ulysses_sp.py (UlyssesSPAttentionHF),
sequence/layer.py (_DimZeroAllToAll); torch 2.13
distributed/tensor/experimental/_context_parallel/_attention.py (_templated_ring_attention and its
backward, _SDPAMerger, _AllGatherRotater); zhuzilin/ring-flash-attention 22f0e1d
llama3_flash_attn_varlen.py (heads) and ring_flash_attn.py, whose sums and buffers are as torch's.
ms-swift b6e3c936 sequence_parallel/ulysses.py transposes nothing for a single sequence: 1 T less
temporarily. Its ring, if ranks do not divide the heads, keeps outputs of all blocks in backward
(zigzag_ring_attn.py): that is not counted.
"""

from collections.abc import Callable
from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64, DType
from weighbridge.base.records import NamedTuple, replace
from weighbridge.machines.kernels import attention as kernels
from weighbridge.settings.ranks import ALLGATHER, HEADS
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.ops.attention import AttentionHeads, AttentionOptions
from weighbridge.training.forward.ops.shaping import copied, repeat
from weighbridge.training.forward.tensors import Computed, Shape, Tensor

TURNS = 3  # steps of a ring: its own block, the first received, and one like all others
Tensors = tuple[Tensor, Tensor, Tensor]
Attend = Callable[[Tensors, AttentionHeads, AttentionOptions], Tensor]


def over_heads(heads: AttentionHeads, ranks: int) -> AttentionHeads:
    """Return the attention sizes of one of `ranks` between the all-to-all exchanges: all tokens,
    and a part of the heads."""
    return replace(
        heads,
        length=heads.length * ranks,
        seen=heads.seen * ranks,
        heads=heads.heads // ranks,
        kv_heads=max(1, heads.kv_heads // ranks),
    )


def ulysses(
    m: Machine,
    ranks: int,
    tensors: Tensors,
    heads: AttentionHeads,
    options: AttentionOptions,
    attend: Attend,
) -> Tensor:
    """Return the output of `attend` between two all-to-all exchanges: of tokens for heads, and
    back."""
    whole = over_heads(heads, ranks)
    count = whole.batch, whole.length
    times = max(1, ranks // heads.kv_heads)
    shapes = (
        (*count, whole.heads, whole.key_dim),
        (*count, whole.kv_heads, whole.key_dim),
        (*count, whole.kv_heads, whole.value_dim),
    )
    m.hidden(whole.batch * whole.length * INT64.nbytes)  # positions of all tokens
    query, key, value = tensors
    query, key, value = (
        _exchanged(m, query, shapes[0]),
        _exchanged(m, key, shapes[1], times),
        _exchanged(m, value, shapes[2], times),
    )
    query = _heads_first(m, query)
    key = _heads_first(m, key)
    value = _heads_first(m, value)
    out = attend((query, key, value), whole, replace(options, first=whole.heads > 1))
    del query, key, value
    back = _received(m, out, heads.outputs)
    return copied(m, back)


def _exchanged(m: Machine, x: Tensor, shape: Shape, times: int = 1) -> Tensor:
    """Return the heads received in exchange for `x`, of which a copy is sent, with each head
    repeated `times` times."""
    wide = (*x.shape[:2], x.shape[2] * times, x.shape[3])
    sent = copied(m, x if times == 1 else repeat(m, x, times, wide))
    return _received(m, sent, shape)


def _heads_first(m: Machine, x: Tensor) -> Tensor:
    """Return `x` with heads before tokens: a copy, unless there is one head."""
    return copied(m, x) if x.shape[2] > 1 else x


def _received(m: Machine, x: Tensor, shape: Shape) -> Tensor:
    """Return the result of all_to_all_single, a new tensor of `shape`."""
    out, before, dtype = m.new(shape, x.dtype), x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        alike = m.new(before, dtype)
        came = m.new(before, dtype)
        del alike
        sent = m.new(before, dtype)
        del sent
        return [came]

    record(m, back, [x], [], out)
    return out


# ---- blocks of keys and values


class KeyBlocks(NamedTuple):
    """The attention of one rank to the key blocks of all ranks: `heads` are the sizes for one
    block, `kernel` runs it; `both` counts the elements of its keys and values."""

    ranks: int
    way: str
    heads: AttentionHeads
    kernel: str
    dropout: float
    dtype: DType
    key: Shape
    value: Shape

    @property
    def queries(self) -> Shape:
        return self.heads.batch, self.heads.length, self.heads.heads, self.heads.key_dim

    @property
    def out(self) -> Shape:
        return (*self.queries[:3], self.heads.value_dim)

    @property
    def both(self) -> int:
        whole = self.heads.batch * self.heads.seen * self.heads.kv_heads
        return whole * (self.heads.key_dim + self.heads.value_dim)


def in_blocks(m: Machine, tensors: Tensors, blocks: KeyBlocks, options: AttentionOptions) -> Tensor:
    """Return the attention to all blocks of keys and values, one after the other."""
    run, back_run = (_by_head, _back_by_head) if blocks.way == HEADS else (_forward, _backward)
    held = () if m.recalls else run(m, blocks)
    rows = (blocks.heads.batch, blocks.heads.heads, blocks.heads.length)
    out = m.result("attention", blocks.out, blocks.dtype)
    sums = m.result("attention", rows, FLOAT32)
    del held

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return back_run(m, blocks)

    kept = [*tensors, Computed(out.shape, out.dtype, out.storage), sums]
    record(m, back, [*tensors], kept, out)
    return copied(m, out) if options.first else out


def _seen(m: Machine, blocks: KeyBlocks) -> Tensor:
    """Return the kernel's output for one block."""
    out, asked = m.new(blocks.out, blocks.dtype), blocks.heads.shape(blocks.dtype)
    if blocks.kernel == "flash":
        m.hidden(*m.ask(kernels.flash_forward, asked, blocks.dropout))
    elif blocks.kernel == "efficient":
        m.hidden(*kernels.efficient_forward(asked))
    return out


def _turned_back(m: Machine, blocks: KeyBlocks, keys: int) -> tuple[Tensor, Tensor]:
    """Return the kernel's gradients of queries, and of `keys` elements of keys and values."""
    asked = blocks.heads.shape(blocks.dtype)
    made = m.new(blocks.queries, blocks.dtype), m.new((keys,), blocks.dtype)
    if blocks.kernel == "flash":
        m.hidden(*m.ask(kernels.flash_backward, asked))
    elif blocks.kernel == "cudnn":
        m.hidden(*kernels.cudnn_backward(asked))
    else:
        m.hidden(*m.ask(kernels.efficient_backward, asked, blocks.dropout))
    return made


class _Keys:
    """Keys and values of other ranks: the current block (`own`), the one being sent, and the buffer
    (`come`) for the next one, or for all of them."""

    def __init__(self, m: Machine, blocks: KeyBlocks) -> None:
        self._m, self._blocks = m, blocks
        self.own: Tensor | None = self._new()  # contiguous
        self.sent: Tensor | None = self._new()
        self.come = self._new(blocks.ranks if blocks.way == ALLGATHER else 1)

    def _new(self, times: int = 1) -> Tensor:
        return self._m.new((times * self._blocks.both,), self._blocks.dtype)

    def turn(self, number: int, *, holds: bool = False) -> None:
        """Go on to the received block; a ring sends it on, unless it is the last. With allgather
        its copy is made, too, and dropped. The loop holds the block before until then; in backward
        (`holds`) it holds the copy until the next one, and the last to the end."""
        ring, came = self._blocks.way != ALLGATHER, self.come
        self.sent = self.sent if holds else None
        if number + 1 < self._blocks.ranks:
            self.sent = self._new()
            self.sent = self.sent if ring or holds else None
            self.come = self._new() if ring else came
        self.own = came if ring else None


def _forward(m: Machine, blocks: KeyBlocks) -> tuple[Tensor, ...]:
    """Run _templated_ring_attention; return what is alive when the sum is cast back."""
    keys = _Keys(m, blocks)
    block = _seen(m, blocks)
    total = m.new(blocks.out, FLOAT32)
    for number in range(1, min(blocks.ranks, TURNS)):
        keys.turn(number)
        block = _seen(m, blocks)
        wide = m.new(blocks.out, FLOAT32)
        difference = m.new(blocks.out, FLOAT32)
        weighed = m.new(blocks.out, FLOAT32)
        del difference
        added = m.new(blocks.out, FLOAT32)
        del wide, weighed
        total = added
        del added
    return total, block


def _backward(m: Machine, blocks: KeyBlocks) -> Grads:
    """_templated_ring_attention_backward"""
    queries = m.new(blocks.queries, FLOAT32)
    added = m.new((blocks.both,), FLOAT32)
    keys = _Keys(m, blocks)
    made = _turned_back(m, blocks, blocks.both)
    in_order = m.new((blocks.both,), FLOAT32)
    sent = m.new((blocks.both,), FLOAT32)
    del in_order
    come = m.new((blocks.both,), FLOAT32)
    for number in range(1, min(blocks.ranks, TURNS)):
        keys.turn(number, holds=True)
        made = _turned_back(m, blocks, blocks.both // 2)
        del sent, added
        added = m.new((blocks.both,), FLOAT32)
        sent = m.new((blocks.both,), FLOAT32)
        del come
        come = m.new((blocks.both,), FLOAT32)
    del made, added
    query = m.new(blocks.queries, blocks.dtype)
    del queries, sent
    both = m.new((blocks.both,), blocks.dtype)
    del come
    key, value = (Computed(s, blocks.dtype, both.storage) for s in (blocks.key, blocks.value))
    return [query, key, value]


# ---- heads


def _one_head(blocks: KeyBlocks) -> tuple[KeyBlocks, int]:
    """Return (blocks for the queries of one KV head, with all tokens; the elements of that head's
    keys and values on a rank)."""
    h = blocks.heads
    seen = h.seen * blocks.ranks
    one = blocks._replace(heads=replace(h, heads=h.groups, kv_heads=1, seen=seen))
    return one, blocks.both // h.kv_heads


def _by_head(m: Machine, blocks: KeyBlocks) -> tuple[Tensor, ...]:
    """Run llama3_flash_attn_varlen_forward, with heads_k_stride 1; return what is alive when
    outputs are joined. The varlen kernel splits no keys."""
    one, share = _one_head(blocks)
    gathered = m.new((blocks.ranks * share,), blocks.dtype)
    outs = []
    for _ in range(blocks.heads.kv_heads):
        own = m.new((share,), blocks.dtype)
        outs.append(m.new(one.out, blocks.dtype))
        del own
    return gathered, *outs


def _back_by_head(m: Machine, blocks: KeyBlocks) -> Grads:
    """llama3_flash_attn_varlen_backward: kernels write into slices of the gradients."""
    one, share = _one_head(blocks)
    gathered, gradients = (m.new((blocks.ranks * share,), blocks.dtype) for _ in range(2))
    own = m.new((share,), blocks.dtype)
    made = [m.new(s, blocks.dtype) for s in (blocks.queries, blocks.key, blocks.value)]
    m.hidden(*m.ask(kernels.flash_backward, one.heads.shape(blocks.dtype)))
    del gathered, gradients, own
    return made
