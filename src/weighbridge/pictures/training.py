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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.memo import memo
from weighbridge.base.records import (
    NamedTuple,
    dataclass,
    field,
    fields_of,
    frozen_record,
    replace,
)
from weighbridge.machines.accelerators.chips import ASSUMED, Chip
from weighbridge.memory.components.activations import Heap, LivePeak, keep_fullest
from weighbridge.memory.components.card_bytes import CardBytes
from weighbridge.memory.components.recorded import HeapTape
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import base, components, formats, sharing
from weighbridge.pictures.adapting import ConvAdapter, PictureAdapters, put_on, targeted
from weighbridge.pictures.again import computed_again
from weighbridge.pictures.config import class_of, config_of
from weighbridge.pictures.nets import tiles
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.stages import COLOURS
from weighbridge.pictures.swapping import BlocksOnCard, shared, swapped
from weighbridge.pictures.values import TORCH, ProgramRun, Sizes, Value, machine
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Machine, made_like
from weighbridge.training.forward.modules import Wrap
from weighbridge.training.forward.ops.pointwise import cast
from weighbridge.training.forward.step import Around
from weighbridge.training.forward.tensors import (
    Computed,
    LeafTensor,
    Tensor,
    TensorStorage,
)
from weighbridge.training.optimizers.row import Optimization, Optimizer
from weighbridge.training.sharding.numbers import Sharding

STEPS = 2
PHASES = CACHE, LOAD, ENCODE, FORWARD, BACKWARD, STEP = (
    *("cache", "load", "encode"),
    *("forward", "backward", "step"),
)
CLIP = "CLIPTextModel"  # encoder that scripts train together with the denoiser
CLIP_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
EMA = "second average"
ONE = 1  # a swapped block is on the card
WAYS = 2  # forward and backward each keep layers on the card


@frozen_record
class PicturePlan:
    """A training run with all defaults filled in. `parts`: models by component; `encodes`: encoders
    that stay on the card and run in each step; `caches`: those that run before the steps, `beside`
    the denoiser or alone."""

    spec: PipelineSpec
    parts: Mapping[str, ModelPart]
    sizes: Sizes
    weights: DType  # dtype of the denoiser, frozen or fully trained
    autocast: DType | None
    dtypes: Mapping[str, DType]  # of the other components
    optimizer: Optimizer
    adapters: PictureAdapters | None  # None: full training
    forms: Mapping[str, str] = field(default_factory=dict)  # component -> format
    accumulation: int = 1
    checkpointing: str = "none"
    attention: str = "sdpa"
    attention_away: bool = False  # attention's saved tensors wait in host memory
    fuse_qkv: bool = False
    ema: bool = False
    encodes: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    beside: bool = False
    trains_text: bool = False
    vae_tiling: bool = False
    blocks_to_swap: int = 0
    streaming: str = "none"  # layers, or blocks
    waiting: float = 1.0  # fraction of the streamed weights in host memory
    depth: int = 2  # layers on the card in forward, and in backward
    combined: bool = False  # blocks are swapped from the end of all lists together
    bounced: bool = False  # a streamed layer saves its input
    torch: tuple[int, int] = TORCH
    chip: Chip = ASSUMED
    sharding: Sharding = field(default_factory=Sharding)
    buckets: bool = True  # DDP has buckets; with `views` gradients live in them
    views: bool = False

    @property
    def denoiser(self) -> ModelPart:
        return self.parts[self.spec.denoiser]

    @property
    def away_whole(self) -> bool:
        """Return whether a fully trained denoiser is partly offloaded to host memory."""
        return self.adapters is None and bool(self.blocks_to_swap or self.streaming != "none")

    @property
    def form(self) -> str | None:
        """Return the format of the frozen denoiser; None if it is not quantized."""
        return self.forms.get(self.spec.denoiser)

    def around(self) -> Around:
        """Return the hooks of this rank's sharding."""
        how = {"views": self.views, "buckets": self.buckets}
        return sharing.around(self.sharding, self.autocast or self.weights, **how)

    def encoder(self, name: str) -> tuple[int, ...]:
        """Return the bytes of each tensor of a component besides the denoiser."""
        return formats.sizes(self.parts[name], self.forms.get(name), self.dtypes[name])


