"""One training step of a pipeline's denoiser, run over shapes: what it takes in each phase.

    load       the base in its format, adapters, encoders that stay, a second average
    encode     pictures by the autoencoder and texts, where they are not there already
    forward    the denoiser's program; blocks may be computed again in backward
    backward   from a mean squared error in float32
    step       the optimizer

Two steps are run: states are made at the end of the first. Blocks that are swapped, and layers that
are streamed, wait in host memory. Source: diffusers 0.42 examples/dreambooth/train_dreambooth_*.py
(the loop; use_reentrant=False), training_utils.py (EMAModel); musubi-tuner
modules/custom_offloading_utils.py; RamTorch 0.2 modules/linear.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import dataclass, field, replace
from weighbridge.machines.accelerators.chips import ASSUMED, Chip
from weighbridge.machines.kernels.workspaces import lasting
from weighbridge.memory.components.activations import Heap, LivePeak
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import base, components, formats
from weighbridge.pictures.adapting import PictureAdapters, put_on, targeted
from weighbridge.pictures.config import class_of
from weighbridge.pictures.places import Place
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.swapping import swapped
from weighbridge.pictures.values import TORCH, Block, Run, Sizes, Value
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops.pointwise import cast
from weighbridge.training.forward.tensors import LeafTensor, Tensor
from weighbridge.training.optimizers.row import Optimization, Optimizer

STEPS = 2
LOAD, ENCODE, FORWARD, BACKWARD, STEP = PHASES = ("load", "encode", "forward", "backward", "step")
EMA = "second average"
STREAMED = 4  # layers that are on the card: two that run, two that come, of forward and backward
STRIDE, OF_STRIDE = 4, 2  # `half`: two blocks of four are computed again


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePlan:
    """A run with every default filled in. `parts` by component; `stays` are encoders that are on
    the card beside the denoiser, `encodes` those that run in each step."""

    spec: PipelineSpec
    parts: Mapping[str, ModelPart]
    sizes: Sizes
    weights: DType  # of the denoiser that is frozen, or trained whole
    autocast: DType | None
    dtypes: Mapping[str, DType]  # of the other components
    optimizer: Optimizer
    adapters: PictureAdapters | None  # None: all of it is trained
    form: str | None = None
    accumulation: int = 1
    checkpointing: str = "none"
    attention: str = "sdpa"
    fuse_qkv: bool = False
    ema: bool = False
    encodes: tuple[str, ...] = ()
    trains_text: bool = False
    blocks_to_swap: int = 0
    streaming: bool = False
    chip: Chip = ASSUMED

    @property
    def denoiser(self) -> ModelPart:
        return self.parts[self.spec.denoiser]


@dataclass(slots=True, kw_only=True)
class PictureRun:
    """What was alive in each phase, at its fullest."""

    moments: dict[str, LivePeak] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    trained: int = 0
    saved: int = 0  # bytes that the graph holds where the first backward begins
    waiting: int = 0  # bytes of weights in host memory
    away: int = 0  # bytes of activations there, at most

    def note(self, name: str, peak: LivePeak) -> None:
        self.reserved[name] = max(peak.reserved, self.reserved.get(name, 0))
        before = self.moments.get(name)
        if before is None or peak.allocated > before.allocated:
            self.moments[name] = peak


def run(plan: PicturePlan) -> PictureRun:
    """Run two steps."""
    m, result = Machine(Heap()), PictureRun()
    m.chip = plan.chip
    [m.workspace] = m.sizes(lasting, TORCH)
    step = DenoiserStep(m, plan, result)
    result.note(LOAD, m.heap.phase())
    optimization = Optimization(plan.optimizer, step.trained)
    for _ in range(STEPS):
        for _ in range(min(plan.accumulation, STEPS)):
            step.all()
        optimization.step(m)
        result.note(STEP, m.heap.phase())
    result.away = m.most_away
    m.heap.close()
    return result


class DenoiserStep:
    """The denoiser in memory, and one micro-batch through it."""

    def __init__(self, m: Machine, plan: PicturePlan, result: PictureRun) -> None:
        self.m, self.plan, self.result = m, plan, result
        self.wraps: dict[str, Wrap] = {}
        self.trained: list[LeafTensor] = []
        for name in plan.encodes:
            m.heap.row(formats.sizes(plan.parts[name], None, plan.dtypes[name]), name)
        self.params = self._base()
        if plan.adapters is None:
            self.trained = list(self.params.values())
        else:
            paths = targeted(plan.denoiser.blueprint.counted, plan.adapters.targets)
            self.trained = put_on(m, plan.adapters, paths, self.params, self.wraps)
        result.trained = sum(leaf.numel for leaf in self.trained)
        if plan.ema:
            m.heap.row([leaf.nbytes for leaf in self.trained], EMA)

    def _base(self) -> dict[str, LeafTensor]:
        """Put the denoiser on the card, but for what waits in host memory."""
        plan, m = self.plan, self.m
        counted = {p.name: p for p in plan.denoiser.blueprint.counted if not p.tied}
        if plan.adapters is None:
            return {p.name: _leaf(m, p, plan.weights) for p in counted.values()}
        form = None if plan.streaming else plan.form
        sizes = formats.sizes(plan.denoiser, base.stored(form), plan.weights)
        here, waits = swapped(tuple(counted.values()), sizes, plan.blocks_to_swap)
        if plan.streaming:
            here, waits = _streamed(tuple(counted.values()), sizes)
        m.heap.row(here, "weights")
        self.result.waiting = waits
        if plan.fuse_qkv:
            m.heap.row(_fused(counted.values(), sizes), "weights")
        leaves = {
            p.name: LeafTensor(p.name, p.shape, plan.weights, None, trainable=False, kind=p.kind)
            for p in counted.values()
        }
        if form is not None:
            self.wraps |= base.wrapped(form, counted, leaves, plan.autocast or plan.weights)
        return leaves

    def all(self) -> None:
        """Run a micro-batch forward and backward."""
        m, plan = self.m, self.plan
        held = self._encoded()
        with m.casting(plan.autocast):
            out = self._forward()
        self.result.note(FORWARD, m.heap.phase())
        loss = _loss(m, out.tensor)
        del out
        self.result.saved = self.result.saved or m.heap.live("activations")
        backward(m, loss)
        del loss, held
        self.result.note(BACKWARD, m.heap.phase())

    def _encoded(self) -> list[Tensor]:
        """Return what the loop holds: latents, noise, both together, the target, and prompts."""
        m, plan, s = self.m, self.plan, self.plan.sizes
        for name in plan.encodes:
            self._encode(name)
        if plan.encodes:
            self.result.note(ENCODE, m.heap.phase())
        latents = s.batch, plan.spec.latents, s.frames, s.height, s.width
        held = [m.new(latents, plan.autocast or plan.weights) for _ in range(3)]
        held.append(m.new(latents, FLOAT32))
        prompts = s.batch, s.text, plan.spec.embedding_width
        return [*held, m.new(prompts, plan.autocast or plan.weights)]

    def _encode(self, name: str) -> None:
        """Run an encoder, of which nothing is kept but what it gives."""
        plan = self.plan
        picture = name == plan.spec.vae
        text = plan.spec.short.get(name, plan.sizes.text)
        side = "encode" if picture else "both"
        with self.m.no_grad():
            config = plan.parts[name].config
            one = Run(m=self.m, cls=class_of(config), dtype=plan.dtypes[name])
            components.forward(one, config, replace(plan.sizes, text=text, side=side))

    def _forward(self) -> Value:
        plan, config = self.plan, self.plan.denoiser.config
        run = Run(
            m=self.m,
            cls=class_of(config),
            dtype=plan.weights,
            attention=plan.attention,
            fused_qkv=plan.fuse_qkv,
            params=dict(self.params),
            wraps=self.wraps,
        )
        run.block = _computed_again(run, plan.checkpointing)
        out = components.forward(run, config, plan.sizes)
        assert out is not None
        return out


def _leaf(m: Machine, param: Param, dtype: DType) -> LeafTensor:
    return m.param(param.name, param.shape, dtype, kind=param.kind)


def _streamed(params: Sequence[Param], sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return the bytes that stay, and those that wait: of linears a few are on the card."""
    linears = [n for p, n in zip(params, sizes, strict=True) if p.kind == "linear"]
    stays = [n for p, n in zip(params, sizes, strict=True) if p.kind != "linear"]
    return [*stays, *[max(linears, default=0)] * STREAMED], sum(linears)


