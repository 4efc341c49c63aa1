"""SKILL.md: its format (agentskills.io), and every command of it, run."""

import json
import re
import shlex
from pathlib import Path

import pytest

from weighbridge.faces.agents import skill
from weighbridge.faces.cli.menu import COMMANDS, run
from weighbridge.workload import INFER, TRAIN

ROOT = Path(__file__).parent.parent.parent
SKILL = ROOT / "skills" / "weighbridge" / "SKILL.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", skill(), re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
SEARCHES = ("fit", "models")  # commands that take a second or more
RUN = [
    pytest.param(line, marks=pytest.mark.slow) if shlex.split(line)[1] in SEARCHES else line
    for line in LINES
]
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 23.64 GiB of which 1.19 GiB is free. Including non-PyTorch memory, this process "
    "has 22.44 GiB memory in use. Of the allocated memory 21.90 GiB is allocated by PyTorch, and "
    "95.26 MiB is reserved by PyTorch but unallocated."
)


def front():
    head = skill().split("---\n")[1]
    return dict(re.findall(r"^([a-z]+): (.*(?:\n  .*)*)", head, re.MULTILINE))


def test_the_copy_that_is_installed_from_the_repository_is_the_same():
    assert SKILL.read_text(encoding="utf-8") == skill()


def test_the_front_matter_is_that_of_the_format():
    found = front()
    name = found["name"]
    description = " ".join(found["description"].removeprefix(">-").split())
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert name == SKILL.parent.name
    assert 1 <= len(description) <= 1024
    assert "Use when" in description
    assert len(found["compatibility"]) <= 500


def test_yaml_reads_it_alike():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(skill().split("---\n")[1])
    assert found["name"] == front()["name"]
    assert found["description"] == " ".join(front()["description"].removeprefix(">-").split())


def test_it_is_short():
    assert len(skill().splitlines()) < 150
    assert len(skill()) < 8_000  # two thousand tokens, read when the skill is used


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files that the lines name."""
    (tmp_path / "oom.txt").write_text(OOM)
    asked = {"task": "load", "model": "llama-3.1-8b"}
    (tmp_path / "requests.jsonl").write_text(json.dumps(asked))
    monkeypatch.chdir(tmp_path)


def test_there_are_lines_to_run():
    assert LINES
    assert {shlex.split(line)[1] for line in LINES} <= COMMANDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_every_line_runs_as_it_stands(line, here, capfd):
    words = shlex.split(line, comments=True)
    expected = int(line.rsplit("exit code ", 1)[1]) if "exit code" in line else 0
    code = run(words[1:])
    out, err = capfd.readouterr()
    told = f"{line}\n{out}\n{err}"
    if words[1] == "fit" and expected == 0:
        assert code in (0, 1, 4), told  # an example shows a question, not its answer
    else:
        assert code == expected, told
    assert (err.startswith("error: ") and not out) if code == 2 else out, told
    if "--json" in words:
        assert json.loads(out)["verdict"]["fits"] == "yes"


def test_every_flag_in_the_prose_is_one():
    known = {s.flag for s in (*INFER.values(), *TRAIN.values())}
    known |= {"--check", "--json", "--explain-oom", "--version", "--max", "--smallest", "--command"}
    known |= {"--min-context", "--bf16", "--min-memory", "--explain", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", skill())) - known == {"--max-model-len"}
