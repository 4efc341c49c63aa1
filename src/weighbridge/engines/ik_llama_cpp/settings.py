"""Settings of ik_llama.cpp, named as its own command line has them."""

from weighbridge.engines.llama_cpp.settings import Ggml, LlamaCpp
from weighbridge.settings.setting import Bool, Int, Str, Switch, flag, spelled, switch, whole
from weighbridge.settings.shared import DraftSettings, ServingSettings, SightSettings


class IkLlamaCpp(ServingSettings, SightSettings, DraftSettings, Ggml):
    """Settings of ik_llama.cpp."""

    TITLE = "ik_llama.cpp"
    mla_attn: Int = whole(
        0,
        3,
        flags=("-mla",),
        label="MLA attention",
        help="How latents are used.",
        label_zh="MLA 注意力",
        zh="隐变量怎样使用。",
        launch=spelled("-mla", "--mla-use"),
    )
    attn_max_b: Int = whole(
        flags=("-amb",),
        label="Most attention (MiB)",
        help="MiB that attention may take at once.",
        label_zh="注意力上限(MiB)",
        zh="注意力一次最多占用多少 MiB。",
        launch=spelled("-amb", "--attention-max-batch"),
    )
    fused_moe: Bool = flag(
        flags=("-fmoe",),
        help="Gate and up of experts are one operation.",
        label_zh="融合 MoE",
        zh="专家的 gate 和 up 合成一个运算。",
        launch=spelled("-fmoe", "--fused-moe")
        + spelled("-no-fmoe", "--no-fused-moe", reads="false"),
    )
    run_time_repack: Switch = switch(
        flags=("-rtr",),
        help="Weights in host memory are packed for the processor.",
        label_zh="运行时重排",
        zh="主机内存里的权重按处理器重排。",
    )
    swa_full: Switch = Ggml.swa_full.but(idle="windows are kept whole in all its releases")
    draft_model: Str = LlamaCpp.draft_model.but(idle="the answer names the draft as not counted")


SETTINGS = IkLlamaCpp
