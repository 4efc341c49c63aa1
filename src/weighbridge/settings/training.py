"""Every setting of `train`: a line each, as in table.py."""

TRAINING = """
[Run]
method                                    word full|lora|qlora|dora   What is trained. Default: full.
framework                                 word trainer|trl|accelerate|lightning|torchtune|torchtitan|litgpt|axolotl|unsloth|deepspeed|megatron|plain   Whose defaults and conventions. Default: trainer.
framework_version                         release           Its version; of torchtitan a date such as 2025-04-02. Default: the newest known.
precision                                 word bf16-mixed|fp16-mixed|bf16|fp16|fp32|fp8-mixed   Of weights and products. Default: bf16-mixed.
optimizer                                 word              adamw_torch (default), adamw_8bit, sgd-momentum, muon...
optim_args                                words             Of Adam and AdamW: foreach=False, fused=True, amsgrad=True, weight_decay=0.01; of GaLore and APOLLO: rank=1024.
batch_size                                count 1..1048576  Sequences of a micro-batch on one device. Default: 1.
seq_len                                   count 1..2147483648  Tokens of a sequence. Default: 2048, or the model's maximum if smaller.
gradient_accumulation                     whole 1..1048576  Micro-batches of a step.
eval_batch_size                           count 1..1048576  Evaluate with so many sequences on one device (the Trainer's own default is 8).
checkpointing                             word none|full|selective|offload   What is computed again in backward. Default: none.
use_reentrant                             flag              Checkpoints run a layer's backward in one of its own (gradient_checkpointing_kwargs). Default: the framework's; of transformers 4 true.
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
