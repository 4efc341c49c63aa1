"""Training of a pipeline's denoiser: edges by hand, published figures, and laws of what saves memory."""

import json
from math import prod

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.dtypes import FLOAT32, TORCH
from weighbridge.base.errors import UsageError
from weighbridge.memory.components.activations import Heap
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import base, components, swapping, trainers, training
from weighbridge.pictures.adapting import EVERY, PictureAdapters, factored, targeted
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.training import DenoiserStep
from weighbridge.pictures.values import ProgramRun, Value
from weighbridge.training.adapters import ALL
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops import pointwise
from weighbridge.training.forward.tensors import LeafTensor
from weighbridge.training.optimizers import optimizer

GIB = 1 << 30
SD15, SDXL, FLUX, SD3, WAN = "sd-1.5", "sdxl", "flux.1-dev", "sd3.5-medium", "wan2.1-t2v-1.3b"
LONGCAT = "longcat-image"
UNET, CLIP, VAE = 803_204, 169_024, 658_375  # parameters of the pipeline below
BF16 = TORCH["bfloat16"]


PARTS = {  # of a pipeline like Stable Diffusion's
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [32, 64],
        "cross_attention_dim": 64,
        "attention_head_dim": 8,
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [32, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "latent_channels": 4,
        "layers_per_block": 1,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 1000,
    },
}


