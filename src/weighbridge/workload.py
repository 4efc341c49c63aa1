"""What the user asked for: plain settings, before any default is filled in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Loading the weights and nothing else. None means: the engine's own default."""

    dtype: str | None = None
    quantization: str | None = None
    engine_version: str | None = None
    device_map: str | None = None
    base_model: bool = False
