"""An answer as one flat row, and the short way to one: peak and verdict, without a search."""

import pytest

from weighbridge import Infer, Load, Train, prepare
from weighbridge.base.errors import UsageError
from weighbridge.memory.report.columns import COLUMNS

MODEL = prepare("qwen3-0.6b")
ASKED = [
    Load(gpu="4090"),
    Load(quantization="nf4"),
    Infer(engine="vllm", gpu="4090", context=4096),
    Infer(engine="llama.cpp", quantization="Q4_K_M", gpu="4090"),
    Infer(engine="sglang", gpu="h100:2"),
    Train(method="lora", gpu="4090", seq_len=128),
]


@pytest.mark.slow
@pytest.mark.parametrize("workload", ASKED, ids=repr)
def test_the_short_answer_has_the_row_of_the_long_one(workload):
    task = type(workload).__name__.lower()
    assert MODEL.briefly(workload).columns() == getattr(MODEL, task)(workload).columns()


@pytest.mark.parametrize("workload", ASKED[:3], ids=repr)
def test_every_answer_has_the_same_columns(workload):
    row = MODEL.briefly(workload).columns()
    assert list(row) == [column.name for column in COLUMNS]
    kinds = {"text": str, "whole": int}
    for column in COLUMNS:
        assert isinstance(row[column.name], kinds[column.kind] | None), column.name


def test_what_a_row_says():
    row = MODEL.briefly(ASKED[2]).columns()
    report = MODEL.infer(ASKED[2])
    assert (row["task"], row["engine"], row["context"]) == ("infer", "vllm", 4096)
    assert (row["fits"], row["gpu"], row["count"]) == ("yes", "nvidia-geforce-rtx-4090", 1)
    assert (row["need_low"], row["need"], row["need_high"]) == report.peak
    assert row["usable"] == report.verdict.usable_bytes
    assert row["basis"] == "computed"  # weights and cache; a context of the driver is assumed
    assert row["kv_per_token"] == report.derived["kv_cache_bytes_per_token"]


def test_without_a_card_there_is_a_need_and_no_verdict():
    row = MODEL.briefly(Load(dtype="bfloat16")).columns()
    assert row["need"] > 2 * row["parameters"]
    assert row["fits"] is row["gpu"] is row["usable"] is None


def test_the_short_way_searches_nothing():
    derived = MODEL.briefly(ASKED[2]).derived
    assert "largest_context" not in derived
    assert "largest_context" in MODEL.infer(ASKED[2]).derived


def test_the_short_way_takes_a_record_of_settings():
    with pytest.raises(UsageError, match="Infer"):
        MODEL.briefly({"engine": "vllm"})
