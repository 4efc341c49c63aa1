"""Remedies that claim the same result: of classes for which that is not so, they are not offered."""

import json

import pytest

import weighbridge
from weighbridge.answers.remedies.formats import CAPPED
from weighbridge.base.errors import UsageError
from weighbridge.models import catalogue
from weighbridge.models.arch.model_types import NEVER, facts
from weighbridge.training.optimizers import NAMES, optimizer, taken_as

NO_SDPA = ("gemma-2-2b", "gpt-oss-20b", "bloom-560m", "mpt-7b", "deberta-v3-base")


@pytest.mark.parametrize("name", NO_SDPA)
@pytest.mark.parametrize("kernel", ["efficient", "cudnn", "math"])
def test_a_class_without_sdpa_is_not_run_by_its_kernels(name, kernel):
    """transformers 5.23 raises ValueError for each."""
    asks = [weighbridge.infer] if "deberta" in name else [weighbridge.infer, weighbridge.train]
    for ask in asks:
        with pytest.raises(UsageError, match=r"has no sdpa in transformers 5\.23"):
            ask(name, attention=kernel)


@pytest.mark.slow
def test_a_class_with_sdpa_is():
    for ask in (weighbridge.infer, weighbridge.train):
        assert ask("gemma-3-1b", attention="efficient").workload["attention"] == "efficient"
    old = weighbridge.infer("llama-3.2-1b", attention="efficient", engine_version="4.44")
    assert old.workload["attention"] == "efficient"
    with pytest.raises(UsageError, match=r"no sdpa in transformers 4\.35"):
        weighbridge.infer("llama-3.2-1b", attention="efficient", engine_version="4.35")


def offered(report):
    found = (r.change.get("attention") for r in report.remedies)
    return {kernel for kernel in found if kernel is not None}


@pytest.mark.slow
@pytest.mark.parametrize(("card", "kernels"), [("3060", {"flash"}), ("t4", set())])
def test_capped_scores_are_left_to_a_kernel_that_caps_them(card, kernels):
    """sdpa does not; flash attention does, from compute capability 8.0 on."""
    report = weighbridge.train(
        "gemma-2-2b", gpu=card, method="lora", framework="trainer", seq_len=8192
    )
    assert report.verdict.fits == "no"
    assert offered(report) <= kernels
    assert "the same result" not in json.dumps(
        [r.cost for r in report.remedies if "attention" in r.change and "loss" not in r.change]
    )


def test_classes_that_cap_their_scores_have_no_sdpa():
    capped = {
        e.model_type for e in catalogue.search("") if e.config.get("attn_logit_softcapping")
    } | {"gemma2", "vaultgemma"}
    assert {facts(kind).transformers.sdpa for kind in capped} == {NEVER}
    assert {"Gemma2", "VaultGemma"} <= set(CAPPED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("adam8bit", "adamw_8bit"),
        ("AdamW", "adamw_torch"),
        ("lion", "lion_32bit"),
        ("galore", "galore_adamw"),
    ],
)
def test_an_optimizer_by_another_name_is_said(typed, read):
    assert taken_as(typed) == f"--optimizer {typed} is taken as {read}"
    report = weighbridge.train("qwen3-0.6b", optimizer=typed, seq_len=128)
    assert report.workload["optimizer"] == read
    assert report.warnings[0] == taken_as(typed)


@pytest.mark.parametrize("typed", ["adamw-8bit", "AdamW 8bit", "lion8bit", "sgd_momentum"])
def test_a_spelling_of_its_own_is_not(typed):
    assert optimizer(typed).name in NAMES
    assert taken_as(typed) == ""
