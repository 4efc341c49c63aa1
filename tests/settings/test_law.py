"""The law of settings: each is read by code of its engine that is no face, or says why not.

A face takes a setting and hands it on: the record itself, command lines that are read and written,
settings that an answer repeats. That the answer changes is the live half of the law, in
test_readers.py.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from weighbridge.engines.table import ENGINES, FOLDERS
from weighbridge.settings.setting import Setting, Settings, fields, whole
from weighbridge.settings.shared import ServingSettings
from weighbridge.workload import Train

SOURCE = Path(__file__).parent.parent.parent / "src/weighbridge"
# What a request is called where it is asked, and what it is called when it is changed for a search
READ = re.compile(r'\b(?:w|workload|asked|plain)\.([a-z]\w*)|"([a-z]\w*)"(?!: [^"])')
ECHO = re.compile(r'"(\w+)": (?:\w+\.)*(?:w|workload|asked)\.\1\b')
FACES = {"settings.py", "flags.py", "dialect.py", "launching.py", "launch.py", "__init__.py"}
# Rooms that every engine's answer comes through
COMMON = (
    "engines/*.py",
    "answers/estimate",
    "settings/shared.py",
    "models/checkpoint",
    "answers/questions/prepared.py",
    "answers/questions/estimator.py",
)
LAUNCHES = {"ik_llama.cpp": ("llama.cpp",), "ollama": ("llama.cpp",)}  # whose code it runs
SERVERS = ("engines/caches", "engines/parallel", "engines/servers")
TRAINING = ("training", "training/forward", "settings/ranks.py", *COMMON)


def files(place: str) -> Iterator[Path]:
    """Files of a room, of a pattern of rooms, or the one that is named."""
    for path in SOURCE.glob(place):
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def reads(text: str) -> Iterator[str]:
    """Names of settings that a text reads: attributes of what is asked, and names in tables. An
    entry that says a setting under its own name, as an answer repeats it, is no reading."""
    for said, named in READ.findall(ECHO.sub("", text)):
        yield said or named


@cache
def read_in(place: str) -> frozenset[str]:
    texts = (path.read_text() for path in files(place) if path.name not in FACES)
    return frozenset(name for text in texts for name in reads(text))


def rooms(engine: str) -> tuple[str, ...]:
    """Places where the code of an engine stands."""
    own = (engine, *LAUNCHES.get(engine, ()))
    shared = SERVERS if ENGINES[engine].server else ()
    return (*(f"engines/{FOLDERS[name]}" for name in own), *shared, *COMMON)


def unread(declared: type[Settings], places: tuple[str, ...]) -> Mapping[str, Setting]:
    known = frozenset().union(*(read_in(place) for place in places))
    return {name: one for name, one in fields(declared).items() if name not in known}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_setting_of_an_engine_is_read_or_says_why_not(engine):
    dead = unread(ENGINES[engine].settings, rooms(engine))
    assert {name for name, one in dead.items() if not one.idle} == set()


def test_every_setting_of_training_is_read_or_says_why_not():
    assert {name for name, one in unread(Train, TRAINING).items() if not one.idle} == set()


def test_the_law_fails_for_a_setting_that_nothing_reads():
    class Careless(ServingSettings):
        """One setting too many."""

        tokens_of_nobody = whole(1)

    assert set(unread(Careless, rooms("vllm"))) == {"tokens_of_nobody"}


def test_an_echo_is_no_reading():
    said = 'x = w.max_num_seqs, at.block_size, getattr(w, "page_size")'
    assert list(reads(said)) == ["max_num_seqs", "page_size"]
    assert list(reads('{"images": 1, "exact": w.exact, "program": self.w.program}')) == []