UNET_TREE = components.blueprint(PARTS["unet"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder of such a pipeline, which holds configs alone."""
    folder = tmp_path_factory.mktemp("tiny")
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.0"}
    for name, config in PARTS.items():
        library = "transformers" if "architectures" in config else "diffusers"
        cls = config.get("_class_name") or config["architectures"][0]
        index[name] = [library, cls]
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index))
    return weighbridge.prepare(str(folder))


def small(tiny, **settings):
    typed = {"size": "256", "prompt_tokens": 8, **settings}
    return tiny.train_image(remedies=False, **typed)


def asked(name=SD15, **settings):
    return weighbridge.train(name, **{"size": "64", "prompt_tokens": 8, **settings})


def allocated(report):
    return max(phase.at("allocated") for phase in report.devices[0].phases)


def of(report, phase, *names):
    instant = next(p for p in report.devices[0].phases if p.name == phase)
    return sum(c.bytes.expected for c in instant.components if c.name in names)


def step(report):
    """The most that tensors take in the phases of a step."""
    running = ("forward", "backward", "step")
    phases = [p for p in report.devices[0].phases if p.name in running]
    return max(p.at("allocated").expected for p in phases)


# ---- edges by hand


def test_a_lora_is_beside_the_projections_of_each_attention(tiny):
    """Four transformers of two attentions, rank 4; a text has 64 values a token."""
    widths = {32: 3, 64: 1}
    itself = sum(n * 4 * 4 * 2 * w for w, n in widths.items())
    to_text = sum(n * 4 * (2 * 2 * w + 2 * (w + 64)) for w, n in widths.items())
    report = small(tiny)
    assert report.derived["trainable_parameters"] == itself + to_text
    assert of(report, "load", "adapters") == 2 * (itself + to_text)
    assert of(report, "load", "weights") == 2 * UNET


@pytest.mark.slow
def test_adapters_of_kohya_are_in_float32_and_those_of_diffusers_as_the_base(tiny):
    for framework, size in (("kohya", 4), ("diffusers", 2)):
        report = small(tiny, framework=framework, lora_targets="to_q")
        trained = report.derived["trainable_parameters"]
        assert of(report, "load", "adapters") == size * trained


def test_adam_has_two_averages_of_what_is_trained(tiny):
    report = small(tiny, optimizer="adamw")
    assert of(report, "step", "optimizer_states") == 2 * of(report, "load", "adapters")


@pytest.mark.slow
def test_full_training_by_mixed_precision_is_in_float32_and_pure_in_16_bits(tiny):
    mixed, pure = small(tiny, method="full"), small(tiny, method="full", precision="bf16")
    for report, size in ((mixed, 4), (pure, 2)):
        assert of(report, "load", "weights") == size * UNET
        assert of(report, "step", "optimizer_states") == 2 * size * UNET
        assert report.derived["trainable_parameters"] == UNET


@pytest.mark.slow
def test_a_moving_average_is_as_large_as_what_is_trained(tiny):
    once, twice = small(tiny, method="full"), small(tiny, method="full", ema=True)
    assert of(twice, "load", "weights") == 2 * of(once, "load", "weights")


@pytest.mark.slow
def test_encoders_stay_where_nothing_is_cached(tiny):
    cached = small(tiny)
    live = small(tiny, uncached_latents=True, uncached_text=True)
    parts = 2 * (CLIP + VAE)
    assert of(live, "load", "weights") - of(cached, "load", "weights") == parts
    assert [p.name for p in live.devices[0].phases][:2] == ["load", "encode"]
    assert [p.name for p in cached.devices[0].phases][:2] == ["cache", "load"]


@pytest.mark.slow
def test_encoders_run_before_the_steps_alone_or_beside_the_denoiser(tiny):
    beside, alone = small(tiny, framework="diffusers"), small(tiny, framework="kohya")
    assert of(beside, "cache", "weights") == 2 * (UNET + CLIP + VAE)
    assert of(alone, "cache", "weights") in (2 * CLIP, 2 * VAE)


@pytest.mark.slow
def test_a_text_encoder_that_is_trained_has_adapters_too(tiny):
    """Two layers of four projections, 64 wide, rank 4."""
    more = small(tiny, train_text_encoder=True).derived["trainable_parameters"]
    assert more - small(tiny).derived["trainable_parameters"] == 2 * 4 * 4 * 2 * 64


@pytest.mark.slow
def test_swapped_blocks_wait_in_host_memory():
    """FLUX: half of the number is of the 19 double blocks, and twice what is left of the 38."""
    plain = asked(FLUX, framework="kohya", checkpointing="full")
    swaps = asked(FLUX, framework="kohya", checkpointing="full", blocks_to_swap=10)
    away = of(plain, "load", "weights") - of(swaps, "load", "weights")
    d = 3072
    double = 2 * 6 * d * d + 2 * 4 * d * d + 2 * 8 * d * d
    single = 3 * d * d + 3 * d * d + 4 * d * d + 5 * d * d
    assert away == 2 * (5 * double + 10 * single)
    [load] = swaps.devices[1].phases
    waits = sum(c.bytes.expected for c in load.components if c.detail == "weights that wait")
    assert waits == away


@pytest.mark.slow
@pytest.mark.parametrize(("count", "gib"), [(16, 12), (22, 10), (28, 8)])
def test_blocks_that_sd_scripts_names_for_a_card_leave_room_there(count, gib):
    """docs/flux_train_network.md: 12 GB, 10 GB and 8 GB, batch 1, 8 bit AdamW, fp8. What is encoded
    before has cards of its own size (there in fp8)."""
    fp8 = {"quantization": "fp8", "optimizer": "adamw_8bit", "checkpointing": "full"}
    report = asked(FLUX, framework="kohya", size="1024", lora_r=16, blocks_to_swap=count, **fp8)
    running = [p for p in report.devices[0].phases if p.name in ("forward", "backward", "step")]
    assert max(p.at("driver").expected for p in running) < gib * GIB


@pytest.mark.slow
def test_the_fewest_blocks_with_which_it_fits_are_a_step_with_a_line_to_paste():
    fp8 = {"quantization": "fp8", "optimizer": "adamw_8bit", "checkpointing": "full"}
    asks = {"framework": "kohya", "size": "1024", "gpu": "rtx-3060-12gb", **fp8}
    report = weighbridge.train(FLUX, **asks)
    remedy, *_ = [r for r in report.remedies if "blocks_to_swap" in r.change and r.fits == "yes"]
    count = remedy.change["blocks_to_swap"]
    assert remedy.paste == f"--blocks_to_swap {count}"
    fewer, same = (weighbridge.train(FLUX, blocks_to_swap=n, **asks) for n in (count - 1, count))
    assert (fewer.verdict.fits, same.verdict.fits) == ("unknown", "yes")
    assert same.peak.expected == remedy.peak_bytes


@pytest.mark.slow
def test_texts_are_encoded_in_a_run_of_their_own():
    """Hugging Face's blog trains FLUX's adapters on an NF4 base in about 9 GB, with embeddings that
    compute_embeddings.py made: 512 x 768, batch 1, 8-bit Adam, checkpoints."""
    how = {"quantization": "nf4", "checkpointing": "full", "optimizer": "adamw_8bit"}
    apart = asked(FLUX, size="512x768", drop="text", **how)
    assert apart.peak.low <= 9.5e9 and apart.peak.high >= 9e9
    kept = asked(FLUX, size="512x768", **how)
    [before] = [p for p in apart.devices[0].phases if p.name == "cache"]
    assert {c.detail for c in before.components if c.name == "weights"} == {"vae", "transformer"}
    assert kept.peak.expected - apart.peak.expected > 6 * GIB
    with pytest.raises(UsageError, match="text_encoder_2"):
        asked(FLUX, drop="text", uncached_text=True)
    with pytest.raises(UsageError, match="has no component unet"):
        asked(FLUX, drop="unet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpu", "settings", "change"),
    [
        ("rtx-3060-12gb", {"quantization": "nf4", "checkpointing": "full"}, {"drop": ("text",)}),
        (
            "rtx-4060",
            {"framework": "kohya", "quantization": "fp8", "checkpointing": "full"},
            {"quantization": "fp8+text=fp8"},
        ),
    ],
)
def test_what_was_typed_of_a_format_leaves_steps_for_what_is_encoded_before(gpu, settings, change):
    swaps = {"blocks_to_swap": 31} if "framework" in settings else {}
    report = weighbridge.train(FLUX, size="512", gpu=gpu, **settings, **swaps)
    assert report.verdict.fits == "no"
    [remedy] = [r for r in report.remedies if r.fits == "yes"]
    assert remedy.change == change and remedy.paste
    changed = {"size": "512", "gpu": gpu, **settings, **swaps, **change}
    assert weighbridge.train(FLUX, **changed).verdict.fits == "yes"


@pytest.mark.slow
def test_another_trainer_is_the_last_step_where_none_of_this_one_fits():
    report = weighbridge.train(FLUX, gpu="rtx-4060")
    *own, last = report.remedies
    assert {one.fits for one in own} == {"no"} and last.fits == "yes"
    assert last.change["framework"] == "kohya" and "--blocks_to_swap" in last.paste
    again = weighbridge.train(FLUX, gpu="rtx-4060", **last.change)
    assert (again.verdict.fits, again.peak.expected) == ("yes", last.peak_bytes)
    typed = weighbridge.train(FLUX, gpu="rtx-4060", framework="diffusers")
    assert all("framework" not in one.change for one in typed.remedies)


REPEATED = [
    {},
    {"checkpointing": "full", "optimizer": "adafactor"},
    {"method": "full", "gpu": "h100:2"},  # whose buckets are arranged anew
    {"gradient_accumulation": 3},  # the second of which finds gradients
    {"precision": "bf16", "uncached_latents": True},
]


@pytest.mark.parametrize("settings", REPEATED, ids=str)
def test_a_step_is_walked_once_and_asked_for_again(tiny, monkeypatch, settings):
    told, repeated = [], DenoiserStep._repeated

    def noted(step):
        told.append(repeated(step))
        return told[-1]

    def answer():
        with monkeypatch.context() as m:
            m.setattr(training, "memo", lambda owner, facts, make: make())
            return small(tiny, **settings).devices

    monkeypatch.setattr(DenoiserStep, "_repeated", noted)
    once = answer()
    of_step = min(2, settings.get("gradient_accumulation", 1))
    assert told[: 2 * of_step] == [False] * of_step + [True] + [False] * (of_step - 1)
    monkeypatch.setattr(DenoiserStep, "_repeated", lambda step: False)
    assert answer() == once


@pytest.mark.parametrize(
    "settings",
    [
        {"shard": "zero2", "method": "full", "framework": "simpletuner"},
        {"train_text_encoder": True},
    ],
    ids=str,
)
def test_what_sees_a_step_walks_each(tiny, monkeypatch, settings):
    """What gathers shares, and what came of texts, is not on the tape of the denoiser."""
    left, repeated = [], DenoiserStep._repeated

    def noted(step):
        left.append(step.left)
        return repeated(step)

    monkeypatch.setattr(DenoiserStep, "_repeated", noted)
    small(tiny, gpu="h100:2", **settings)
    assert len(left) > 1 and not any(left)


def test_a_line_is_in_the_words_of_each_trainer():
    change = {"checkpointing": "full", "size": (768, 1024), "uncached_latents": False}
    assert trainers.pasted("kohya", "FluxTransformer2DModel", change).splitlines() == [
        "--gradient_checkpointing",
        "--resolution 1024,768",
        "--cache_latents --cache_text_encoder_outputs",
    ]
    share = {"streaming": "blocks", "offload_fraction": 0.5}
    words = trainers.pasted("onetrainer", "UNet2DConditionModel", share)
    assert words == '"unet": {"offload_fraction": 0.5}'
    assert trainers.pasted("diffusers", "", {"blocks_to_swap": 3}) == ""
    for name in trainers.TRAINERS:
        assert "checkpointing=full" in trainers.words(name)


def test_the_last_blocks_of_all_wait_where_a_trainer_counts_them_together():
    """FLUX has 19 and 38 blocks: sd-scripts swaps 35 at most (17 and 36), SimpleTuner 56."""
    params = [Param(f"double.{i}.a.weight", (8, 8)) for i in range(19)]
    params += [Param(f"single.{i}.a.weight", (8, 8)) for i in range(38)]
    assert swapping.most(params) == 35
    assert swapping.most(params, combined=True) == 56
    assert swapping.waiting(params, 40, combined=True) == {"single": 38, "double": 2}
    assert swapping.most([Param("out.weight", (8, 8))]) == 0


def test_blocks_of_one_list_and_of_two():
    params = [Param(f"blocks.{i}.ff.weight", (8, 8)) for i in range(6)]
    assert swapping.swapped(params, [128] * 6, 2) == ([128] * 4, 256)
    two = [Param(f"double.{i}.a.weight", (8, 8)) for i in range(4)]
    two += [Param(f"single.{i}.a.weight", (8, 8)) for i in range(8)]
    assert swapping.waiting(two, 3) == {"double": 1, "single": 4}
    assert swapping.swapped([*params, Param("norm.weight", (8,), "norm")], [1] * 7, 9)[0] == [1]


@all_of(
    ("size", "factor", "sides"),
    [(128, 16, (16, 8)), (1536, 16, (16, 96)), (10, 16, (1, 10)), (36, 0, (6, 6)), (7, 4, (1, 7))],
)
def test_a_factor_is_the_largest_divisor_up_to_it(size, factor, sides):
    """lycoris_lora functional/general.py (factorization)"""
    assert factored(size, factor) == tuple(sorted(sides))


def adapters(*targets, **more):
    return PictureAdapters(method="lora", rank=4, targets=targets, dtype=BF16, **more)


def test_targets_are_names_classes_or_all_linears_of_blocks():
    names = ("blocks.0.attn1.to_q", "blocks.0.ff.net.2", "proj_out", "down.0.resnets.0.temb.1.x")
    params = [Param(f"{name}.weight", (8, 8)) for name in names]
    assert targeted(params, adapters("to_q")) == [names[0]]
    assert targeted(params, adapters("Attention")) == [names[0]]
    assert targeted(params, adapters("FeedForward")) == [names[1]]
    assert targeted(
        params,
        adapters(
            ALL,
        ),
    ) == [*names[:2]]


@pytest.mark.parametrize(
    ("name", "conv_rank", "count"),
    [(SD15, 0, 192), (SD15, 8, 278), (SDXL, 0, 722), (SDXL, 8, 788)],
)
def test_as_many_layers_have_adapters_as_sd_scripts_says(name, conv_rank, count):
    """create LoRA for U-Net: 192 modules (logs of SD 1.5); 86 and 66 more of ResNet blocks and what
    is between them with conv_dim: 22 and 17 blocks of three, 14 and 11 shortcuts, 6 and 4 samplers."""
    pipeline = pipelines.find(name)
    tree = components.blueprint(pipeline.parts["unet"])
    assert len(targeted(tree.counted, adapters(ALL, conv_rank=conv_rank))) == count
    every = targeted(tree.counted, adapters(EVERY, conv_rank=conv_rank))
    wide = 2 if conv_rank else 0  # conv_in and conv_out
    others = len([path for path in every if "embedding" in path])
    assert len(every) == {192: 228, 278: 278, 722: 750, 788: 788}[count] + wide + others


def test_patterns_name_layers_by_what_is_in_their_paths():
    params = [
        Param(f"blocks.0.{name}.weight", (8, 8)) for name in ("attn.to_q", "ff.net.0", "norm")
    ]
    assert targeted(params, adapters("*attn*", "*ff*")) == [
        "blocks.0.attn.to_q",
        "blocks.0.ff.net.0",
    ]


def test_a_kernel_is_adapted_by_one_of_few_channels(tiny):
    """conv1 of ResnetBlock2D: 32 to 32, 32 to 64 ... A has the kernel's 9 places, B one."""
    few = small(tiny, lora_targets="conv_shortcut", lora_r=4)
    many = small(tiny, lora_targets="conv_shortcut,conv1", lora_r=4, lora_conv_r=2)
    convs = [p for p in UNET_TREE.counted if p.name.endswith("conv1.weight")]
    points = [p for p in UNET_TREE.counted if p.name.endswith("conv_shortcut.weight")]
    assert few.derived["trainable_parameters"] == sum(4 * sum(p.shape[:2]) for p in points)
    more = sum(2 * (9 * p.shape[1] + p.shape[0]) for p in convs)
    assert many.derived["trainable_parameters"] - few.derived["trainable_parameters"] == more


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "loha", "lokr", "dora"])
def test_adapters_beside_convolutions_never_take_less(tiny, method):
    plain = small(tiny, framework="kohya", method=method, lora_r=4)
    wider = small(tiny, framework="kohya", method=method, lora_r=4, lora_conv_r=4)
    assert step(wider) > step(plain)
    states = of(wider, "step", "optimizer_states")
    assert states == pytest.approx(2 * of(wider, "load", "adapters"), rel=0.01)