@dataclass(slots=True, kw_only=True)
class PictureRun:
    """The peak of each phase of a run, and bytes in host memory."""

    moments: dict[str, LivePeak] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    trained: int = 0
    saved: int = 0  # bytes saved for backward when the first one begins
    waiting: int = 0  # bytes of weights in host memory
    away: int = 0  # most bytes of activations in host memory
    offloaded: int = 0  # bytes of parameters, master copies and states in host memory
    unsettled: bool = False  # a later torch saves more

    def note(self, name: str, peak: LivePeak) -> None:
        """Keep the largest peak of each phase."""
        self.reserved[name] = max(peak.reserved, self.reserved.get(name, 0))
        keep_fullest(self.moments, name, peak)


def run(plan: PicturePlan) -> PictureRun:
    """Return the peaks of encoding cached inputs and of two steps. Offloading a frozen base changes
    nothing else, so the steps run once for all its fractions."""
    undivided = plan.form is not None or not plan.sharding.parameters
    still = undivided and plan.adapters is not None and plan.streaming != "layers"
    whole = replace(plan, blocks_to_swap=0, streaming="none", waiting=1.0) if still else plan
    settings = (getattr(whole, name) for name in fields_of(whole) if name not in PARTS)
    facts = "steps", repr((plan.form, *_encoders(plan, plan.encodes), *settings))
    ran = memo(plan.denoiser, facts, partial(_steps, whole))
    waiting = hosted = 0
    if still:
        sizes = formats.sizes(plan.denoiser, base.stored(plan.form), plan.weights)
        params = tuple(p for p in plan.denoiser.blueprint.counted if not p.tied)
        here, hosted = _on_card(params, sizes, plan)
        waiting = sum(sizes) - sum(here)
    result = replace(
        ran,
        moments={name: _less(peak, waiting) for name, peak in ran.moments.items()},
        reserved={name: nbytes - waiting for name, nbytes in ran.reserved.items()},
        waiting=ran.waiting + hosted,
    )
    alone = ((name,) for name in plan.caches)
    for names in filter(None, (plan.caches,)) if plan.beside else alone:
        beside = plan.form, plan.weights, plan.adapters, plan.fuse_qkv, plan.ema, plan.streaming
        facts = "cached", repr((*_encoders(plan, names), beside if plan.beside else ()))
        result.note(CACHE, memo(plan.denoiser, facts, partial(_cached, plan, names)))
    return result


PARTS = frozenset(("spec", "parts", "dtypes", "forms", "caches", "beside"))


def _encoders(plan: PicturePlan, names: Iterable[str]) -> tuple[object, ...]:
    """Return a cache key for runs of these encoders."""
    each = ((one, plan.forms.get(one), plan.dtypes[one]) for one in names)
    return (plan.spec.name, plan.sizes, plan.chip, plan.vae_tiling, *each)


def _less(peak: LivePeak, nbytes: int) -> LivePeak:
    live = peak.live | {"weights": peak.live.get("weights", 0) - nbytes} if nbytes else peak.live
    return LivePeak(live=live, allocated=peak.allocated - nbytes, reserved=peak.reserved - nbytes)


def _steps(plan: PicturePlan) -> PictureRun:
    """Return the peaks of two training steps."""
    result = PictureRun()
    m = machine(Heap(), plan.chip)
    step = DenoiserStep(m, plan, result)
    result.note(LOAD, m.heap.phase())
    shares, whole = step.around, step.built
    offloaded = plan.sharding.offload != "none"
    optimization = Optimization(
        plan.optimizer, shares.stepped(whole), offloaded=offloaded, apart=shares.apart
    )
    if shares.early:
        optimization.start(m)
    count = min(plan.accumulation, STEPS + shares.waits)
    for _ in range(STEPS):
        for number in range(count):
            step.all(last=number == count - 1)
        shares.before_step(m, whole)
        optimization.step(m)
        shares.after_step(m, whole)
        result.note(STEP, m.heap.phase())
    result.away, result.offloaded = m.most_away, shares.host
    result.offloaded += optimization.elsewhere.get("host", 0)
    m.heap.close()
    return result


