"""The diagnosis of a machine: accelerators, memory, and versions of what could run on them; or of
another machine, from the output of a program there.

Versions are read from pip's records: nothing is imported, and no GPU is woken.
"""

import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators import local, ram
from weighbridge.machines.accelerators.detected import outputs
from weighbridge.machines.accelerators.detected.device import DetectedDevice, ToolOutput
from weighbridge.machines.accelerators.detected.here import (
    PROGRAMS,
    Here,
    asked_of_torch,
    gathered,
    here,
)
from weighbridge.machines.accelerators.detected.programs import where
from weighbridge.machines.accelerators.names import ChosenCard

_PACKAGES = """
torch transformers accelerate diffusers peft bitsandbytes vllm sglang llama-cpp-python trl
deepspeed nvidia-ml-py huggingface_hub rich
"""
PACKAGES = tuple(_PACKAGES.split())
OWN = "weighbridge"
DEVELOPERS = frozenset(
    {"test", "test-torch", "test-quantization", "test-space", "dev", "golden"}
)  # extras of our tests


@frozen_record
class Extra:
    """A group of packages that `pip install 'weighbridge[name]'` installs."""

    name: str
    missing: tuple[str, ...]

    @property
    def install(self) -> str:
        return f"pip install '{OWN}[{self.name}]'"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "missing": list(self.missing), "install": self.install}


@frozen_record
class Memory:
    """Host memory in bytes: installed, available, and the limits of control groups."""

    total: int | None
    available: int | None
    source: str
    limits: tuple[ram.Ram, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "total_bytes": self.total,
            "available_bytes": self.available,
            "source": self.source,
            "limits": [{"left_bytes": r.nbytes, "source": r.source} for r in self.limits],
        }


@frozen_record
class DiagnosedDevice:
    """A device as reported, with its card in the catalogue: None if its memory is unknown."""

    device: DetectedDevice
    card: ChosenCard | None

    @property
    def name(self) -> str:
        """Return the name in the catalogue; else the reported name."""
        return self.card.part.name if self.card else self.device.name

    def to_dict(self) -> dict[str, Any]:
        card = self.card
        usable = None
        if card is not None:
            free = None if card.free is None else card.free.low
            usable = {"total": card.part.room.low, "free": free}
        return {
            "name": self.name,
            "id": (card.part.id or None) if card else None,
            "driver_bytes": card.part.total.bytes.expected if card else None,
            "usable_bytes": usable,
            "printed": self.device.to_dict(),
        }


@frozen_record
class Diagnosis:
    """What `weighbridge doctor` shows. `here`: whether it is about this machine, or about the one
    that printed an output. `why`: why there is no accelerator."""

    here: bool
    missing: tuple[str, ...]  # programs that would report devices but are not installed
    accelerators: tuple[DiagnosedDevice, ...]
    seen: tuple[ToolOutput, ...]
    notes: tuple[str, ...]
    why: str
    host: Memory
    versions: Mapping[str, str]
    packages: Mapping[str, str | None]
    extras: tuple[Extra, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "weighbridge.doctor/1",
            "version": __version__,
            "of": "this machine" if self.here else "an output",
            "accelerators": [one.to_dict() for one in self.accelerators],
            "why_none": self.why or None,
            "programs_missing": list(self.missing),
            "notes": list(self.notes),
            "asked": [_asked(seen) for seen in self.seen],
            "host": self.host.to_dict(),
            "versions": dict(self.versions),
            "packages": dict(self.packages),
            "extras": [extra.to_dict() for extra in self.extras],
        }


def _asked(seen: ToolOutput) -> dict[str, Any]:
    return {
        "source": seen.source,
        "versions": dict(seen.versions),
        "why_none": seen.why or None,
        "devices": [device.to_dict() for device in seen.devices],
    }


def diagnosis(*, torch: bool = False) -> Diagnosis:
    """Return the diagnosis of this machine. `torch`: ask torch too, which uses card memory."""
    seen = _with_torch(here()) if torch else here()
    memory = host()
    machine = local.HostMemory(memory.total, memory.available)
    return Diagnosis(
        here=True,
        missing=tuple(name for name in PROGRAMS if where(name) is None) if not seen.devices else (),
        accelerators=_accelerators(seen, machine),
        seen=seen.seen,
        notes=seen.notes,
        why="" if seen.devices else local.silent(seen),
        host=memory,
        versions=dict(_versions(seen)),
        packages={name: version(name) for name in PACKAGES},
        extras=tuple(extras()),
    )