JOINED = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")


def _fused(params: Any, sizes: Sequence[int]) -> list[int]:
    """Return what fuse_qkv_projections adds: queries, keys and values once more as one weight."""
    return [n for p, n in zip(params, sizes, strict=True) if p.name.split(".")[-2] in JOINED]


def _loss(m: Machine, out: Tensor) -> Tensor:
    """mse_loss(out.float(), target.float())"""
    wide = cast(m, out, FLOAT32)
    target = m.new(wide.shape, FLOAT32)
    shape = wide.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, FLOAT32)]

    loss = m.new((), FLOAT32)
    record(m, back, [wide], [wide, target], loss)
    return loss


# ---- blocks that are computed again


Runs = Callable[[Block, Place, tuple[Value, ...]], Any]


def _computed_again(run: Run, how: str) -> Runs | None:
    """Return what a program runs its blocks by: None is as they stand."""
    if how == "none":
        return None
    if how == "half":
        return _some(run)
    if how == "pairs":
        return _pairs(run)
    return lambda call, place, values: _again(run, call, place, values, away=how == "offload")


def _again(
    run: Run, call: Block, place: Place, values: tuple[Value, ...], *, away: bool = False
) -> Any:
    """Run a block and forget what it saved."""

    def layer(*tensors: Tensor) -> Any:
        return _each(call(place, *(Value(run, one) for one in tensors)), lambda v: v.tensor)

    tensors = [value.tensor for value in values]
    out = checkpoint(run.m, layer, *tensors, away=away)
    del tensors
    return _each(out, lambda tensor: Value(run, tensor))


