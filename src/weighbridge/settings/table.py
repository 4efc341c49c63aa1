"""Every setting of a workload: a line each, in sections that name the engines which have it.

name [more spellings of its flag]    kind [least..most or choices]    what it means
"""

TABLE = """
[Requests]
engine                                    word              transformers (default), vllm, sglang, llama.cpp or ik_llama.cpp.
context --max-model-len                   count 1..2147483648  Tokens of one request. Default: 4096, or the model's maximum if smaller.
prompt_len                                count             Tokens of the prompt; with --max-new-tokens they are the context.
max_new_tokens                            count             Tokens of the answer.
batch_size                                count 1..1048576  Requests at once. Default: 1.
shared_prefix                             count             Tokens at the start that all requests have in common.
image_size                                image             Pixels of an image. Default: what the tower was made for.
images                                    whole 0..10000    Images of one request.
audio_seconds                             number 0..1e6     Length of the sound of one request.

[Weights]
dtype                                     word              Load in this dtype: bfloat16, float16, float32...
quantization                              word              Load in this format: nf4, gptq-4bit-g128, Q4_K_M...; or by the own name of vllm or sglang: fp8...
engine_version                            word              Version of the engine (4.40, 0.19). Default: the newest known.
base_model                                flag              The headless class, without lm_head.

[Device]
gpu                                       word              Say whether it fits: 4090, a100-80gb:8, '2x RTX 4090', p5.48xlarge...
gpu_memory                                relative          What a process can have of that device, or of any: 24GiB.
headroom                                  relative          What is to stay free on each device: 1GiB or 10%. Default: nothing.
ram                                       memory            Host memory that processes can have: 64GiB, or local. Default: stated, not judged.

[Caches and attention]
kv_cache_dtype                            word              Of keys and values: auto, fp8, q8_0... Default: the model's dtype.

[Cards | vllm sglang]
tensor_parallel_size -tp                  whole 1..1024     Devices that share every layer.
pipeline_parallel_size -pp                whole 1..1024     Devices that share the layers out.
data_parallel_size -dp                    whole 1..1024     Copies of the engine.
enable_expert_parallel                    flag              Experts are dealt out whole.
language_model_only                       flag              Towers for images and sounds are not loaded.
max_loras                                 whole 0..4096     Slots for adapters.
max_lora_rank                             whole 1..4096     Largest rank of an adapter.
speculative_method                        word draft|mtp|eagle|eagle3|ngram   How tokens are proposed.
num_speculative_tokens                    whole 0..1024     Tokens that are proposed at once.
mamba_ssm_cache_dtype                     word              Of running states.
cpu_offload_gb                            number            GiB of each device's weights that stay in host memory.
attention_backend                         word              Kernels of attention.

[Torch | transformers vllm sglang]
torch_version                             word              Version of torch that runs; it decides workspaces.

[Drafts | transformers vllm sglang llama.cpp ik_llama.cpp]
draft_model                               word              Model that proposes tokens.

[transformers | transformers]
device_map                                word auto|cuda    Load straight to the device.
attention                                 word flash|efficient|cudnn|math|eager   Kernel of attention.
cache_implementation                      word dynamic|static|quanto|hqq|fp8      Kind of cache. Default: dynamic.
num_beams                                 whole 1..4096     Beams of a search; each has a cache.
logits_to_keep                            count             Tokens whose logits are made; 0 is all. Default: as generate does.
exact                                     flag              Run the real class on a fake GPU, beside the closed form. Needs torch.

[vLLM | vllm]
gpu_memory_utilization                    number 0..1       Share of the whole device.
kv_cache_memory_bytes                     size              Size of the cache; the share does not count then.
max_num_batched_tokens                    count 1..         Tokens of one step.
max_num_seqs                              whole 1..1048576  Requests of one step.
block_size                                whole 1..1048576  Tokens of a block.
enforce_eager                             flag              No CUDA graphs.
enable_prefix_caching                     flag              Blocks of equal prefixes are shared.
async_scheduling                          flag              The next step is planned while one runs.
max_cudagraph_capture_size                whole             Largest batch with a graph.
num_gpu_blocks_override                   whole 1..         Blocks of the cache, whatever there is room for.
decode_context_parallel_size              whole 1..1024     Devices that share the tokens of a cache.
disable_hybrid_kv_cache_manager           flag              Windows are kept whole.
enable_sleep_mode                         flag              Weights and cache are in a pool that can be given back.

[SGLang | sglang]
mem_fraction_static                       number 0..1       Share of the free device for weights and caches.
enable_dp_attention                       flag              --data-parallel-size counts groups of --tensor-parallel-size with attention each.
chunked_prefill_size                      whole -1..        Tokens of a piece of a prompt; -1: whole.
max_running_requests                      whole 1..         Requests at once.
max_total_tokens                          count 1..         Tokens of the pool.
page_size                                 whole 1..1048576  Tokens of a page.
swa_full_tokens_ratio                     number 0..1       Pool of sliding layers to the full one.
mamba_full_memory_ratio                   number 0..1000    States to the rest of the cache.
cuda_graph_max_bs                         whole             Largest batch with a graph.
disable_cuda_graph                        flag              No CUDA graphs.
disable_radix_cache                       flag              Prefixes are not kept.

[llama.cpp | llama.cpp ik_llama.cpp]
program                                   word server|cli   Which program runs.
n_gpu_layers -ngl --gpu-layers            whole -1..        Layers on the device; -1: all.
n_cpu_moe -ncmoe                          whole             Layers whose experts stay in host memory.
n_batch                                   count 1..         Tokens of a logical batch.
ubatch_size -ub                           count 1..         Tokens of a physical batch.
parallel -np                              whole -1..65536   Slots.
cache_type_k -ctk                         word              Of keys: f16, q8_0...
cache_type_v -ctv                         word              Of values: f16, q8_0...
flash_attn -fa                            word on|off|auto  Flash attention.
kv_unified                                flag              One cache for all slots.
swa_full                                  flag              Windows are kept whole.
split_mode -sm                            word none|layer|row   How devices share the model.
tensor_split -ts                          split             Shares of the devices: 3,1.
main_gpu -mg                              whole             The device of what is not split.
no_kv_offload                             flag              The cache stays in host memory.
no_mmap                                   flag              Files are read, not mapped.
cache_ram                                 whole -1..        MiB of host memory for prompts; -1: no limit.
sched_max_copies                          whole 1..64       GGML_SCHED_MAX_COPIES of the build: steps under way on several devices.
mmproj                                    word              File of the tower for images or sounds.

[ik_llama.cpp | ik_llama.cpp]
mla_attn -mla                             whole 0..3        How latents are used.
attn_max_b -amb                           whole             MiB that attention may take at once.
fused_moe -fmoe                           flag              Gate and up of experts are one operation.
run_time_repack -rtr                      flag              Weights in host memory are packed for the processor.
"""  # noqa: E501
OF_LOAD = (
    *("dtype", "quantization", "engine_version", "device_map", "base_model"),
    *("gpu", "gpu_memory", "headroom", "ram"),
)
