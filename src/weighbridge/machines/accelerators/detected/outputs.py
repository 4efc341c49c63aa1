"""Any output of a known program -> its devices, or why it has none."""

import re
from collections.abc import Callable

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.detected import amd, apple, nvidia, others
from weighbridge.machines.accelerators.detected.device import (
    MOST,
    DetectedDevice,
    ToolOutput,
    named,
    size,
)
from weighbridge.machines.accelerators.detected.nvidia import HOST

# ---- Kubernetes nodes, and lines of logs: ollama, gpud, vLLM, torch on a Mac

UNSIZED = "seen.node"


def kubernetes(text: str) -> ToolOutput:
    fields = dict(re.findall(r'nvidia\.com/([\w.-]+): *"?([^"\n]+)', text))
    memory = re.search(r"^\s*memory: *(\d+Ki)", text, re.M)
    slices = [(k[4:], int(n)) for k, n in fields.items() if k.startswith("mig-") and n.isdigit()]
    devices = [d for profile, n in slices for d in _slices(profile, min(n, MOST))]
    if "gpu.product" in fields:
        count = fields.get("gpu.count", "1")
        total = size(fields.get("gpu.memory"))
        card = DetectedDevice(
            name=named(fields["gpu.product"]),
            kind="cuda",
            source="Kubernetes labels",
            total=total,
            why="" if total else sentence(UNSIZED),
            raw={"nvidia.com/gpu.memory": named(fields.get("gpu.memory", ""))},
        )
        number = min(int(count), MOST) if count.isdigit() and len(count) < 6 else 1
        devices += [replace(card, index=i) for i in range(number)]
    ram = size(memory[1]) if memory else None
    return ToolOutput(
        source="Kubernetes", devices=tuple(devices[:MOST]), ram=ram, why=_why(fields, devices)
    )


def _slices(profile: str, count: int) -> list[DetectedDevice]:
    one = DetectedDevice(
        name="NVIDIA GPU",
        kind="cuda",
        source="Kubernetes",
        mig=named(profile),
        why=sentence(UNSIZED),
    )
    return [replace(one, index=i) for i in range(count)]


def _why(fields: dict[str, str], devices: list[DetectedDevice]) -> str:
    shares = fields.get("gpu.shared", "0")
    if devices or shares == "0":
        return "" if devices else sentence("seen.no_gpu_named")
    return sentence("seen.shares", count=named(shares))


def ollama(text: str) -> ToolOutput:
    """Return the devices in Ollama's log: `[0] CUDA totalMem 84987740160`."""
    fields: dict[str, dict[str, str]] = {}
    for number, key, value in re.findall(
        r"\[(\d{1,4})\] CUDA (device name|totalMem|freeMem):? (\S.*)", text
    ):
        fields.setdefault(number, {})[key] = value
    devices = []
    for number, one in [*fields.items()][:MOST]:
        name, _, profile = one.get("device name", "NVIDIA GPU").partition(" MIG ")
        total, free = (size(one.get(key), 1) for key in ("totalMem", "freeMem"))
        used = None if total is None or free is None else max(0, total - free)
        devices.append(
            DetectedDevice(
                name=named(name),
                kind="cuda",
                source="CUDA",
                index=int(number),
                total=total,
                reserved=0,
                free=free,
                used=used,
                mig=named(profile),
                why="" if total else sentence("seen.total_mem"),
                raw={key: named(one[key]) for key in ("totalMem", "freeMem") if key in one},
            )
        )
    return ToolOutput(source="CUDA", devices=tuple(devices))


def gpud(text: str) -> ToolOutput:
    """Return the chip in gpud's line on one that uses the host's memory, for which NVML says Not
    Supported."""
    name = re.search(r'"product_name":"([^"]{1,100})"', text)
    shown = named(name[1].replace("-", " ")) if name else "NVIDIA GPU"
    device = DetectedDevice(
        name=shown, kind="cuda", source="NVML", unified=True, why=sentence(HOST)
    )
    return ToolOutput(source="NVML", devices=(device,))


REFUSED = re.compile(r"Free memory on device.*?\(([\d.]+)/([\d.]+) GiB\)")


def vllm(text: str) -> ToolOutput:
    """Return the card in the line with which vLLM refuses to start because others use it."""
    match = REFUSED.search(text)
    if match is None:
        return ToolOutput(source="vLLM", why=sentence("seen.cut_sizes"))
    free, total = (size(f"{n} GiB") for n in match.groups())
    assert free is not None
    assert total is not None
    device = DetectedDevice(
        name="NVIDIA GPU",
        kind="cuda",
        source="vLLM",
        total=total,
        reserved=0,
        free=free,
        used=max(0, total - free),
        raw={"free/total": f"{match[1]}/{match[2]} GiB"},
    )
    return ToolOutput(source="vLLM", devices=(device,), notes=(sentence("seen.others_hold"),))


def mps_refused(text: str) -> ToolOutput:
    """Return the GPU in torch's error on a Mac, whose limit is not the memory."""
    limit = re.search(r"max allowed: ([\d.]+) GB", text)
    why = sentence("seen.mps_limit", gb=limit[1]) if limit else sentence("seen.mps")
    return ToolOutput(source="torch on a Mac", why=why)


LARGEST = 4 << 20  # characters: eight cards in nvidia-smi's XML are 200 thousand
KNOWN: tuple[tuple[str, Callable[[str], ToolOutput]], ...] = (  # the first that is found decides
    (r"<nvidia_smi_log", nvidia.xml),
    (r"HL-SMI Version", others.hl_smi),
    (r"XPU-SMI v|xpu-smi", others.xpu_table),
    (r"Memory Physical Size|\| +Device Name:", others.xpu_discovery),
    (r"HBM-Usage\(MB\)", others.npu_smi),
    (r"^Libtpu version|TPU Chips", others.tpu_info),
    (r"^GPU \d+: .*\(UUID:", nvidia.listed),
    (r"^index, name|^\d+, .*(?:\d|\[N/A\])$", nvidia.queried),
    (r"^\| NVIDIA-SMI|^NVIDIA-SMI has failed|initialize NVML|No devices were found", nvidia.smi),
    (r"nvidia\.com/", kubernetes),
    (r"CUDA totalMem", ollama),
    (r"NVML memory APIs not supported", gpud),
    (r"Free memory on device", vllm),
    (r"MPS backend out of memory", mps_refused),
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
    (r"Card name:", others.dxdiag),
    (r"^AdapterRAM +\S", others.wmic),
    (r"^AdapterRAM", others.adapter_ram),
    (r"qwMemorySize", others.registry),
    (r"DeviceProperties\(", others.torch_properties),
    (r"^\[\(\d+, \d+\)", others.pairs),
)


def read(text: str) -> ToolOutput:
    """Return the devices in any known program's output. Raises BadFileError for an unknown one."""
    if len(text) > LARGEST:
        raise BadFileError(sentence("output_long", most=LARGEST))
    for pattern, reader in KNOWN:
        if re.search(pattern, text, re.M):
            return reader(text)
    raise BadFileError(sentence("output_unknown"))
