"""Tensors of a program that declares its parameters as it runs, with torch's operators.

    x = x + gate * n.linear("proj_out", h, d)

A value's memory goes when Python drops the last reference to it, as in eager PyTorch: a program
that keeps the variables of diffusers' `forward` keeps its memory, too. Two habits change that, and
do not belong in a program: `q, k = rope(q), rope(k)` holds the old ones until both new ones are
there, and a helper that loops over blocks holds the input of the first.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.machines.accelerators.chips import ASSUMED, Chip
from weighbridge.machines.kernels import attention as kernels
from weighbridge.machines.kernels.workspaces import lasting
from weighbridge.memory.components.activations import Heap
from weighbridge.models.arch.blueprint import Buffer, Param
from weighbridge.settings.ranks import RING
from weighbridge.training.forward.machine import Machine, remade
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops import attention as attentions
from weighbridge.training.forward.ops import matrix, pointwise, shaping
from weighbridge.training.forward.ops.attention import AttentionHeads, AttentionOptions, FusedCall
from weighbridge.training.forward.ops.matrix import ConvForm
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor

if TYPE_CHECKING:
    from weighbridge.pictures.places import NetPlace

Block = Callable[..., Any]  # of a place and values


class ConvWrap(Protocol):
    """A replacement of a convolution."""

    def convolved(self, m: Machine, x: Tensor, form: ConvForm) -> Tensor: ...


RunBlock = Callable[[Block, "NetPlace", "tuple[Value, ...]"], Any]
TORCH = (2, 13)  # torch release whose kernels are chosen
NORMS_WIDE = (2, 12)  # first release whose autocast runs rms_norm in float32
# An attention by its name in settings: "sdpa" is what torch chooses on the card
KERNELS = {
    "flash": attentions.flash,
    "efficient": attentions.efficient,
    "cudnn": attentions.cudnn,
    "fused": attentions.fused,
    "math": attentions.math,
}


@frozen_record
class Sizes:
    """Sizes of one step. Frames, height and width are those of the latents; `tokens`: further
    packed tokens (reference images); `side`: encode, decode or both, for an autoencoder."""

    batch: int = 1
    frames: int = 1
    height: int = 32
    width: int = 32
    text: int = 16
    tokens: int = 0
    side: str = "both"
    token_times: bool = False  # each token has a timestep, as in Wan 2.2's TI2V
    tiled: bool = False  # an autoencoder with enable_tiling

    def latents(self, channels: int) -> Shape:
        """Return the shape of a video's latents: [batch, channels, frames, height, width]."""
        return self.batch, channels, self.frames, self.height, self.width

    def pixels(self, channels: int, space: int, time: int) -> Shape:
        """Return the shape of decoded pictures or video: `space` pixels per latent on each side,
        `time` frames per latent frame except the first."""
        frames = time * (self.frames - 1) + 1
        return self.batch, channels, frames, space * self.height, space * self.width


@dataclass(slots=True, kw_only=True)
class ProgramRun:
    """One run of a component's program: its machine, and the modules that it has declared so
    far."""

    m: Machine
    cls: str  # class of the component, as its config names it
    dtype: DType
    code: str = ""  # module of programs that replace diffusers' classes
    turns_wide: bool = True  # such a program rotates queries and keys in float32 copies
    attention: str = "sdpa"
    fused_qkv: bool = False  # queries, keys and values are fused (fuse_qkv_projections)
    float_upsampling: bool = False  # diffusers up to 0.30 for bfloat16
    pads_copies: bool = False  # before convolutions that step: networks from TensorFlow
    caches_in_place: bool = False  # causal convolutions copy caches in place: diffusers up to 0.30
    torch: tuple[int, int] = TORCH  # torch release, for autocast's rules
    unsettled: bool = False  # a later torch casts what this one does not
    block: RunBlock | None = None
    declared: dict[str, Param] = field(default_factory=dict)
    params: dict[str, LeafTensor] = field(default_factory=dict)
    wraps: dict[str, Wrap] = field(default_factory=dict)
    conv_wraps: Mapping[str, ConvWrap] = field(default_factory=dict)
    # Lists of residuals that a ControlNet returns, and a denoiser adds to its own
    residuals: list[list["Value"]] = field(default_factory=list)
    attention_away: bool = False  # tensors that attention saves wait in host memory
    kinds: Mapping[str, int] | None = None  # numbers of blocks' kinds; None: all blocks run
    ranks: int = 1  # context-parallel ranks, and their method of attention
    attends_by: str = ""
    seen: "Value | None" = None  # tokens of an IP-Adapter's picture
    pixels: "Value | None" = None  # batch of pictures, for vision networks
    buffers: dict[str, Buffer] = field(default_factory=dict)
    detections: int = 100  # per picture: box_detections_per_img of torchvision

    def new(self, *shape: int, dtype: DType | None = None) -> "Value":
        """Return a new tensor of `shape`: an input, or the result of a kernel."""
        return Value(self, self.m.new(shape, dtype or self.dtype))

    def constant(self, *shape: int, dtype: DType | None = None) -> "Value":
        """Return a tensor without memory, which a module holds or which is counted elsewhere."""
        return Value(self, Computed(shape, dtype or self.dtype, None))


