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


def test_a_model_that_comes_quantized_is_not_refused_for_it():
    consistent(Train())  # nobody asked for a format
