"""llama.cpp: buffers that are allocated before the first token, on each GPU and on the host.

rules.py            changes between builds           effective.py   settings of a launch
formats.txt         weight types that it loads       classes.txt    architectures it supports
tensors.py          the model's tensors by name      networks.py    models as graphs see them
caches.py           KV caches, recurrent states      placement.py   device of each tensor
graphs/             a step's graph, by architecture  ggml/          scheduler, graph allocator
compute.py          compute buffers                  holdings.py    bytes per device
speculation.py      draft models and MTP layers      components.py  the answer's components
search.py           fit checks for searches          answers.py     the answer, and what would fit
dialect.py          parser of command lines          launching.py   the command line to paste
infer.py            the entry points
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="llama.cpp",
    title="llama.cpp",
    package=__name__,
    oldest=(4905,),
    newest=(11200,),
    named=r".+-gguf(?::[\w-]+)?",
    spellings=("llamacpp", "llama_cpp", "llama-cpp", "llama-server"),
    reads="gguf",
    programs={"llama-server": (), "llama-cli": (), "llama-completion": ()},
    images={r"llama\.cpp.*": "llama-server"},
    formats=("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"),
    trains="trainless",
    splits="--split-mode layer",
    by_room=True,
    small_cache={"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    least_cache={"cache_type_k": "q4_0", "cache_type_v": "q4_0"},
    peers="ggml",
    logged={"compute": ("activations",), "output": ("logits",)},
)