def of_output(text: str) -> Diagnosis:
    """Return the diagnosis of the machine where a program printed `text`. Raises BadFileError for
    an unknown output."""
    seen = outputs.read(text)
    devices = gathered((seen,))
    return Diagnosis(
        here=False,
        missing=(),
        accelerators=_accelerators(devices, local.HostMemory(seen.ram, None)),
        seen=(seen,),
        notes=devices.notes,
        why=seen.why,
        host=Memory(total=seen.ram, available=None, source=seen.source, limits=()),
        versions=seen.versions,
        packages={},
        extras=(),
    )


def _accelerators(machine_devices: Here, machine: local.HostMemory) -> tuple[DiagnosedDevice, ...]:
    return tuple(
        DiagnosedDevice(device=d, card=c) for d, c in local.with_cards(machine_devices, machine)
    )


def _with_torch(others: Here) -> Here:
    """Return the devices with torch's report added."""
    try:
        import torch

        seen = asked_of_torch(torch)
    except Exception as error:  # anything can be wrong with a user's installation
        kind = type(error).__name__
        seen = ToolOutput(source="torch", why=sentence("seen.no_import", kind=kind))
    devices = others.devices or seen.devices
    return Here(seen=(*others.seen, seen), devices=devices, notes=others.notes)


def host() -> Memory:
    left = local.memory()
    return Memory(
        total=ram.installed(),
        available=None if left is None else left.nbytes,
        source="" if left is None else left.source,
        limits=tuple(ram.limits()),
    )


def _versions(devices: Here) -> Iterator[tuple[str, str]]:
    yield OWN, __version__
    yield "python", platform.python_version()
    yield "system", f"{platform.system()} {platform.release()}"
    if sys.platform == "linux" and "microsoft" in platform.release().lower():
        yield "wsl", "2" if "WSL2" in platform.release() else "1"
    names = {"cuda": "cuda", "libtpu": "libtpu"}
    for seen in devices.seen:
        if "driver" in seen.versions:
            yield f"driver ({seen.source})", seen.versions["driver"]
        yield from ((names[k], v) for k, v in seen.versions.items() if k in names)
    rocm = _rocm()
    if rocm:
        yield "rocm", rocm


def _rocm() -> str:
    """Return ROCm's version from its packages' file; "" without one."""
    try:
        with open("/opt/rocm/.info/version", encoding="utf-8") as file:
            text = file.readline(64).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.isprintable() else ""


def version(name: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    from importlib import metadata

    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    return installed if installed and installed.isprintable() else None


def extras() -> Iterator[Extra]:
    """Yield each extra for users, with its packages that are not installed."""
    needs = required()
    for name in needs:
        if name not in DEVELOPERS:
            yield Extra(name=name, missing=tuple(n for n in _of(name, needs) if version(n) is None))


def required() -> dict[str, list[str]]:
    """Return the packages of each extra, from our metadata: `torch>=2.10; extra == 'gpu'`."""
    import re
    from importlib import metadata

    extras: dict[str, list[str]] = {}
    try:
        lines = metadata.requires(OWN) or []
    except metadata.PackageNotFoundError:
        return extras
    for line in lines:
        requirement = re.match(r"([\w.-]+)(\[[\w,-]+\])?.*;.*extra\s*==\s*['\"]([\w-]+)", line)
        if requirement:
            name = requirement[1] + (requirement[2] or "")
            extras.setdefault(requirement[3], []).append(name)
    return extras


def _of(name: str, needs: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield the packages of an extra, including those of the extras that it names."""
    for one in needs.get(name, ()):
        inner = one.partition("[")[2].rstrip("]")
        if one.startswith(f"{OWN}[") and inner != name:
            yield from _of(inner, needs)
        elif not one.startswith(OWN):
            yield one.partition("[")[0]
