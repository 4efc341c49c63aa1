"""ik_llama.cpp: llama.cpp of August 2024 and what its author added since.

Layers, placement, scheduler and allocator are llama.cpp's; so are flags of the same name. Its own:

    -mla      how MLA is computed and its cache stored (llama_cpp/graphs/latent_modes.py)
    -amb      MiB of attention scores, or of decompressed keys and values, at once
    -fmoe     gate, up and activation of experts in one operation
    -rtr      matrices in host memory are repacked for the CPU (llama_cpp/rules.py)
    types     IQ2_K to IQ6_K, trellis types, and types with interleaved rows for CPUs (_R4, _R8)
"""

from weighbridge.engines.engine import Engine
from weighbridge.engines.llama_cpp import ENGINE as LLAMA_CPP

ENGINE = Engine(
    name="ik_llama.cpp",
    title="ik_llama.cpp",
    package=__name__,
    oldest=(3576,),
    newest=(4840,),
    registers=False,
    spellings=("ik_llama",),
    reads="gguf",
    programs={"llama-server": (), "llama-cli": (), "llama-completion": ()},
    formats=LLAMA_CPP.formats,
    drafts=False,
    trains="trainless",
    small_cache=LLAMA_CPP.small_cache,
    least_cache=LLAMA_CPP.least_cache,
    peers=LLAMA_CPP.peers,
    logged=LLAMA_CPP.logged,
)
