"""Any output of a known program -> what it tells, or why it tells nothing."""

import re
from collections.abc import Callable

from weighbridge.accelerators.detected import amd, apple, cluster, nvidia, others, windows
from weighbridge.accelerators.detected.device import ToolOutput
from weighbridge.errors import BadFileError

LARGEST = 4 << 20  # characters: eight cards in nvidia-smi's XML are 200 thousand
KNOWN: tuple[tuple[str, Callable[[str], ToolOutput]], ...] = (  # the first that is found says which
    (r"<nvidia_smi_log", nvidia.xml),
    (r"HL-SMI Version", others.hl_smi),
    (r"XPU-SMI v|xpu-smi", others.xpu_table),
    (r"Memory Physical Size|\| +Device Name:", others.xpu_discovery),
    (r"HBM-Usage\(MB\)", others.npu_smi),
    (r"^Libtpu version|TPU Chips", others.tpu_info),
    (r"^GPU \d+: .*\(UUID:", nvidia.listed),
    (r"^index, name|^\d+, .*(?:\d|\[N/A\])$", nvidia.queried),
    (r"^\| NVIDIA-SMI|^NVIDIA-SMI has failed|initialize NVML|No devices were found", nvidia.smi),
    (r"nvidia\.com/", cluster.kubernetes),
    (r"CUDA totalMem", cluster.ollama),
    (r"NVML memory APIs not supported", cluster.gpud),
    (r"Free memory on device", cluster.vllm),
    (r"MPS backend out of memory", cluster.mps_refused),
    (r'^\s*"card\d+"', amd.rocm_json),
    (r"^device,.*VRAM", amd.rocm_csv),
    (r"GPU\[\d+\].*VRAM", amd.rocm_text),
    (r"Concise Info", amd.rocm_short),
    (r"VRAM_TOTAL", amd.monitor),
    (r"Mem-Usage \|", amd.amd_table),
    (r"MARKET_NAME:", amd.static),
    (r'"mem_usage"', amd.metric),
    (r"recommendedMaxWorkingSetSize", apple.metal),
    (r"MiB free\)", apple.llama),
    (r"SPMemoryDataType", apple.memory),
    (r"^(?:iogpu\.wired_limit_mb|hw\.memsize):", apple.sysctl),
    (r"Chipset Model:|Hardware Overview:", apple.profiler),
    (r'"platformApi"|"result": \[', apple.fastfetch),
    (r"Card name:", windows.dxdiag),
    (r"^AdapterRAM +\S", windows.wmic),
    (r"^AdapterRAM", windows.adapter_ram),
    (r"qwMemorySize", windows.registry),
    (r"DeviceProperties\(", others.torch_properties),
    (r"^\[\(\d+, \d+\)", others.pairs),
)


def read(text: str) -> ToolOutput:
    """Raises BadFileError where no program that we know prints so."""
    if len(text) > LARGEST:
        raise BadFileError(
            f"the output has more than {LARGEST:,} characters: give the part of one program"
        )
    for pattern, reader in KNOWN:
        if re.search(pattern, text, re.M):
            return reader(text)
    raise BadFileError(
        "this is the output of no program that we know; try `nvidia-smi -q -x`, `rocm-smi "
        "--showproductname --showmeminfo vram --json` or `system_profiler SPHardwareDataType`"
    )
