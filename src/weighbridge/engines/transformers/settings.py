"""Settings of transformers, by the names of its arguments."""

from weighbridge.settings.setting import Int, Str, Switch, count, switch, whole, word
from weighbridge.settings.shared import DraftSettings, ServingSettings, SightSettings, TorchSettings


class Transformers(ServingSettings, SightSettings, TorchSettings, DraftSettings):
    """Settings of transformers."""

    TITLE = "transformers"
    device_map: Str = word("auto", "cuda")
    attention: Str = word("flash", "efficient", "cudnn", "math", "eager")
    cache_implementation: Str = word("dynamic", "static", "quanto", "hqq", "fp8", default="dynamic")
    num_beams: Int = whole(1, 1 << 12)
    logits_to_keep: Int = count()
    kernels: Str = word("installed", "missing")
    dequantize: Switch = switch()
    exact: Switch = switch()


SETTINGS = Transformers
