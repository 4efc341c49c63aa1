"""The architecture, as tests: who may import whom, that the core starts cold, that no id decides."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools.house import WINGS, read_house, room_of
from tools.syntax import imports, nodes

ROOT = Path(__file__).parent.parent / "src" / "weighbridge"
LAYERS = [  # low to high: a module imports only from its own layer and from those before it
    "_version",
    "lazily",
    "records",
    "parsed",
    "wording",
    "sentences",
    "watching",
    "errors",
    "cost",
    "canonical",
    "engines.engine",
    "engines.stand_ins",
    "engines.table",
    "memo",
    "versions",
    "units",
    "words",
    "dtypes",
    "tensors",
    "formats",
    "sources",
    "catalogue",
    "arch",
    "quantization",
    "checkpoint",
    "allocator",
    "memory",
    "bounds",
    "accelerators",
    "kernels",
    "report",
    "settings",
    "components",
    "engines",
    "verdict",
    "workload",
    "forward",
    "training",
    "pictures",
    "estimate",
    "view",
    "charts",
    "render",
    "remedies",
    "questions",
    "programs",
    "oom",
    "runfiles",
    "texts",
    "scan",
    "lab",
    "measure",
    "api",
    "agents",
    "web",
    "cli",
]
DOORS = {"__init__", "__main__"}  # may import anything
# What every room may ask of an engine: records that import nothing themselves
GROUND = {name for name in LAYERS if "." in name}
# `--exact` is asked through one module, which imports the laboratory when somebody does
ALLOWED = {("estimate", "lab")}
# Whoever answers for many prepares each as a program outside does
ALLOWED |= {("scan", "api")}
# Names of types alone: what the functions of an engine take
ALLOWED |= {
    ("engines.engine", there) for there in ("engines", "accelerators", "settings", "workload")
}
ALLOWED |= {("engines", "workload"), ("render", "oom"), ("render", "runfiles")}
HEAVY = {"torch", "numpy", "rich", "huggingface_hub", "httpx", "requests", "transformers", "yaml"}


def layer(path):
    if path.parent.parent == ROOT and path.stem == "__init__" and path.parent.name in WINGS:
        return "__init__"
    return room(".".join(path.relative_to(ROOT).with_suffix("").parts))


def room(name):
    """Name the layer of a module: its room, or two words of what lies at the ground."""
    return ground if (ground := ".".join(name.split(".")[:2])) in GROUND else room_of(name)


def upward(here, path):
    for module, inner in imports(path.read_text()):
        name = f"{module}.{inner}"
        if name.startswith("weighbridge."):
            there = room(name.removeprefix("weighbridge.").rstrip("."))
        elif name.startswith("weighbridge_lab"):
            there = "lab"
        else:
            continue
        if LAYERS.index(there) > LAYERS.index(here) and (here, there) not in ALLOWED:
            yield there


@pytest.mark.house
def test_imports_point_downwards():
    rooms = {path: layer(path) for path in sorted(ROOT.rglob("*.py"))}
    assert {here for here in rooms.values() if here not in DOORS} <= set(LAYERS)
    found = {p: list(upward(here, p)) for p, here in rooms.items() if here not in DOORS}
    assert {str(p.relative_to(ROOT)): up for p, up in found.items() if up} == {}


# Low to high: what answers a question, then texts of other people, then who shows it
WING_ORDER = ("base", "machines", "models", "memory", "settings", "engines", "workload", "training")
WING_ORDER += ("pictures", "answers", "files", "faces")
# Who asks the laboratory: `--exact`, and the commands that are about it
ASK_THE_LAB = {"answers.estimate.exact", "faces.cli.measure", "faces.cli.trace"}
ASK_THE_LAB |= {"faces.cli.accuracy", "faces.cli.trace_fit", "measure"}


def imports_between_wings(house):
    for name, readers in house.readers.items():
        for reader in readers:
            yield reader, reader.partition(".")[0], name.partition(".")[0]


@pytest.mark.house
def test_wings_stand_in_one_order():
    """So that nothing which makes a Report imports a screen, or a format of other people's files."""
    found = list(imports_between_wings(read_house()))
    assert {here for _, here, _ in found} - {"lab", *DOORS} <= {*WING_ORDER, "measure"}
    assert {reader for reader, here, there in found if there == "lab" != here} == ASK_THE_LAB
    ranks = [
        (reader, WING_ORDER.index(here) - WING_ORDER.index(there))
        for reader, here, there in found
        if here in WING_ORDER and there in WING_ORDER
    ]
    assert ranks
    assert [reader for reader, steps in ranks if steps < 0] == []


