"""What would make a pipeline fit: steps in their order, each of which lowers what is short."""

from functools import cache

import pytest

import weighbridge
from weighbridge.answers.remedies.picture_training import _climbed
from weighbridge.base.records import replace
from weighbridge.base.units import GIB
from weighbridge.faces.view import screen
from weighbridge.workload.picture_training import PictureTraining

prepared = cache(weighbridge.prepare)


# ---- RAM


@pytest.mark.slow
def test_where_ram_is_short_steps_lower_what_waits_there():
    report = weighbridge.infer("flux.1-dev", gpu="4090", offload="model", ram="16GiB")
    assert (report.verdict.fits, report.verdict.host.fits) == ("no", "no")
    waits = [r.host.expected for r in report.remedies]
    assert waits == sorted(waits, reverse=True) and waits[-1] < report.verdict.host.needed.low
    last = next(r for r in report.remedies if r.fits == "yes")
    assert tuple(last.change["drop"]) == ("text",)
    assert set(last.change) >= {"quantization"}


def test_comfyui_is_asked_for_ram_too():
    """What a card has no room for comes from pages of files: read again, where RAM has none."""
    asks = {"engine": "comfyui", "quantization": "fp8", "gpu": "3060", "remedies": False}
    pipeline = prepared("flux.1-dev")
    large, small = (pipeline.image(ram=ram, **asks) for ram in ("64GiB", "4GiB"))
    in_ram = large.derived["in_ram"]
    assert large.verdict.host.needed.high - large.verdict.host.needed.low > in_ram
    assert (large.verdict.host.fits, small.verdict.host.fits) == ("yes", "unknown")
    assert any("read from disk" in line for line in small.warnings)
    assert not any("read from disk" in line for line in large.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("ram", [None, "32GiB"])
def test_where_packing_fills_the_card_leaves_come_one_by_one(ram):
    """Linears that bitsandbytes packs are on the card while they load: FLUX.2's take 32 GiB of 12."""
    plan = weighbridge.fit("flux.2-dev", gpu="3060", ram=ram).plan
    assert (plan.fits, plan.settings["offload"]) == ("yes", "group-leaf")
    assert str(plan.settings.get("quantization")).startswith("nf4") is False
    assert plan.rung.verdict.per_device.high < 8 * GIB
    host = plan.rung.verdict.host
    assert host.needed.expected > 100 * GIB if ram is None else host.fits == "yes"


@pytest.mark.slow
def test_blocks_move_in_the_format_that_was_taken_before():
    plan = weighbridge.fit("flux.1-fill-dev", gpu="3060").plan
    assert plan.settings["quantization"] == "Q4_K_S"
    assert (plan.fits, plan.settings["offload"]) == ("yes", "group-block")


# ---- ComfyUI


@pytest.mark.slow
def test_a_step_of_comfyui_leaves_fewer_weights_in_ram_on_a_card_with_room():
    report = weighbridge.infer("flux.1-dev", engine="comfyui", gpu="3060")
    assert [list(r.change) for r in report.remedies[:3]] == [["quantization"]] * 3
    assert "stay in RAM" in report.remedies[0].cost
    first = next(r for r in report.remedies if r.fits == "yes")
    assert first.change == {"quantization": "Q4_K_S+text=fp8"}
    edit = weighbridge.infer("qwen-image-edit", engine="comfyui", gpu="3060")
    usable = edit.verdict.usable.low
    assert all(r.per_device.high <= usable for r in edit.remedies)


@pytest.mark.slow
def test_no_step_of_comfyui_is_told_that_does_not_lower_the_card():
    """Attention of a million tokens: weights are not what is short."""
    report = weighbridge.infer("flux.1-dev", engine="comfyui", gpu="4090", size="16384x16384")
    assert report.verdict.fits == "no" and report.remedies == ()


@pytest.mark.slow
def test_a_ladder_ends_with_an_answer():
    """HunyuanVideo's own 129 frames of 1280 x 720 on 24 GB."""
    report = weighbridge.infer("hunyuan-video", gpu="4090")
    assert report.remedies[-2].fits == "yes"
    peaks = [r.per_device.expected for r in report.remedies]
    assert peaks == sorted(peaks, reverse=True)


@pytest.mark.slow
def test_a_ladder_ends_with_blocks_that_fit_where_what_is_packed_is_too_large_to_load():
    """UMT5 of Wan 2.1 in 4 bits is loaded on the card, whole: 8.6 GiB."""
    blocks = {"offload": "group-block", "offload_stream": True, "vae_tiling": True}
    wan = prepared("wan2.1-t2v-1.3b")
    assert wan.image(gpu="4060", **blocks, remedies=False).verdict.fits == "yes"
    first = next(r for r in wan.image(gpu="4060").remedies if r.fits == "yes")
    assert first.change == blocks
    assert "quantization" not in first.flags and "use_stream=True" in first.paste


# ---- words


@pytest.mark.slow
def test_what_does_not_fit_whatever_was_left_open_is_a_no():
    """The weights of FLUX alone, 31.4 GiB, are more than a card of 12 GB has."""
    [weighed] = weighbridge.weigh("flux dev on a 3060 12GB\n").runs
    assert weighed.fits == "no"


def screen_of(report):
    return "\n".join(map(str, screen(report).sections))


@pytest.mark.slow
def test_headings_say_what_rows_are():
    report = prepared("flux.1-dev").image(gpu="3060", quantization="fp8+text=fp8")
    assert screen(report).title.endswith("fp8, text fp8 · diffusers")
    none = tuple(r for r in report.remedies if r.fits != "yes")
    assert "What would fit" in screen_of(report)
    assert "none surely fits" in screen_of(replace(report, remedies=none[:1] or report.remedies))


SD15 = {"gpu": "4060", "size": "256"}


@pytest.mark.slow
def test_a_ladder_is_climbed_as_far_as_somebody_asks():
    """Each step is asked when the one before it was taken; nobody asks after the first that fits."""
    told, ask = [], prepared("sd-1.5").train_image

    def noted(w):
        told.append(w)
        return ask(w, remedies=False)

    w = PictureTraining(**SD15, gpu_memory="4GiB", batch_size=4)
    way = _climbed(noted(w), w, noted, frozenset())
    assert len(told) == 1
    assert any(one.fits == "yes" for one in way)
    asked = len(told)
    assert list(way) and len(told) > asked
