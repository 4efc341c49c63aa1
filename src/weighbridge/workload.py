"""What the user asked for: plain settings, before any default is filled in."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Loading the weights and nothing else. None means: the engine's own default."""

    dtype: str | None = None
    quantization: str | None = None
    engine_version: str | None = None
    device_map: str | None = None
    base_model: bool = False
    gpu: str | None = None
    gpu_memory: str | None = None
    headroom: str | None = None

    def budget(self) -> "Budget | None":
        """The device that was named, resolved. The catalogue is read only where one was."""
        if self.gpu is None and self.gpu_memory is None and self.headroom is None:
            return None
        from weighbridge.accelerators.budget import budget

        return budget(self.gpu, self.gpu_memory, self.headroom)
