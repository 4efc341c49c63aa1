"""Servers on chips of CUDA that share the system's memory: Orin, Thor and Spark.

There vLLM and SGLang take what the system calls available for what is free on the device. So what
their own processes take of the host between two looks, they find gone from the device:

    processes   off the pool of blocks or tokens, as the weights are
    graphs      what a capture takes of both
    estimate    of vLLM's graphs, which leaves the pool: 1.94 GiB where 0.94 were taken (GB10), 1.55
                where 0.71 were (Strix Halo)

No rule is published. On a GB10, 1.1 GiB (Qwen3 0.6B), 1.9 (Qwen2.5 3B) and 4.6 (Qwen3.8 27B, which
sees) were off the pool in vLLM 0.27 and 0.28, and 1.2 in SGLang 0.5.15; that printed 1.38 GiB of
graphs, of which 0.1 are the device's.

Source: vllm 0.33 utils/mem_utils.py (MemorySnapshot.measure, shared_sysmem_device_mem_sms); sglang
0.5.23 srt/utils/common.py (get_available_gpu_memory, SHARED_SYSMEM_DEVICE_MEM_SMS).
"""

from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.machines.accelerators.chips import OF_THE_SYSTEM

PROCESSES = Bytes(GIB, 19 * GIB // 10, 5 * GIB)
CAPTURED = Bytes(0, 1280 * MIB, 1800 * MIB)
SOURCE = "logs of vLLM 0.27, 0.28 and SGLang 0.5.15 on a GB10"
NOTHING = exactly(0)


def processes(capability: tuple[int, int] | None) -> Bytes:
    """Return the host memory of a rank that its engine finds gone from the device."""
    return PROCESSES if capability in OF_THE_SYSTEM else NOTHING


def captured(capability: tuple[int, int] | None) -> Bytes:
    """Return the host memory that capturing graphs takes, and the engine counts with them."""
    return CAPTURED if capability in OF_THE_SYSTEM else NOTHING


def estimated(graphs: Bytes) -> Bytes:
    """Return what vLLM expects of graphs that take so much: up to twice that."""
    return Bytes(graphs.low, graphs.expected * 3 // 2, 2 * graphs.high)
