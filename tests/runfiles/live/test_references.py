"""Objects of other libraries in the place of what is typed: the same answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.files.runfiles.live.references import launch_line
from weighbridge.models.catalogue import pipelines


@dataclass
class EngineArgs:
    """vLLM's, as far as it is looked at."""

    model: str = ""
    max_model_len: int | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.92
    enforce_eager: bool = False
    enable_prefix_caching: bool | None = None
    compilation_config: Mapping = field(default_factory=dict)
    loader: object = None


@dataclass
class AsyncEngineArgs(EngineArgs):
    """The server's."""


def test_arguments_of_vllm_are_a_launch_line_of_what_is_not_usual():
    given = AsyncEngineArgs(
        "qwen3-8b", 8192, 2, enforce_eager=True, enable_prefix_caching=False, loader=object()
    )
    line = launch_line(given)
    assert line == (
        "vllm serve qwen3-8b --max-model-len 8192 --tensor-parallel-size 2 --enforce-eager "
        "--no-enable-prefix-caching"
    )
    given.compilation_config = {"mode": 3}
    assert launch_line(given).endswith("--compilation-config '{\"mode\": 3}'")
    assert launch_line("qwen3-8b") is None


def test_arguments_of_vllm_are_answered_like_their_line():
    found = weighbridge.infer(EngineArgs("qwen3-8b", 8192), gpu="4090")
    typed = weighbridge.infer(command="vllm serve qwen3-8b --max-model-len 8192", gpu="4090")
    assert found.peak == typed.peak
    with pytest.raises(UsageError, match="EngineArgs names no model"):
        weighbridge.infer(EngineArgs())


class LoraConfig:
    """PEFT's."""

    peft_type = "LORA"

    def to_dict(self):
        return {"peft_type": "LORA", "r": 16, "target_modules": {"v_proj", "q_proj"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "typed"),
    [
        ({}, {"method": "lora", "lora_r": 16}),
        ({"quantization": "nf4"}, {"method": "qlora", "lora_r": 16, "quantization": "nf4"}),
        ({"lora_r": 4}, {"method": "lora", "lora_r": 4}),
    ],
)
def test_a_config_of_peft_is_a_method(more, typed):
    found = weighbridge.train("llama-3.2-1b", method=LoraConfig(), **more)
    by_hand = weighbridge.train("llama-3.2-1b", lora_targets="q_proj,v_proj", **typed)
    assert found.peak == by_hand.peak


class StableDiffusionXLPipeline:
    """A pipeline of diffusers: networks with configs, and what has none."""

    def __init__(self, parts):
        self.components = {name: network(name, config) for name, config in parts.items()}
        self.components["tokenizer"] = SimpleNamespace(config={"x": 1})  # no network
        self.components["safety_checker"] = None


def network(name, config):
    if "_class_name" in config:
        return SimpleNamespace(config=dict(config), parameters=lambda: ())
    kind = type(config["architectures"][0], (), {"parameters": lambda self: ()})
    made = kind()
    made.config = SimpleNamespace(to_dict=lambda: dict(config))
    return made


@pytest.mark.slow
def test_a_pipeline_is_weighed_by_the_configs_of_its_networks():
    entry = pipelines.find("sdxl")
    found = weighbridge.load(StableDiffusionXLPipeline(entry.parts))
    assert found.peak == weighbridge.load("sdxl").peak
    assert found.model.name == "StableDiffusionXLPipeline"


def test_a_pipeline_without_networks_is_one_line():
    with pytest.raises(UsageError, match="none of its components has a config"):
        weighbridge.load(StableDiffusionXLPipeline({}))
