"""A container's memory limit that is too low, raised in its file: to what the run may need of host
memory at worst, in whole GiB. Nothing else of the run changes by it."""

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.units import GIB
from weighbridge.files.runfiles.kinds import read
from weighbridge.files.runfiles.record import PlannedRun, RunFile, Understood
from weighbridge.files.runfiles.weighing import WeighedRun
from weighbridge.memory.report.verdict import Remedy, Verdict

RAM = "ram"
COST = "the container may take {new} of its machine's memory, not {old}"


def raised(text: str, file: RunFile, number: int, weighed: WeighedRun) -> tuple[str, Remedy] | None:
    """Return (text, remedy): the text with a memory limit that is high enough, and that change.
    None if more than the limit is missing, or if its place in the text is unknown."""
    limit = next((one for one in weighed.run.understood if one.setting == RAM and one.end), None)
    verdict = None if weighed.report is None else weighed.report.verdict
    if limit is None or verdict is None or not _lacks_only_host_memory(verdict):
        return None
    size = verdict.host.container // GIB if verdict.host is not None else 0
    new = f"{size}{'Gi' if limit.key.startswith('resources.') else 'g'}"
    after = _with(text, limit, new)
    if after is None or not _says(after, file, number, weighed.run, f"{size}GiB"):
        return None
    remedy = Remedy(
        change={RAM: f"{size}GiB"},
        peak_bytes=verdict.per_device.expected,
        fits="yes",
        cost=COST.format(new=new, old=limit.value),
        flags=f"{limit.key} {new}",
    )
    return after, remedy


def _lacks_only_host_memory(verdict: Verdict) -> bool:
    """Return whether the device surely has room and only host memory is too small."""
    short = verdict.host is not None and verdict.host.fits in ("no", "unknown")
    return short and verdict.count > 0 and verdict.per_device.high <= verdict.usable.low


def _with(text: str, limit: Understood, new: str) -> str | None:
    """Return the text with limit `new`, quoted like the old one; None if the old one is empty."""
    old = text[limit.start : limit.end]
    bare = old.strip("\"'")
    return f"{text[: limit.start]}{old.replace(bare, new)}{text[limit.end :]}" if bare else None


def _says(after: str, file: RunFile, number: int, run: PlannedRun, ram: str) -> bool:
    """Return whether the changed text reads as the same run with memory limit `ram`."""
    try:
        again = read(after, file.name, file.kind, file.folder).runs[number]
    except (WeighbridgeError, IndexError):
        return False
    meant = {**run.settings, RAM: ram}
    return again.settings == meant and (again.command, again.model) == (run.command, run.model)
