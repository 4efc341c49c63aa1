"""`weighbridge check`: the files of rules, what came of each, and what a change is told."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import weighbridge
from weighbridge.base._version import __version__
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.faces.cli import menu
from weighbridge.faces.cli.check import _table
from weighbridge.files.runfiles import checking
from weighbridge.files.runfiles.checking import CheckedFile, CheckRule, FileCheck, rules_of, sarif

ROOT = Path(__file__).parents[2]
CONFIG = """\
base_model: qwen3-0.6b
adapter: lora
lora_r: 8
sequence_len: 256
micro_batch_size: 1
gradient_checkpointing: true
"""
RULES = """\
[[check]]
files = ["big/*.yaml"]
gpu_memory = "24GiB"

[[check]]
files = ["**/*.yaml"]
gpu_memory = "1GiB"
fail_on = ["no", "unread"]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("big", "small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.yaml").write_text(CONFIG)
    (tmp_path / "small" / "other.yaml").write_text("a: 1\n")
    (tmp_path / "weighbridge.toml").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_each_file_is_checked_by_the_first_rule_that_it_matches(folder):
    found = weighbridge.check(folder / "weighbridge.toml")
    results = {one.name: (one.result, one.failed) for one in found.files}
    assert results == {
        "big/run.yaml": ("yes", False),
        "small/other.yaml": ("unread", True),
        "small/run.yaml": ("no", True),
    }
    assert found.code == 1
    only = weighbridge.check(folder / "weighbridge.toml", ["big/run.yaml", "weighbridge.toml"])
    assert [one.name for one in only.files] == ["big/run.yaml"]
    assert only.to_dict()["not_covered"] == ["weighbridge.toml"]
    assert only.code == 0
    unread = weighbridge.check(folder / "weighbridge.toml", ["small/other.yaml"])
    assert unread.code == 2