def _cached(plan: PicturePlan, names: tuple[str, ...]) -> LivePeak:
    """Return the peak of encoders that run before the steps: on one picture or text at a time, or
    on a batch with the denoiser and its adapters loaded. Outputs stay on the card."""
    m = machine(Heap(), plan.chip)
    for one in names:
        m.heap.row(plan.encoder(one), one)
    alone = replace(plan, encodes=(), sharding=Sharding())
    beside = plan.beside and plan.streaming == "none"
    step = DenoiserStep(m, alone, PictureRun()) if beside else None
    m.training = False
    batch = plan.sizes.batch if plan.beside else 1
    sizes = {name: replace(plan.sizes, batch=1) for name in names}
    sizes |= {plan.spec.vae: replace(plan.sizes, batch=batch)}
    outputs = [_encode(m, plan, name, sizes[name]) for name in names]
    peak = m.heap.phase()
    del step, outputs
    m.heap.close()
    return peak


def _encode(m: Machine, plan: PicturePlan, name: str, sizes: Sizes) -> Value | None:
    """Return the output of encoder `name`; all else is freed. Pixels are those of a batch."""
    text, config = plan.spec.short.get(name, sizes.text), plan.parts[name].config
    side = "encode" if name == plan.spec.vae else "both"
    run_sizes = _tile(plan, sizes) if side == "encode" and plan.vae_tiling else sizes
    shape = sizes.pixels(COLOURS, plan.spec.space, plan.spec.time)
    pixels = m.new(shape, plan.dtypes[name]) if side == "encode" else None
    run = ProgramRun(m=m, cls=class_of(config), dtype=plan.dtypes[name])
    with m.no_grad():
        output = components.forward(run, config, replace(run_sizes, text=text, side=side))
    del pixels
    return output


