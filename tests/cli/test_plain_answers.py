"""What a person types in passing: twice, too much, or in a terminal that cannot write the answer."""

import subprocess
import sys

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.faces.cli.menu import run
from weighbridge.machines.accelerators.names import find

PYTHON = (sys.executable, "-m", "weighbridge")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--max context --max batch", "--max is given 2 times (context, batch)"),
        ("--smallest gpu --smallest count", "--smallest is given 2 times"),
        ("--for load --for infer", "--for is given 2 times"),
    ],
)
def test_a_question_that_is_asked_twice_is_an_error(given, said, capsys):
    assert run(["fit", "llama-3.1-8b", "--gpu", "4090", *given.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_chinese_is_not_written_where_stdout_has_no_signs_of_it():
    found = subprocess.run(
        [*PYTHON, "infer", "llama-3.1-8b", "--lang", "zh"],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "?" not in found.stdout and "1 request x 4,096 tokens" in found.stdout


@all_of(
    ("gpu", "said"),
    [
        ("4090+", "+ joins two cards"),
        ("+4090", "+ joins two cards"),
        ("4090:99999", "99,999 devices; our limit is 16,384"),
        ("p5.48xlarge:4096", "32,768 devices"),
        ("cpu", "--gpu names an accelerator; --ram"),
        ("0", "no name is near"),
    ],
)
def test_a_card_that_nobody_has_is_refused_in_words(gpu, said):
    with pytest.raises(UsageError) as error:
        find(gpu)
    assert said in str(error.value)


@pytest.mark.parametrize("gpu", ["4090:16384", "Ryzen AI Max+ 395", "4090+3090"])
def test_cards_that_look_like_these_are_found(gpu):
    assert find(gpu).count >= 1


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("infer", {"context": 99999999999999}, "--context is at most 2147483648"),
        ("train", {"seq_len": 99999999999999}, "--seq-len is at most 2147483648"),
        ("infer", {"quantization": "nf4", "dtype": "float8"}, "what is not packed"),
        ("load", {"quantization": "nf4", "dtype": "torch.int8"}, "what is not packed"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(task, settings, said):
    with pytest.raises(UsageError, match=said):
        getattr(weighbridge, task)("llama-3.1-8b", **settings)


def test_what_is_not_packed_may_have_a_dtype_to_compute_in():
    found = weighbridge.infer("llama-3.1-8b", quantization="nf4", dtype="float16")
    assert found.workload["dtype"] == "float16"


def test_a_name_of_the_catalogue_has_no_revisions():
    with pytest.raises(UsageError, match=r"no revisions: leave the @"):
        weighbridge.load("llama-3.1-8b@main")


@pytest.mark.slow
def test_side_by_side_names_the_card_that_was_found(capsys):
    run(["fit", "llama-3.1-8b", "qwen3-8b", "--smallest", "gpu"])
    told = [line for line in capsys.readouterr().out.splitlines() if "smallest card" in line]
    found = weighbridge.fit("qwen3-8b", smallest="gpu").solved
    assert len(told) == 1 and found.note in told[0]


@pytest.mark.slow
def test_side_by_side_names_the_number_that_was_found(capsys):
    run(["fit", "llama-3.1-8b", "qwen3-8b", "--gpu", "4090", "--max", "batch"])
    told = [line for line in capsys.readouterr().out.splitlines() if "largest batch" in line]
    found = weighbridge.fit("qwen3-8b", gpu="4090", max="batch").solved
    assert len(told) == 1 and f"{found.value:,}" in told[0]
