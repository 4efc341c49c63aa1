"""The cards while a pipeline runs: components that come and go beside the tensors of each stage.

    none         all components, always
    model        one of the chain at a time: before a component runs, the one before it in the chain
                 leaves, and cached memory with it. Nothing leaves after its own forward
    sequential   the largest leaf of the component that runs
    group-block  what is in no block, and a block; with a stream the next one, too
    group-leaf   the largest leaf; with a stream the next one, too

Formats halve what a component takes, blocks that are swapped (swapping.py) are not there.
Source: diffusers 0.42 pipelines/pipeline_utils.py (enable_model_cpu_offload,
enable_sequential_cpu_offload, enable_group_offload), hooks/group_offloading.py,
hooks/layerwise_casting.py; accelerate hooks.py (CpuOffload.pre_forward).
"""

from collections.abc import Mapping, Sequence

from weighbridge.base.dtypes import DType
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.memory.components.activations import Heap, LivePeak, LiveTensor
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import adapting, formats
from weighbridge.pictures.companions import LoraFiles
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.swapping import BlocksOnCard, swapped
from weighbridge.pictures.values import machine
from weighbridge.training.forward.machine import Machine

CPU = -1  # number for a component that runs on the CPU
COPIES = 1  # CUDA stream of group offload's copies, with blocks of its own
IN_FLIGHT = 2  # swapped blocks on the card: one runs, one arrives


@frozen_record
class ComponentPlacement:
    """The settings that decide which weights are on which card, and in which format."""

    offload: str  # one of workload/picture.py's OFFLOADS
    stream: bool
    dtypes: Mapping[str, DType]
    forms: Mapping[str, str]
    casting: tuple[str, ...] = ()  # components with layerwise casting: layers rest in fp8
    fused: tuple[str, ...] = ()  # components with fused query, key and value weights as well
    swapped: Mapping[str, int] = {}  # component -> number of blocks that wait in host memory
    loras: Mapping[str, LoraFiles] = {}  # component -> its LoRAs, if not fused
    cards: Mapping[str, int] = {}  # component -> card, if there are several (cards.py)


class StagePeak(NamedTuple):
    """The peak of a stage on card `number`, and the bytes of each component's weights there."""

    peak: LivePeak
    weights: Mapping[str, int]
    card: int = 0
    beyond: bool = False  # a convolution had more elements than 32 bits count


class CardMemory(NamedTuple):
    """One card: its allocator, its machine, and the weights on it by component."""

    heap: Heap
    m: Machine
    there: dict[str, tuple[LiveTensor, ...]]


