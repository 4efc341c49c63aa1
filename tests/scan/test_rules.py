"""The hash of a family's rules is of every file that such an answer reads, and not of all others."""

import json
import subprocess
import sys

import pytest

from tests.scan import small
from weighbridge import catalogue
from weighbridge.engines.table import FOLDERS
from weighbridge.scan import asking, rules

WORKLOADS = {
    "load": ("load", "gpu: 4090"),
    "train": ("train", "gpu: h100, method: [lora, qlora, full]"),
    **{
        name: ("infer", f"engine: {name}, gpu: {'m3-max-36gb' if name == 'mlx' else 4090}")
        for name in FOLDERS
    },
}
NAMES = ("llama-3.1-8b", "gpt2", "deepseek-v3", "qwen3-vl-30b-a3b", "mamba-2.8b", "whisper-small")
READ = """
import json, sys
opened = set()
sys.addaudithook(lambda e, a: opened.add(str(a[0])) if e == "open" else None)
import weighbridge.api
from weighbridge.scan.answers import rows
from weighbridge.scan.asking import ScanQuestion
configs, asked = json.load(sys.stdin)
for config in configs:
    list(rows(json.dumps(config), [ScanQuestion(**one) for one in asked]))
files = {m.__file__ for n, m in sys.modules.items() if n.startswith("weighbridge") and m.__file__}
print(json.dumps([*files, *opened]))
"""


def read(family, asked):
    """The files of this package that answers of a family read."""
    configs = [dict(catalogue.find(name).config) for name in NAMES if catalogue.has(name)]
    questions = [{"name": q.name, "task": q.task, "settings": dict(q.settings)} for q in asked]
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps([[*configs, small.LLAMA], questions]),
        capture_output=True,
        text=True,
        check=True,
    )
    root = f"{rules.ROOT}/"
    found = {name.removeprefix(root) for name in json.loads(done.stdout) if name.startswith(root)}
    return {name for name in found if name.endswith(rules.ENDS)}


def aside(name):
    return name.split("/")[0] in rules.ASIDE


@pytest.mark.slow
@pytest.mark.parametrize("family", WORKLOADS)
def test_what_an_answer_reads_is_in_its_rules(family):
    task, workload = WORKLOADS[family]
    asked = asking.read(
        f"questions: [{{name: a, task: {task}, workload: {{{workload}}}}}]".encode(), "q"
    )
    hashed = {path.relative_to(rules.ROOT).as_posix() for path in rules.files(family)}
    found = read(family, asked)
    assert len(found) > 100
    assert {name for name in found - hashed if not aside(name)} == set()
    # of the rooms that decide nothing, these are read: what reads the question, and types
    assert {name.split("/")[0] for name in found - hashed} <= {
        *("__init__.py", "_version.py", "api.py", "lazily.py", "runfiles", "scan", "sources"),
    }


def test_families_have_rules_of_their_own():
    found = {family: rules.rules(family) for family in ("model", "load", "train", "vllm", "sglang")}
    assert len(set(found.values())) == len(found)
    assert all(len(told) == 12 for told in found.values())


def names(family):
    return {path.relative_to(rules.ROOT).as_posix() for path in rules.files(family)}


def test_an_engine_has_the_rules_that_it_shares_and_no_others():
    assert "engines/llama_cpp/rules.py" in names("ollama")
    assert "engines/vllm/rules.py" not in names("ollama")
    assert not any(name.startswith("training/") for name in names("vllm"))
    assert any(name.startswith("training/") for name in names("train"))
    assert "cli/scan.py" not in names("train")


def test_what_reads_a_model_is_in_the_rules_of_all():
    """A model that is not read any more is not asked, whatever is known of it."""
    for family in WORKLOADS:
        assert names("model") <= names(family), family
