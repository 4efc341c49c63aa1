"""What every question may say, and a load says alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.accelerators.ram import Ram


COMPUTES = frozenset({"bfloat16", "float16", "float32", "float64"})  # dtypes of products


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What every question may say: the format of the weights, and the device."""

    dtype: str | None = None
    quantization: str | None = None
    engine_version: str | None = None
    device_map: str | None = None
    base_model: bool = False
    gpu: str | None = None
    gpu_memory: str | None = None
    headroom: str | None = None
    ram: str | None = None  # host memory

    def budget(self) -> "Budget | None":
        """The device that was named, resolved. The catalogue is read only where one was."""
        if self.gpu is None and self.gpu_memory is None and self.headroom is None:
            return None
        from weighbridge.accelerators.budget import budget

        return budget(self.gpu, self.gpu_memory, self.headroom)

    def host_memory(self) -> "Ram | None":
        """The host memory that was named, read. With the cards of this machine goes its memory."""
        if self.ram is None and self.gpu is not None and _is_local(self.gpu):
            from weighbridge.accelerators.local import memory

            return memory()
        if self.ram is None:
            return None
        from weighbridge.accelerators.ram import ram

        return ram(self.ram)

    def check(self) -> None:
        """Raises for a device or a machine that is not known, before anything is fetched."""
        self._unpacked()
        self.budget()
        self.host_memory()

    def _unpacked(self) -> None:
        """Raises UsageError for a dtype of what is not packed that nothing computes in."""
        if self.dtype is None or self.quantization is None:
            return
        from weighbridge.dtypes import ALIASES, TORCH
        from weighbridge.errors import UsageError

        plain = self.dtype.removeprefix("torch.").lower()
        if ALIASES.get(plain, plain) in TORCH.keys() - COMPUTES:
            raise UsageError(
                f"--dtype {self.dtype} with --quantization {self.quantization}: there --dtype is "
                "that of what is not packed, bfloat16, float16 or float32; leave one of them out"
            )


def _is_local(gpu: str) -> bool:
    """Tell whether `gpu` means this machine, without reading the catalogue."""
    return gpu.strip().lower() == "local"


class Load(Weighed):
    """Loading the weights and nothing else."""

    __slots__ = ()
