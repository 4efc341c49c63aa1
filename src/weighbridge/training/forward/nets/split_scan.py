"""Mamba-2 from its input projection to its output projection in one function, which mamba-ssm's
kernels run where mamba-ssm and causal-conv1d are installed.

It keeps what the input projection gave, the scan's output and the norm's; in backward the
convolution, the states of all chunks and the norm are made again, and gradients beside them. The
output projection is a product with the bare weight: an adapter on it does nothing.

Letters: B batch, T tokens, C chunks of L tokens, H heads of P numbers, G groups, N states.
Source: mamba-ssm 2.3.2 ops/triton/ssd_combined.py (MambaSplitConv1dScanCombinedFn,
_mamba_chunk_scan_combined_fwd, _mamba_chunk_scan_combined_bwd), ssd_chunk_state.py, ssd_bmm.py,
ssd_state_passing.py, ssd_chunk_scan.py, layernorm_gated.py; causal-conv1d 1.7 cpp_functions.py;
transformers 5.23 models/mamba2/modeling_mamba2.py (Mamba2Mixer.forward).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import frozen_record
from weighbridge.base.units import ceil_div, power_of_two
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.ops.pointwise import cast
from weighbridge.training.forward.ops.shaping import over_rows
from weighbridge.training.forward.tensors import Shape, Tensor

ALIGNED = 8  # numbers: rows of another width are copied before a convolution (ensure_stride)
TILE = 32  # tokens of a chunk whose gradients one kernel program sums (BLOCK_SIZE_M_min)
BLOCK = 64  # elements of a state whose gradients one kernel program sums (BLOCK_SIZE_min)


@frozen_record
class Scan:
    """Sizes of the scan of one Mamba-2 layer."""

    batch: int
    length: int
    chunk: int
    heads: int
    dim: int
    groups: int
    states: int

    @property
    def chunks(self) -> int:
        return ceil_div(self.length, self.chunk)

    @property
    def padded(self) -> int:
        return self.chunks * self.chunk

    @property
    def left(self) -> Shape:
        return self.batch, self.chunks, self.chunk

    @property
    def inner(self) -> int:
        return self.heads * self.dim

    @property
    def side(self) -> int:
        """Return the elements per token of B, and of C."""
        return self.groups * self.states

    @property
    def steps(self) -> Shape:
        """Return the shape of time steps, [B, H, C, L]."""
        return self.batch, self.heads, self.chunks, self.chunk

    @property
    def of_states(self) -> Shape:
        """Return the shape of chunk states, [B, C, H, P, N]."""
        return self.batch, self.chunks, self.heads, self.dim, self.states

    @property
    def products(self) -> Shape:
        """Return the shape of products of C and B, [B, C, G, L, L]."""
        return self.batch, self.chunks, self.groups, self.chunk, self.chunk

    @property
    def tokens(self) -> Shape:
        """Return the shape of the scan's output, [B, T, H P]."""
        return self.batch, self.length, self.inner


def split_scan(m: Machine, p: Module, x: Tensor, a: Tensor, scan: Scan) -> Tensor:
    """Return mamba_split_conv1d_scan_combined: x [B, T, 2 H P + 2 G N + H] -> [B, T, hidden]."""
    dtype, width = x.dtype, x.shape[-1]
    kernel, bias = p.weight("conv1d"), p.bias("conv1d")
    weight, out_bias = p.weight("out_proj"), p.bias("out_proj")
    hidden = weight.shape[0]
    mixed = _mixed(m, scan, dtype, width)
    steps = [m.new(scan.steps, FLOAT32) for _ in range(2)]
    states = _passed(m, scan, dtype)
    products = m.new(scan.products, FLOAT32)
    scanned = m.new(scan.tokens, dtype)
    del products
    normed = m.new(scan.tokens, dtype)
    norm = m.new((scan.groups * scan.batch * scan.length,), FLOAT32)
    with m.no_grad():
        wide = cast(m, weight, m.autocast or weight.dtype)
        added = None if out_bias is None else cast(m, out_bias, m.autocast or out_bias.dtype)
    out = m.new((*scan.tokens[:2], hidden), dtype)
    m.product()
    del mixed, steps, states, normed
    trained = [p.bare("dt_bias"), a, p.bare("D"), p.weight("norm"), weight]
    inputs = [x, kernel, bias, *trained, out_bias]
    saved = [x, kernel, bias, scanned, *trained[:4], norm, wide.detach(), added]
    forms = [None if t is None else (t.shape, t.dtype) for t in inputs]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return _Gradients(m, scan, dtype).made(width, forms)

    record(m, back, inputs, saved, out)
    return out


