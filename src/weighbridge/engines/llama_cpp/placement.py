"""Placement of layers, tensors and caches on devices, and the bytes of their buffers.

    token_embd          always the host; a tied output matrix is copied to the output's device
    rope_freqs          one in the file; a copy on every device that has layers, or only one where
                        -ot places it (create_tensor, TENSOR_DUPLICATED)
    per_layer_token_embd    with the output until #21612, on the host since; its projection is
                        with the first layer since then
    layer i             layers from n - ngl + 1 on are on GPUs: by the given split, or by the free
                        memory of each
    -ncmoe N            experts of the first N layers stay on the host; of other layers in
                        ik_llama.cpp since March 2026 (`lent`)
    -ot PATTERN=BUFFER  a tensor in whose name a pattern is found goes to that buffer, whole and
                        without its layer; the first pattern decides, before -ncmoe (overrides.py)
    row split           each matrix over all GPUs by rows; everything else on the main one
    no kernel           a matrix whose type the GPU cannot multiply is on the host, which then does
    a tensor            padded to 128 bytes on a GPU, a quantized row to a multiple of 512 values;
                        to 32 bytes on the host

Source: llama.cpp 0c1e57098 src/llama-model.cpp (load_tensors, create_tensor; select_weight_buft:
the first kind of buffer whose device supports the product), common/arg.cpp (--n-cpu-moe),
ggml/src/ggml-cuda/ggml-cuda.cu (buffer_type_get_alloc_size, split buffers); ik_llama.cpp 8337e4cd3
src/llama-load-tensors.cpp (create_tensors_helper).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate

from weighbridge.base.dtypes import DType
from weighbridge.base.memo import memo
from weighbridge.base.records import dataclass, frozen_record
from weighbridge.base.units import align_up
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch
from weighbridge.engines.llama_cpp.graphs.network import Network, Weight, block
from weighbridge.engines.llama_cpp.overrides import Override, named
from weighbridge.models.arch.mixers import Mixer

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
INPUT = (
    EMBEDDING, "position_embd.weight", "token_types.weight",
    "token_embd_norm.weight", "token_embd_norm.bias",
)  # fmt: skip
# Gemma 3n's and 4's: src/llama-arch.cpp (LLM_TENSOR_INFOS) in llama-cpp-python 0.3.20 and 0.3.22
PER_LAYER = "per_layer_token_embd.weight"
OF_PER_LAYER = ("per_layer_model_proj.weight", "per_layer_proj_norm.weight")
FREQUENCIES = "rope_freqs.weight"
GPU_ALIGNMENT, HOST_ALIGNMENT, ROW = 128, 32, 512
EXPERTS = "_exps."


Product = tuple[bool, bool, DType, tuple[int, ...]]  # logits, experts, type, shape


@frozen_record
class Allotment:
    """The device of every layer and tensor, which does not depend on context or batch."""

    layers: tuple[int, ...]  # the last is the output
    weights: Mapping[str, int]
    buffers: tuple[int, ...]  # bytes of tensors by device
    products: tuple[frozenset[Product], ...]  # kinds of matrices by device
    mixers: tuple[Mapping[Mixer, int], ...]  # per device, each kind of mixer with its count


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class LayerPlacement:
    """Placement of a model's layers, tensors and caches on devices, numbered with the host last."""

    net: Network
    launch: LlamaCppLaunch
    free: tuple[int, ...]  # room per GPU, as shares; equal if it is unknown

    @property
    def host(self) -> int:
        return self.launch.gpus

    @cached_property
    def ends(self) -> Sequence[float]:
        """Return the cumulative share of the layers at which each GPU's part ends, from 0 to 1."""
        shares = self.launch.tensor_split or self.free
        shares = (*shares, *(0.0,) * (self.launch.gpus - len(shares)))
        whole = sum(shares) or 1
        return [x / whole for x in accumulate(shares)]

    @cached_property
    def allotment(self) -> Allotment:
        return memo(self.net, ("allotment", *self.facts), self._deal)

    @property
    def facts(self) -> tuple[Hashable, ...]:
        """Return all settings that decide the device of each tensor."""
        launch = self.launch
        split = (launch.split_mode, launch.tensor_split, launch.main_gpu, self.free)
        rules = (launch.rules.early_per_layer, launch.rules.no_kernel, launch.rules.lends)
        moved = (launch.cpu_moe, launch.overrides)
        return (launch.gpus, launch.layers, launch.gpu_layers, *moved, *split, *rules)

    @cached_property
    def overridden(self) -> Mapping[str, Override]:
        """Return the -ot pattern that places each tensor, of tensors placed so; a matrix made at
        load goes by the name of its source."""
        said, net = self.launch.overrides, self.net
        if not said:
            return {}
        numbers = memo(net, ("overrides", said), lambda: named(net.weights, said))
        sources = {name: net.made.get(name, name) for name in net.weights}
        return {name: said[numbers[s]] for name, s in sources.items() if s in numbers}

    def _deal(self) -> Allotment:
        weights = {name: self._weight(name) for name in self.net.weights}
        pairs = tuple(self._held(weights))
        kinds: list[set[Product]] = [set() for _ in range(self.launch.gpus + 1)]
        for t, device in pairs:
            logits = t.name.startswith(("output", "token_embd"))
            kinds[device].add((logits, EXPERTS in t.name, t.dtype, t.ne))
        return Allotment(
            layers=tuple(self._layer(i) for i in range(len(self.net.layers) + 1)),
            weights=weights,
            buffers=self._buffers(pairs),
            products=tuple(map(frozenset, kinds)),
            mixers=self._mixers(),
        )

    def _mixers(self) -> tuple[Mapping[Mixer, int], ...]:
        counts: list[Counter[Mixer]] = [Counter() for _ in range(self.launch.gpus + 1)]
        for i, la in enumerate(self.net.layers):
            counts[self._layer(i)].update(la.mixers)
        return tuple(counts)

    def cached(self, device: int) -> Mapping[Mixer, int]:
        """Return the mixers whose caches are on `device`, with their counts."""
        if self.launch.cache_offload:
            return self.allotment.mixers[device]
        return Counter(m for la in self.net.layers for m in la.mixers if device == self.host)

    def layer(self, i: int) -> int:
        """Return the device of layer `i`; the layer after the last is the output."""
        return self.allotment.layers[i]

    def weight(self, name: str) -> int:
        device = self.allotment.weights.get(name)
        return self._weight(name) if device is None else device

    def _layer(self, i: int) -> int:
        first = max(0, self.launch.layers - self.launch.gpu_layers)
        if i < first or not self.launch.gpus or not self.launch.gpu_layers:
            return self.host
        if self.launch.split_mode != "layer" or self.launch.gpus == 1:
            return self.launch.main_gpu
        return min(
            bisect_right(self.ends, (i - first) / self.launch.gpu_layers), self.launch.gpus - 1
        )

    def _weight(self, name: str) -> int:
        told = self.overridden.get(EMBEDDING if name == OUTPUT and self.net.tied else name)
        if told is not None:
            return told.device
        if name in INPUT and not name.startswith(self.net.last_norm):
            return self.host
        if name == PER_LAYER and self.launch.rules.early_per_layer != "no":
            return self.host
        if name in OF_PER_LAYER and self.launch.rules.early_per_layer != "no":
            return self._layer(0)
        if self._unmultiplied(name):
            return self.host
        number = self.net.blocks[name] if name in self.net.blocks else block(name)
        if number is None:
            return self._layer(len(self.net.layers))
        if EXPERTS in name and number in self.lent:
            return self.host
        return self._layer(number)

    @property
    def names_host(self) -> bool:
        """Return whether -ot puts a tensor on the host, or -ncmoe an expert. Source: ik_llama.cpp
        8337e4cd3 src/llama-load-tensors.cpp (get_context_for_tensor sets has_buft_overrides, with
        which create_tensors maps no file)."""
        if any(each.device == self.host for each in self.overridden.values()):
            return True
        return any(
            EXPERTS in t.name and t.name not in self.overridden
            for i in self.lent
            for t in self.net.of_layer(i)
        )

    @cached_property
    def lent(self) -> frozenset[int]:
        """Return the layers whose experts -ncmoe leaves on the host."""
        count, layers = self.launch.cpu_moe, range(len(self.net.layers))
        lends, shared = self.launch.rules.lends, self.launch.split_mode == "layer"
        if lends != "first" and shared and self.launch.gpus > 1 and count < len(layers):
            return frozenset(self._last_of_each(count))
        if lends == "last":
            routed = [i for i in layers if any(EXPERTS in w.name for w in self.net.of_layer(i))]
            return frozenset(routed[max(0, len(routed) - count) :])
        return frozenset(layers[:count])

    def _last_of_each(self, count: int) -> Iterator[int]:
        """Yield the last layers of each GPU, in proportion to how many it has, `count` in all;
        layers on the host count with the last GPU."""
        last, layers = self.launch.gpus - 1, len(self.net.layers)
        devices = [min(self._layer(i), last) for i in range(layers)]
        each = [devices.count(d) for d in range(last + 1)]
        left = dealt(each, count)
        for i in reversed(range(layers)):
            if left[devices[i]] > 0:
                left[devices[i]] -= 1
                yield i

    def _unmultiplied(self, name: str) -> bool:
        weight = self.net.weights.get(name)
        return weight is not None and weight.dtype.name in self.launch.rules.no_kernel

    @cached_property
    def unmultiplied(self) -> Mapping[str, int]:
        """Return the bytes per type that stay on the host because no GPU could multiply them."""
        nbytes: Counter[str] = Counter()
        for name, t in self.net.weights.items():
            if self.launch.gpu_layers and self._unmultiplied(name) and name not in INPUT:
                nbytes[t.dtype.name] += t.nbytes
        return nbytes

    def cache(self, i: int) -> int:
        return self.layer(i) if self.launch.cache_offload else self.host

    @property
    def full(self) -> bool:
        """Return whether the output layer is on a GPU, and so all the others."""
        return self.launch.gpu_layers >= self.launch.layers and self.launch.gpus > 0

    @property
    def pipelined(self) -> bool:
        """Return whether the GPUs are a pipeline, which keeps inputs once per step in flight."""
        return (
            self.launch.gpus > 1
            and self.full
            and self.launch.split_mode == "layer"
            and self.launch.cache_offload
            and (self.launch.rules.always_pipelined or not self.launch.moves)
        )

    @property
    def copies(self) -> int:
        """Return the copies of each input and of each tensor sent between devices."""
        return self.launch.copies if self.pipelined else 1

    @property
    def many_copies(self) -> bool:
        """Return whether host weights are on a device several times at once: copies of a pipeline
        are inputs, whose memory is never reused."""
        by_name = any(each.device == self.host for each in self.overridden.values())
        return self.copies > 1 and (bool(self.launch.cpu_moe) or by_name)

    def _held(self, weights: Mapping[str, int]) -> Iterator[tuple[Weight, int]]:
        """Yield every tensor with its device, more than once for a tied output matrix and for
        rope_freqs, which are copied."""
        for name, t in self.net.weights.items():
            if name == FREQUENCIES and name not in self.overridden:
                yield from ((t, d) for d in sorted(set(map(self._layer, self._of_net))))
            else:
                yield t, weights[name]
        if self.net.tied and EMBEDDING in self.net.weights and not self.net.encodes:
            output = self._weight(OUTPUT)
            if output not in (self.host, weights[EMBEDDING]) and not self._unmultiplied(EMBEDDING):
                yield self.net.weights[EMBEDDING], output

    @property
    def _of_net(self) -> range:
        return range(len(self.net.layers))

    @property
    def moved(self) -> int:
        """Return bytes that are on a GPU in some of a few dozen builds, else on the host."""
        embedding = self.net.weights.get(PER_LAYER)
        either = (
            self.launch.rules.early_per_layer == "perhaps" and self.full and embedding is not None
        )
        return embedding.nbytes if either and embedding is not None else 0

    def buffers(self) -> tuple[int, ...]:
        """Return the bytes of the model's tensors per device, the host last."""
        return self.allotment.buffers

    def pieces(self) -> Iterator[tuple[Weight, int, int]]:
        """Yield every tensor with a device that has it, and its bytes there."""
        for t, device in self._held(self.allotment.weights):
            for d, nbytes in self._pieces(t, device):
                yield t, d, nbytes

    def _buffers(self, pairs: Sequence[tuple[Weight, int]]) -> tuple[int, ...]:
        sizes = [0] * (self.launch.gpus + 1)
        for t, device in pairs:
            for d, nbytes in self._pieces(t, device):
                sizes[d] += nbytes
        return tuple(sizes)

    def _pieces(self, weight: Weight, device: int) -> Iterator[tuple[int, int]]:
        if device == self.host:
            yield device, align_up(weight.nbytes, HOST_ALIGNMENT)
        elif self._in_rows(weight):
            yield from self._rows(weight)
        else:
            yield device, on_a_card(weight)

    def _in_rows(self, weight: Weight) -> bool:
        by_rows = self.launch.split_mode == "row" and self.launch.gpus > 1
        return by_rows and len(weight.ne) == 2 and weight.name not in self.overridden

    def _rows(self, weight: Weight) -> Iterator[tuple[int, int]]:
        """Yield bytes per GPU of a row-split matrix, without the rounding that kernels need."""
        begin = 0.0
        for d, end in enumerate(self.ends):
            yield d, align_up(int(weight.nbytes * (end - begin)), GPU_ALIGNMENT)
            begin = end


def dealt(each: Sequence[int], count: int) -> list[int]:
    """Return `count` layers split in proportion to `each`, the layers per device: rounded, then
    corrected one by one where the error is least. Source: ik_llama.cpp 9b7db9bc3 (pull request
    1464)."""
    wanted = [n * count / sum(each) for n in each]
    found = [int(x + 0.5) for x in wanted]
    while sum(found) > count:
        over = [n - x if n else float("-inf") for n, x in zip(found, wanted, strict=True)]
        found[over.index(max(over))] -= 1
    while sum(found) < count:
        over = [
            float("inf") if n >= most else n - x
            for n, x, most in zip(found, wanted, each, strict=True)
        ]
        found[over.index(min(over))] += 1
    return found


def on_a_card(weight: Weight) -> int:
    """Return the bytes that a whole tensor takes on a GPU."""
    return align_up(weight.nbytes + padding(weight), GPU_ALIGNMENT)


def padding(weight: Weight) -> int:
    """Return the bytes after a tensor's last row: CUDA reads quantized rows in whole 512 values."""
    if weight.dtype.block == 1 or weight.ne[0] % ROW == 0:
        return 0
    return weight.dtype.size(ROW - weight.ne[0] % ROW)
