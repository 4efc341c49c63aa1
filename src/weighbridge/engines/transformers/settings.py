"""Settings of transformers, named as its own arguments are."""

from weighbridge.settings.setting import Int, Str, Switch, count, switch, whole, word
from weighbridge.settings.shared import DraftSettings, ServingSettings, SightSettings, TorchSettings


class Transformers(ServingSettings, SightSettings, TorchSettings, DraftSettings):
    """Settings of transformers."""

    TITLE = "transformers"
    device_map: Str = word(
        "auto",
        "cuda",
        help="Load straight to the device.",
        label_zh="device_map",
        zh="直接加载到设备上。",
    )
    attention: Str = word(
        "flash",
        "efficient",
        "cudnn",
        "math",
        "eager",
        help="Kernel of attention.",
        label_zh="注意力实现",
        zh="注意力的计算核。",
    )
    cache_implementation: Str = word(
        "dynamic",
        "static",
        "quanto",
        "hqq",
        "fp8",
        help="Kind of cache. Default: dynamic.",
        default="dynamic",
        label_zh="缓存类型",
        zh="缓存的种类。默认 dynamic。",
    )
    num_beams: Int = whole(
        1,
        1 << 12,
        help="Beams of a search; each has a cache.",
        label_zh="束宽",
        zh="束搜索的束数；每一束都有自己的缓存。",
    )
    logits_to_keep: Int = count(
        help="Tokens whose logits are made; 0 is all. Default: as generate does.",
        label_zh="保留的 logits",
        zh="计算多少个 token 的 logits;0 是全部。默认与 generate 相同。",
    )
    exact: Switch = switch(
        label="Trace the real class",
        help="Run the real class on a fake GPU, beside the closed form. Needs torch.",
        label_zh="追踪真实的类",
        zh="在假的 GPU 上运行真实的类，与公式的结果并列。需要 torch。",
    )


SETTINGS = Transformers
