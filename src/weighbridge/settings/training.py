"""Every setting of `train`: a line each, as in table.py; and which of them contradict each other.

A setting that another one makes meaningless is refused: silence would be a guess.
"""

import re

from weighbridge.errors import UsageError
from weighbridge.quantization.declared import intricate
from weighbridge.wording import shown
from weighbridge.workload import FSDP, Train

TRAINING = """
[Run]
method                                    word full|lora|qlora|dora   What is trained. Default: full.
framework                                 word trainer|trl|accelerate|lightning|torchtune|torchtitan|litgpt|axolotl|deepspeed|megatron|plain   Whose defaults and conventions. Default: trainer.
framework_version                         release           Its version; of torchtitan a date such as 2025-04-02. Default: the newest known.
precision                                 word bf16-mixed|fp16-mixed|bf16|fp16|fp32|fp8-mixed   Of weights and products. Default: bf16-mixed.
optimizer                                 word              adamw_torch (default), adamw_8bit, sgd-momentum, muon...
optim_args                                words             Of Adam and AdamW: foreach=False, fused=True, amsgrad=True, weight_decay=0.01.
batch_size                                count 1..1048576  Sequences of a micro-batch on one device. Default: 1.
seq_len                                   count 1..         Tokens of a sequence. Default: 2048, or the model's maximum if smaller.
gradient_accumulation                     whole 1..1048576  Micro-batches of a step.
eval_batch_size                           count 1..1048576  Evaluate with so many sequences on one device (the Trainer's own default is 8).
checkpointing                             word none|full|selective|offload   What is computed again in backward. Default: none.
loss                                      word standard|chunked|liger|trl|trl-chunked|unsloth   Kernel of the head and the loss.
attention                                 word flash|efficient|cudnn|math|eager   Kernel of attention.
compile                                   flag              Layers and loss run through torch.compile (torchtune, torchtitan).
optimizer_in_backward                     flag              Each parameter is stepped when its gradient is there (torchtune, LOMO).
padded                                    flag              Sequences of a batch differ in length, so that a mask is needed.
image_size                                image             Pixels of an image. Default: what the tower was made for.
images                                    whole 0..10000    Images of one sequence.
audio_seconds                             number 0..1e6     Length of the sound of one sequence.

[Weights]
dtype                                     word              Load in this dtype, whatever the precision has.
quantization                              word              Load the frozen base in this format: nf4, bnb-int8...
base_model                                flag              The headless class, without lm_head.
engine_version                            word              Version of transformers (4.40, 5.23). Default: the newest known.
torch_version                             version           Version of torch that runs; it decides workspaces.
kbit_upcast                               word peft|trl|norms|none   What of a packed base is cast to float32 before training. Default: the framework's.
gptq_kernel                               word torch|triton  What multiplies a base in GPTQ: torch keeps each unpacked matrix (GPTQModel), triton nothing (AutoGPTQ). Default: not known, torch is expected.
bitsandbytes_version                      version           Its version: up to 0.43.1 linears in 4 bits keep their inputs. Default: the newest known.
accelerate_version                        version           Version of accelerate (FSDP under trainer, accelerate, trl, axolotl). Default: the newest known.
deepspeed_version                         version           Version of DeepSpeed. Default: the newest known.

[Adapters]
bnb_4bit_quant_storage                    word uint8|bfloat16|float16|float32   How packed weights are stored: FSDP shares out what is a float. Default: uint8.
lora_r                                    whole 1..65536    Rank. Default: 8.
lora_alpha                                whole 1..1048576  Scale; it takes no memory. Default: 8.
lora_targets                              words             Modules: all-linear, names, or a regular expression.
lora_dropout                              number 0..1       Dropout before an adapter. Default: 0.
use_rslora                                flag              Scale by the root of the rank; it takes no memory.
modules_to_save                           words             Modules that are trained whole beside the adapters.

[Ranks]
shard                                     word none|ddp|zero1|zero2|zero3|fsdp1|fsdp2|hsdp   What data-parallel ranks share out.
offload                                   word none|optimizer|params|nvme   What is kept off the device.
cpu_ram_efficient_loading                 flag              One rank of a machine reads the weights for all (accelerate's setting for FSDP; off by default).
data_parallel_size -dp                    whole 1..65536    Ranks with different data. Default: what the devices leave.
tensor_parallel_size -tp                  whole 1..1024     Ranks that share every layer.
pipeline_parallel_size -pp                whole 1..1024     Ranks that share the layers out.
context_parallel_size -cp                 whole 1..1024     Ranks that share a sequence.
expert_parallel_size -ep                  whole 1..1024     Ranks that share the experts.

[ZeRO]
zero_reduce_bucket_size                   count 1..         reduce_bucket_size. Default: 5e8 with --framework deepspeed, else hidden^2.
zero_prefetch_bucket_size                 count 0..         stage3_prefetch_bucket_size. Default: 5e7, else 0.9 hidden^2.
zero_param_persistence_threshold          count 0..         stage3_param_persistence_threshold. Default: 1e5, else 10 hidden.
zero_max_live_parameters                  count 0..         stage3_max_live_parameters. Default: 1e9.
zero_sub_group_size                       count 1..         sub_group_size. Default: 1e9.
zero_overlap_comm                         flag              Stages 1 and 2 have two buckets (overlap_comm).
no_zero_init                              flag              The whole model is on each device before DeepSpeed shares it out.

[Device]
gpu                                       word              Say whether it fits: 4090, a100-80gb:8, '2x RTX 4090', p5.48xlarge...
gpu_memory                                relative          What a process can have of that device, or of any: 24GiB.
headroom                                  relative          What is to stay free on each device: 1GiB or 10%. Default: nothing.
ram                                       memory            Host memory that the processes of one machine can have: 64GiB, or local. Default: stated, not judged.
exact                                     flag              Trace the real step beside it. Needs torch and transformers.
"""  # noqa: E501

