"""The hash of a family's rules is of every file that such an answer reads, and not of all others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import weighbridge
from tests.scan import small
from tests.sparse import as_tensors, write_repo
from tests.training.test_gguf import written
from weighbridge.engines.table import FOLDERS
from weighbridge.faces.scan import asking, rules
from weighbridge.models import catalogue

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
opened, ran = set(), set()
sys.addaudithook(lambda e, a: opened.add(str(a[0])) if e == "open" else None)
import weighbridge.faces.api
from weighbridge.faces.scan.answers import rows
from weighbridge.faces.scan.asking import ScanQuestion
configs, asked = json.load(sys.stdin)
questions = [ScanQuestion(**one) for one in asked]
told = []
sys.setprofile(lambda frame, event, _: ran.add(frame.f_code.co_filename))
for config in configs:
    told += [row["code"] for row in rows(json.dumps(config), questions)]
sys.setprofile(None)
files = {m.__file__ for n, m in sys.modules.items() if n.startswith("weighbridge") and m.__file__}
print(json.dumps([[*files, *opened], sorted(ran), told.count(0)]))
"""


def read(asked, models):
    """(files of this package that answers read, those whose functions they ran, answers)."""
    questions = [{"name": q.name, "task": q.task, "settings": dict(q.settings)} for q in asked]
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps([models, questions]),
        capture_output=True,
        text=True,
        check=True,
    )
    *found, answers = json.loads(done.stdout)
    return *(set(map(ours, names)) - {None} for names in found), answers


def ours(name):
    root = f"{rules.ROOT}/"
    return name.removeprefix(root) if name.startswith(root) and name.endswith(rules.ENDS) else None


def models(tmp_path):
    """Configs, and weights at hand: a folder of safetensors and a file of GGUF."""
    blueprint = weighbridge.prepare(small.LLAMA).model().parts[0].blueprint
    write_repo(tmp_path / "a", small.LLAMA, as_tensors(blueprint, "BF16"), dtype="BF16")
    written(tmp_path / "one.gguf", "llama")
    configs = [dict(catalogue.find(name).config) for name in NAMES if catalogue.has(name)]
    return [*configs, small.LLAMA, str(tmp_path / "a"), str(tmp_path / "one.gguf")]


def aside(name):
    return rules._in(Path(name), rules.ASIDE)


@pytest.mark.slow
@pytest.mark.parametrize("family", WORKLOADS)
def test_what_an_answer_reads_is_in_its_rules(family, tmp_path):
    task, workload = WORKLOADS[family]
    asked = asking.read(
        f"questions: [{{name: a, task: {task}, workload: {{{workload}}}}}]".encode(), "q"
    )
    hashed = {path.relative_to(rules.ROOT).as_posix() for path in rules.files(family)}
    found, ran, answers = read(asked, models(tmp_path))
    assert answers > len(NAMES)
    assert ran
    assert ran - hashed == set()  # nothing that ran is left out, whatever room it is in
    assert {name for name in found - hashed if not aside(name)} == set()
    # of the rooms that decide nothing, these are read: what reads the question, and types
    assert {name.split("/")[0] for name in found - hashed} <= {
        *("__init__.py", "base", "faces", "files"),
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
    read = {name.split("/")[1] for name in names("vllm") if name.startswith("training/")}
    assert read == {"forward"}  # which engines read, too
    assert any(name.startswith("training/") for name in names("train"))
    assert "faces/cli/scan.py" not in names("train")


def test_what_reads_a_model_is_in_the_rules_of_all():
    """A model that is not read any more is not asked, whatever is known of it."""
    for family in WORKLOADS:
        assert names("model") <= names(family), family