def _tile(plan: PicturePlan, sizes: Sizes) -> Sizes:
    """Return the sizes of one tile of an encode; work on latents is small."""
    space, config = plan.spec.space, plan.parts[plan.spec.vae].config
    tile = tiles.tile(class_of(config), config_of(config), space)
    sides = plan.spec.tile or (space * sizes.height, space * sizes.width)
    tall, wide = tile[:2] if tile else (side // space for side in sides)
    return replace(sizes, height=min(sizes.height, tall), width=min(sizes.width, wide))


class TrainedText(NamedTuple):
    """A trained text encoder: its parameters, and the replacements of its linears."""

    params: dict[str, LeafTensor]
    wraps: dict[str, Wrap]


class DenoiserStep:
    """The denoiser in memory, which runs one micro-batch at a time."""

    def __init__(self, m: Machine, plan: PicturePlan, result: PictureRun) -> None:
        self.m, self.plan, self.result = m, plan, result
        self.wraps: dict[str, Wrap] = {}
        self.convs: Mapping[str, ConvAdapter] = {}
        self.trained: list[LeafTensor] = []
        self.around = plan.around()
        self.tape, self.begin = HeapTape(), 0  # of a micro-batch, and the first place in it
        self.left: Sequence[tuple[LeafTensor, Tensor, int]] = ()  # its gradients, and their places
        clips = (one for one in plan.encodes if class_of(plan.parts[one].config).startswith(CLIP))
        self.texts = {name: self._text(name) for name in clips if plan.trains_text}
        for name in plan.encodes:
            if name not in self.texts or plan.adapters is not None:
                m.heap.row(plan.encoder(name), name)
        self.params = self._base()
        if plan.adapters is None:
            self.trained += self.params.values()
        else:
            paths = targeted(plan.denoiser.blueprint.counted, plan.adapters)
            self.wraps, self.convs, trained = put_on(
                m, plan.adapters, paths, self.params, self.wraps, self.around
            )
            self.trained += trained
        config, cut = plan.denoiser.config, plan.sharding.parameters
        self.built = sharing.built(config, (*self.trained, *self.params.values()), cut=cut)
        self.around.placed(m, self.built)
        result.trained = sum(leaf.numel for leaf in self.trained)
        if plan.ema:
            m.heap.row([leaf.nbytes for leaf in self.trained], EMA)

    def _base(self) -> dict[str, LeafTensor]:
        """Return the denoiser's parameters, loaded onto the card except those that stay in host
        memory."""
        plan, m = self.plan, self.m
        m.heap.row(formats.tables(plan.denoiser, plan.weights), "weights")
        counted = {p.name: p for p in plan.denoiser.blueprint.counted if not p.tied}
        form = plan.form
        if plan.adapters is None or (plan.sharding.parameters and form is None):
            full = plan.adapters is None
            return sharing.placed(self.around, m, counted.values(), plan.weights, trained=full)
        sizes = formats.sizes(plan.denoiser, base.stored(form), plan.weights)
        params = tuple(counted.values())
        streams = _waiting_layers(params, plan)
        here = list(sizes)
        if streams:
            here, self.result.waiting = _streamed(params, sizes, streams, plan)
        m.heap.row(here, "weights")
        if plan.fuse_qkv:
            added = formats.fused(plan.denoiser, base.stored(form), plan.weights)
            m.heap.row(added, "weights")
        leaves = _frozen(counted.values(), plan.weights)
        if form is not None:
            self.wraps |= base.wrapped(form, counted, leaves, plan.autocast or plan.weights)
        if plan.bounced:
            self.wraps |= base.streamed(streams, leaves)
        return leaves

    def _text(self, name: str) -> "TrainedText":
        """Return a trained text encoder, loaded onto the card with its adapters, or fully
        trained."""
        plan, m = self.plan, self.m
        tree = components.blueprint(plan.parts[name].config)  # with names as its program has them
        params = () if tree is None else tree.counted
        if plan.adapters is None:
            whole = {
                p.name: m.param(p.name, p.shape, plan.weights, kind=p.kind)
                for p in params
                if not p.tied
            }
            self.trained += _prefixed_with_encoder(name, whole.values())
            return TrainedText(whole, {})
        leaves = _frozen(params, plan.dtypes[name])
        paths = targeted(params, replace(plan.adapters, targets=CLIP_TARGETS))
        layers = put_on(m, plan.adapters, paths, leaves, {})
        self.trained += _prefixed_with_encoder(name, layers.trained)
        return TrainedText(leaves, layers.linears)

    def all(self, *, last: bool) -> None:
        """Run a micro-batch forward and backward, the `last` of a step or an earlier one. Text
        embeddings get their gradients after the denoiser."""
        m = self.m
        inputs = self._encoded()
        self.around.begins(m, self.built)
        texts = [] if self._repeated() else self._noted(last=last)
        del inputs
        while texts:
            backward(m, texts.pop().tensor)
        self.around.after_backward(m, self.built, last=last)
        self.result.note(BACKWARD, m.heap.phase())

    def _noted(self, *, last: bool) -> list[Value]:
        """Run a micro-batch and record its allocations; return trained text embeddings. The first
        recording is kept if it began without gradients and no sharding hooks its blocks."""
        m, heap, tape = self.m, self.m.heap, HeapTape()
        heap.notes, begin = tape.notes, heap.place() + 1
        texts = self._walked(last=last)
        heap.notes = None
        left = [(p, g, g.storage.held.place) for p in self.trained if (g := p.grad) and g.storage]
        stays = {place for *_, place in left} | m.lasting
        gone = {note for note in tape.notes if type(note) is int}
        alone = self.plan.sharding.kind in ("none", "ddp") and not (texts or self.left)
        if alone and {*range(begin, heap.place())} - stays == gone:
            like = [(p, Computed(g.shape, g.dtype, None), place) for p, g, place in left]
            self.tape, self.begin, self.left = tape, begin, like
        return texts

    def _repeated(self) -> bool:
        """Repeat the first micro-batch's allocations if this one begins without gradients, too;
        return whether that was possible."""
        m = self.m
        if not self.left or any(p.grad for p in self.trained):
            return False
        there: list[Any] = [None] * self.begin
        kept = CardBytes()  # for threads that have multiplied already
        for told in self.tape.again(m.heap, lambda n: kept if n is m.workspace else n, there):
            if isinstance(told, LivePeak):
                self.result.note(FORWARD, told)
        for p, like, place in self.left:
            p.grad = Computed(like.shape, like.dtype, TensorStorage.of(m.heap, there[place]))
        return True

    def _walked(self, *, last: bool) -> list[Value]:
        """Run a micro-batch and return the trained text embeddings, whose backward is still to
        come."""
        m, plan = self.m, self.plan
        with m.casting(plan.autocast):
            texts = [self._text_forward(name, one) for name, one in self.texts.items()]
            out = self._forward()
        self.result.note(FORWARD, m.heap.phase())
        loss = _loss(m, self.around.logits(m, out.tensor))
        del out
        self.around.turns(m, self.built, last=last)
        self.result.saved = self.result.saved or m.heap.live("activations")
        backward(m, loss)
        return texts

    def _encoded(self) -> list[Tensor]:
        """Return the tensors that the training loop holds: latents, noise, their sum, the target,
        and prompts."""
        m, plan, s = self.m, self.plan, self.plan.sizes
        for name in plan.encodes:
            if name not in self.texts:
                _encode(m, plan, name, s)
        if plan.encodes:
            self.result.note(ENCODE, m.heap.phase())
        latents = s.batch, plan.spec.latents, s.frames, s.height, s.width
        inputs = [m.new(latents, plan.autocast or plan.weights) for _ in range(3)]
        inputs.append(m.new(latents, FLOAT32))
        prompts = s.batch, s.text, plan.spec.embedding_width
        return [*inputs, m.new(prompts, plan.autocast or plan.weights)]

    def _text_forward(self, name: str, text: "TrainedText") -> Value:
        plan, config = self.plan, self.plan.parts[name].config
        run = ProgramRun(
            m=self.m,
            cls=class_of(config),
            dtype=plan.dtypes[name],
            params=dict(text.params),
            wraps=text.wraps,
        )
        run.block = computed_again(run, plan.checkpointing)
        length = plan.spec.short.get(name, plan.sizes.text)
        out = components.forward(run, config, replace(plan.sizes, text=length))
        assert out is not None
        return out

    def _forward(self) -> Value:
        plan, config = self.plan, self.plan.denoiser.config
        run = ProgramRun(
            m=self.m,
            cls=class_of(config),
            dtype=plan.weights,
            attention=plan.attention,
            attention_away=plan.attention_away,
            fused_qkv=plan.fuse_qkv,
            params=dict(self.params),
            wraps=self.wraps,
            conv_wraps=self.convs,
            torch=plan.torch,
        )
        run.block = computed_again(run, plan.checkpointing)
        if plan.sharding.parameters:
            run.block = sharing.in_units(run, self.around, run.block)
        out = components.forward(run, config, plan.sizes)
        self.result.unsettled = run.unsettled
        assert out is not None
        return out


def _prefixed_with_encoder(name: str, leaves: Iterable[LeafTensor]) -> Iterator[LeafTensor]:
    """Yield trained tensors, renamed with their encoder's prefix: two encoders of a pipeline have
    equal names."""
    for leaf in leaves:
        leaf.name = f"{name}.{leaf.name}"
        yield leaf


def _frozen(params: Iterable[Param], dtype: DType) -> dict[str, LeafTensor]:
    """Return frozen parameters by name; their bytes are counted elsewhere."""
    return {
        p.name: LeafTensor(p.name, p.shape, dtype, None, trainable=False, kind=p.kind)
        for p in params
        if not p.tied
    }


def _on_card(params: Sequence[Param], sizes: Sequence[int], plan: PicturePlan) -> BlocksOnCard:
    """Return which of the frozen denoiser's tensors are on the card, and the bytes in host
    memory."""
    if plan.streaming == "blocks":
        return shared(params, sizes, plan.waiting)
    coming = ONE if plan.combined else 0
    return swapped(params, sizes, plan.blocks_to_swap, coming=coming, combined=plan.combined)


def _waiting_layers(params: Sequence[Param], plan: PicturePlan) -> tuple[str, ...]:
    """Return the names of streamed weights in host memory. If only some are, the trainer picks them
    at random: here they are spread evenly."""
    if plan.streaming != "layers":
        return ()
    linears = [p.name for p in params if p.kind == "linear" and p.name.endswith(".weight")]
    share = plan.waiting
    return tuple(n for i, n in enumerate(linears) if int((i + 1) * share) > int(i * share))


def _streamed(
    params: Sequence[Param], sizes: Sequence[int], streams: Sequence[str], plan: PicturePlan
) -> BlocksOnCard:
    """Return the tensors on the card besides streamed layers, and the largest few successive
    streamed layers, in the dtype of products."""
    each = list(zip(params, sizes, strict=True))
    away = {*streams}
    here = [nbytes for p, nbytes in each if p.name not in away]
    wide = [plan.weights.size(p.numel) for p in params if p.name in away]
    runs = (wide[i : i + plan.depth] for i in range(max(1, len(wide) - plan.depth + 1)))
    here += max(runs, key=sum) * WAYS
    return BlocksOnCard(here, sum(nbytes for p, nbytes in each if p.name in away))


def _loss(m: Machine, out: Tensor) -> Tensor:
    """Return mse_loss(out.float(), target.float())."""
    wide = cast(m, out, FLOAT32)
    target = m.new(wide.shape, FLOAT32)
    loss = m.new((), FLOAT32)
    return made_like(m, wide, loss, wide, target)