TRAINED = ("float32", "bfloat16", "float16", "fp32", "bf16", "fp16")  # all weights, in full
OF_ADAPTERS = (
    "lora_r",
    "lora_alpha",
    "lora_targets",
    "lora_dropout",
    "use_rslora",
    "modules_to_save",
)


OF_ZERO = (
    "zero_reduce_bucket_size",
    "zero_prefetch_bucket_size",
    "zero_param_persistence_threshold",
    "zero_max_live_parameters",
    "zero_sub_group_size",
    "zero_overlap_comm",
    "no_zero_init",
    "deepspeed_version",
)

MAX_REPEATS = 8  # of --lora-targets: each multiplies the time by the length of a name


def consistent(w: Train) -> None:
    """Raises UsageError where settings contradict each other, whatever the model is."""
    _of_zero(w)
    if w.bnb_4bit_quant_storage is not None and w.method != "qlora":
        raise UsageError("--bnb-4bit-quant-storage is of packed weights: use --method qlora")
    if (w.method or "full") == "full":
        _in_full(w)
    elif w.precision == "fp8-mixed":
        raise UsageError(
            f"--precision fp8-mixed with --method {w.method}: a frozen base gains nothing by "
            "products in float8; use bf16-mixed"
        )
    if w.optimizer_in_backward and (w.gradient_accumulation or 1) > 1:
        raise UsageError(
            f"--optimizer-in-backward with --gradient-accumulation {w.gradient_accumulation}: "
            "gradients would be applied after each micro-batch; leave one of them out"
        )
    if w.attention == "flash" and w.precision == "fp32" and w.dtype in (None, "float32", "fp32"):
        raise UsageError(
            "--attention flash with --precision fp32: flash attention takes 16 bit only; use "
            "--attention efficient or --precision bf16-mixed"
        )
    if w.cpu_ram_efficient_loading and w.shard not in FSDP:
        raise UsageError(
            "--cpu-ram-efficient-loading is accelerate's setting for FSDP: give --shard fsdp1, "
            "fsdp2 or hsdp, or leave it out"
        )
    _readable(w.lora_targets)


def _of_zero(w: Train) -> None:
    """Only DeepSpeed has them."""
    if w.framework == "deepspeed" or (w.shard or "").startswith("zero"):
        return
    for name in OF_ZERO:
        if _given(w, name):
            raise UsageError(
                f"--{name.replace('_', '-')} is DeepSpeed's: use --shard zero1, zero2 or zero3, or "
                "leave it out"
            )


def _given(w: Train, name: str) -> bool:
    """Whether the user named it: 0 is a value, and equal to False."""
    value = getattr(w, name)
    return value is not None and value is not False


def _in_full(w: Train) -> None:
    """Training all weights. Source: transformers 5.23 trainer.py refuses purely quantized models;
    one whose own config is quantized is a matter of the model's."""
    if w.dtype is not None and w.dtype not in TRAINED:
        raise UsageError(
            f"--dtype {w.dtype}: weights are trained in {', '.join(TRAINED[:3])}; smaller ones are "
            "frozen: use --method qlora"
        )
    if w.quantization is not None:
        raise UsageError(
            f"--quantization {w.quantization}: a quantized model is not trained in full: use "
            "--method qlora"
        )
    for name in OF_ADAPTERS:
        if _given(w, name):
            raise UsageError(
                f"--{name.replace('_', '-')} with --method full, which has no adapters: use "
                "--method lora"
            )


def _readable(targets: tuple[str, ...] | None) -> None:
    """A single text may be a regular expression."""
    if targets is None or len(targets) != 1:
        return
    if intricate(targets[0], MAX_REPEATS):
        raise UsageError(
            f"--lora-targets {shown(targets[0])} could search for hours: leave out repeats of "
            f"repeats, and more than {MAX_REPEATS} of them, or list the modules"
        )
    try:
        re.compile(targets[0])
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"--lora-targets {targets[0]!r:.80} is no regular expression: {error}"
        ) from None
