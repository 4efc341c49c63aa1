"""Text -> documents: plain data, with the place of every key, read without running anything.

    yaml     PyYAML's scanner; tags make no objects, and an alias is what it names
    json     the standard library, and a scanner of its own for places
    toml     the standard library; places are looked for by line
    python   ast, never run           shell, text, modelfile    the text alone

Sizes are bounded before anything is parsed, and nodes while it is (weighbridge/base/cost.py): a few
lines of aliases can name a billion of them.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from weighbridge.base.cost import (
    DEEPEST,
    DEEPEST_TREE,
    MOST,
    MOST_DOCUMENTS,
    MOST_NODES,
    MOST_NUMBER,
    bounded,
    deep_key,
    deeper,
    within,
)
from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple, field, frozen_record
from weighbridge.base.sentences import sentence

MARKS = re.compile(r"\{\{|\{%")  # Jinja and Helm templates
# Python tags for plain data; any other would create an object or run code
DATA = re.compile(r".*python/(?:tuple|list|dict|str|unicode|int|long|float|bool|none)")
NEWLINE = "\n"
Path = tuple[str | int, ...]

UNNAMED = "the text"  # the name of a text without a file


class Place(NamedTuple):
    """Where a value is: its line from 1, and its first and last character; 0 and 0 for a value on
    several lines."""

    line: int = 0
    start: int = 0
    end: int = 0


@frozen_record
class Document:
    """One document of a file. `data`: a mapping, list or value; a syntax tree for Python, the text
    for shell scripts and prose."""

    syntax: str
    text: str
    data: Any
    name: str = UNNAMED
    places: Mapping[Path, Place] = field(default_factory=dict)
    remarks: tuple[tuple[int, str], ...] = ()  # (line, what is unusual about it)
    folder: str = ""  # folder for files that it refers to; "" for a paste

    def place(self, path: Path) -> Place:
        """Return the place of the value at `path`, else of its nearest parent."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place())

    def line_of(self, offset: int) -> int:
        """Return the line, from 1, of the character at `offset`."""
        return bisect_left(_ends(self.text), offset) + 1


@lru_cache(maxsize=4)
def _ends(text: str) -> list[int]:
    """Return the offsets of a text's line ends, cached for texts with many look-ups."""
    return [match.start() for match in re.finditer("\n", text)]


def decoded(raw: bytes, name: str) -> str:
    """Return a file's bytes as text. Raises BadFileError if they are binary or too long."""
    if len(raw) > MOST:
        raise BadFileError(sentence("file.long", name=name, most=MOST >> 20))
    if b"\0" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadFileError(sentence("file.no_text", name=name))
    of_two = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-8-sig", "utf-16") if of_two else ("utf-8-sig",):
        try:
            return raw.decode(encoding).replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").replace("\r\n", "\n")


def documents(text: str, syntax: str, name: str = UNNAMED) -> tuple[Document, ...]:
    """Return the documents of a text in one syntax. Raises BadFileError if it is malformed."""
    if syntax in READERS:
        return tuple(READERS[syntax](text, name))
    return (Document(syntax=syntax, text=text, data=text, name=name),)


def first(text: str, syntaxes: Sequence[str], name: str) -> Document:
    """Return the first document of a text, in the first of `syntaxes` that parses. Raises the last
    one's BadFileError if none does, and BadFileError if the text is empty."""
    for syntax in syntaxes[:-1]:
        try:
            return _first(documents(text, syntax, name), name)
        except BadFileError:
            continue
    return _first(documents(text, syntaxes[-1], name), name)


def _first(pieces: Sequence[Document], name: str) -> Document:
    if not pieces:
        raise BadFileError(f"{name} is empty")
    return pieces[0]


# YAML, by parser events: no recursion, and only mappings, lists and plain values


def _yaml(text: str, name: str) -> Iterator[Document]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from _YamlDocuments(text, name, loader).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = " ".join(str(error.problem or error.context or "is no YAML").split())
        if MARKS.search(text):
            raise BadFileError(sentence("file.template"), where=where) from None
        if "nesting depth" in problem:  # PyYAML has a bound of its own since 6.0.4
            raise BadFileError(sentence("file.too_deep", kind="YAML"), where=where) from None
        raise BadFileError(sentence("file.no_yaml", why=problem), where=where) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        problem = " ".join(str(error).split())
        raise BadFileError(sentence("file.no_yaml", why=problem), where=name) from None


