"""What a class has beside Megatron's decoder: towers, and few numbers that GPTModel has not."""

import pytest

import weighbridge
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.units import GIB

VISION = "qwen3-vl-8b"
TOWER = 8_767_123_696 - 8_190_735_360  # numbers of Qwen3-VL-8B, and of Qwen3-8B, its decoder
# ms-swift 3602360a examples/megatron/mcore_bridge/full/dense.sh: 2 * 76GiB
DENSE = {"framework": "megatron", "seq_len": 2048, "gpu": "nvidia-h100-sxm5-80gb:2"}
DENSE |= {"tensor_parallel_size": 2, "shard": "zero1", "expandable_segments": True}
DENSE["megatron_args"] = (
    *("hidden_dropout=0.0", "attention_dropout=0.0", "no_create_attention_mask_in_dataloader"),
    *("attention_backend=flash", "cross_entropy_loss_fusion", "sequence_parallel"),
    *("recompute_granularity=full", "recompute_method=uniform", "recompute_num_layers=1"),
)

HELD = ("weights", "gradients", "optimizer_states", "activations", "logits")


def beside(report, card=0):
    parts = report.devices[card].phases[0].components
    return [c.bytes for c in parts if c.detail == "beside the decoder"]


def test_a_published_run_is_inside():
    peak = weighbridge.train(VISION, **DENSE).peak
    assert peak.low <= 76 * GIB <= peak.high
    assert abs(peak.expected / (76 * GIB) - 1) < 0.03


@pytest.mark.parametrize("settings", [{}, {"method": "lora", "lora_targets": ("all-linear",)}])
def test_a_tower_is_frozen_and_whole_or_shared_and_at_most_trained(settings):
    """Gradients of 4 bytes and states of 12 where no data rank shares them."""
    (tower,) = beside(weighbridge.train(VISION, **DENSE, **settings))
    trained = 0 if settings else 4 + 12
    assert tower == (TOWER, 2 * TOWER, (2 + trained) * TOWER)


def test_a_tower_is_of_the_first_stage_and_the_decoder_is_that_of_text():
    asked = DENSE | {"tensor_parallel_size": None, "pipeline_parallel_size": 2}
    seeing, text = (weighbridge.train(name, **asked) for name in (VISION, "qwen3-8b"))
    assert beside(seeing) and not beside(seeing, 1) and not beside(text)

    def decoder(report):
        parts = report.devices[0].phases[0].components
        parts = (c for c in parts if c.detail != "beside the decoder")
        return [(c.name, c.bytes) for c in parts if c.name in HELD]

    assert decoder(seeing) == decoder(text)


def test_few_numbers_of_a_decoder_refuse_nothing():
    """Sinks, biases of experts and routers of gpt-oss: 6.6 M of 20.9 B. A decoder of other layers
    is refused."""
    asked = {"framework": "megatron", "gpu": "nvidia-h100-sxm5-80gb:8"}
    (few,) = beside(weighbridge.train("gpt-oss-20b", **asked, expert_parallel_size=8))
    assert few.expected == 2 * (20_914_757_184 - 20_908_119_360)
    with pytest.raises(UnsupportedError):
        weighbridge.train("qwen3-next-80b-a3b", **asked)