def test_blocks_that_are_shared_leave_room_for_two_at_least():
    """OneTrainer: four blocks of 100 bytes, of which half stay; of nine tenths two do."""
    params = [Param(f"blocks.{i}.ff.weight", (10, 10)) for i in range(4)] + [
        Param("out.weight", (1,))
    ]
    sizes = [100] * 4 + [1]
    assert swapping.shared(params, sizes, 0.5) == ([1, 200], 200)
    assert swapping.shared(params, sizes, 0.9) == ([1, 200], 200)
    assert swapping.shared(params, sizes, 0.0) == ([1, 400], 0)


def test_blocks_that_run_and_come_are_beside_those_that_stay():
    """Whole blocks of 11 bytes: of six four wait, and two of these are there."""
    params = [
        Param(f"blocks.{i}.{n}.weight", (1,), k)
        for i in range(6)
        for n, k in (("a", "linear"), ("n", "norm"))
    ]
    here, away = swapping.swapped(params, [10, 1] * 6, 4, coming=2)
    assert (sum(here), away) == (44, 44)
    assert swapping.swapped([*params], [10, 1] * 6 + [7], 4, coming=2)[0].count(7) == 1


@pytest.mark.slow
def test_layers_that_wait_take_less_the_more_of_them_do():
    asks = {"framework": "ai-toolkit", "checkpointing": "full"}
    sizes = [
        step(asked(SD3, streaming="layers", offload_fraction=share, **asks))
        for share in (0.25, 0.5, 1)
    ]
    assert [*sizes, 0] == sorted([*sizes, 0], reverse=True)
    assert sizes[0] < step(asked(SD3, **asks))
    onetrainer = {"framework": "onetrainer", "checkpointing": "full"}
    half = asked(SD3, streaming="blocks", offload_fraction=0.5, **onetrainer)
    assert step(half) < step(asked(SD3, **onetrainer))


