"""Help that is read: the common settings, those of one engine, and all; names that are near."""

import subprocess
import sys

import pytest

from weighbridge.faces.cli.menu import run
from weighbridge.workload import COMMON, TABLES, engines_of
from weighbridge.workload.train import LEARNS, REWARDS


def helped(capsys, *typed):
    assert run(typed) == 0
    return capsys.readouterr().out


def flags(text):
    options = text.partition("Options:")[2]  # examples stand before
    return {word.rstrip(",") for word in options.split() if word.startswith("--")}


@pytest.mark.parametrize("task", ["infer", "train", "fit"])
def test_help_has_the_common_settings_and_help_all_every_one(capsys, task):
    few, every = flags(helped(capsys, task, "--help")), flags(helped(capsys, task, "--help-all"))
    table = TABLES[task]
    asked = {table[name].flag for name in COMMON[task]}
    assert asked <= few
    assert few & {one.flag for one in table.values()} == asked
    assert {one.flag for one in table.values()} <= every
    assert len(table) > 2 * len(asked)


def test_help_counts_what_it_leaves_out(capsys):
    left = len(TABLES["train"]) - len(COMMON["train"])
    assert f"{left} more settings: --help-all shows them." in helped(capsys, "train", "--help")
    assert "more settings" not in helped(capsys, "train", "--help-all")
    assert "more settings" not in helped(capsys, "load", "--help")
    assert "--help-all" not in helped(capsys, "load", "--help")


@pytest.mark.parametrize("typed", [("--engine", "vllm"), ("--engine=vLLM",)])
def test_help_beside_an_engine_has_all_that_it_has(capsys, typed):
    told = flags(helped(capsys, "infer", *typed, "--help"))
    for setting in TABLES["infer"].values():
        having = engines_of(setting)
        assert (setting.flag in told) == (not having or "vllm" in having), setting.name


@pytest.mark.parametrize("method", [*LEARNS, "lora", "full"])
def test_help_beside_a_method_has_the_settings_of_what_it_learns_from(capsys, method):
    told = flags(helped(capsys, "train", "--method", method, "--help"))
    for name, setting in TABLES["train"].items():
        of_answers = setting.section == "Rewards and preferences" and method in LEARNS
        written = setting.section == "Rollout" and method in REWARDS
        assert (setting.flag in told) == (name in COMMON["train"] or of_answers or written), name


def test_an_engine_that_nobody_knows_leaves_the_common_ones(capsys):
    told = flags(helped(capsys, "infer", "--engine", "none", "--help"))
    assert "--max-num-batched-tokens" not in told and "--context" in told


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["infr", "x"], "No such command 'infr'. Did you mean 'infer'?"),
        (["trian"], "Did you mean 'train'?"),
        (["zzz"], "No such command 'zzz'. See"),
        (["infer", "qwen3-0.6b", "--engine", "vlm"], "'vlm' is not known; did you mean vllm?"),
        (["infer", "qwen3-0.6b", "--engine", "zzz"], "'zzz' is not known; known: transformers"),
    ],
)
def test_a_name_that_is_near_is_offered(capsys, typed, said):
    assert run(typed) == 2
    assert said in capsys.readouterr().err


def test_formats_that_are_told_are_few(capsys):
    assert run(["load", "qwen3-0.6b", "--quantization", "foo"]) == 2
    said = capsys.readouterr().err
    assert "people use nf4, bnb-int8" in said and "Q4_K_M" in said
    assert len(said) < 200 and "...." not in said


INTERRUPTED = """
import builtins, os, signal, weighbridge.faces.cli
real = builtins.__import__
def typed(name, *rest):
    if name == "weighbridge.faces.cli.menu":
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest)
builtins.__import__ = typed
{before}
weighbridge.faces.cli.main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("before", ["", "signal.signal(signal.SIGINT, lambda *_: os._exit(7))"])
def test_a_start_that_is_interrupted_ends_without_a_traceback(before):
    code = INTERRUPTED.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.stderr == b""
    assert done.returncode == (7 if before else -2)


def test_a_hidden_command_is_not_named(capsys):
    assert run(["scan", "./models", "--nope"]) == 2
    assert capsys.readouterr().err.endswith("See `weighbridge scan --help`.\n")
