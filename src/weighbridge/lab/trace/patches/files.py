"""Everything that reads or writes tensors in files, torch's own and the libraries'."""

from collections.abc import Iterator

from weighbridge.lab.trace.notes import Notes
from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.patches.arrivals import Patches
from weighbridge.lab.trace.patches.headers import USERS, SafetensorsPatches
from weighbridge.lab.trace.patches.pretrained import Pretrained
from weighbridge.lab.trace.patches.saving import Marks, Saved


class FilePatches:
    """All patches of files: `patches` are of torch, `table` of libraries by module, for when they
    arrive."""

    def __init__(self, notes: Notes) -> None:
        self._marks = Marks()
        self._saved = Saved(notes)
        self._headers = SafetensorsPatches(notes)
        self._pretrained = Pretrained(notes)

    def close(self) -> None:
        self._pretrained.close()
        self._marks.close()

    def patches(self) -> Iterator[Patch]:
        Marks.running = self._marks
        yield from self._saved.patches()
        yield from self._pretrained.patches()

    def table(self) -> dict[str, Patches]:
        headers = self._headers
        table: dict[str, Patches] = {
            "safetensors": headers.package,
            "safetensors.torch": headers.functions,
        }
        table |= dict.fromkeys(USERS, headers.user)
        for name, patches in self._pretrained.table().items():
            table[name] = both(table[name], patches) if name in table else patches
        return table


def both(first: Patches, second: Patches) -> Patches:
    return lambda module: [*first(module), *second(module)]