class _YamlDocuments:
    """The documents of one text, built from events of PyYAML's parser."""

    def __init__(self, text: str, name: str, loader: Any) -> None:
        self.text, self.name = text, name
        self.loader = loader(text)
        self.nodes = 0

    def read(self) -> Iterator[Document]:
        import yaml

        count = 0
        while self.loader.check_event():
            event = self.loader.get_event()
            if isinstance(event, yaml.DocumentStartEvent):
                count += 1
                if count > MOST_DOCUMENTS:
                    raise BadFileError(
                        sentence("file.documents", most=MOST_DOCUMENTS), where=self.name
                    )
                yield self._document()

    def _document(self) -> Document:
        self.anchors: dict[str, Any] = {}
        self.places: dict[Path, Place] = {}
        self.remarks: list[tuple[int, str]] = []
        data = self._node(self.loader.get_event(), ())
        return Document(
            syntax="yaml",
            text=self.text,
            data=data,
            name=self.name,
            places=self.places,
            remarks=tuple(self.remarks),
        )

    def _node(self, event: Any, path: Path) -> Any:
        import yaml

        self._counted(event, path)
        mark = event.start_mark
        self.places[path] = Place(mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        value, end = self._value(event, path)
        if isinstance(event, yaml.ScalarEvent) or event.flow_style:
            self.places[path] = Place(mark.line + 1, mark.index, end.index)
        if "python/" in (event.tag or "") and not DATA.fullmatch(event.tag):
            self.remarks.append((mark.line + 1, f"the tag {event.tag:.60} is not obeyed, nor read"))
            value = None
        if event.anchor:
            self.anchors[event.anchor] = value
        return value

    def _bad(self, event: Any, what: str) -> BadFileError:
        return BadFileError(what, where=f"{self.name}:{event.start_mark.line + 1}")

    def _value(self, event: Any, path: Path) -> tuple[Any, Any]:
        """Return the value that begins with `event`, and the event that ends it."""
        import yaml

        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event), event.end_mark
        is_list = isinstance(event, yaml.SequenceStartEvent)
        return self._sequence(path) if is_list else self._mapping(path)

    def _counted(self, event: Any, path: Path) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES or len(path) > DEEPEST:
            key = "file.too_deep" if len(path) > DEEPEST else "file.too_large"
            raise self._bad(event, sentence(key, kind="YAML"))

    def _alias(self, event: Any, path: Path) -> Any:
        if event.anchor not in self.anchors:
            raise self._bad(event, sentence("file.no_anchor", anchor=event.anchor))
        value = self.anchors[event.anchor]
        self.nodes += _size(value, MOST_NODES - self.nodes)
        self._counted(event, path)
        return value

    def _scalar(self, event: Any) -> Any:
        import yaml

        tag = event.tag
        if tag is None or tag == "!":
            tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        elif not tag.startswith("tag:yaml.org,2002:") or "python" in tag:
            if "python/" not in tag:
                line = event.start_mark.line + 1
                self.remarks.append((line, f"the tag {tag:.60} makes no object"))
            tag = "tag:yaml.org,2002:str"
        if tag.endswith((":timestamp", ":binary")):
            return event.value
        if tag.endswith((":int", ":float")) and len(event.value) > MOST_NUMBER:
            return event.value  # too long for a number: a text, which its key rejects
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        return self.loader.construct_object(node)

    def _event_begins_with(self, event: Any, signs: str) -> bool:
        """Return whether the text up to the event's first character ends with `signs`."""
        return self.text[: event.start_mark.index + 1].endswith(signs)

    def _sequence(self, path: Path) -> tuple[list[Any], Any]:
        import yaml

        items: list[Any] = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            items.append(self._node(self.loader.get_event(), (*path, len(items))))
        return items, self.loader.get_event().end_mark

    def _key(self, event: Any, path: Path) -> str:
        """Return a key as text; for a list or mapping a name by its line. Raises BadFileError for a
        template mark."""
        import yaml

        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        if isinstance(event, yaml.MappingStartEvent) and self._event_begins_with(event, "{{"):
            raise self._bad(event, sentence("file.template"))
        self._node(event, (*path, ""))
        return f"(line {event.start_mark.line + 1})"

    def _mapping(self, path: Path) -> tuple[dict[str, Any], Any]:
        import yaml

        values: dict[str, Any] = {}
        merged: list[Any] = []
        while not self.loader.check_event(yaml.MappingEndEvent):
            key_event = self.loader.get_event()
            line = key_event.start_mark.line + 1
            key = self._key(key_event, path)
            if key in values:
                self.remarks.append((line, f"{key:.60} stands twice; the last one counts"))
            value = self._node(self.loader.get_event(), (*path, key))
            if key == "<<":
                merged += value if isinstance(value, list) else [value]
            else:
                values[key] = value
        end = self.loader.get_event().end_mark
        for each in merged:
            if isinstance(each, dict):
                values = {**each, **values}
        return values, end