@pytest.mark.slow
def test_ai_toolkit_casts_what_adapters_read_to_float32_and_multiplies_without_autocast(tiny):
    """Each of its adapters keeps its input in float32; diffusers' keep it in 16 bits."""
    names = {"lora_targets": "to_q,to_k,to_v", "lora_r": 4, "precision": "bf16"}
    wide, narrow = (small(tiny, framework=name, **names) for name in ("ai-toolkit", "diffusers"))
    assert of(wide, "forward", "activations") > of(narrow, "forward", "activations")
    wide = small(tiny, framework="ai-toolkit")
    assert wide.workload["precision"] == "bf16"


@pytest.mark.slow
def test_encoders_have_formats_of_their_own():
    plain = asked(FLUX, uncached_text=True, checkpointing="full")
    packed = asked(FLUX, uncached_text=True, checkpointing="full", quantization="text=torchao-fp8")
    saved = of(plain, "load", "weights") - of(packed, "load", "weights")
    assert saved == pytest.approx(
        4.7e9, rel=0.1
    )  # T5's 4.7 billion numbers, of which each has half


@pytest.mark.parametrize(("release", "copies"), [((2, 11), 0), ((2, 12), 1), ((2, 13), 1)])
def test_autocast_runs_rms_norms_in_float32_since_torch_2_12(release, copies):
    """A copy of 128 x 32 numbers in float32 is kept, and the result is in float32 before it is cast."""
    m = Machine(Heap())
    m.autocast = BF16
    run = ProgramRun(m=m, cls="", dtype=BF16, torch=release)
    x = Value(run, LeafTensor("x", (128, 32), BF16, None))
    y = NetPlace(run).rms_norm("norm", x, affine=False, how="torch")
    live = m.heap.allocator.allocated - y.nbytes
    assert (live > 4 * 128 * 32) == bool(copies)
    m.heap.close()