def test_the_import_test_can_fail(tmp_path):
    low = tmp_path / "units.py"
    low.write_text("from weighbridge.answers.estimate import load")
    assert list(upward("units", low)) == ["estimate"]


def imported(code):
    """What a new Python imports for it."""
    code = f"import sys; had = set(sys.modules); {code}; print(*{{*sys.modules}} - had, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def imported_by(*arguments):
    """What one command of the command line imports."""
    return imported(f"from weighbridge.faces.cli.menu import run; run({list(arguments)!r})")


def ours(modules):
    return {
        name.removeprefix("weighbridge.") for name in modules if name.startswith("weighbridge.")
    }


@pytest.mark.slow
def test_core_starts_cold():
    assert (
        imported("import weighbridge, weighbridge.faces.api, weighbridge.faces.cli.menu") & HEAVY
        == set()
    )


def test_the_cold_start_test_can_fail():
    assert "rich" in imported("import rich")


def test_the_package_itself_imports_next_to_nothing():
    assert imported("import weighbridge") == {
        "weighbridge",
        "weighbridge.base",
        "weighbridge.base._version",
        "weighbridge.base.lazily",
    }


UNASKED = {  # by a question: what it has no use for
    "load": {
        *(
            "machines.accelerators.chips",
            "answers.verdict",
            "memory.report.verdict",
            "workload.infer",
            "workload.train",
            "engines.launch",
        ),
        *(
            "engines.interface",
            "answers.estimate.infer",
            "answers.estimate.train",
            "models.arch.mixers",
            "models.arch.bodies",
        ),
        *(
            "machines.allocator.core",
            "workload.consistency",
            "models.sources.base",
            "models.formats",
            "faces.cli.train",
        ),
    },
    "infer": {
        *(
            "workload.train",
            "engines.launch",
            "answers.estimate.train",
            "training",
            "workload.consistency",
        ),
        *(
            "answers.estimate.load",
            "answers.estimate.rough",
            "models.quantization.schemes",
            "models.formats.gguf",
        ),
    },
    "train": {
        "engines.launch",
        "answers.estimate.infer",
        "answers.estimate.load",
        "models.formats.gguf",
    },
}
# Of the standard library: what costs more than a millisecond and is not needed
SLOW = {
    "shutil",
    "lzma",
    "bz2",
    "difflib",
    "urllib.parse",
    "fractions",
    "argparse",
    "asyncio",
    "importlib.metadata",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["human", "json"])
@pytest.mark.parametrize("task", UNASKED)
def test_a_question_imports_what_it_needs(task, form):
    found = imported_by(task, "llama-3.1-8b", "--format", form)
    assert ours(found) & UNASKED[task] == set()
    assert found & (HEAVY | SLOW | {"weighbridge_lab"}) == set()


@pytest.mark.house
def test_records_are_ours():
    """The standard library's cost up to 2 ms a class; `weighbridge.base.records` has the same names."""
    cheap = {"dataclass", "field", "replace", "KW_ONLY", "NamedTuple"}
    for path in ROOT.rglob("*.py"):
        for node in nodes(path.read_text(), ast.ImportFrom):
            if node.module in ("dataclasses", "typing") and path != ROOT / "base" / "records.py":
                assert not cheap & {name.name for name in node.names}, path


def test_what_is_not_imported_is_there():
    for names in UNASKED.values():
        for name in names:
            path = ROOT / name.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), name


ID = re.compile(r"""["'][A-Za-z0-9][\w.-]*/[A-Z][\w.-]*-\d[\w.-]*["']""")


def ids_in(text):
    return list(ID.findall(text))


@pytest.mark.house
def test_no_model_id_decides_anything():
    """Outside the catalogue nothing in the source may even spell a Hub id as a value."""
    for path in ROOT.rglob("*.py"):
        if layer(path) != "catalogue":
            assert ids_in(path.read_text()) == [], path


def test_the_id_test_can_fail():
    assert ids_in('if name == "meta-llama/Llama-3.1-8B": ...') == ['"meta-llama/Llama-3.1-8B"']