def _size(value: Any, most: int) -> int:
    """Return the number of values within `value`, at most `most` + 1."""
    count, unread = 0, [value]
    while unread and count <= most:
        count += 1
        unread += within(unread.pop())
    return count


# JSON
TOKEN = re.compile(r'\s*(?:(?P<mark>[{}\[\],:])|(?P<value>"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+))')


def _json(text: str, name: str) -> Iterator[Document]:
    from weighbridge.models.formats.strict_json import strict_json

    try:
        data = strict_json(text.encode(errors="surrogatepass"), MOST, constants=True)
    except BadFileError as error:
        raise BadFileError(f"{name} {error}") from None
    bounded(data, name, "JSON")
    yield Document(syntax="json", text=text, data=data, name=name, places=_json_places(text))


def _json_places(text: str) -> dict[Path, Place]:
    """Return the place of each value in a valid JSON text, by path."""
    places: dict[Path, Place] = {}
    path: list[str | int] = []
    key: str | None = None
    line, seen = 1, 0
    for token in TOKEN.finditer(text):
        mark, start = token["mark"], token.start("mark" if token["mark"] else "value")
        line, seen = line + text.count("\n", seen, start), start
        if mark in ("{", "["):
            places.setdefault(tuple(path), Place(line, start, start))
            path.append(0 if mark == "[" else "")
            key = None
        elif mark in ("}", "]"):
            path.pop()
            places[tuple(path)] = places[tuple(path)]._replace(end=token.end())
        elif mark == ",":
            last = path[-1]
            path[-1] = last + 1 if isinstance(last, int) else ""
            key = None
        elif mark is None and path and path[-1] == "" and key is None:
            key = json.loads(token["value"])
            path[-1] = key
        elif mark is None:
            places[tuple(path)] = Place(line, start, token.end())
    return places


# TOML: the standard library has no places
TOML_LINE = re.compile(r"^[ \t]*(?:\[+([^\]\n]+)\]+|(\"?[\w.-]+\"?)[ \t]*=[ \t]*)")


def _toml(text: str, name: str) -> Iterator[Document]:
    import tomllib

    key = deep_key(text)
    if key is not None:
        where = f"{name}:{text.count(NEWLINE, 0, key) + 1}"
        raise BadFileError(sentence("file.too_deep", kind="TOML"), where=where)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise BadFileError(sentence("file.too_deep", kind="TOML"), where=name) from None
    except tomllib.TOMLDecodeError as error:
        problem = " ".join(str(error).split())
        raise BadFileError(sentence("file.no_toml", why=problem), where=name) from None
    bounded(data, name, "TOML")
    yield Document(syntax="toml", text=text, data=data, name=name, places=_toml_places(text))


def _toml_places(text: str) -> dict[Path, Place]:
    places: dict[Path, Place] = {}
    table: tuple[str, ...] = ()
    offset = 0
    for number, line in enumerate(text.split("\n"), 1):
        match = TOML_LINE.match(line)
        if match and match[1]:
            table = tuple(part.strip(' "') for part in match[1].split("."))
            places.setdefault(table, Place(number, offset, offset + len(line)))
        elif match and match[2]:
            keys = tuple(match[2].strip('"').split("."))
            value = re.match(r"(\"[^\"]*\"|'[^']*'|[^#]*)", line[match.end() :])
            length = len(value[0].rstrip()) if value else 0
            start = offset + match.end()
            places.setdefault((*table, *keys), Place(number, start, start + length))
        offset += len(line) + 1
    return places


# Python


def _python(text: str, name: str) -> Iterator[Document]:
    import ast

    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f":{line}" if line else ""
        raise BadFileError(sentence("file.no_python"), where=f"{name}{where}") from None
    if deeper(tree, DEEPEST_TREE, ast.iter_child_nodes):
        raise BadFileError(sentence("file.too_deep", kind="Python"), where=name)
    yield Document(syntax="python", text=text, data=tree, name=name)


READERS = {"yaml": _yaml, "json": _json, "toml": _toml, "python": _python}
