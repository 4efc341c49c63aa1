"""Settings of a workload that no single engine owns: a line each, in sections.

    name [more spellings of its flag]    kind [least..most or choices]    what it means

A section with a bar, as [Cards |], is of the engines whose record names it; the others are of
every engine. An engine's own sections stand in its record (`engines/engine.py`).
"""

TABLE = """
[Requests]
engine                                    word              {engines}.
context --max-model-len                   count 1..2147483648  Tokens of one request. Default: 4096, or the model's maximum if smaller.
prompt_len                                count             Tokens of the prompt; with --max-new-tokens they are the context.
max_new_tokens                            count             Tokens of the answer.
batch_size                                count 1..1048576  Requests at once. Default: 1.
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

[Sight |]
image_size                                image             Pixels of an image. Default: what the tower was made for.
images                                    whole 0..10000    Images of one request.

[Prefixes |]
shared_prefix                             count             Tokens at the start that all requests have in common.

[Cards |]
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

[Torch |]
torch_version                             word              Version of torch that runs; it decides workspaces.

[Drafts |]
draft_model                               word              Model that proposes tokens.
"""  # noqa: E501
OF_LOAD = (
    *("dtype", "quantization", "engine_version", "device_map", "base_model"),
    *("gpu", "gpu_memory", "headroom", "ram"),
)
