"""Layers of each stage of a pipeline that are given, on cards alike and unlike.

Source of the published run: vllm-project/vllm issue 34076 (0.15.2, Qwen3-Coder-30B-A3B in FP8 on an
RTX 5070 Ti and an RTX 5090 D): 3.18 GiB for blocks on the worse card.
"""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.engines.parallel.rules import given

TWO = {"gpu": "h100:2", "pipeline_parallel_size": 2, "context": 4096}
UNLIKE = "RTX 5070 Ti+GeForce RTX 5090 D"


def stages(engine, partition=None, **more):
    """The weights of each stage, in bytes."""
    report = weighbridge.infer(
        "qwen3-8b", engine=engine, pp_layer_partition=partition, **{**TWO, **more}
    )
    return [weights(device) for device in report.devices if device.kind == "gpu"]


def weights(device):
    return sum(c.bytes.expected for c in device.phases[0].components if c.name == "weights")


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_layer_that_moves_takes_its_bytes_along(engine):
    """A layer of Qwen3-8B has 192,946,432 weights: attention's 4 x 4,096 x (4,096 + 1,024) / 2 and
    two norms of 128, an MLP of 3 x 4,096 x 12,288, two norms of 4,096."""
    layer = 2 * (2 * 4096 * (4096 + 1024) + 256 + 3 * 4096 * 12288 + 2 * 4096)
    even, moved = stages(engine, "18,18"), stages(engine, "12,24")
    assert even == stages(engine)
    assert even[0] - moved[0] == moved[1] - even[1] == 6 * layer


@all_of("partition", ["20,17", "36", "36,0", "17.5,18.5", "12,12,12"])
def test_layers_that_do_not_add_up_are_refused(partition):
    with pytest.raises(UsageError, match=r"36 layers in 2 stages .* are 18,18, or others"):
        stages("vllm", partition)


def test_bounds_by_hand():
    assert given((16, 32), 48, 2) == (0, 16, 48)
    assert given((5,), 5, 1) == (0, 5)


@pytest.mark.parametrize(
    ("line", "partition"),
    [
        ("VLLM_PP_LAYER_PARTITION=16,20 vllm serve qwen3-8b -pp 2", "16,20"),
        (
            (
                "SGLANG_PP_LAYER_PARTITION=16,20 python -m sglang.launch_server --model-path qwen3-8b "
                "--pp-size 2"
            ),
            "16,20",
        ),
        ("vllm serve qwen3-8b -pp 2", None),
    ],
)
def test_a_line_has_them_in_its_environment(line, partition):
    read = parse(line)
    assert read.settings.get("pp_layer_partition") == partition
    answer = weighbridge.infer("qwen3-8b", engine=read.engine, **{**read.settings, "context": 4096})
    again = parse(answer.derived["launch"])
    assert again.settings.get("pp_layer_partition") == partition


def published(partition, context=34_736):
    model = weighbridge.prepare("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", offline=True)
    return model.infer(
        engine="vllm",
        engine_version="0.15.2",
        gpu=UNLIKE,
        pipeline_parallel_size=2,
        pp_layer_partition=partition,
        context=context,
        gpu_memory_utilization=0.9,
    )


def test_each_card_gives_its_own_share():
    report = published("16,32", context=262_144)
    assert report.derived["available_kv_cache_bytes"] / 2**30 == pytest.approx(3.18, rel=0.02)
    small, large = (d.taken for d in report.devices if d.kind == "gpu")
    assert small < 16 * 2**30 < large


@pytest.mark.slow
def test_the_scarcer_card_decides_which_is_not_always_the_smaller():
    """With few layers on the small card, the large one has less room for each of its own."""
    room = [published(p).derived["num_gpu_blocks"] for p in ("10,38", "15,33", "18,30")]
    assert room[0] < room[1] > room[2] > 0


def test_a_run_of_the_published_length_serves():
    report = published("16,32")
    assert report.verdict.fits == "yes"
    assert report.derived["kv_cache_tokens"] > 34_736
    assert report.derived["largest_context"] >= 34_736


@pytest.mark.slow
def test_cards_in_another_order_are_other_stages():
    turned = "GeForce RTX 5090 D+RTX 5070 Ti"
    answer = weighbridge.infer(
        "qwen3-8b", engine="vllm", gpu=turned, pipeline_parallel_size=2, context=4096,
        pp_layer_partition="30,6",
    )  # fmt: skip
    assert answer.verdict.fits == "yes"
    other = weighbridge.infer(
        "qwen3-8b", engine="vllm", gpu=UNLIKE, pipeline_parallel_size=2, context=4096,
        pp_layer_partition="30,6",
    )  # fmt: skip
    assert other.verdict.fits != "yes"
