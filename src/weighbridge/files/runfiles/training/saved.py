"""A saved training_args.bin -> the JSON of its arguments: its pickle makes plain records alone.

Source: torch serialization.py (a zip that holds NAME/data.pkl); transformers 5.2 trainer.py.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.sentences import sentence

MOST = 1 << 18  # bytes of the pickle: a real one has 6,000


class Record:
    """A stand-in for any object of the pickle: its arguments and its state."""

    args: tuple[Any, ...] = ()
    state: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *args: Any, **_words: Any) -> None:
        self.args = args

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop an item of the object, as none affects memory."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Records(pickle.Unpickler):
    """An unpickler that looks up no class and reads no tensor."""

    def find_class(self, module: str, name: str, /) -> Any:
        return Record

    def persistent_load(self, pid: Any, /) -> None:
        return None


def arguments(raw: bytes, name: str) -> str:
    """Return the arguments in a saved file, as JSON. Raises BadFileError."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as opened:
            inside = next(one for one in opened.infolist() if one.filename.endswith("data.pkl"))
            if inside.file_size > MOST:
                raise BadFileError(sentence("saved.more", name=name))
            pickled = _Records(io.BytesIO(opened.read(inside))).load()
    except BadFileError:
        raise
    except Exception:  # a pickle can be broken in any way
        raise BadFileError(sentence("saved.none", name=name)) from None
    state = pickled.state if isinstance(pickled, Record) else {}
    if not state:
        raise BadFileError(sentence("saved.nothing", name=name))
    plain = {str(key): _plain(value) for key, value in state.items()}
    return json.dumps({key: value for key, value in plain.items() if value is not None}, indent=1)


def _plain(value: Any) -> Any:
    """Return a value for JSON; an enum member is its value."""
    if isinstance(value, Record):
        value = value.args[0] if len(value.args) == 1 else None
    if isinstance(value, dict):
        items = {str(key): one for key, one in value.items()}
        return {key: one for key, one in items.items() if isinstance(one, str | int | float)}
    return value if isinstance(value, str | int | float) else None
