"""What records of the evidence may say, and shares of what is left out."""

from weighbridge_lab.evidence.records import Skip

# What a figure is about: the closed list. In brackets whose logs print it.
QUANTITIES = (
    "weights",  # of a device, or of all
    "load",  # everything, after loading
    "context",  # what a process holds before it allocates
    "peak",  # everything, at most
    "first",  # the peak of the first micro-batch, where that has the longest sequence [training]
    "growth",  # the peak less what the process held before it began [torch]
    "increment",  # the peak less that of the same program with another setting [torch]
    "decode",  # the same after the prompt
    "activation",  # growth of torch's peak in the profile run [vllm]
    "non_torch",  # growth outside torch in the profile run [vllm]
    "cuda_graphs",  # [vllm]
    "kv_available",  # what is left for the cache [vllm]
    "kv_bytes",  # of the cache
    "kv_tokens",  # that the cache holds
    "kv_tokens_sliding",  # that the pool of layers with a window holds [sglang]
    "kv_blocks",
    "kv_target",  # of the model alone, without that of the one that drafts [llama.cpp]
    "states",  # of recurrent layers [llama.cpp]
    "concurrency",  # hundredths of requests of the whole context that the cache holds [vllm]
    "ps",  # what its list of running models prints [ollama]
    "compute",  # the buffer of a step [llama.cpp]
    "draft_compute",  # the buffer of a step of the layers that draft [llama.cpp]
    "output",  # the buffer of logits [llama.cpp]
    "asleep",  # weights in host memory while the engine sleeps [vllm]
    "offloaded",  # weights in host memory while it serves [vllm]
    "host",  # what a machine holds beside pages of files, in a phase
    "host_master",  # of that, the master copy [DeepSpeed]
    "host_states",  # of that, states and gradients in float32 [DeepSpeed]
    "host_process",  # what one process holds there
)
DEVICES = ("gpu 0", "gpu 1", "gpus", "fullest", "host", "all")
UNITS = ("bytes", "tokens", "blocks", "hundredths")
# Why a figure is not predicted: the closed list, in the words of the answer.
REASONS = (
    "version outside our rules",
    "setting incomplete",
    "model not at hand",
    "quantization recipe unknown",
    "our constant was read here",
    "not modelled: this engine",
    "not modelled: this training loop",
    "not modelled: packed weights in shares",
    "not modelled: float8 products among tensor ranks",
    "not modelled: tensor ranks that send while they multiply (async TP)",
    "not modelled: nvfp4 products",
    "not modelled: layers of this class",
    "not modelled: diffusion pipelines",
    "not modelled: a part of a model",
    "not modelled: adapters at load",
    "not modelled: tensors placed by patterns",
    "not modelled: Vulkan",
    "not modelled: compiled code",
    "not modelled: MLPs in tiles of tokens (unsloth_tiled_mlp)",
    "not modelled: the program is not published",
    "a bound, not a figure",
    "its offset is not known",
    "within the scatter of its offset",
    "needs torch: --trace",
    "needs a package that is not installed",
    "the program failed",
    "refused by our rules",
)
INCOMPLETE = (  # the source's, not ours
    "setting incomplete",
    "quantization recipe unknown",
    "not modelled: the program is not published",
    "a bound, not a figure",
    "its offset is not known",
    "within the scatter of its offset",
)
STRENGTHS = ("measured", "stated", "reported")  # by a source, its maintainers, a user
# Why a case is not answered: the closed list, in the words of the answer
CASE_REASONS = (
    "version outside our rules",
    "setting incomplete",
    "model not at hand",
    "the card is not named",
    "cards of two kinds",
    "sources contradict each other",
    "a fork whose rules are its own",
    "a platform whose rules are its own",
    "not modelled: this engine",
    "not modelled: this training loop",
    "not modelled: packed weights in shares",
    "not modelled: layers of this class",
    "not modelled: experts converted to linears",
    "not modelled: a cache of its own code",
    "not modelled: layers of a model dealt out while it is trained",
    "refused by our rules",
)


def share_skipped(found, source):
    """Return the share of a source's figures that were skipped, among those with complete
    settings."""
    mine = [o for o in found if o.record.source == source]
    complete = [o for o in mine if not (isinstance(o, Skip) and o.reason in INCOMPLETE)]
    missed = sum(isinstance(o, Skip) for o in complete)
    return missed / len(complete) if complete else 0.0