def linear(form, *, wide=False):
    """A packed linear of 64 x 32, and what is alive behind it for backward."""
    m = Machine(Heap())
    m.autocast = BF16
    params = {"a.weight": Param("a.weight", (64, 32))}
    leaves = {"a.weight": LeafTensor("a.weight", (64, 32), BF16, None, trainable=False)}
    wrap = base.wrapped(form, params, leaves, BF16)["a"]
    x = LeafTensor("x", (128, 32), FLOAT32 if wide else BF16, None)
    y = wrap(m, x)
    live = m.heap.allocator.allocated
    m.heap.close()
    return y, live


@all_of(
    ("form", "kept"),
    [
        ("nf4", 0),
        ("sdnq-int8", 0),
        ("quanto-int8", 0),  # the input, which somebody else holds
        ("torchao-int8-training", 0),
        ("torchao-int8", 2 * 64 * 32),  # the matrix in 16 bits
        ("torchao-fp8", 2 * 64 * 32),
        ("fp8", 2 * 64 * 32),
        # absolute values; in float32, divided; in 8 bits, and the largest
        ("torchao-fp8-dynamic", (2 + 4 + 4 + 1) * 128 * 32 + 512),
    ],
)
def test_packed_linears_keep_what_their_libraries_keep(form, kept):
    y, live = linear(form)
    assert live - 2 * prod(y.shape) == kept


def test_a_product_that_autocast_does_not_reach_is_as_wide_as_its_input():
    assert linear("sdnq-int8", wide=True)[0].dtype == FLOAT32
    assert linear("fp8", wide=True)[0].dtype == BF16


@pytest.mark.parametrize(("name", "bytes_"), [("adamw_bf16", 6), ("prodigy", 8)])
def test_states_of_optimizers_that_trainers_have(name, bytes_):
    param = LeafTensor("a.weight", (64, 32), BF16, None)
    states = list(optimizer(name).states(param))
    assert sum(s.dtype.size(prod(s.shape)) for s in states) == bytes_ * 64 * 32


def test_came_keeps_one_average_and_sums_of_rows_and_columns():
    param = LeafTensor("a.weight", (64, 32), FLOAT32, None)
    states = {s.name: s.shape for s in optimizer("came").states(param)}
    assert states["exp_avg"] == (64, 32)
    assert states["exp_avg_res_row"] == (64,)
    assert states["exp_avg_sq_col"] == (32,)
    flat = LeafTensor("a.bias", (64,), FLOAT32, None)
    assert [s.shape for s in optimizer("came").states(flat)] == [(64,), (64,)]


# ---- measured: the steps of diffusers' scripts on an H100, torch 2.11, diffusers 0.42.1, rank 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "trained", "gib"),
    [
        (FLUX, {"size": "512"}, 44_826_624, 31.934),
        (FLUX, {"size": "1024"}, 44_826_624, 49.169),
        (SDXL, {"size": "1024"}, 23_224_320, 11.887),
        (SDXL, {"size": "1024", "checkpointing": "full"}, 23_224_320, 9.816),
        (SDXL, {"size": "1024", "checkpointing": "full", "batch_size": 4}, 23_224_320, 18.848),
        (SD3, {"size": "1024"}, 9_388_032, 18.420),
        ("flux.2-klein-4b", {"size": "1024"}, 16_711_680, 22.234),
        (
            WAN,
            {"size": "832x480", "frames": 33, "checkpointing": "full"},
            11_796_480,
            20.328,
        ),
    ],
)
def test_scripts_on_an_h100_are_as_measured(name, settings, trained, gib):
    """Allocated, with one batch of pictures encoded at once beside the denoiser and its adapters."""
    report = weighbridge.train(name, lora_r=16, gpu="h100", **settings)
    assert report.derived["trainable_parameters"] == trained
    assert allocated(report).expected == pytest.approx(gib * GIB, rel=0.002)