def machine(heap: Heap, chip: Chip | None = None) -> Machine:
    """Return a machine for a card, with the workspace that cuBLAS keeps there."""
    m = Machine(heap)
    m.chip = chip or ASSUMED
    [m.workspace] = m.sizes(lasting, TORCH)
    return m


class Value:
    """A tensor of a program's run, with torch's operators."""

    __slots__ = ("run", "tensor")

    def __init__(self, run: ProgramRun, tensor: Tensor) -> None:
        self.run, self.tensor = run, tensor

    @property
    def shape(self) -> Shape:
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    @property
    def numel(self) -> int:
        return self.tensor.numel

    def _as(self, tensor: Tensor) -> "Value":
        return Value(self.run, tensor)

    # ---- number by number

    def __add__(self, other: "Value | float") -> "Value":
        if isinstance(other, Value):
            return self._as(pointwise.add(self.run.m, self.tensor, other.tensor))
        return self._as(pointwise.shift(self.run.m, self.tensor))

    def __sub__(self, other: "Value") -> "Value":
        return self._as(pointwise.sub(self.run.m, self.tensor, other.tensor))

    def __mul__(self, other: "Value | float") -> "Value":
        if isinstance(other, Value):
            return self._as(pointwise.mul(self.run.m, self.tensor, other.tensor))
        return self._as(pointwise.scale(self.run.m, self.tensor))

    def __truediv__(self, other: "Value") -> "Value":
        return self._as(pointwise.divide(self.run.m, self.tensor, other.tensor))

    def matmul(self, other: "Value", columns: int) -> "Value":
        """Return [..., n, k] times [..., k, columns]."""
        return self._as(matrix.matmul(self.run.m, self.tensor, other.tensor, columns))

    def act(self, keeps: str = "input") -> "Value":
        """Return an activation of the tensor. Backward keeps the input of gelu and silu, or the
        result of tanh, sigmoid and relu."""
        kind = pointwise.of_input if keeps == "input" else pointwise.of_result
        return self._as(kind(self.run.m, self.tensor))

    def power(self) -> "Value":
        return self._as(pointwise.power(self.run.m, self.tensor))

    def rsqrt(self) -> "Value":
        return self._as(pointwise.rsqrt(self.run.m, self.tensor))

    def softmax(self) -> "Value":
        return self._as(pointwise.softmax(self.run.m, self.tensor))

    def to(self, dtype: DType) -> "Value":
        return self._as(pointwise.cast(self.run.m, self.tensor, dtype))

    def float(self) -> "Value":
        return self.to(FLOAT32)

    def like(self, other: "Value") -> "Value":
        """Return the value in the dtype of `other`."""
        return self.to(other.dtype)

    def mean(self) -> "Value":
        """Return the mean over the last dimension, which stays with size 1."""
        return self._as(pointwise.mean(self.run.m, self.tensor))

    # ---- shapes

    def view(self, *shape: int) -> "Value":
        return self._as(self.tensor.view(*shape))

    def reshaped(self, *shape: int) -> "Value":
        """Return a parameter viewed in another shape; the view is no leaf."""
        return self._as(shaping.shaped(self.run.m, self.tensor, *shape))

    def copy(self, *shape: int) -> "Value":
        """Return a contiguous copy, in another shape if given."""
        copied = shaping.copied(self.run.m, self.tensor)
        return self._as(copied.view(*shape) if shape else copied)

    def resized(self, *shape: int) -> "Value":
        """Return a kernel's result of another shape: pooled, interpolated, padded or repeated."""
        return self._as(remade(self.run.m, self.tensor, self.run.m.new(shape, self.dtype)))

    def part(self, *shape: int) -> "Value":
        """Return a view of a part; backward allocates zeros of the whole."""
        return self._as(shaping.part(self.run.m, self.tensor, *shape))

    def split(self, *sizes: int, dim: int = -1) -> "list[Value]":
        """Return views of successive parts, whose gradients are concatenated."""
        parts = shaping.split(self.run.m, self.tensor, sizes, dim=dim)
        return [self._as(one) for one in parts]

    def chunk(self, count: int, dim: int = -1) -> "list[Value]":
        return self.split(*[self.shape[dim] // count] * count, dim=dim)

    def written(self, other: "Value") -> "Value":
        """Return the tensor after `self[...] = other`, in the same memory."""
        return self._as(shaping.written(self.run.m, self.tensor, other.tensor))

    def upsample(self, time: int = 1, space: int = 2) -> "Value":
        """Return [batch, channels, (frames,) height, width] enlarged by nearest neighbours."""
        *frames, height, width = self.shape[2:]
        grown = [count * time for count in frames]
        return self.resized(*self.shape[:2], *grown, height * space, width * space)

    def pad(self, time: int = 0, space: int = 0) -> "Value":
        """Return the value with `time` frames before it, and `space` on both sides."""
        *frames, height, width = self.shape[2:]
        longer = [count + time for count in frames]
        shape = *self.shape[:2], *longer, height + 2 * space, width + 2 * space
        return self if shape == self.shape else self.resized(*shape)


def cat(values: Sequence[Value], dim: int = 1) -> Value:
    run = values[0].run
    return Value(run, shaping.join(run.m, *[value.tensor for value in values], dim=dim))


def headed(x: Value, heads: int) -> Value:
    """Return [..., width] as [..., heads, width / heads]."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads)


def flat(x: Value) -> Value:
    """Return [..., heads, head] as [..., heads * head]."""
    return x.view(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _exchanged(run: ProgramRun, q: Value, k: Value, v: Value) -> None:
    """Allocate what context-parallel ranks exchange: sent and received tensors, each reordered; or
    all keys and values, and twice the partial result in float32."""
    if run.ranks > 1 and run.attends_by == RING:
        gathered = [(k.nbytes + v.nbytes) * (run.ranks + 1)]
        run.m.hidden(*gathered, *[FLOAT32.size(q.numel)] * 2)
    elif run.ranks > 1:
        run.m.hidden(*[one.nbytes for one in (q, k, v)] * 2)


def attend(  # noqa: PLR0913  as torch has it
    q: Value,
    k: Value,
    v: Value,
    heads: int,
    *,
    masked: bool = False,
    first: bool = False,
    apart: bool = False,
    bias: Value | None = None,
) -> Value:
    """Return scaled_dot_product_attention of [batch, tokens, width]; keys may have fewer heads.
    `bias`: [batch, heads, tokens, tokens], added to the scores. `first`: queries have heads before
    tokens in memory. `apart`: a head's elements are not contiguous, so that no fused kernel accepts
    them."""
    run, width = q.run, q.shape[-1] // heads
    number = AttentionHeads(
        batch=q.shape[0],
        length=q.shape[1],
        seen=k.shape[1],
        heads=heads,
        kv_heads=k.shape[-1] // width,
        key_dim=width,
        value_dim=width,
    )
    call = kernels.AttentionCall(
        masked=masked or bias is not None,
        causal=False,
        dropout=0.0,
        groups=number.groups > 1,
        differentiated=run.m.grad,
    )
    dtype = run.m.autocast or q.dtype
    kernel, shape = run.attention, number.shape(dtype)
    if apart:
        kernel = "math"
    elif kernel == "scores":  # of ggml: in float32, and in place
        run.m.hidden(FLOAT32.size(q.shape[0] * heads * q.shape[1] * k.shape[1]))
        kernel = "efficient"
    elif kernel == "sdpa":
        kernel = run.m.ask(kernels.program, shape, call, torch=TORCH)
    added = None if bias is None else bias.tensor
    options = AttentionOptions(causal=False, first=first, asked=FusedCall(call, TORCH), mask=added)
    query, key, value = (
        headed(one, one.shape[-1] // width).tensor if kernel == "math" else one.tensor
        for one in (q, k, v)
    )
    _exchanged(run, q, k, v)
    out = KERNELS[kernel](run.m, query, key, value, number, options)
    return Value(run, out.view(*q.shape[:2], width * heads))
