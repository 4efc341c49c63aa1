"""What each device holds once the server is up: tensors, caches, states, compute buffers.

All of it is allocated before the first token, and nothing after: prefill and decode hold the same.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from weighbridge.arch.mixers import Attention
from weighbridge.components.kv_cache import CacheBytes
from weighbridge.engines.llama_cpp import caches
from weighbridge.engines.llama_cpp.compute import reserved
from weighbridge.engines.llama_cpp.graphs.build import UnknownGraphError
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.placement import LayerPlacement
from weighbridge.engines.llama_cpp.roughly import roughly
from weighbridge.engines.llama_cpp.setting import LlamaCppLaunch
from weighbridge.memo import memo
from weighbridge.memory import Bytes, exactly

if TYPE_CHECKING:
    from weighbridge.engines.llama_cpp.drafting import DraftHoldings


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class DeviceHoldings:
    """What each device holds, the host last: weights, caches and compute buffers."""

    net: Network
    launch: LlamaCppLaunch
    model_type: str
    free: tuple[int, ...]
    draft: "DraftHoldings | None" = None  # what proposes tokens
    foreign: str = ""  # why its graph is another engine's, whose buffer is near this one

    @cached_property
    def placed(self) -> LayerPlacement:
        return LayerPlacement(net=self.net, launch=self.launch, free=self.free)

    @cached_property
    def weights(self) -> tuple[int, ...]:
        return self.placed.buffers()

    @cached_property
    def setting(self) -> caches.LlamaCppCacheSetting:
        return caches.LlamaCppCacheSetting(
            context=self.launch.n_ctx,
            slots=self.launch.slots,
            unified=self.launch.unified,
            ubatch=self.launch.ubatch,
            type_k=self.launch.type_k.name.lower(),
            type_v=self.launch.type_v.name.lower(),
            flash_attention=self.launch.flash,
            swa_full=self.launch.swa_full,
            model_type=self.model_type,
            latent_values=self.launch.rules.latent_values,
            latent_mode=self.launch.latent_mode,
            rollback=self.launch.rollback,
        )

    @cached_property
    def caches(self) -> tuple[dict[str, CacheBytes], ...]:
        """Return, for each device, the sizes of the cache of all tokens and of that of sliding
        layers."""
        return tuple(
            caches.counted(self.placed.cached(d), self.setting, among=self.net.mixers)
            for d in range(self.launch.gpus + 1)
        )

    @cached_property
    def near(self) -> int:
        """Cells of sliding layers, of one stream."""
        cells = [
            caches.cells(m, self.setting) // self.setting.streams
            for m in self.net.mixers
            if isinstance(m, Attention) and m.reach is not None
        ]
        return min(cells, default=self.setting.per_slot)

    @property
    def compute(self) -> tuple[int, ...]:
        return self._replayed[0]

    @property
    def guessed(self) -> str:
        """Why compute buffers are dominant terms alone; "" where the graph is known."""
        return self._replayed[1]

    @property
    def near_only(self) -> bool:
        """Tell whether compute buffers are known from half to three times alone."""
        return bool(self.guessed or self.foreign)

    @cached_property
    def _replayed(self) -> tuple[tuple[int, ...], str]:
        """Compute buffers by device; launches whose graphs are the same have the same."""
        plain = replace(self.launch, n_ctx=0, context=0, requests=0, slots=0, batch=0, ubatch=0)
        return memo(self.net, ("compute", plain, self.free, self.numbers), self._buffers)

    def _buffers(self) -> tuple[tuple[int, ...], str]:
        try:
            return reserved(self.placed, self.near), ""
        except UnknownGraphError as error:
            return roughly(self.placed), str(error)

    def buffer(self, device: int) -> Bytes:
        """The compute buffer."""
        size = self.compute[device]
        return Bytes(size // 2, size, 3 * size) if self.near_only else exactly(size)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the step's graph that contexts and batches change."""
        launch = self.launch
        return (
            launch.n_ctx,
            launch.n_ctx // launch.streams,
            self.near,
            launch.slots,
            launch.step_tokens,
            launch.outputs,
        )

    @property
    def output_rows(self) -> int:
        spare = self.launch.rules.spare_slot and self.launch.program == "server"
        return self.launch.slots * (1 + self.launch.proposed) + spare

    @property
    def output(self) -> int:
        """Logits that are handed out, and vectors where they are asked for, in host memory."""
        width = self.net.vocab + (self.net.hidden if self.launch.embeds else 0)
        return 4 * width * self.output_rows

    def kv(self, device: int) -> int:
        return sum(size.kv for size in self.caches[device].values())

    def state(self, device: int) -> int:
        return sum(size.state for size in self.caches[device].values())

    def drafting(self, device: int) -> int:
        """Bytes at most of what proposes tokens."""
        return 0 if self.draft is None else self.draft.whole(device)

    def whole(self, device: int) -> int:
        """Bytes of the buffers alone, without what a process takes beside them."""
        return self.weights[device] + self.kv(device) + self.state(device) + self.compute[device]