def test_a_script_encodes_a_whole_batch():
    """Diffusers' keep the batch together, in float32 where they hold the autoencoder so; others
    cache a picture at a time."""
    size = {"size": "256", "drop": ["text"], "gpu": "h100"}
    one, four = (of(asked(batch_size=n, **size), "cache", "activations") for n in (1, 4))
    assert four > 3.5 * one
    alone = [
        of(asked(batch_size=n, framework="kohya", **size), "cache", "activations") for n in (1, 4)
    ]
    assert alone[0] == alone[1]


# ---- published figures: SimpleTuner documentation/experimental/SEGMENTED_CHECKPOINTING.md, an H100


SENT = {"batch_size": 3, "lora_r": 128, "offload_attention": True}
PUBLISHED = [  # pipeline, settings, GiB, how far its own networks may be off
    (SD15, {"size": "512", "lora_r": 16}, 2.87, 0.08),
    (SD15, {"size": "512", "lora_r": 16, "checkpointing": "full"}, 1.98, 0.08),
    (SD3, {"batch_size": 3, "lora_r": 128, "checkpointing": "full"}, 7.67, 0.08),
    (SD3, {"batch_size": 3, "lora_r": 128, "checkpointing": "pairs"}, 8.93, 0.08),
    (SD3, {"batch_size": 3, "lora_r": 128, "checkpointing": "half"}, 20.14, 0.1),
    (SD3, {**SENT, "checkpointing": "full"}, 9.68, 0.15),
    (SD3, {**SENT, "checkpointing": "half"}, 12.21, 0.1),
    (LONGCAT, {"lora_r": 16, "prompt_tokens": 512, "size": "512"}, 16.47, 0.08),
    (
        LONGCAT,
        {"lora_r": 16, "prompt_tokens": 512, "size": "512", "checkpointing": "full"},
        12.38,
        0.02,
    ),
    (
        LONGCAT,
        {"lora_r": 16, "prompt_tokens": 512, "size": "512", "checkpointing": "half"},
        14.36,
        0.06,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings", "gib", "off"), PUBLISHED)
def test_steps_are_as_published(name, settings, gib, off):
    settings = {"size": "1024", "prompt_tokens": 77 if name == SD15 else 231, **settings}
    report = weighbridge.train(name, framework="simpletuner", gpu="h100", **settings)
    assert step(report) == pytest.approx(gib * GIB, rel=off)


# ---- laws


NEVER_MORE = [
    {"checkpointing": "full"},
    {"checkpointing": "half"},
    {"checkpointing": "offload"},
    {"optimizer": "adafactor"},
    {"size": "128"},
    {"precision": "bf16"},
]


@pytest.mark.slow
@pytest.mark.parametrize("change", NEVER_MORE, ids=str)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_saving_mode_never_takes_more(tiny, method, change):
    plain = small(tiny, size="256", method=method)
    saves = small(tiny, **{"size": "256", "method": method, **change})
    assert step(saves) <= step(plain)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"quantization": "fp8"}, {"quantization": "nf4"}], ids=str)
def test_a_packed_base_never_takes_more_with_checkpoints(change):
    plain = asked(SD3, checkpointing="full")
    assert step(asked(SD3, checkpointing="full", **change)) < step(plain)


@pytest.mark.slow
def test_more_rank_and_a_larger_batch_never_take_less(tiny):
    sizes = [step(small(tiny, lora_r=rank)) for rank in (4, 16, 64)]
    assert sizes == sorted(sizes)
    assert step(small(tiny, batch_size=2)) > step(small(tiny))


@pytest.mark.slow
def test_cached_latents_and_text_never_take_more_in_a_step(tiny):
    for live in ({"uncached_latents": True}, {"uncached_text": True}):
        assert step(small(tiny)) < step(small(tiny, **live))


@pytest.mark.slow
def test_eight_bits_of_averages_take_less_where_all_is_trained(tiny):
    """Bitsandbytes keeps few numbers in float32, which a small adapter in 16 bits has not."""
    plain, eight = small(tiny, method="full"), small(tiny, method="full", optimizer="adamw_8bit")
    assert step(eight) < step(plain)


@pytest.mark.slow
def test_all_of_it_takes_more_than_a_lora(tiny):
    assert step(small(tiny)) < step(small(tiny, method="full"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "dora", "loha", "lokr"])
def test_every_kind_of_adapter_has_gradients(tiny, method):
    report = small(tiny, method=method)
    assert report.workload["method"] == method
    assert 0 < report.derived["trainable_parameters"] < UNET
    states = of(report, "step", "optimizer_states")
    assert states == pytest.approx(2 * of(report, "load", "adapters"), rel=0.01)


@pytest.mark.slow
def test_fused_backward_keeps_no_gradients(tiny):
    few = {"method": "full", "size": "32", "optimizer": "adafactor"}
    plain, fused = small(tiny, **few), small(tiny, fused_backward=True, **few)
    assert of(fused, "step", "gradients") == 0
    assert step(fused) < step(plain)


