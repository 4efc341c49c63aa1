"""What `ollama ps` shows of a model once it is loaded: its size, and where it is.

    SIZE         buffers that llama-server's log names, of weights, caches, states, computing and
                 outputs: the GPUs' alone where all layers are there
    PROCESSOR    100% GPU, 100% CPU, or the parts of both in whole percent

Source: ollama fb30760 llm/llama_server.go (MemorySize, bufferSizeRegex), cmd/cmd.go
(ListRunningHandler), format/bytes.go (HumanBytes).
"""

from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.report.keys import DerivedFacts

UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def shown(h: DeviceHoldings) -> DerivedFacts:
    """The two columns, and the bytes that they stand for."""
    return shown_as(*sizes(h))


def shown_as(size: int, on_gpus: int) -> DerivedFacts:
    return {
        "ollama_ps_bytes": size,
        "ollama_ps": f"{human(size)}, {processor(size, on_gpus)}",
    }


def sizes(h: DeviceHoldings) -> tuple[int, int]:
    """(bytes of all buffers, of those on GPUs)"""
    on_gpus = sum(h.whole(d) for d in range(h.launch.gpus))
    if h.placed.full:
        return on_gpus, on_gpus
    return on_gpus + h.whole(h.launch.gpus) + h.output, on_gpus


def processor(size: int, on_gpus: int) -> str:
    if not on_gpus:
        return "100% CPU"
    if on_gpus >= size:
        return "100% GPU"
    host = round((size - on_gpus) / size * 100)
    return f"{host}%/{100 - host}% CPU/GPU"


def human(nbytes: int) -> str:
    """Decimal units, cut to whole ones from ten on."""
    scale, unit = next(((s, u) for s, u in UNITS if nbytes >= s), (1, "B"))
    value = nbytes / scale
    return f"{value:.1f} {unit}" if value < 10 and value % 1 else f"{int(value)} {unit}"