def _mixed(m: Machine, scan: Scan, dtype: DType, width: int) -> Tensor:
    """Return the convolution of the scan's input, and of B and C: [B, T, H P + 2 G N]."""
    shape = (*scan.tokens[:2], scan.inner + 2 * scan.side)
    copies = [m.new(shape, dtype)] if width % ALIGNED else []
    out = m.new(shape, dtype)
    copies.clear()
    return out


def _passed(m: Machine, scan: Scan, dtype: DType) -> list[Tensor]:
    """Return (states before each chunk, state after all chunks)."""
    own = m.new(scan.of_states, FLOAT32)
    before = m.new(scan.of_states, dtype)
    after = m.new((scan.batch, scan.heads, scan.dim * scan.states), FLOAT32)
    del own
    return [before, after]


class _Gradients:
    """Makes all gradients of one layer; its temporaries live as the package's local variables
    do."""

    __slots__ = ("dtype", "m", "scan")

    def __init__(self, m: Machine, scan: Scan, dtype: DType) -> None:
        self.m, self.scan, self.dtype = m, scan, dtype

    def made(self, width: int, forms: list[Any]) -> Grads:
        """MambaSplitConv1dScanCombinedFn.backward"""
        m, scan, dtype = self.m, self.scan, self.dtype
        again = m.new(scan.tokens, dtype)
        mixed = _mixed(m, scan, dtype, width)
        of_input = m.new((*scan.tokens[:2], width), dtype)
        of_mixed = m.new(mixed.shape, dtype)
        given = m.new(scan.tokens, dtype)
        m.product()
        of_normed = m.new(scan.tokens, dtype)
        of_norm = self._summed(forms[6])
        of_dt, of_a, of_d = self._of_scan(forms[5])
        m.product()
        of_weight = self._as(m.new(forms[7][0], dtype), forms[7])
        of_bias = None
        if forms[8] is not None:
            of_bias = self._as(m.new(forms[8][0], dtype), forms[8])
            over_rows(m, scan.batch * scan.length, forms[8][0][0])
        if width % ALIGNED:
            m.hidden(*2 * (dtype.size(mixed.numel),))
        of_kernel, of_conv_bias = (
            None if form is None else self._as(m.new(form[0], FLOAT32), form) for form in forms[1:3]
        )
        del again, of_mixed, given, of_normed
        parameters = self._as(of_dt, forms[3]), self._as(of_a, forms[4]), of_d
        return [of_input, of_kernel, of_conv_bias, *parameters, of_norm, of_weight, of_bias]

    def _as(self, gradient: Tensor, form: Any) -> Tensor:
        return cast(self.m, gradient.detach(), form[1])

    def _summed(self, form: Any) -> Tensor:
        """Return the gradient of the norm's weight: parts per kernel program, then their sum
        (_layer_norm_bwd)."""
        m, scan = self.m, self.scan
        count = m.ask(rows, scan.inner // scan.groups, scan.groups, self.dtype.nbytes)
        parts = m.new((count, scan.inner), FLOAT32)
        out = m.new((scan.inner,), FLOAT32)
        over_rows(m, count, scan.inner)
        del parts
        return self._as(out, form)

    def _of_scan(self, form: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of dt_bias, A and D (_mamba_chunk_scan_combined_bwd)."""
        m, scan, dtype = self.m, self.scan, self.dtype
        kept = [m.new((scan.batch, scan.length, scan.heads), dtype)]
        kept += [m.new(scan.steps, FLOAT32) for _ in range(2)]
        kept.append(m.new(scan.products, FLOAT32))
        states, after = _passed(m, scan, FLOAT32)
        of_states = m.new(scan.of_states, FLOAT32)
        of_passed = m.new(scan.of_states, dtype)
        if dtype != FLOAT32:
            states = m.new(scan.of_states, dtype)
        ends = self._of_ends()
        del of_states
        of_d = self._of_skip(form)
        kept += [m.new(scan.steps, FLOAT32), m.new(scan.steps, FLOAT32), self._of_side()]
        kept += [m.new(scan.steps, FLOAT32), self._of_side(), self._of_products()]
        turned = m.new(scan.steps, FLOAT32)
        turned = m.new(scan.steps, FLOAT32)
        turned = m.new(scan.steps, FLOAT32)
        parts = m.new((*scan.steps[:3], ceil_div(scan.chunk, TILE), scan.chunk), FLOAT32)
        kept.append(m.new(scan.steps, FLOAT32))
        del parts
        m.hidden(FLOAT32.size(kept[1].numel))
        of_dt = m.new((scan.heads,), FLOAT32)
        of_a = m.new((scan.heads,), FLOAT32)
        del states, after, of_passed, ends, turned
        return of_dt, of_a, of_d

    def _of_ends(self) -> Tensor:
        """Return the gradient of decays over whole chunks: parts per block of a state, then their
        sum."""
        m, scan = self.m, self.scan
        shape = scan.batch, scan.heads, scan.chunks
        parts = m.new((*shape, ceil_div(scan.dim * scan.states, BLOCK)), FLOAT32)
        out = m.new(shape, FLOAT32)
        del parts
        return out

    def _of_skip(self, form: Any) -> Tensor:
        """Return the gradient of D: parts per tile of a chunk, then their sum."""
        m, scan = self.m, self.scan
        shape = ceil_div(scan.chunk, TILE), scan.batch, scan.chunks, scan.heads
        parts = m.new(shape, FLOAT32)
        out = m.new((scan.heads,), FLOAT32)
        del parts
        return self._as(out, form)

    def _of_side(self) -> Tensor:
        """Return the gradient of B or of C, [B, T, G, N]: parts per few heads, then their sum."""
        m, scan = self.m, self.scan
        parts = m.new((scan.batch, scan.length, self._splits, scan.side), FLOAT32)
        out = m.new((scan.batch, scan.length, scan.side), FLOAT32)
        del parts
        return out

    def _of_products(self) -> Tensor:
        m, scan = self.m, self.scan
        parts = m.new((self._splits, *scan.products), FLOAT32)
        out = m.new(scan.products, FLOAT32)
        del parts
        return out

    @property
    def _splits(self) -> int:
        scan = self.scan
        count = scan.batch * scan.chunks * scan.heads
        return self.m.ask(splits, count, scan.heads // scan.groups)


# Programs that share gradients
#     splits   the heads of a group that no program takes together: of B, C and their products
#     rows     the programs that norm tokens: each sums the gradient of the weight for its own
#
# Source: mamba-ssm 2.3.2 ops/triton/ssd_chunk_state.py (_chunk_state_bwd_db), ssd_chunk_scan.py
# (_chunk_scan_bwd_dC, _chunk_scan_bwd_dcb), layernorm_gated.py (_layer_norm_bwd).

WIDEST = 65_536  # bytes of a row that one kernel program normalizes
PER_WARP = 256  # elements
MOST_WARPS, USUAL_WARPS = 8, 4


def splits(programs: int, together: int, chip: Chip) -> int:
    """Return how many partial sums are allocated, if `programs` are launched, one per chunk and
    head, and `together` heads share a group."""
    each = max(min(ceil_div(programs, chip.multiprocessors), together), 1)
    return ceil_div(together, each)


def rows(width: int, groups: int, nbytes: int, chip: Chip) -> int:
    """Return how many kernel programs normalize tokens of `groups` groups of `width` elements."""
    block = min(WIDEST // nbytes, power_of_two(width))
    warps = min(max(block // PER_WARP, 1), MOST_WARPS)
    return ceil_div(chip.multiprocessors * ceil_div(USUAL_WARPS, warps), groups)
