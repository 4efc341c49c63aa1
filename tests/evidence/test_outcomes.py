"""Published outcomes: the evidence is sound, and who died is said to fit in known cases alone."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tools.outcome_remedies import helped, kinds

from tests.evidence import lists
from weighbridge.base.errors import NotFoundError
from weighbridge.engines.launch import parse
from weighbridge.faces.cli.menu import run
from weighbridge.machines.accelerators.names import find
from weighbridge.memory.report.verdict import Remedy
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import read
from weighbridge_lab.evidence import outcomes
from weighbridge_lab.evidence.outcomes import (
    AnsweredCase,
    Passed,
    cases,
    cited,
    counts,
    judged,
    passed,
)
from weighbridge_lab.evidence.records import config, origins

# Of every kind: what decides, and what we say of it
SAMPLE = {
    "vllm-23278": "no",  # the model's whole context in what 0.9 of the card leaves
    "vllm-33155-new": "unknown",  # 0.97 of the card leaves less than may be outside of it
    "vllm-41695": "no",
    "sgl-23769": "unknown",  # buffers of DeepEP are not counted
    "q3vl-1684": "unknown",
    "vllmrec-q25vl72-2a100": "no",
    "vllmrec-gemma4-26b-1a100": "yes",
    "glm-45-fp8": "yes",
    "sglang-dsv3-h200-8": "yes",
    "tt-1789-8": "no",  # selective checkpoints of eight sequences
    "ds-3722": "no",  # eight whole models in the memory of one machine
    "litgpt-rt-53": "yes",
    "litgpt-rt-62": "no",
    "litgpt-hub-67": "no",
    "litgpt-inf-156": "no",  # an engine without rules: the weights alone are too much
    "peft-bloomz-7b1-full": "no",  # neither batch nor length are printed: the states are too much
    "fastchat-274": "no",
    "axolotl-codellama34b-lora": "no",  # on every card of 24 GB
}


def case(name):
    return next(c for c in cases() if c.id == name)


@cache
def answered(name):
    return judged(case(name))


@pytest.fixture(scope="module")
def every():
    return [answered(c.id) for c in cases()]


# ---- the evidence


def test_every_case_has_an_id_of_its_own():
    ids = [c.id for c in cases()]
    assert len(ids) == len(set(ids))
    assert {"runs", "out of memory"} <= {c.outcome for c in cases()}


def test_every_case_is_of_the_closed_lists():
    for c in cases():
        assert c.outcome in outcomes.OUTCOMES, c.id
        assert c.strength in lists.STRENGTHS, c.id
        assert c.task in ("load", "infer", "train"), c.id
        assert c.skip is None or c.skip in lists.CASE_REASONS, c.id
        assert c.count > 0 or c.skip, c.id
        assert not (c.accelerator and c.between), c.id


def test_every_case_can_be_looked_up():
    for c in cases():
        held = c.citation
        exact = re.fullmatch(r"[0-9a-f]{8,40}", str(held.get("commit", "")))
        assert exact or isinstance(held.get("issue"), int) or held["page"].startswith("http"), c.id
        assert cited(c).startswith(("github.com/", "huggingface.co/")), c.id
        assert set(held) <= {"repo", "commit", "path", "line", "issue", "page", "copy_of"}, c.id
        assert len(c.caveat) < 300, c.id


def test_every_setting_is_one_of_ours():
    for c in cases():
        if c.command:
            assert parse(c.command).model == c.model, c.id
            assert not parse(c.command).unknown, c.id
        if c.skip is None:
            read(c.task, c.setting if c.task == "train" else {**c.setting})
        read("train", c.least)


def test_every_card_is_of_the_catalogue():
    for name in {n for c in cases() for n in (c.accelerator, *c.between) if n}:
        assert find(name).part.id == name


@pytest.mark.slow
def test_every_model_resolves():
    for name in sorted({c.model for c in cases()} & set(origins())):
        assert resolve(gather_config(config(origins()[name]))).parameters > 0


# ---- what we say


@pytest.mark.slow
@pytest.mark.parametrize(("name", "answer"), SAMPLE.items())
def test_a_sample(name, answer):
    found = answered(name)
    assert isinstance(found, AnsweredCase), found
    assert found.fits == answer, found.verdict.reason
    assert (found.verdict.share_that_fits in (0, None)) or answer != "no"


def test_what_is_passed_over():
    for name, reason in {
        "vllm-10517-29k": "version outside our rules",
        "mlx-236": "not modelled: this engine",
        "unsloth-3411": "not modelled: this training loop",
        "vllm-34076": "cards of two kinds",
        "kimivl-8a100": "model not at hand",
    }.items():
        found = judged(case(name))
        assert isinstance(found, Passed), name
        assert found.reason == reason


@pytest.mark.slow
def test_a_size_without_a_name_is_asked_of_both_ends():
    """24 GB are 22.1 GiB on an A10G and 23.5 on an RTX 4090: what is between them is open."""
    asked = replace(case("litgpt-rt-53"), accelerator=None, between=("nvidia-a10g",))
    wide = ("nvidia-a10g", "nvidia-a100-sxm4-80gb")
    assert judged(replace(asked, between=("nvidia-t4", "nvidia-t4"))).fits == "no"
    assert judged(replace(asked, between=wide)).fits == "unknown"
    assert judged(asked).fits == judged(replace(asked, between=wide[:1])).fits


def test_less_than_was_asked_can_only_be_too_much():
    """The weights of an engine without rules: what they leave open stays so."""
    died = case("litgpt-inf-156")
    assert judged(died).by == "weights"
    small = replace(died, model="meta-llama/Llama-2-7b-hf")
    assert judged(small) == Passed(small, "not modelled: this engine")


def test_a_case_without_a_card_is_passed_over():
    found = judged(replace(case("glm-45-fp8"), accelerator=None))
    assert found == Passed(found.case, "the card is not named")


@pytest.mark.slow
def test_an_answer_is_right_wrong_or_open():
    ran, died = case("litgpt-rt-53"), case("litgpt-rt-62")
    verdict = judged(ran).verdict
    told = [AnsweredCase(c, f, verdict) for c in (ran, died) for f in ("yes", "no", "unknown")]
    assert [(a.right, a.wrong) for a in told] == [
        *((True, False), (False, True), (False, False)),
        *((False, True), (True, False), (False, False)),
    ]
    assert counts(told)["runs"] == {"yes": 1, "no": 1, "unknown": 1, "skipped": 0}
    skips = [Passed(ran, "a"), Passed(ran, "b"), Passed(died, "b")]
    assert list(passed(skips).items()) == [("b", 2), ("a", 1)]


@pytest.mark.slow
def test_the_command_prints_the_table(capsys):
    assert run(["accuracy", "--outcomes", "--engine", "sglang"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ran +\d+ ", out, re.MULTILINE)
    assert re.search(r"^died +\d+ ", out, re.MULTILINE)
    assert run(["accuracy", "--outcomes", "--engine", "sglang", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "weighbridge.outcomes/1"
    assert sum(sum(row.values()) for row in found["counts"].values()) == len(found["cases"]) > 0
    assert all((c["fits"] is None) == bool(c["skipped"]) for c in found["cases"])


def test_what_the_command_refuses(capsys):
    assert run(["accuracy", "--outcomes", "--worst", "3"]) == 2
    assert "--worst" in capsys.readouterr().err
    assert run(["accuracy", "--outcomes", "--engine", "nothing"]) == 2
    assert "vllm" in capsys.readouterr().err
    with pytest.raises(NotFoundError):
        outcomes.chosen("nothing")


# ---- what would have helped

HELPED = {  # quick to search: serving, and small training runs
    *("fastchat-274", "litgpt-hub-21", "litgpt-inf-156", "vllm-23278", "vllm-33155-new"),
    *("vllm-41695", "vllmrec-q25vl72-2a100", "vllmrec-q3coder-bf16-full", "cook-413"),
    "alpaca-56-1",
}


def test_kinds_of_remedies_by_hand():
    plain = {"peak_bytes": 1, "fits": "yes", "cost": ""}
    told = [
        Remedy(change={"dtype": "float16"}, kind="quantization", **plain),
        Remedy(change={"max_num_seqs": 1}, **plain),
        Remedy(change={"max_num_seqs": 1, "enforce_eager": True}, **plain),
    ]
    assert kinds(told) == {"quantization", "max_num_seqs", "enforce_eager, max_num_seqs"}
    assert list(helped([case("litgpt-rt-53"), case("mlx-236")])) == [], "one ran, one is not asked"


@pytest.mark.slow
def test_seven_kinds_of_remedies_appear():
    """`python -m tools.outcome_remedies` lists those of all cases."""
    found = {c.id: told for c, told in helped(c for c in cases() if c.id in HELPED)}
    assert set(found) == HELPED
    assert all(any(r.fits == "yes" for r in told) for told in found.values())
    assert len(set().union(*(kinds(told) for told in found.values()))) >= 7


# ---- all of them


@pytest.mark.slow
def test_no_run_that_died_fits(every):
    assert not [j.case.id for j in outcomes.wrong(every) if j.case.outcome != "runs"]


@pytest.mark.slow
def test_few_answers_are_open(every):
    answers = [j for j in every if isinstance(j, AnsweredCase)]
    assert answers
    # margins of one source or two narrow no interval: runs of torchtitan, litgpt and torchtune that
    # come near the edge of a card are open
    assert sum(j.fits == "unknown" for j in answers) <= 0.29 * len(answers)


@pytest.mark.slow
def test_every_answer_that_went_otherwise_is_explained(every):
    for j in outcomes.wrong(every):
        assert j.case.because, j.case.id


@pytest.mark.slow
def test_nothing_is_refused_without_a_reason(every):
    assert not [j.case.id for j in every if isinstance(j, Passed) and not j.reason]
    assert passed(every).get("refused by our rules", 0) == 0


@pytest.mark.slow
def test_the_page_has_the_table(every):
    page = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text()
    for outcome, word in (("runs", "ran"), ("out of memory", "died")):
        row = counts(every)[outcome]
        cells = " | ".join(str(row[k]) for k in ("yes", "no", "unknown", "skipped"))
        assert f"| {word} | {sum(row.values())} | {cells} |" in page
    for j in outcomes.wrong(every):
        assert f"`{j.case.id}`" in page


@pytest.mark.slow
@pytest.mark.parametrize("form", ["human", "markdown"])
def test_all_of_host_memory_begins_with_how_well_it_is_known(form, capsys):
    """The sentence counts what stands below it: figures, and runs that ran or died."""
    assert run(["accuracy", "--host", "--format", form]) == 0
    first, _, rest = capsys.readouterr().out.partition("\n\n")
    inside, compared, fit, ran, one, not_fit, died, other = map(int, re.findall(r"\d+", first))
    figures, runs = rest.split("\nfigures\n")[1].split("\nruns, and the memory")
    runs = runs.partition("\nfigures that are not compared")[0]
    assert compared == len(re.findall("measured [0-9,]+ ", figures))
    assert 0 < inside <= compared
    assert (ran, died) == (runs.count(": ran; "), runs.count(": died; "))
    assert (fit, not_fit) == (runs.count(": ran; fits"), runs.count(": died; does not fit"))
    assert one + other == runs.count("; not answered") + runs.count("; not judged")
