"""Several cards of a pipeline: what each has, by hand; and laws of sharing."""

import pytest

import weighbridge
from tests.cases import all_of
from tests.pictures.test_training import UNET, of, small, step, tiny
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.units import ceil_div
from weighbridge.pictures import cards
from weighbridge.pictures.values import Sizes

GIB = 1 << 30
FLUX = "flux.1-dev"
assert tiny  # a fixture

# ---- training


def full(tiny, **settings):
    return small(tiny, method="full", checkpointing="full", **settings)


def most(report):
    return max(p.at("allocated").expected for p in report.devices[0].phases)


@pytest.mark.slow
def test_each_rank_has_all_and_buckets_of_gradients(tiny):
    alone, two = full(tiny), full(tiny, data_parallel_size=2)
    assert of(two, "load", "weights") == of(alone, "load", "weights") == 4 * UNET
    assert of(two, "forward", "gradients") == 4 * UNET
    assert of(two, "step", "gradients") == 2 * of(alone, "step", "gradients") == 2 * 4 * UNET
    assert [d.kind for d in two.devices] == ["gpu", "gpu", "host"]
    assert two.devices[0].phases == two.devices[1].phases


def test_buckets_of_a_lora_are_as_large_as_it(tiny):
    report = small(tiny, data_parallel_size=4)
    assert of(report, "forward", "gradients") == of(report, "load", "adapters")


def test_onetrainer_sums_gradients_in_their_place(tiny):
    alone = small(tiny, framework="onetrainer", method="full")
    two = small(tiny, framework="onetrainer", method="full", data_parallel_size=2)
    assert of(two, "step", "gradients") == of(alone, "step", "gradients")


@pytest.mark.parametrize("ranks", [2, 8])
def test_zero_shares_states_and_master_copies(tiny, ranks):
    report = full(tiny, shard="zero2", data_parallel_size=ranks)
    assert of(report, "backward", "weights") == 2 * UNET
    assert of(report, "backward", "master_weights") == 4 * ceil_div(UNET, ranks)
    assert of(report, "step", "optimizer_states") == 8 * ceil_div(UNET, ranks)


def test_fsdp_shares_all_of_it(tiny):
    report = full(tiny, shard="fsdp2", data_parallel_size=4)
    states = of(report, "step", "optimizer_states")
    assert 8 * UNET / 4 <= states <= 1.1 * 8 * UNET / 4  # rows do not divide evenly
    assert of(report, "step", "weights") == states // 2


def test_states_in_host_memory_are_not_on_the_card(tiny):
    report = full(tiny, shard="zero2", offload="optimizer", data_parallel_size=2)
    assert of(report, "step", "optimizer_states", "master_weights") == 0
    [phase] = report.devices[-1].phases
    [offloaded] = [c for c in phase.components if c.detail == "offloaded"]
    assert offloaded.bytes.low == 2 * (12 + 6) * ceil_div(UNET, 2)


def test_each_rank_is_a_process_of_the_host(tiny):
    def processes(report):
        [phase] = report.devices[-1].phases
        return sum(c.bytes.expected for c in phase.components if c.detail == "processes")

    assert processes(full(tiny, data_parallel_size=4)) == 4 * processes(full(tiny))


