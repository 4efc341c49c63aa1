"""Launch lines of engines, alone or in a shell script: `vllm serve`, `llama-server`, `docker run`.

Source: the tables of flags of each engine (weighbridge.engines.launch).
"""

from collections.abc import Iterator

from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.runfiles.document import Document
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.record import PlannedRun
from weighbridge.runfiles.serving.lines import of_text

KIND = Kind(
    name="command",
    title="launch command",
    syntaxes=("shell",),
    source="weighbridge.engines.launch",
)
MOST = 64  # lines: a longer script is looked at as prose is


def tells(document: Document) -> bool:
    """Tell whether a text launches an engine, and is short enough to be a command."""
    from weighbridge.engines.launch.programs import launched

    if document.text.count("\n") > MOST:
        return False
    try:
        launched(document.text)
    except UnsupportedError:
        return True
    except UsageError as error:
        return any(part in str(error) for part in ("servers (", "is not an image"))
    return True


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each launch line."""
    yield from of_text(document.text)
