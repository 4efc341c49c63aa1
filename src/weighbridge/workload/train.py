"""What training is asked about."""

from dataclasses import dataclass

from weighbridge.workload.weighed import Weighed


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(Weighed):
    """Fine-tuning or training: one optimizer step, and how ranks share it."""

    method: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    precision: str | None = None
    optimizer: str | None = None
    optim_args: tuple[str, ...] | None = None
    torch_version: str | None = None
    kbit_upcast: str | None = None
    gptq_kernel: str | None = None
    bitsandbytes_version: str | None = None
    accelerate_version: str | None = None
    deepspeed_version: str | None = None
    # the batch
    batch_size: int | None = None  # sequences of one micro-batch on one device
    seq_len: int | None = None
    gradient_accumulation: int | None = None
    eval_batch_size: int | None = None  # sequences of a batch of an evaluation
    image_size: tuple[int, int] | None = None
    images: int | None = None
    audio_seconds: float | None = None
    padded: bool = False  # sequences of unequal length in a batch
    # kernels
    checkpointing: str | None = None
    use_reentrant: bool | None = None  # of checkpoints (gradient_checkpointing_kwargs)
    loss: str | None = None
    attention: str | None = None
    compile: bool = False
    optimizer_in_backward: bool = False
    # adapters
    bnb_4bit_quant_storage: str | None = None
    lora_r: int | None = None
    lora_alpha: int | None = None
    lora_targets: tuple[str, ...] | None = None
    lora_dropout: float | None = None
    use_rslora: bool = False
    modules_to_save: tuple[str, ...] | None = None
    # ranks
    shard: str | None = None
    offload: str | None = None
    cpu_ram_efficient_loading: bool = False  # one rank of a machine reads for all
    data_parallel_size: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    context_parallel_size: int | None = None
    expert_parallel_size: int | None = None
    zero_reduce_bucket_size: int | None = None  # numbers, as DeepSpeed counts them
    zero_prefetch_bucket_size: int | None = None
    zero_param_persistence_threshold: int | None = None
    zero_max_live_parameters: int | None = None
    zero_sub_group_size: int | None = None
    zero_overlap_comm: bool = False
    no_zero_init: bool = False
    exact: bool = False
