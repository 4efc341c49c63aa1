"""The order of the rooms in engines/, and where facts of one engine may stand."""

import ast
import re
from pathlib import Path

import pytest
from tools.syntax import nodes, parse

import weighbridge
from tests.cases import all_of
from weighbridge.engines.table import ENGINES, FOLDERS

HOUSE = Path(weighbridge.__file__).parent
ENGINE_ROOM = HOUSE / "engines"
# Low to high: a file imports from its own line and from those before it
ORDER = (
    ("engine", "ignorance", "stand_ins"),
    ("table",),
    ("format_names", "ignorance"),
    ("launch",),
    ("interface", "weight_formats"),
    ("format_choice",),
    ("launch_line", "model_classes"),
    ("parallel",),
    ("servers",),
    ("subject",),
    tuple(FOLDERS.values()),
)
# Engines whose program is another's: they have its rules, but for their own
FORKS = {"ik_llama_cpp": {"llama_cpp"}, "ollama": {"llama_cpp"}}


def rank(name):
    return next(i for i, line in enumerate(ORDER) if name in line)


def home(path):
    """The room of a file in engines/, or its own name where it is in none."""
    return path.relative_to(ENGINE_ROOM).parts[0].removesuffix(".py")


def imported(path):
    """What of engines/ a file imports, by the first word."""
    for node in nodes(path.read_text(), ast.ImportFrom):
        if (node.module or "").startswith("weighbridge.engines"):
            below = (node.module or "").split(".")[2:]
            yield from below[:1] or (alias.name for alias in node.names)


def upward(path):
    here = home(path)
    for there in imported(path):
        own = there == here or there in FORKS.get(here, ())
        another = here in FOLDERS.values() and there in FOLDERS.values()
        typed = here == "engine" and there in ("interface", "model_classes", "weight_formats")
        if not (own or typed) and (rank(there) > rank(here) or another):
            yield there


def files():
    return [p for p in sorted(ENGINE_ROOM.rglob("*.py")) if p != ENGINE_ROOM / "__init__.py"]


@pytest.mark.house
def test_imports_within_engines_point_downwards():
    found = {str(p.relative_to(ENGINE_ROOM)): sorted(upward(p)) for p in files()}
    assert {name: up for name, up in found.items() if up} == {}


@pytest.mark.house
def test_the_test_above_can_fail(tmp_path):
    room = ENGINE_ROOM / "vllm" / "rules.py"
    text = room.read_text()
    low = tmp_path / "low.py"
    low.write_text(text + "\nfrom weighbridge.engines.sglang import card\n")
    assert set(imported(low)) - set(imported(room)) == {"sglang"}


# Low to high, as above
WITHIN_SERVERS = ("cache_formats", "communication", "device_support", "flags", "shards")
WITHIN_SERVERS += ("lora_and_speculation", "replica", "paged")


@pytest.mark.house
def test_imports_within_servers_point_downwards():
    place = "weighbridge.engines.servers"
    for path in (ENGINE_ROOM / "servers").glob("*.py"):
        for node in nodes(path.read_text(), ast.ImportFrom):
            if (node.module or "").startswith(place):
                below = node.module.removeprefix(place).strip(".")
                for there in [below] if below else [name.name for name in node.names]:
                    assert WITHIN_SERVERS.index(there) < WITHIN_SERVERS.index(path.stem), path


# Names of engines

# The same words name other things there: a library of models, a format of weights, a program
OTHERS = {
    "models/catalogue/everyday.py": "a format of weights",
    "models/catalogue/files.py": "who reads a published file",
    "models/arch/model_types.py": "whose facts about a type a file has",
    "settings/shared.py": "the title of a setting that two engines share, whose it was first",
    "engines/servers/device_support.py": "which is nearest on a card that a server does not run on",
    "engines/launch/programs.py": "programs whose lines are not read",
    "models/quantization/declared.py": "a format of weights",
    "faces/texts/oom.py": "programs whose messages are explained",
    "models/quantization/ggml.py": "whose files the formats are",
    "faces/web/worker.py": "engines that the page begins with",
    "workload/train.py": "engines that write answers for a trainer",
    "training/learning/record.py": "how a trainer starts the engine that writes for it",
}
ROOMS = {
    "files/oom": "error messages are of programs, of which engines are some",
    "files/runfiles": "run files are of programs, of which engines are some",
}
# "transformers" is the library of a model's classes in every room, so it is not looked for
NAMES = {name for name in FOLDERS if name != "transformers"} | {
    folder for name, folder in FOLDERS.items() if name != folder
}