@pytest.mark.slow
def test_gradients_stay_over_a_second_micro_batch(tiny):
    once, twice = small(tiny, method="full"), small(tiny, method="full", gradient_accumulation=4)
    assert of(twice, "forward", "gradients") == 4 * UNET
    assert of(once, "forward", "gradients") == 0


@pytest.mark.slow
def test_whose_code_it_is_decides_the_interval():
    spread = {}
    for framework in ("diffusers", "simpletuner"):
        report = asked(WAN, frames=5, framework=framework, checkpointing="full")
        forward = next(p for p in report.devices[0].phases if p.name == "forward")
        kept = next(c for c in forward.components if c.name == "activations")
        spread[framework] = round(100 * (kept.bytes.high / kept.bytes.expected - 1))
        assert kept.basis == ("assumed" if framework == "simpletuner" else "computed")
    norms = 17  # which torch 2.12 and newer keep in float32
    assert spread == {"diffusers": 5 + norms, "simpletuner": 40}


def test_activations_of_code_that_was_not_followed_are_as_wide_as_published_runs_were(tiny):
    """SimpleTuner has transformers of its own and diffusers' UNets; sd-scripts has both."""
    for framework, below, above in (
        *(("diffusers", 5, 5), ("simpletuner", 20, 20), ("onetrainer", 20, 20)),
        ("kohya", 30, 40),
    ):
        report = small(tiny, framework=framework)
        forward = next(p for p in report.devices[0].phases if p.name == "forward")
        kept = next(c for c in forward.components if c.name == "activations").bytes
        assert kept.high - kept.expected == kept.expected * above // 100
        assert kept.expected - kept.low == kept.expected * below // 100


def test_an_interval_joins_blocks_where_a_network_has_that():
    simple = trainers.TRAINERS["simpletuner"]
    assert simple.checkpoints("SD3Transformer2DModel", "pairs") == "pairs"
    assert simple.checkpoints("LongCatImageTransformer2DModel", "pairs") == "half"
    assert simple.checkpoints("UNet2DConditionModel", "half") == "full"
    assert trainers.TRAINERS["kohya"].checkpoints("UNet2DConditionModel", "half") == "half"


def test_blocks_that_are_not_joined_may_all_be_computed_again():
    """Cosmos 2 was published with the same peak by layer, interval and stride; Wan was not."""
    simple = trainers.TRAINERS["simpletuner"]
    assert simple.checkpoints("CosmosTransformer3DModel", "half", most=True) == "full"
    assert simple.checkpoints("CosmosTransformer3DModel", "none", most=True) == "none"
    assert simple.checkpoints("WanTransformer3DModel", "half", most=True) == "half"
    assert trainers.TRAINERS["kohya"].checkpoints("CosmosTransformer3DModel", "half") == "half"


# SimpleTuner's table of Cosmos 2 at 512 x 512, LoKr: 4.09 GiB by layer, interval 2 and stride alike
@pytest.mark.slow
def test_an_interval_that_was_published_as_every_block_is_inside():
    how = {"framework": "simpletuner", "method": "lokr", "size": "512", "drop": "text,vae"}
    report = weighbridge.train("cosmos-predict2-2b", frames=1, checkpointing="pairs", **how)
    found = max((p.at("allocated") for p in report.devices[0].phases), key=lambda b: b.expected)
    assert found.low < 4.09 * GIB < found.expected


def test_an_interval_that_is_another_is_said(tiny):
    report = small(tiny, framework="simpletuner", checkpointing="pairs")
    assert any("full is what it does" in line for line in report.warnings)
    assert report.workload["checkpointing"] == "full"


def test_attention_that_waits_in_host_memory_is_of_networks_that_send_it(tiny):
    with pytest.raises(UsageError, match="--offload-attention"):
        small(tiny, framework="simpletuner", offload_attention=True)


def test_saved_inputs_go_to_host_memory_and_come_as_copies():
    m = Machine(Heap())
    x = m.param("x", (1024,), FLOAT32)
    doubled = pointwise.mul(m, x, x)
    with m.sending("inputs"):
        out = pointwise.mul(m, doubled, doubled)
    assert m.away == 2 * doubled.nbytes  # each place of the node has a copy of its own
    before = m.heap.live("activations")
    del doubled
    assert m.heap.live("activations") == before - 4096
    backward(m, pointwise.mul(m, out, out))
    assert (m.away, m.most_away) == (0, 2 * 4096)


def test_compiled_blocks_keep_at_most_what_no_checkpoint_does(tiny):
    plain, eager = small(tiny), small(tiny, checkpointing="full")
    compiled = small(tiny, checkpointing="full", compile=True)
    assert step(compiled) == step(plain)
    lows = [r.devices[0].phases[-2].at("allocated").low for r in (compiled, eager)]
    assert lows[0] <= lows[1]


def test_the_ladder_ends_with_what_fits(tiny):
    report = tiny.train_image(size="1024", gpu_memory="900MiB", batch_size=4)
    assert report.verdict.fits != "yes"
    assert [*report.remedies[0].change] == ["checkpointing"]
    peaks = [remedy.peak_bytes for remedy in report.remedies]
    assert peaks == sorted(peaks, reverse=True)
    change = dict(report.remedies[-1].change)
    again = tiny.train_image(
        remedies=False, **{"size": "1024", "gpu_memory": "900MiB", "batch_size": 4, **change}
    )
    assert again.peak.expected == peaks[-1]


