"""Settings of `train` that contradict each other, or are none of their values: one line each."""

import re
from cProfile import Profile
from dataclasses import replace

import pytest

import weighbridge
from tests.cases import all_of
from tests.tiny import config
from weighbridge.answers.estimate.train import run
from weighbridge.answers.estimate.train import train as learn
from weighbridge.base.errors import UsageError
from weighbridge.faces import api
from weighbridge.memory.components.device import context, kernels
from weighbridge.models.arch.body import Body, LayerBlock
from weighbridge.models.checkpoint.gather import GatherOptions, gather, gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.training.answer import capacity
from weighbridge.training.forward.limits import followed
from weighbridge.workload import Train
from weighbridge.workload.consistency import consistent

MODEL = resolve(gather("qwen3-0.6b", GatherOptions(offline=True)))


@all_of(
    ("settings", "says"),
    [
        ({"torch_version": "99"}, "--torch-version is a version such as 2.5"),
        ({"framework_version": "abc"}, "--framework-version is a version such as 2.5"),
        ({"batch_size": "1000000000"}, "--batch-size is at most 1048576"),
        ({"batch_size": "-1"}, "--batch-size is at least 1"),
        ({"quantization": "nf4"}, "use --method qlora"),
        ({"expert_parallel_size": 2, "data_parallel_size": 4}, "the model has no experts"),
        ({"optimizer_in_backward": True, "gradient_accumulation": 4}, "--gradient-accumulation 4"),
        ({"attention": "flash", "precision": "fp32"}, "16 bit only"),
        ({"lora_r": 8}, "--lora-r with --method full"),
        ({"lora_targets": "(((", "method": "lora"}, "--lora-targets"),
        ({"lora_targets": "*", "method": "lora"}, "--lora-targets"),
        ({"lora_targets": "re:[", "method": "lora"}, "--lora-targets"),
        ({"attention": "flash", "gpu": "t4"}, "compute capability 7.5"),
        ({"shard": "none", "data_parallel_size": 8}, "8 data-parallel ranks"),
        ({"tensor_parallel_size": 16, "gpu": "h100:16"}, "divide the 8 heads of keys and values"),
        ({"tensor_parallel_size": 3, "gpu": "h100:3"}, "does not divide the 32 heads"),
        (
            {"shard": "fsdp2", "framework": "deepspeed"},
            "fsdp2 is not of deepspeed, or not modelled for it: use ",
        ),
        (
            {"shard": "zero3", "framework": "torchtitan"},
            "zero3 is not of torchtitan, or not modelled for it: use ",
        ),
        ({"precision": "fp8-mixed", "gpu": "a100-80gb"}, "float8 need 8.9"),
        ({"precision": "fp8-mixed", "framework": "litgpt"}, "not one of litgpt"),
        ({"precision": "fp8-mixed", "method": "lora"}, "--method lora"),
        ({"dtype": "int4"}, "--dtype int4"),
        ({"zero_prefetch_bucket_size": 0}, "--zero-prefetch-bucket-size is DeepSpeed's"),
        ({"zero_max_live_parameters": "0"}, "--zero-max-live-parameters is DeepSpeed's"),
        ({"shard": "zero2", "no_zero_init": True}, "--no-zero-init is of stage 3"),
        (
            {"shard": "zero2", "zero_sub_group_size": 10},
            "--zero-sub-group-size is of stage 3: use --shard zero3",
        ),
        ({"accelerate_version": "2025-04-02"}, "--accelerate-version is a version such as 2.5"),
        ({"deepspeed_version": "2025-04"}, "--deepspeed-version is a version such as 2.5"),
        ({"torch_version": "2025-04-02"}, "--torch-version is a version such as 2.5"),
        ({"framework_version": "2025-04-02"}, "'2025-04-02' is no version"),
        (
            {"cpu_ram_efficient_loading": True, "shard": "fsdp2", "framework": "torchtune"},
            "torchtune reads weights by a loader of its own",
        ),
        ({"base_model": True}, "no loss to train by"),
        ({"context_parallel_size": 7}, "does not divide the 2,048 tokens"),
        (
            {"data_parallel_size": 65_536, "tensor_parallel_size": 8, "shard": "fsdp2"},
            "524,288 ranks",
        ),
    ],
)
def test_what_means_nothing_is_one_line(settings, says):
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        api.train("llama-3.1-8b", offline=True, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("ranks", "data", "says"), [(3, 4, "divide the 4 ranks"), (3, 6, "divide the 128 experts")]
)
def test_experts_are_shared_out_evenly(ranks, data, says):
    with pytest.raises(UsageError, match=says):
        api.train(
            "qwen3-30b-a3b", offline=True, expert_parallel_size=ranks, data_parallel_size=data
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        ("llama-3.1-8b", {"gpu": "t4"}, "no bfloat16 hardware"),
        (
            "mixtral-8x7b",
            {"method": "qlora", "framework": "trainer"},
            "stay in float32 beside linears in nf4",
        ),
        ("llama-3.1-8b", {"method": "qlora", "framework": "trainer"}, "--kbit-upcast none"),
        ("llama-3.1-8b", {"checkpointing": "selective"}, "no setting of trainer"),
        ("qwen2.5-vl-7b", {}, "sequences have no image in them"),
        ("vit-huge-patch14-224", {}, "without the weights of its classifier"),
        ("whisper-small", {"audio_seconds": 10}, "--audio-seconds changes nothing"),
        ("clip-vit-base-patch32", {"images": 2}, "--images changes nothing"),
    ],
)
def test_what_one_may_not_expect_is_said(model, settings, says):
    warnings = api.train(model, offline=True, **settings).warnings
    assert any(says in said for said in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"gpu": "a100-80gb"}, {"method": "lora"}])