def spelled(path):
    """Constants of a file that are the very name of an engine."""
    for node in nodes(path.read_text(), ast.Constant):
        if node.value in NAMES:
            yield node.value


@pytest.mark.house
def test_an_engine_is_named_in_its_folder_and_in_the_table_alone():
    found = {}
    for path in HOUSE.rglob("*.py"):
        name = str(path.relative_to(HOUSE))
        own = path.is_relative_to(ENGINE_ROOM) and home(path) in (*FOLDERS.values(), "table")
        if not own and not name.startswith(tuple(f"{room}/" for room in ROOMS)):
            found[name] = set(spelled(path))
    assert {name for name, spells in found.items() if spells} == set(OTHERS)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.house
def test_a_folder_names_no_engine_but_its_own_and_whose_rules_it_has(name):
    folder = FOLDERS[name]
    allowed = {name, folder} | FORKS.get(folder, set())
    allowed |= {known for known, where in FOLDERS.items() if where in allowed}
    for path in (ENGINE_ROOM / folder).rglob("*.py"):
        assert set(spelled(path)) <= allowed, path


@all_of("name", FOLDERS)
def test_a_record_is_of_its_folder(name):
    kind = ENGINES[name]
    assert kind.name == name
    assert kind.package == f"weighbridge.engines.{FOLDERS[name]}"
    assert callable(kind.infer)
    assert not kind.programs or kind.home("dialect").DIALECT.engine == name


# Versions of engines

ASKED = re.compile(r"version|release|build|number")


def gates(path):
    """Lines that compare a version with a number that stands in the line, in the file, or that
    comes from a file of rules."""
    text = path.read_text()
    own = {
        target.id
        for node in parse(text).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and _numbers(node.value)
        for target in getattr(node, "targets", None) or [node.target]
        if isinstance(target, ast.Name)
    } | {
        name.asname or name.name
        for node in nodes(text, ast.ImportFrom)
        if (node.module or "").endswith(".rules")
        for name in node.names
    }
    for node in nodes(text, ast.Compare):
        sides = (node.left, *node.comparators)
        told = any(_numbers(s) or (isinstance(s, ast.Name) and s.id in own) for s in sides)
        if told and any(ASKED.search(ast.unparse(side)) for side in sides):
            yield node.lineno, ast.unparse(node)


def _numbers(node):
    """(0, 20), as versions are written."""
    return (
        isinstance(node, ast.Tuple)
        and len(node.elts) > 0
        and all(isinstance(e, ast.Constant) and isinstance(e.value, int) for e in node.elts)
    )


@pytest.mark.house
def test_versions_are_compared_in_rules_alone():
    shared = [p for p in files() if home(p) not in FOLDERS.values()]
    own = [p for folder in FOLDERS.values() for p in (ENGINE_ROOM / folder).rglob("*.py")]
    found = {
        str(p.relative_to(HOUSE)): list(gates(p)) for p in (*shared, *own) if p.name != "rules.py"
    }
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.house
def test_the_search_for_versions_can_find(tmp_path):
    head = "from a.rules import THEN\nSINCE = (0, 20)\nLATER: V = (0, 21)\n"
    for line in ("r.version >= (0, 24)", "s.version < SINCE", "version < LATER", "version < THEN"):
        path = tmp_path / "gated.py"
        path.write_text(f"{head}if {line}: ...\n")
        assert list(gates(path))
