"""Settings of llama.cpp, named as on its command line."""

from weighbridge.settings.setting import (
    Bool,
    Int,
    Settings,
    Shares,
    Str,
    Switch,
    Words,
    count,
    flag,
    pairs,
    spelled,
    split,
    switch,
    whole,
    word,
)
from weighbridge.settings.shared import (
    CardSettings,
    DraftSettings,
    ProgramSettings,
    ServingSettings,
    SightSettings,
)


class Ggml(Settings):
    """Settings of llama.cpp and of programs built on it."""

    TITLE = "llama.cpp"
    program: Str = ProgramSettings.program
    n_gpu_layers: Int = whole(
        -1, flags=("-ngl", "--gpu-layers"), launch=spelled("-ngl", reads="code")
    )
    n_cpu_moe: Int = whole(flags=("-ncmoe",), launch=spelled("-ncmoe", "--n-cpu-moe", reads="code"))
    override_tensor: Words = pairs(
        flags=("-ot",), launch=spelled("-ot", "--override-tensor", reads="code")
    )
    n_batch: Int = count(1, launch=spelled("-b", "--batch-size", reads="whole"))
    ubatch_size: Int = count(
        1, flags=("-ub",), launch=spelled("-ub", "--ubatch-size", reads="whole")
    )
    parallel: Int = whole(
        -1, 1 << 16, flags=("-np",), slider=(1, 256), launch=spelled("-np", reads="code")
    )
    cache_type_k: Str = word(flags=("-ctk",))
    cache_type_v: Str = word(flags=("-ctv",))
    flash_attn: Str = word("on", "off", "auto", flags=("-fa",), launch=spelled("-fa", reads="code"))
    kv_unified: Bool = flag(
        launch=spelled("--kv-unified", "-kvu")
        + spelled("-no-kvu", "--no-kv-unified", reads="false")
    )
    swa_full: Switch = switch()
    split_mode: Str = word(
        "none", "layer", "row", flags=("-sm",), launch=spelled("-sm", reads="code")
    )
    tensor_split: Shares = split(flags=("-ts",), launch=spelled("-ts", reads="code"))
    main_gpu: Int = whole(flags=("-mg",))
    no_kv_offload: Switch = switch(
        launch=spelled("--no-kv-offload", "-nkvo") + spelled("-kvo", "--kv-offload", reads="false")
    )
    no_mmap: Switch = switch(launch=spelled("--no-mmap") + spelled("--mmap", reads="false"))
    cache_ram: Int = whole(-1, launch=spelled("--cache-ram", "-cram"))
    sched_max_copies: Int = whole(1, 64, launch=())
    mmproj: Str = word(launch=spelled("--mmproj", "-mm", "-mmu", "--mmproj-url"))
    mmproj_auto: Switch = switch(launch=())
    no_mmproj_offload: Switch = switch(
        launch=spelled("--no-mmproj-offload") + spelled("--mmproj-offload", reads="false")
    )


class LlamaCpp(ServingSettings, SightSettings, DraftSettings, Ggml):
    """Settings of llama.cpp."""

    speculative_method: Str = CardSettings.speculative_method.but(
        launch=spelled("--spec-type", reads="code")
    )
    num_speculative_tokens: Int = CardSettings.num_speculative_tokens.but(
        launch=spelled("--draft-max", "--draft", "--draft-n", "--spec-draft-n-max")
    )
    draft_model: Str = DraftSettings.draft_model.but(
        launch=spelled(
            "-md",
            "--model-draft",
            "--spec-draft-model",
            "-hfd",
            "-hfrd",
            "--hf-repo-draft",
            "--spec-draft-hf",
        )
    )


SETTINGS = LlamaCpp
