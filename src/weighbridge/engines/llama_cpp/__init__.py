"""llama.cpp: buffers that are allocated before the first token, on each GPU and on the host.

rules.py      what changed between builds         setting.py    flags and their defaults
naming.py     checkpoint names to GGUF's          tensors.py    the file's tensors
networks.py   what graphs are built of            placement.py  which device has what
graphs/       the step's graph, by architecture   ggml/         scheduler and graph allocator
compute.py    compute buffers                     held.py       what each device holds
latents.py    matrices of latent attention        pool.py       CUDA's pool
drafting.py   what proposes tokens
parts.py      the answer's components             fitting.py    what would fit
probing.py    searches
answering.py  the answer                          launching.py  the command line
projector.py  mmproj                              infer.py      the door of them all
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="llama.cpp",
    title="llama.cpp",
    package=__name__,
    oldest=(4905,),
    newest=(11200,),
    spellings=("llamacpp", "llama_cpp", "llama-cpp", "llama-server"),
    sections=("Sight", "Drafts", "llama.cpp"),
    reads="gguf",
    programs={"llama-server": (), "llama-cli": (), "llama-completion": ()},
    images={r"llama\.cpp.*": "llama-server"},
    formats=("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"),
    also=("speculative_method", "num_speculative_tokens"),
    trains="llama.cpp trains nothing: leave --engine out to ask about training",
    splits="--split-mode layer",
    by_room=True,
    small_cache={"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    peers="ggml",
    logged={"compute": ("activations",), "output": ("logits",)},
    settings="""
[llama.cpp |]
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
""",  # noqa: E501
)