@pytest.mark.parametrize("settings", [{}, {"method": "full"}], ids=["lora", "full"])
def test_one_card_is_answered_as_before(tiny, settings):
    """To the byte, but for the ranks that were said."""
    alone = small(tiny, gpu="4090", **settings)
    one = small(tiny, gpu="4090:1", data_parallel_size=1, **settings)
    said, before = one.to_dict(), alone.to_dict()
    assert {**said, "workload": {}} == {**before, "workload": {}}
    before["workload"] |= {"gpu": "4090:1", "data_parallel_size": 1}
    assert said["workload"] == before["workload"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero1", "zero2", "zero3", "fsdp2"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_more_ranks_never_need_more_of_a_card(tiny, kind, method):
    reports = [
        small(tiny, method=method, shard=kind, data_parallel_size=ranks) for ranks in (2, 4, 8)
    ]
    needs = [step(report) for report in reports]
    assert needs == sorted(needs, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["diffusers", "kohya", "simpletuner"])
def test_the_more_is_shared_the_less_a_card_has(tiny, framework):
    usual = {"framework": framework, "data_parallel_size": 8}
    reports = [full(tiny, shard=kind, **usual) for kind in ("ddp", "zero1", "fsdp2")]
    states = [of(r, "step", "optimizer_states", "weights", "master_weights") for r in reports]
    assert states == sorted(states, reverse=True)


def test_a_way_that_a_trainer_is_not_known_to_have_is_said(tiny):
    report = small(tiny, framework="musubi", shard="zero2", data_parallel_size=2)
    assert any("musubi-tuner, which has ddp" in line for line in report.warnings)


def test_what_cannot_be_is_refused(tiny):
    for settings in (
        {"shard": "none", "data_parallel_size": 2},
        {"offload": "optimizer", "data_parallel_size": 2},
    ):
        with pytest.raises(UsageError):
            small(tiny, **settings)


@pytest.mark.slow
def test_several_cards_step_up_to_parts():
    report = weighbridge.train("sdxl", method="full", gpu="4090:2", prompt_tokens=8, size="512")
    kinds = [r.change.get("shard") for r in report.remedies]
    assert "zero2" in kinds
    assert any("--use_deepspeed --zero_stage 2" in r.paste for r in report.remedies)


# ---- pictures that are made


@all_of(
    ("sizes", "rooms", "expected"),
    [
        ({"a": 8, "b": 5, "c": 2, "d": 1}, [10, 10], {"a": 0, "b": 1, "c": 1, "d": 0}),
        ({"a": 8, "b": 5}, [6, 10], {"a": 1, "b": 0}),  # the card that has most is first
        ({"a": 8, "b": 5, "c": 1}, [7, 7], {"a": -1, "b": 0, "c": 1}),  # the turn is not over
        ({"a": 6, "b": 6, "c": 6}, [10], {"a": 0, "b": -1, "c": -1}),
        ({"a": 3, "b": 2, "c": 1}, [9, 9, 9], {"a": 0, "b": 1, "c": 2}),
    ],
)
def test_components_are_dealt_there_and_back(sizes, rooms, expected):
    assert cards.balanced(sizes, rooms) == expected


def weights(device):
    return max(p.of("weights").expected for p in device.phases)


def made(**settings):
    return weighbridge.infer(FLUX, size="512x512", **settings)


@pytest.mark.slow
def test_cards_together_have_each_component_once():
    alone, two = made(gpu="a100-80gb:2"), made(gpu="a100-80gb:2", device_map="balanced")
    assert [d.kind for d in two.devices] == ["gpu", "gpu", "host"]
    gpus = two.devices[:2]
    assert sum(map(weights, gpus)) == weights(alone.devices[0])
    for device in gpus:
        assert all(p.of("context").expected > 0 for p in device.phases)
    assert two.derived["cards"]["transformer"] == two.derived["cards"]["vae"] == 0
    assert two.derived["cards"]["text_encoder_2"] == 1
    assert two.verdict.devices_used == 2
    assert any("one of the 2 cards" in line for line in alone.warnings)


@pytest.mark.slow
def test_one_card_has_all_and_is_answered_as_before():
    alone, one = made(gpu="a100-80gb"), made(gpu="a100-80gb", device_map="balanced")
    assert alone.devices == one.devices


@pytest.mark.slow
def test_names_say_where_components_go():
    report = made(gpu="a100-80gb:3", device_map="text=2,vae=1")
    assert report.derived["cards"] == {
        "transformer": 0,
        "vae": 1,
        "text_encoder": 2,
        "text_encoder_2": 2,
    }
    assert weights(report.devices[1]) < GIB


@pytest.mark.slow
def test_what_has_no_room_runs_on_the_cpu_and_is_no_yes():
    report = made(gpu="3060:2", device_map="balanced")
    assert report.derived["cards"]["transformer"] == -1
    assert report.verdict.fits == "unknown"
    [phase] = report.devices[-1].phases
    assert phase.of("weights").expected > 20 * GIB


@pytest.mark.slow
def test_tokens_are_divided_and_weights_are_not():
    alone = made(gpu="a100-80gb", images=0)
    four = made(gpu="a100-80gb:4", context_parallel_size=4)
    assert len(four.devices) == 5
    assert weights(four.devices[0]) == weights(alone.devices[0])
    assert of(four, "denoise", "activations") < of(alone, "denoise", "activations")
    assert of(four, "decode", "activations") == of(alone, "decode", "activations")


def test_a_quarter_of_the_tokens_is_two_rows_of_latents_at_least():
    whole = Sizes(height=64, width=64, text=512)
    part = cards.divided(whole, 4, "FluxTransformer2DModel")
    assert (part.height, part.width, part.text) == (16, 64, 128)
    assert cards.divided(whole, 4, "WanTransformer3DModel").text == 512
    assert cards.divided(whole, 64, "WanTransformer3DModel").height == 2
    assert cards.divided(whole, 4, "UNet2DConditionModel") == whole


@pytest.mark.slow
def test_a_network_whose_tokens_nobody_divides_is_whole_and_said():
    report = weighbridge.infer("sdxl", size="512x512", context_parallel_size=2, gpu="4090:2")
    alone = weighbridge.infer("sdxl", size="512x512", gpu="4090")
    assert any("UNet2DConditionModel" in line for line in report.warnings)
    assert report.devices[0] == alone.devices[0]


@pytest.mark.slow
def test_peaks_of_flux_on_four_cards():
    """33.83 GiB by Ulysses on each of four RTX 4090 with 48 GB (diffusers 58eb52c
    docs/source/en/training/distributed_inference.md): the decode, which nothing divides."""
    report = weighbridge.infer(FLUX, size="1024x1024", context_parallel_size=4)
    assert report.fullest.peak("allocated").expected / GIB == pytest.approx(33.83, rel=0.005)


@pytest.mark.slow
def test_cards_that_have_nothing_are_the_first_step():
    report = weighbridge.infer(FLUX, gpu="4090:2")
    assert report.remedies[0].change == {"device_map": ("balanced",)}
    assert 'device_map="balanced"' in report.remedies[0].paste
    fits = next(r for r in report.remedies if r.fits == "yes")
    assert fits.change["device_map"] == ("balanced",)


@pytest.mark.slow
def test_a_program_of_ggml_is_told_where_encoders_go():
    report = made(gpu="3090:2", engine="stable-diffusion.cpp", device_map="text=1")
    assert "--backend te=cuda1,diffusion=cuda0,vae=cuda0" in report.derived["launch"]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"device_map": ("balanced",)}, UsageError, "--gpu says which"),
        ({"device_map": "text=2", "gpu": "4090:2"}, UsageError, "cards are 0 to 1"),
        ({"device_map": "text", "gpu": "4090:2"}, UsageError, "cards are 0 to 1"),
        ({"device_map": "unet=1", "gpu": "4090:2"}, UsageError, "no component unet"),
        (
            {"device_map": "balanced", "gpu": "4090:2", "offload": "model"},
            ContradictionError,
            "cards of their own",
        ),
        (
            {"device_map": "balanced", "gpu": "4090:2", "engine": "comfyui"},
            ContradictionError,
            "not of comfyui",
        ),
    ],
)
def test_maps_that_cannot_be(settings, error, said):
    with pytest.raises(error) as raised:
        made(**settings)
    assert said in str(raised.value)


@pytest.mark.slow
def test_cards_that_differ_are_judged_each_by_its_own():
    report = made(gpu="4090+3060", device_map="balanced")
    assert report.derived["cards"]["transformer"] == 0
    assert len(report.verdict.usable_each) == 2
