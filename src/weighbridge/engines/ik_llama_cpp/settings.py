"""Settings of ik_llama.cpp, named as its own command line has them."""

from weighbridge.engines.llama_cpp.settings import Ggml, LlamaCpp
from weighbridge.settings.setting import Bool, Int, Str, Switch, flag, spelled, switch, whole
from weighbridge.settings.shared import DraftSettings, ServingSettings, SightSettings


class IkLlamaCpp(ServingSettings, SightSettings, DraftSettings, Ggml):
    """Settings of ik_llama.cpp."""

    TITLE = "ik_llama.cpp"
    mla_attn: Int = whole(0, 3, flags=("-mla",), launch=spelled("-mla", "--mla-use"))
    attn_max_b: Int = whole(flags=("-amb",), launch=spelled("-amb", "--attention-max-batch"))
    fused_moe: Bool = flag(
        flags=("-fmoe",),
        launch=spelled("-fmoe", "--fused-moe")
        + spelled("-no-fmoe", "--no-fused-moe", reads="false"),
    )
    run_time_repack: Switch = switch(flags=("-rtr",))
    swa_full: Switch = Ggml.swa_full.but(idle="windows are kept whole in all its releases")
    draft_model: Str = LlamaCpp.draft_model.but(idle="the answer names the draft as not counted")


SETTINGS = IkLlamaCpp
