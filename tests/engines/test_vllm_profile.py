"""vLLM's profile: videos whose frames are encoded one by one, rows that a kernel shuffles."""

from dataclasses import replace

import pytest

from tests.engines.answers import answer
from tests.engines.serving import served
from tests.engines.test_vllm import HEAD, TOWER
from weighbridge.base.units import GIB
from weighbridge.engines.vllm import forward, profile
from weighbridge.engines.vllm.forward import RankShare
from weighbridge.models.arch.body import Experts, LayerBlock


def test_frames_of_videos_are_encoded_one_after_the_other():
    """A batch of more of them holds more inputs and outputs, and is no wider."""
    frame = replace(TOWER, at_once=20)
    one, ten = (
        profile.encoded((frame,), 64, tokens=n, context=1000, sequences=4, share=RankShare())
        for n in (25, 250)
    )
    assert one.widest == ten.widest == 20 * (3 * 8 + 2 * 32)
    assert ten.held == 10 * one.held
    assert one.scores == ten.scores == 2 * 20 * 20  # frames do not see each other


def gemma(gpu="5090", **setting):
    batches = {"max_num_batched_tokens": 16_384, "max_num_seqs": 2, "context": 8192}
    return answer("gemma-4-26b-a4b", engine="vllm", gpu=gpu, **batches, **setting)


def test_gemma_4_is_profiled_with_videos():
    """Two start-up logs of 0.19 and 0.20 (RTX 5090, 16,384 tokens) say 6 video items; 32 frames of
    70 x 9 positions each, and 16,384 // 2,496 of them."""
    (tower,) = profile.largest_towers(served("gemma-4-26b-a4b"))
    assert (tower.tokens, tower.positions, tower.at_once) == (2496, 32 * 630, 630)
    assert profile.item_count(tower, tokens=16_384, context=256_000, sequences=2) == 6


def test_rows_that_are_shuffled_by_expert():
    """Gemma 4 26B: 8 experts of 704, 2,816 wide; two copies of each row and what it weighs."""
    experts = Experts(count=128, top_k=8, width=704)
    layer = LayerBlock(mixers=(HEAD,), feeds=(experts,))
    usual, shuffled = (
        forward.step((layer,), 2816, RankShare(shuffled=s), eager=False) for s in (False, True)
    )
    assert shuffled.workspace == usual.workspace
    copies = 8 * (2 * 2816 + 704)
    assert shuffled.widest == 128 + 4 * 2816 + 128 + copies


def test_nvfp4_of_gelu_experts_is_shuffled_before_0_24_on_blackwell():
    """A log of 0.20.2 on a 5090: 4.2 GiB of profile and what is not torch's of it."""
    before, after, hopper = (
        gemma(gpu, engine_version=v, quantization="nvfp4").derived["profile_peak_bytes"]
        for gpu, v in (("5090", "0.20.2"), ("5090", "0.24"), ("H100", "0.20.2"))
    )
    assert before / GIB == pytest.approx(3.9, abs=0.05)
    assert max(after, hopper) < 0.8 * before
    plain = [gemma(engine_version=v).derived["profile_peak_bytes"] for v in ("0.20.2", "0.24")]
    assert plain[0] == plain[1]


def test_drafts_are_rejected_of_more_tensors_of_logits():
    """Qwen3.8 27B, 1,024 sequences: 3 x 2 + 24 bytes of 248,320 entries each. With it the blocks
    that an RTX PRO 6000 printed for its FP8 and 16 bits (939, 556: vllm-project/recipes 831, with
    MTP by its pages of 17 layers) are met within 5 %, where they were 12 and 18 % fewer."""
    asked = {"gpu": "rtx-pro-6000", "engine_version": "0.26.1", "engine_defaults": True}
    drafts = {"speculative_method": "mtp", "num_speculative_tokens": 3}
    peaks = [
        answer("qwen3.8-27b", engine="vllm", **asked, **more).derived["profile_peak_bytes"]
        for more in ({}, drafts, drafts | {"num_speculative_tokens": 1})
    ]
    assert peaks[1] - peaks[0] == (3 * 2 + 24 - 14) * 1024 * 248_320
    assert peaks[2] == peaks[1]  # one is proposed while it profiles
    found = answer("qwen3.8-27b", engine="vllm", **asked, **drafts, gpu_memory_utilization=0.95)
    assert found.derived["num_gpu_blocks"] == pytest.approx(556, rel=0.05)