def test_usual_settings_need_no_remark(settings):
    assert api.train("llama-3.1-8b", offline=True, **settings).warnings == ()


@pytest.mark.slow
def test_images_of_another_size_are_other_patches():
    saved = [
        api.train("dinov2-small", offline=True, image_size=side).derived["saved_activation_bytes"]
        for side in ("112x112", "224x224", "518x518")
    ]
    assert saved[0] < saved[1] < saved[2] / 3


@pytest.mark.slow
def test_images_that_are_attended_to_take_no_tokens():
    report = api.train("llama-3.2-11b-vision", offline=True, images=2, seq_len=64)
    names = {(c.name, c.detail) for p in report.devices[0].phases for c in p.components}
    assert ("activations", "towers") in names


@pytest.mark.slow
def test_reports_tell_their_settings():
    said = api.train("qwen3-0.6b", offline=True, method="lora", precision="fp16-mixed").workload
    assert (said["precision"], said["lora_r"], said["shard"]) == ("fp16-mixed", 8, "none")


@pytest.mark.slow
def test_choices_are_read_in_any_case():
    said = api.train("qwen3-0.6b", offline=True, method="LoRA", shard="DDP")
    assert said.workload["method"] == "lora"


def test_a_model_that_comes_quantized_is_not_refused_for_it():
    consistent(Train())  # nobody asked for a format


@pytest.mark.parametrize(
    ("layers", "flights", "says"),
    [
        (8193, [2], "8,193 layers: a step is followed through 8,192"),
        (2048, [33] * 32, "--pipeline-parallel-size 32: its stages run 67,584 layers"),
    ],
)
def test_what_would_take_minutes_is_one_line(layers, flights, says):
    body = Body(hidden=64, vocab=128, blocks=(LayerBlock(mixers=()),) * layers)
    with pytest.raises(UsageError, match=re.escape(says)):
        followed(body, "a config", flights)
    followed(replace(body, blocks=body.blocks[:80]), "a config", flights)


@pytest.mark.slow
def test_what_a_layer_costs_does_not_grow_with_their_number():
    """Calls of functions, which no load of the machine changes."""
    few, many = (_calls(layers) for layers in (8, 64))
    more = (many - few) / 56
    assert many < 10 * few
    assert _calls(128) - many < 64 * more * 1.1


def _calls(layers):
    raw = config("first", num_hidden_layers=layers, vocab_size=128)
    made = resolve(gather_config(raw, reference="tiny"))
    with Profile() as seen:
        learn(made, Train(seq_len=16, shard="fsdp2", data_parallel_size=8))
    return sum(entry.callcount for entry in seen.getstats())


@pytest.mark.slow
def test_the_same_ranks_are_added_up_and_written_out_once():
    report = api.train(
        "qwen3-0.6b", offline=True, seq_len=16, shard="fsdp2", data_parallel_size=2048
    )
    with Profile() as seen:
        told = report.to_dict()
        assert str(report)
    assert sum(entry.callcount for entry in seen.getstats()) < 1_000_000
    first, *_, last, host = told["devices"]
    assert (first["index"], last["index"], host["kind"]) == (0, 2047, "host")
    assert {**first, "index": 2047} == last


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["uint8", "bfloat16"])
@pytest.mark.parametrize("form", ["gptq-4bit-g128", "awq-4bit-g128"])
def test_storage_as_floats_is_of_bitsandbytes_four_bits(form, storage):
    """Buffers are whole on every rank, and no setting shares them out."""
    settings = {"method": "qlora", "quantization": form, "shard": "fsdp1", "seq_len": 64}
    settings |= {"data_parallel_size": 8, "offline": True}
    with pytest.raises(UsageError, match=f"weights are in {form}"):
        api.train("llama-3.1-8b", bnb_4bit_quant_storage=storage, **settings)
    warnings = api.train("llama-3.1-8b", **settings).warnings
    assert any("FSDP leaves them whole" in w for w in warnings)
    assert not any("--bnb-4bit-quant-storage" in w for w in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"attention": "flash"}, {"precision": "fp8-mixed"}])
def test_a_card_without_a_compute_capability_is_not_refused_for_one(settings):
    assert api.train("qwen3-0.6b", offline=True, gpu="mi300x", seq_len=64, **settings).verdict


@pytest.mark.slow
@pytest.mark.parametrize(("card", "loads"), [("gaudi3", False), ("mi300x", True)])
def test_the_allocator_has_what_phases_leave_it(card, loads):
    """Kernels of CUDA's libraries are loaded on no other stack."""
    alone = run(MODEL, Train(gpu=card, seq_len=64))
    found = kernels(alone.plan.torch, alone.plan.part)
    assert bool(found) == loads
    gpu = alone.answer.devices[0]
    assert any(c.detail == "kernels of libraries" for c in gpu.phases[-1].components) == loads
    loaded = sum(c.bytes.expected for c in found)
    usable = alone.budget.usable.low - context(alone.plan.part).bytes.high
    assert capacity(alone.plan, alone.budget) == usable - loaded


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["litgpt", "torchtitan"])
def test_dora_is_refused_where_a_framework_has_lora_alone(framework):
    with pytest.raises(UsageError, match=f"--method dora: {framework} has LoRA alone"):
        weighbridge.train("llama-3.1-8b", framework=framework, method="dora")
    found = weighbridge.train("llama-3.1-8b", framework="torchtune", method="dora", seq_len=256)
    assert found.workload["method"] == "dora"


def test_a_class_of_litgpt_that_is_not_in_our_rules_says_where_to_go():
    with pytest.raises(
        UsageError, match=r"class for qwen3 is not in our rules.*framework trainer$"
    ):
        weighbridge.train("qwen3-0.6b", framework="litgpt", method="lora", seq_len=256)