def _each(out: Any, change: Callable[[Any], Any]) -> Any:
    """Change what a block gave: one value, or several, of which some may be none."""
    if isinstance(out, list | tuple):
        return tuple(None if one is None else change(one) for one in out)
    return change(out)


def _some(run: Run) -> Runs:
    """Compute the first two of each four blocks again (SimpleTuner's seg2-stride4)."""
    count = 0

    def block(call: Block, place: Place, values: tuple[Value, ...]) -> Any:
        nonlocal count
        count += 1
        if (count - 1) % STRIDE < OF_STRIDE:
            return _again(run, call, place, values)
        return call(place, *values)

    return block


def _pairs(run: Run) -> Runs:
    """Compute two blocks after each other again as one (SimpleTuner's interval of two)."""
    last: list[tuple[Block, Place, tuple[Value, ...], list[Tensor]]] = []

    def block(call: Block, place: Place, values: tuple[Value, ...]) -> Any:
        before = last.pop() if last else None
        if before is not None and _same(values, before[3]):
            first, first_place, inputs, _ = before

            def both(_: Place, *entering: Value) -> Any:
                between = first(first_place, *entering)
                return call(place, *(between if isinstance(between, tuple) else (between,)))

            return _again(run, both, place, inputs)
        out = _again(run, call, place, values)
        given = out if isinstance(out, tuple) else (out,)
        last.append((call, place, values, [one.tensor for one in given if one is not None]))
        return out

    return block


def _same(values: Sequence[Value], tensors: Sequence[Tensor]) -> bool:
    pairs = zip(values, tensors, strict=False)
    return len(values) == len(tensors) and all(value.tensor is one for value, one in pairs)