@pytest.mark.slow
def test_the_command_tells_people_tables_and_programs(folder, capsys):
    assert menu.run(["check", "small/run.yaml"]) == 1
    told = capsys.readouterr().out
    assert "small/run.yaml: does not fit: needs about" in told
    assert "1 files checked, 1 failed" in told
    assert menu.run(["check", "big/run.yaml", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == "**weighbridge**: 1 files checked, 0 failed\n"
    assert menu.run(["check", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] is True
    (folder / "small" / "run.yaml").write_text(CONFIG + "strange: 1\n")
    assert menu.run(["check", "small/run.yaml", "--format", "sarif"]) == 1
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    told = {(r["ruleId"], r["level"], line(r)) for r in run["results"]}
    assert told == {("fits-no", "error", 1), ("not-understood", "note", 7)}
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {r[0] for r in told}


@pytest.mark.parametrize(
    ("name", "cell", "uri"),
    [
        (
            "a`b`![x](http:y).yaml",
            "a\\`b\\`\\!\\[x\\](http:y).yaml",
            "a%60b%60%21%5Bx%5D%28http%3Ay%29.yaml",
        ),
        ("a|b @team.yaml", "a\\|b @&#8203;team.yaml", "a%7Cb%20%40team.yaml"),
        ("d/<b>.yaml", "d/&lt;b&gt;.yaml", "d/%3Cb%3E.yaml"),
    ],
)
def test_a_name_has_no_marks_of_its_own(name, cell, uri):
    """Names and reasons are of whoever proposes a change, and a bot shows them to its reviewers."""
    one = CheckedFile(name=name, rule=CheckRule(files=("*",)), why="[it](http://x) www.x @team")
    check = FileCheck(files=(one,))
    why = "\\[it\\](http&#58;//x) www&#46;x @&#8203;team"
    assert _table(check).splitlines()[-1] == f"| {cell} | not read | {why} |"
    (result,) = sarif(check)["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": uri}
    assert check.code == 2


@pytest.mark.parametrize("name", ["--config=evil.toml", "--help", "--trust-remote-code", "-h"])
def test_a_file_whose_name_reads_as_an_option_opens_no_gate(folder, capsys, name):
    (folder / "evil.toml").write_text('[[check]]\nfiles = ["nothing"]\n')
    (folder / name).write_text(CONFIG)
    assert menu.run(["check", "small/run.yaml", name]) == 2
    assert f"{name!r} is a file here, and reads as an option" in capsys.readouterr().err
    assert menu.run(["check", "--", "weighbridge.toml", name]) == 0
    told = f"not checked, as no rule's files match: weighbridge.toml, {name}"
    assert capsys.readouterr().out.startswith(told)


def test_nobody_s_code_is_run_by_an_argument_of_a_gate(folder, capsys):
    assert menu.run(["check", "--trust-remote-code"]) == 2
    assert "No such option" in capsys.readouterr().err


def line(result):
    return result["locations"][0]["physicalLocation"]["region"]["startLine"]


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("a = 1", BadFileError, "has no"),
        ("[[check]]\ngpu = '4090'", UsageError, "files is a list"),
        ("[[check]]\nfiles = ['*']\nfail_on = ['never']", UsageError, "fail_on is of"),
        ("[[check]]\nfiles = ['*']\nnonsense = 1", UsageError, "no setting 'nonsense'"),
        ("[[check]]\nfiles = ['../*']", UsageError, "leads out"),
        ("[[check]]\nfiles = ['/etc/*']", UsageError, "leads out"),
        ("[[check", BadFileError, "no TOML"),
    ],
)
def test_rules_that_are_none_are_one_line(tmp_path, text, error, says):
    path = tmp_path / "weighbridge.toml"
    path.write_text(text)
    with pytest.raises(error, match=says):
        rules_of(path)


def test_without_rules_the_command_says_what_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert menu.run(["check"]) == 2
    assert "[[check]] files = [...] gpu" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "code"),
    [
        ("big/run.yaml", 0),
        ("small/run.yaml", 1),
        ("small/run.yaml --config=evil.toml", 1),
        ("--help\nsmall/run.yaml", 1),
    ],
)
def test_the_steps_of_the_action_run(folder, files, code):
    """The last step of action.yml, by bash, as a runner gives it its inputs."""
    for name in files.split():
        if name.startswith("--"):
            (folder / name).touch()
    (folder / "evil.toml").write_text('[[check]]\nfiles = ["nothing"]\n')
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    step = action["runs"]["steps"][-1]
    summary, sarif = folder / "summary.md", folder / "out.sarif"
    given = {"config": "weighbridge.toml", "files": files, "sarif": str(sarif)}
    inputs = {
        name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in step["env"].items()
    }
    shim = folder / "bin"
    shim.mkdir()
    (shim / "weighbridge").write_text(f'#!/bin/sh\nexec {sys.executable} -m weighbridge "$@"\n')
    (shim / "weighbridge").chmod(0o755)
    env = {
        **os.environ,
        **inputs,
        "GITHUB_STEP_SUMMARY": str(summary),
        "PATH": f"{shim}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(["bash", "-e", "-c", step["run"]], env=env, cwd=folder, timeout=120)
    assert done.returncode == code
    assert summary.read_text().startswith("**weighbridge**: 1 files checked")
    assert json.loads(sarif.read_text())["version"] == "2.1.0"


def test_the_hook_names_the_command_and_ends_its_options():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"].split() == ["weighbridge", "check", "--"]
    assert "check" in menu.COMMANDS


def test_the_action_runs_what_it_was_made_of():
    """Others' actions by their hash, and our own release: not what is newest on that day."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    used = [step["uses"] for step in action["runs"]["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", each) for each in used)
    assert action["inputs"]["version"]["default"] == f"weighbridge=={__version__}"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('gpu = "banana"', "check 1: no accelerator 'banana'"),
        ("gpu = 4090", "check 1: --gpu is a name, not 4090"),
        ('gpu = "4090"\nheadroom = "lots"', "check 1: 'lots' is not a size"),
    ],
)
def test_a_card_that_is_none_is_a_mistake_of_the_rules(tmp_path, setting, says):
    path = tmp_path / "weighbridge.toml"
    path.write_text(f'[[check]]\nfiles = ["*.yaml"]\n{setting}\n')
    with pytest.raises(UsageError, match=says):
        rules_of(path)


def test_a_file_that_no_rule_names_is_told_and_passes(folder, capsys):
    assert menu.run(["check", "weighbridge.toml"]) == 0
    told = "not checked, as no rule's files match: weighbridge.toml"
    assert capsys.readouterr().out == f"{told}\n0 files checked, 0 failed\n"
    assert menu.run(["check", "weighbridge.toml", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.endswith(f"\n\n{told}\n")
    many = [f"note-{number}.txt" for number in range(8)]
    for name in many:
        (folder / name).touch()
    assert menu.run(["check", *many]) == 0
    assert "note-4.txt and 3 more\n" in capsys.readouterr().out


def test_rules_that_match_no_file_and_files_that_are_not_there_do_not_pass(folder, capsys):
    assert menu.run(["check", "big/nosuch.yaml"]) == 2
    assert "'big/nosuch.yaml': no such file" in capsys.readouterr().err
    assert menu.run(["check", "nosuch.txt"]) == 2
    assert "'nosuch.txt': no such file" in capsys.readouterr().err
    assert menu.run(["check", "big"]) == 2
    assert "'big': is a folder" in capsys.readouterr().err
    (folder / "weighbridge.toml").write_text('[[check]]\nfiles = ["nope/*.yaml"]\n')
    assert menu.run(["check"]) == 2
    assert "matches nope/*.yaml" in capsys.readouterr().err


def test_a_file_that_breaks_us_leaves_the_others_their_answers(folder, monkeypatch):
    def broken(text, name, **more):
        raise RecursionError("deep")

    monkeypatch.setattr(checking, "read", broken)
    check = checking.checked([CheckRule(files=("*",))], folder, [], None)
    assert [one.result for one in check.files] == ["unread"]
    assert check.files[0].reason.startswith("this is a defect of weighbridge: RecursionError: deep")
    assert check.code == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("deepspeed: nowhere.json", "nowhere.json is not here"),
        ("per_device_train_batch_size: ${BATCH}", "per_device_train_batch_size"),
    ],
)
def test_no_gate_passes_by_one_line(tmp_path, monkeypatch, capsys, line, says):
    """A file that does not fit is not let through for a value that nobody can read: it ends as the
    file ends that is asked about alone."""
    monkeypatch.chdir(tmp_path)
    text = (
        "model_name_or_path: Qwen/Qwen2.5-7B\nstage: sft\nfinetuning_type: full\ncutoff_len: 512\n"
    )
    Path("weighbridge.toml").write_text('[[check]]\nfiles = ["*.yaml"]\ngpu = "3060"\n')
    Path("a.yaml").write_text(f"{text}per_device_train_batch_size: 1\n")
    assert menu.run(["check"]) == 1
    Path("a.yaml").write_text(f"{text}{line}\n")
    capsys.readouterr()
    assert menu.run(["check"]) == 4
    assert says in capsys.readouterr().out
    assert menu.run(["a.yaml", "--gpu", "3060", "--check"]) == 4


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("#!/bin/bash\ntorchrun --nproc_per_node 8 pretrain_bert.py --num-layers 24\n", 2),
        ("llama-bench -m qwen3-0.6b\n", 2),
        ("deepspeed train.py --model_name_or_path qwen3-0.6b --deepspeed nowhere.json\n", 4),
    ],
)
def test_what_is_read_and_not_weighed_ends_alike_by_every_door(
    tmp_path, monkeypatch, capsys, text, code
):
    monkeypatch.chdir(tmp_path)
    Path("weighbridge.toml").write_text('[[check]]\nfiles = ["*.sh"]\ngpu = "3060"\n')
    Path("a.sh").write_text(text)
    asked = (["check"], ["a.sh", "--gpu", "3060", "--check"], ["fit", "a.sh", "--gpu", "3060"])
    assert [menu.run(words) for words in asked] == [code] * 3
    capsys.readouterr()
    assert weighbridge.weigh("a.sh", gpu="3060", offline=True).code(check=True) == code


def test_the_rules_themselves_are_no_run_file(tmp_path):
    (tmp_path / "weighbridge.toml").write_text('[[check]]\nfiles = ["*.toml"]\ngpu = "4090"\n')
    (tmp_path / "run.toml").write_text("a = 1\n")
    check = checking.checked([CheckRule(files=("*.toml",))], tmp_path, [], None)
    assert [one.name for one in check.files] == ["run.toml"]
