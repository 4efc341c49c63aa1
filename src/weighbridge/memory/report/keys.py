"""Keys of an answer other than its devices: `workload` and `derived` of the JSON report.

Engines, frameworks and tasks each add keys. Those of `workload` are names of settings; those of
`derived` are declared here, so that the type checker knows each. A key that does not apply is left
out.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Interval = list[int]  # [low, expected, high] in bytes
IntervalName = Literal[
    "serving_interval",
    "available_kv_cache_interval",
    "profile_peak_interval",
    "model_loading_interval",
    "max_total_num_tokens_interval",
    "swa_max_total_num_tokens_interval",
    "ollama_ps_interval",
    "first_step_peak_interval",
]
CountName = Literal[
    "first_step_peak_bytes",
    "max_total_num_tokens",
    "kv_cache_tokens",
    "model_loading_bytes",
    "serving_bytes",
    "available_kv_cache_bytes",
    "num_gpu_blocks",
    "swa_max_total_num_tokens",
    "ollama_ps_bytes",
]


# Every setting by its name (weighbridge.settings), defaults included, and OTHERS; settings that the
# task or engine does not have are left out. Sizes are in tokens, requests or devices
EffectiveSettings = dict[str, Any]
OTHERS = frozenset(  # derived from several settings, or an engine's own name for one of ours
    (
        *("max_model_len", "enable_chunked_prefill", "speculative_algorithm"),  # vLLM, SGLang
        *("n_ctx", "llama_cpp_build"),  # llama.cpp, Ollama
        "unsaid",  # rewards: settings that the user left unset and an answer depends on
    )
)


class FirstRank(TypedDict):
    """Bytes of the first rank, under the names that vLLM logs them by."""

    profile_peak_bytes: int
    profile_peak_interval: Interval
    non_torch_bytes: int
    non_torch_interval: Interval


class EngineCards(TypedDict, total=False):
    """The cards reserved for a rollout engine, and the bytes that it takes of each."""

    count: int
    peak_bytes: int
    accelerator: str
    usable_bytes: int
    fits: str


class DerivedFacts(TypedDict, total=False):
    """All keys of `derived`, by who adds them. `_bytes` are bytes, `_interval` is [low, expected,
    high] in bytes or tokens; lengths are in tokens."""

    # Every task
    dtype_from: str
    as_stored: bool
    without_packages: list[str]  # optional ones that may be installed, and are assumed absent
    # load; infer too, for a model with nothing but its weights known
    volatile_buffer_bytes: int
    # load
    unloaded_tensors: int
    unloaded_bytes: int
    download_estimate_bytes: int | None
    unavailable_formats: Mapping[str, str]
    # infer and train
    context_from: str
    longest_context: int | None
    not_counted: list[str]
    # pictures and video: each component that runs, as {stage, component, bytes}
    picture_stages: list[dict[str, Any]]
    cards: dict[str, int]
    in_ram: int  # bytes of weights that ComfyUI leaves in RAM
    smallest_cards: Mapping[str, str]  # offload -> smallest card, "" as asked
    most_frames: int
    largest_size: str  # WIDTHxHEIGHT
    blocks: int  # of a denoiser, which can be swapped
    denoiser_class: str
    launch: str | None
    launch_note: str | None
    command: Mapping[str, Any]  # of --command: flags ignored, unknown, and left to the engine
    # infer, by every engine
    engine_asked: str  # the engine that was asked about, if another one's rules answer
    kv_cache_bytes_per_token: int
    largest_context: int | None
    largest_context_flags: str  # flags its launch adds to those set, for a share of the card
    largest_batch_size: int | None
    searched_to: Mapping[str, int] | None
    kv_cache_tokens: int | None
    max_concurrency: float | None
    # vLLM and SGLang
    available_kv_cache_bytes: int
    serves_as_asked: bool
    serves_by_default: bool  # without a command: with only what the user set
    launch_serves: bool
    # vLLM
    kv_cache_bytes_per_request: int
    available_kv_cache_interval: Interval
    serving_bytes: int
    serving_interval: Interval
    gpu_memory_utilization_needed: float | None
    share_needed_bytes: int
    num_gpu_blocks: int
    profile_peak_bytes: int
    profile_peak_interval: Interval
    non_torch_bytes: int
    first_rank: FirstRank
    stages: list[FirstRank]
    cuda_graph_bytes: int
    cuda_graph_estimate_bytes: int
    cuda_graph_estimate_interval: Interval
    model_loading_bytes: int
    model_loading_interval: Interval
    # SGLang
    max_total_num_tokens: int
    max_total_num_tokens_interval: Interval
    max_running_requests: int
    swa_max_total_num_tokens: int
    swa_max_total_num_tokens_interval: Interval
    longest_request: int  # tokens, for a launch line whose KV pool is smaller than the context
    # llama.cpp, ik_llama.cpp and Ollama
    compute_buffer_bytes: list[int]  # per device, the host last
    n_gpu_layers_that_fit: int
    n_cpu_moe_that_fits: int | None
    placement_that_fits: Mapping[str, Any]  # settings, for cards that differ
    # Ollama
    ollama_ps_bytes: int
    ollama_ps_interval: Interval
    ollama_ps: str
    layers_on_card: list[int]  # [layers that Ollama keeps there by itself, all layers]
    divided_by: Literal["layers", "experts"]
    share_in_ram: float  # of the bytes read per token
    times_slower: list[float]  # [at best, at worst] than wholly on the card
    # train
    share_needed: float  # of a card, for an engine to start next to the trainer
    rollout_cards: EngineCards
    runs_only: str
    search_stopped: bool  # the search for remedies did not run to its end
    recipe: str
    trainable_parameters: int
    saved_activation_bytes: int
    first_step_peak_bytes: int
    first_step_peak_interval: Interval
    stage_layers: list[int]  # per pipeline stage
    # Rewards and preferences
    rows_up_to: int  # tokens per row that surely fit, if rows at the cap do not
    short_rows_bytes: int  # per device, at least, with rows of a sixteenth of the cap
    # Megatron
    layers_by_part: list[int]  # per virtual pipeline stage, dealt to the stages in turn
    feed_forward_again: float  # FLOPs of recomputed MLPs, as a share of a step's
    fullest_stage: int  # from 0: the stage whose phases a screen shows
