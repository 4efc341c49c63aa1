"""Settings of `train` that contradict each other, or are none of their values: one line each."""

import re

import pytest

from weighbridge import api
from weighbridge.errors import UsageError
from weighbridge.settings.training import consistent
from weighbridge.workload import Train


@pytest.mark.parametrize(
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
        ({"shard": "fsdp2", "framework": "deepspeed"}, "deepspeed has none of its kind"),
        ({"shard": "zero3", "framework": "torchtitan"}, "torchtitan has none of its kind"),
        ({"precision": "fp8-mixed", "gpu": "a100-80gb"}, "float8 need 8.9"),
        ({"precision": "fp8-mixed", "framework": "litgpt"}, "not one of litgpt"),
        ({"precision": "fp8-mixed", "method": "lora"}, "--method lora"),
        ({"dtype": "int4"}, "--dtype int4"),
        ({"base_model": True}, "no loss to train by"),
        ({"context_parallel_size": 7}, "does not divide the 2,048 tokens"),
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


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        ("llama-3.1-8b", {"gpu": "t4"}, "no units for bfloat16"),
        ("mixtral-8x7b", {"method": "qlora"}, "they stay in float32 beside linears in nf4"),
        ("llama-3.1-8b", {"method": "qlora"}, "--kbit-upcast none"),
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


@pytest.mark.parametrize("settings", [{}, {"gpu": "a100-80gb"}, {"method": "lora"}])
def test_usual_settings_need_no_remark(settings):
    assert api.train("llama-3.1-8b", offline=True, **settings).warnings == ()


def test_images_of_another_size_are_other_patches():
    saved = [
        api.train("dinov2-small", offline=True, image_size=side).derived["saved_activation_bytes"]
        for side in ("112x112", "224x224", "518x518")
    ]
    assert saved[0] < saved[1] < saved[2] / 3


def test_images_that_are_attended_to_take_no_tokens():
    report = api.train("llama-3.2-11b-vision", offline=True, images=2, seq_len=64)
    names = {(c.name, c.detail) for p in report.devices[0].phases for c in p.components}
    assert ("activations", "towers") in names


def test_reports_tell_their_settings():
    said = api.train("qwen3-0.6b", offline=True, method="lora", precision="fp16-mixed").workload
    assert (said["precision"], said["lora_r"], said["shard"]) == ("fp16-mixed", 8, "none")


def test_choices_are_read_in_any_case():
    said = api.train("qwen3-0.6b", offline=True, method="LoRA", shard="DDP")
    assert said.workload["method"] == "lora"


def test_a_model_that_comes_quantized_is_not_refused_for_it():
    consistent(Train())  # nobody asked for a format