class PipelineCard:
    """The memory of a card, or of several, from the first component to the last stage. One card at
    a time runs."""

    outputs_stay = True  # pictures decoded in parts are assembled on the card
    unpacks = True  # quantized linears are dequantized for products
    code = ""  # module of programs that replace diffusers' classes
    turns_wide = True
    by_libraries = True  # cuBLAS has a workspace, and cuDNN needs no im2col

    def __init__(
        self,
        spec: PipelineSpec,
        parts: Mapping[str, ModelPart],
        placement: ComponentPlacement,
        chip: Chip | None,
    ) -> None:
        self.spec, self.parts, self.placement = spec, parts, placement
        numbers = sorted({0, *placement.cards.values()})
        self.each = {number: self._memory(chip) for number in numbers}
        self._switch_to_card_of("")
        always = parts if placement.offload == "none" else spec.excluded
        for name in always:
            self._switch_to_card_of(name)
            self._bring(name)
        if placement.offload == "none" and not placement.cards:
            for name, nbytes in beside(spec, placement).items():
                self._there[name] = self.heap.row((nbytes,), "weights")

    def _memory(self, chip: Chip | None) -> CardMemory:
        heap = Heap()
        m = machine(heap, chip)
        m.grad = m.training = False
        if not self.by_libraries:
            m.unfolds, m.workspace = True, 0
        return CardMemory(heap, m, {})

    def _switch_to_card_of(self, name: str) -> None:
        """Switch to the card of component `name`; by default card 0."""
        self.number = self.placement.cards.get(name, 0)
        self.heap, self.m, self._there = self.each[self.number]

    def close(self) -> None:
        for one in self.each.values():
            one.heap.close()

    @property
    def resting(self) -> dict[int, dict[str, int]]:
        """Return the bytes of weights by card and component; {} with a single card."""
        return {n: self.weights(n) for n in self.each if n != CPU and self.placement.cards}

    def weights(self, number: int) -> dict[str, int]:
        """Return the bytes of weights on card `number`, by component."""
        there = self.each[number].there
        return {one: sum(t.total for t in held) for one, held in there.items()}

    def packing(self, *, there: bool) -> int:
        """Return the bytes on the card while linears are quantized there: of all components if they
        are `there` before; else only of those that bitsandbytes quantizes, which stay despite later
        offloading. The largest counts unquantized. 0 without such formats."""
        place, parts = self.placement, self.parts
        begins = "" if there else formats.BITSANDBYTES
        names = [n for n, form in place.forms.items() if n in parts and form.startswith(begins)]
        before = parts if there and names else names
        stays = sum(
            formats.nbytes(parts[n], None if there else place.forms[n], place.dtypes[n])
            for n in before
        )
        added = place.fused if there and names else ()
        stays += sum(sum(formats.fused(parts[n], None, place.dtypes[n])) for n in added)
        packed = (formats.largest(parts[n], place.dtypes[n], linears=True) for n in names)
        return stays + max(packed, default=0)

    def computes(self, name: str) -> DType:
        """Return the dtype in which a component computes."""
        return self.placement.dtypes[name]

    def before(self, name: str) -> None:
        """Load onto its card what component `name` needs to run, and offload others as set."""
        self._switch_to_card_of(name)
        offload = self.placement.offload
        if offload == "model":
            order = self.spec.order
            before = order.index(name) - 1 if name in order else -1
            earlier = [one for one in order[: before + 1] if one in self.parts]
            for one in [one for one in earlier if one not in self.spec.excluded][-1:]:
                self._send(one)
            self.heap.emptied()
        if name not in self._there:
            self._bring(name)
        self._begin()

    def after(self, name: str) -> StagePeak:
        """End the forward of component `name` and return its peak."""
        peak = self.heap.phase()
        weights = self.weights(self.number)
        if self.placement.offload not in ("none", "model") and name not in self.spec.excluded:
            self._send(name)
            if self.placement.offload == "sequential":
                self.heap.emptied()
        beyond, self.m.beyond = self.m.beyond, False
        return StagePeak(peak, weights, self.number, beyond)

    def _begin(self) -> None:
        self.heap.phase()
        self.heap.allocator.reset_peak()

    def _bring(self, name: str) -> None:
        place, sizes = self.placement, self._sizes(name)
        if place.stream and place.offload.startswith("group") and name not in self.spec.excluded:
            tensors = tuple(self.heap.take(nbytes, "weights", COPIES) for nbytes in sizes)
        else:
            tensors = self.heap.row(sizes, "weights")
        self._there[name] = tensors

    def _send(self, name: str) -> None:
        self.heap.drop(*self._there.pop(name, ()))

    def _sizes(self, name: str) -> tuple[int, ...]:
        """Return the bytes of each tensor of a component that is on the card while it runs."""
        place, part = self.placement, self.parts[name]
        dtype, form = place.dtypes[name], place.forms.get(name)
        sizes = formats.sizes(part, form, dtype)
        if form is None and self.by_libraries and not self.code:
            sizes = formats.loaded(part, dtype)
        if name in place.fused:
            sizes = (*sizes, *formats.fused(part, form, dtype))
        if name in place.loras:
            sizes = (*sizes, *adapting.files(part, *place.loras[name], dtype))
        if name in place.casting:
            sizes, _ = formats.resting(part, dtype)
        offload = "none" if name in self.spec.excluded else place.offload
        if offload in ("sequential", "group-leaf"):
            leaf = max(sizes, default=0)
            return (leaf,) * (2 if offload == "group-leaf" and place.stream else 1)
        if offload == "group-block":
            outside, block, count = formats.blocks(part)
            total = sum(sizes)
            blocks = min(2 if place.stream else 1, count)
            return (int(total * outside), *[int(total * block)] * blocks)
        return *_swapped(place, name, part, sizes).here, *formats.tables(part, dtype)


def beside(spec: PipelineSpec, place: ComponentPlacement) -> dict[str, int]:
    """Return bytes by component, for components that the program loads but does not run."""
    return {
        name: place.dtypes[name].size(numel)
        for name, numel in spec.beside.items()
        if name in place.dtypes  # ComfyUI and stable-diffusion.cpp do not load them
    }


def waiting(place: ComponentPlacement, parts: Mapping[str, ModelPart], spec: PipelineSpec) -> int:
    """Return the most bytes of weights in host memory while the pipeline runs."""
    total = sum(beside(spec, place).values()) if place.offload != "none" else 0
    for name, part in parts.items():
        sizes = formats.sizes(part, place.forms.get(name), place.dtypes[name])
        if name in spec.excluded:
            continue
        if place.offload != "none" or place.cards.get(name) == CPU:
            total += sum(sizes)
        else:
            total += _swapped(place, name, part, sizes).waiting
    return total


def _swapped(
    place: ComponentPlacement, name: str, part: ModelPart, sizes: Sequence[int]
) -> BlocksOnCard:
    params = tuple(p for p in part.blueprint.params if not p.tied)
    return swapped(params, sizes, place.swapped.get(name, 0), coming=IN_FLIGHT)