@pytest.mark.slow
def test_streamed_layers_are_not_packed():
    report = asked(WAN, frames=5, streaming="layers", quantization="fp8", checkpointing="full")
    plain = asked(WAN, frames=5, streaming="layers", checkpointing="full")
    assert step(report) == step(plain)
    assert any("fp8" in str(line) for line in report.warnings)


# ---- bad input


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full", "quantization": "nf4"},
        {"method": "full", "lora_r": 8},
        {"lokr_factor": 4},
        {"size": "4"},
        {"frames": 9},
        {"optimizer": "nothing"},
        {"quantization": "fp7"},
        {"lora_targets": "no_such_module"},
    ],
    ids=str,
)
def test_contradictions_are_one_line(settings):
    with pytest.raises(UsageError):
        weighbridge.train(SD15, **settings)


def test_blocks_that_wait_while_all_is_trained_may_be_none_on_the_card():
    """musubi-tuner trains Qwen-Image whole with --blocks_to_swap 58 (its issue 588)."""
    whole, swapped = asked(method="full"), asked(method="full", blocks_to_swap=2)
    assert allocated(whole).expected == allocated(swapped).expected
    assert allocated(swapped).low < allocated(whole).low
    assert [w.key for w in swapped.warnings].count("picture_training.swap_full") == 1


def test_more_blocks_than_there_are():
    with pytest.raises(UsageError, match="57 blocks"):
        asked(FLUX, blocks_to_swap=57)


def test_a_pipeline_without_clip_has_no_text_encoder_to_train():
    with pytest.raises(UsageError, match="CLIP"):
        asked(WAN, train_text_encoder=True)


@pytest.mark.slow
def test_two_encoders_have_averages_of_their_own():
    """Both of SDXL name their parameters alike."""
    report = asked(SDXL, train_text_encoder=True, optimizer="adamw", prompt_tokens=77)
    assert of(report, "step", "optimizer_states") == 2 * of(report, "load", "adapters")


def test_lokr_without_factors_may_be_as_large_as_examples_have_it():
    """SimpleTuner's examples have factors of 2 to 25. PixArt of 600 M: with 2 and 4 its 88.6 M are
    trained, in 8 bytes a number or more; an answer that was not told must hold both."""
    asked = {"framework": "simpletuner", "method": "lokr", "size": "512x512", "remedies": False}
    asked |= {"checkpointing": "full", "drop": ("text", "vae"), "optimizer": "adamw_bf16"}
    pipeline = weighbridge.prepare("pixart-sigma")
    untold = pipeline.train_image(**asked)
    told = pipeline.train_image(**asked, lokr_factors=("Attention=2", "FeedForward=4"))
    assert untold.peak.high >= told.peak.expected
    assert untold.peak.expected < told.peak.expected
    said = [warning.key for warning in untold.warnings if hasattr(warning, "key")]
    assert "picture_training.no_factors" in said
    given = pipeline.train_image(**asked, lokr_factor=8)
    assert given.peak.high < untold.peak.high


def test_videos_are_encoded_in_tiles_where_it_is_asked():
    """Finetrainers on HunyuanVideo, 49 frames of 768 x 512: 42.4 GiB were published. Without
    them the encode is the fullest; a size that is one tile takes as much either way."""
    pipeline = weighbridge.prepare("hunyuan-video")
    asked = {"method": "lora", "checkpointing": "full", "frames": 49, "remedies": False}
    for size in ("768x512", "256x256"):
        whole, tiled = (
            pipeline.train_image(size=size, vae_tiling=on, **asked) for on in (False, True)
        )
        one, other = (r.devices[0].peak("allocated").expected for r in (whole, tiled))
        assert tiled.workload["vae_tiling"] is True
        if size == "256x256":
            assert other == one
        else:
            assert other < one
            assert other == pytest.approx(42.4 * 2**30, rel=0.05)


def test_an_autoencoder_whose_tile_is_part_of_its_config_encodes_in_tiles():
    pipeline = weighbridge.prepare("cogvideox-2b")
    whole, tiled = (
        pipeline.train_image(frames=9, checkpointing="full", vae_tiling=on, remedies=False)
        for on in (False, True)
    )
    cached = [p.at("allocated").expected for r in (whole, tiled) for p in r.devices[0].phases[:1]]
    assert cached[1] < cached[0]


@pytest.mark.parametrize(
    ("gpu", "precision", "told"),
    [("h100", "bf16-mixed", True), ("h100", "fp32", False), ("4090", "bf16-mixed", False)],
)
def test_attention_by_cudnn_is_told_where_torch_takes_it_first(gpu, precision, told):
    """torch 2.11 with cuDNN 9.19 on an H100: FLUX.1's LoRA ended in backward, and ran without it."""
    how = {"checkpointing": "full", "size": "512x512", "gpu": gpu, "precision": precision}
    report = weighbridge.prepare("flux.1-dev").train_image(remedies=False, **how)
    assert any("enable_cudnn_sdp" in str(warning) for warning in report.warnings) is told
