"""`--emit` for programs that are not among our extras, read by their own parsers where they are.

Each has its own versions of what we test with: an environment for one of them, then

    PYTHONPATH=src:. python -m pytest tests/torch/test_emitted_elsewhere.py
"""

import json
from importlib.util import find_spec

import pytest
import yaml

import weighbridge
from tests.torch.emitted import MODEL, same_arguments, written
from weighbridge.files.runfiles.patching import patched

pytestmark = pytest.mark.filterwarnings("default")  # these are of others' releases


def needs(package):
    """Mark a test that one of these programs reads what it writes for."""
    return pytest.mark.skipif(
        find_spec(package) is None, reason=f"{package}: by hand, see its line"
    )


ADAPTERS = {"method": "lora", "lora_r": 32, "lora_alpha": 64, "lora_dropout": 0.05}
LORA = {"gpu": "h100", **ADAPTERS, "lora_targets": "all-linear", "use_rslora": True}
SIZES = {"gpu": "h200", "batch_size": 3, "gradient_accumulation": 5, "seq_len": 4096}
LINEAR = {"gpu": "h100", "method": "dora", "lora_targets": "q_proj,down_proj"}
COMMON = {
    "sizes": SIZES,
    "lora": LORA,
    "dora": LINEAR,
    "qlora": {"gpu": "4090", "method": "qlora", "quantization": "nf4-dq", "checkpointing": "full"},
    "int8": {"gpu": "h100", "method": "lora", "quantization": "bnb-int8"},
    "saved": {"gpu": "h100", "method": "lora", "modules_to_save": "lm_head"},
    "fp16": {"gpu": "h200", "precision": "fp16-mixed", "optimizer": "paged_adamw_8bit"},
    "bf16": {"gpu": "h200", "precision": "bf16", "attention": "flash"},
    "evaluated": {"gpu": "h200", "eval_batch_size": 2, "attention": "eager"},
    "muon": {"gpu": "h200", "optimizer": "muon"},
    "liger": {"gpu": "h100", "loss": "liger", "method": "lora"},
    "fsdp2": {"gpu": "h100:8", "shard": "fsdp2", "offload": "params"},
    "zero3": {"gpu": "h100:8", "shard": "zero3", "offload": "params"},
}


# axolotl: pip install --no-deps axolotl==0.19.0 addict fire art termcolor optimum einops


def of_axolotl(text):
    """Return a config as `axolotl train` has it, with what its plugins add."""
    from axolotl.utils import config
    from axolotl.utils.dict import DictDefault

    told = DictDefault(yaml.safe_load(text))
    config.prepare_plugins(told)
    return config.validate_config(told)


HALVES = {
    "bf16-mixed": {"bf16": (True, "auto")},
    "fp16-mixed": {"fp16": True, "bf16": False},
    "bf16": {"bfloat16": True},
    "fp32": {"bf16": False},
}
OF_AXOLOTL = COMMON | {
    "fp32": {"gpu": "h200", "precision": "fp32"},
    "chunked": {"gpu": "h200", "loss": "chunked"},
    "offloaded": {"gpu": "h100", "method": "lora", "checkpointing": "offload"},
    "tensor": {"gpu": "h100:8", "shard": "fsdp2", "tensor_parallel_size": 2},
    "copies": {"gpu": "h100:16", "shard": "hsdp"},
    "fsdp1": {"gpu": "h100:8", "shard": "fsdp1"},
}


def same_for_axolotl(config, asked):
    assert config.base_model == "meta-llama/Llama-3.1-8B"
    told = {
        "batch_size": config.micro_batch_size,
        "gradient_accumulation": config.gradient_accumulation_steps,
        "seq_len": config.sequence_len,
        "optimizer": config.optimizer,
        "tensor_parallel_size": config.tensor_parallel_size or 1,
        "context_parallel_size": config.context_parallel_size or 1,
    }
    assert told == {name: asked[name] for name in told}
    for name, value in HALVES[asked["precision"]].items():
        assert config[name] in (value if isinstance(value, tuple) else (value,))
    kept = {"none": (None, False), "full": (True,), "offload": (True, "offload")}
    assert config.gradient_checkpointing in kept[asked["checkpointing"]]
    assert bool(config.activation_offloading) is (asked["checkpointing"] == "offload")
    if asked["eval_batch_size"]:
        assert config.eval_batch_size == asked["eval_batch_size"]
    assert bool(config.liger_fused_linear_cross_entropy) is (asked["loss"] == "liger")
    assert bool(config.chunked_cross_entropy) is (asked["loss"] == "chunked")
    kernels = {"flash": "flash_attention_2", "eager": "eager"}
    assert config.attn_implementation == kernels.get(asked["attention"])


def adapters_for_axolotl(config, asked):
    form, method = asked["quantization"], asked["method"]
    assert bool(config.load_in_4bit) is (form in ("nf4", "nf4-dq"))
    assert bool(config.load_in_8bit) is (form == "bnb-int8")
    assert config.adapter == {"full": None, "dora": "lora"}.get(method, method)
    if method == "full":
        return
    assert (config.lora_r, config.lora_alpha) == (
        asked["lora_r"],
        asked["lora_alpha"] or asked["lora_r"],
    )
    assert config.lora_dropout == (asked["lora_dropout"] or 0.0)
    assert bool(config.peft_use_dora) is (method == "dora")
    assert bool(config.peft_use_rslora) is bool(asked["use_rslora"])
    targets = list(asked["lora_targets"])
    linear = targets == ["all-linear"]
    assert (bool(config.lora_target_linear), config.lora_target_modules) == (
        linear,
        None if linear else targets,
    )
    assert config.lora_modules_to_save == (list(asked["modules_to_save"] or ()) or None)


def shares_for_axolotl(config, asked):
    shard = asked["shard"]
    if shard.startswith("zero"):
        assert config.deepspeed.startswith(f"deepspeed_configs/{shard}")
        assert ("cpuoffload" in config.deepspeed) is (asked["offload"] != "none")
        return
    if "fsdp" not in shard and shard != "hsdp":
        assert config.fsdp_config is None
        return
    assert config.fsdp_version == (1 if shard == "fsdp1" else 2)
    assert config.fsdp_config.offload_params is (asked["offload"] == "params")
    if shard == "hsdp":
        assert config.dp_replicate_size * config.dp_shard_size == asked["data_parallel_size"]
        assert config.dp_shard_size == 8


@needs("axolotl")
@pytest.mark.parametrize("settings", OF_AXOLOTL.values(), ids=OF_AXOLOTL)
def test_axolotl_takes_what_was_asked_for(settings):
    if settings.get("quantization") == "nf4-dq":
        settings = {**settings, "quantization": "nf4"}
    if settings.get("method") == "qlora":
        settings = {name: value for name, value in settings.items() if name != "quantization"}
    made = weighbridge.emit(MODEL, "axolotl", **settings)
    config, asked = of_axolotl(made.text), made.report.workload
    same_for_axolotl(config, asked)
    adapters_for_axolotl(config, asked)
    shares_for_axolotl(config, asked)
    said = yaml.safe_load(made.text)
    assert [key for key in said if key not in config] == []  # an unknown one is dropped unseen
    assert [key for key in said.get("fsdp_config", ()) if key not in config.fsdp_config] == []


FULL = """\
base_model: meta-llama/Llama-3.1-8B
sequence_len: 8192
micro_batch_size: 4
learning_rate: 0.0002
datasets: [{path: tatsu-lab/alpaca, type: alpaca}]
output_dir: ./out
"""


@needs("axolotl")
@pytest.mark.parametrize("gpu", ["h200", "a100-80gb", "4090"])
def test_axolotl_takes_a_file_that_was_changed_to_fit(gpu):
    patch = patched(weighbridge.weigh(FULL, name="run.yaml", gpu=gpu))
    assert patch.after != FULL
    again = weighbridge.weigh(patch.after, name="run.yaml", gpu=gpu)
    config, asked = of_axolotl(patch.after), again.runs[0].report.workload
    same_for_axolotl(config, asked)
    adapters_for_axolotl(config, asked)
    assert [key for key in yaml.safe_load(patch.after) if key not in config] == []


# LLaMA-Factory: pip install llamafactory==0.9.5 --no-deps, with its own transformers==5.6.0,
# accelerate==1.11.0, peft==0.18.1, trl==0.24.0, datasets==4.0.0, omegaconf, fire and liger-kernel


def of_llama_factory(text, monkeypatch):
    """Return the arguments that `llamafactory-cli train` makes of a config."""
    from llamafactory.hparams import parser
    from transformers import training_args

    monkeypatch.setattr(training_args, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(parser, "is_torch_bf16_gpu_available", lambda: True)
    # the flash attention and DeepSpeed of a card are looked for by their names
    monkeypatch.setattr(parser, "check_version", lambda *told, **more: None)
    told = yaml.safe_load(text)
    told.pop("deepspeed", None)  # a file of its repository
    return parser.get_train_args(told)


def same_for_llama_factory(got, asked):
    model, data, args, finetuning, _ = got
    switched = asked["optimizer"] == "muon"
    assert finetuning.use_muon is switched
    pure = asked["precision"] == "bf16"
    assert finetuning.pure_bf16 is pure
    checkpointing = "none" if model.disable_gradient_checkpointing else "full"
    told = {
        "precision": "bf16-mixed" if pure else asked["precision"],
        "optimizer": args.optim.value if switched else asked["optimizer"],
        "checkpointing": "full" if args.gradient_checkpointing else "none",
    }
    shares = {"shard": "none"} if asked["shard"].startswith("zero") else {}
    same_arguments(args, asked | told | shares | {"loss": "standard"})
    assert checkpointing == asked["checkpointing"]
    assert data.cutoff_len == asked["seq_len"]
    assert model.enable_liger_kernel is (asked["loss"] == "liger")
    kernels = {"flash": "fa2", "eager": "disabled"}
    assert model.flash_attn == kernels.get(asked["attention"], "auto")
    form = asked["quantization"]
    assert model.quantization_bit == {"bnb-int8": 8, None: None}.get(form, 4)
    if form in ("nf4", "nf4-dq"):
        assert model.double_quantization is (form == "nf4-dq")


def adapters_for_llama_factory(finetuning, asked):
    assert finetuning.finetuning_type == ("full" if asked["method"] == "full" else "lora")
    if asked["method"] == "full":
        return
    assert finetuning.use_dora is (asked["method"] == "dora")
    assert finetuning.use_rslora is bool(asked["use_rslora"])
    assert finetuning.lora_rank == asked["lora_r"]
    assert finetuning.lora_alpha == (asked["lora_alpha"] or asked["lora_r"])
    assert finetuning.lora_dropout == (asked["lora_dropout"] or 0.0)
    targets = list(asked["lora_targets"])
    assert finetuning.lora_target == (["all"] if targets == ["all-linear"] else targets)
    assert finetuning.additional_target == (list(asked["modules_to_save"] or ()) or None)


@needs("llamafactory")
@pytest.mark.parametrize("settings", COMMON.values(), ids=COMMON)
def test_llama_factory_takes_what_was_asked_for(monkeypatch, settings):
    made = weighbridge.emit(MODEL, "llama-factory", **settings)
    got = of_llama_factory(made.text, monkeypatch)
    same_for_llama_factory(got, made.report.workload)
    adapters_for_llama_factory(got[3], made.report.workload)


TUNED = """\
model_name_or_path: meta-llama/Llama-3.1-8B
stage: sft
do_train: true
finetuning_type: lora
lora_target: all
dataset: alpaca_en_demo
cutoff_len: 8192
per_device_train_batch_size: 8
bf16: true
optim: adamw_torch
output_dir: ./out
"""


@needs("llamafactory")
@pytest.mark.parametrize("gpu", ["a100-80gb", "l40s"])
def test_llama_factory_takes_a_file_that_was_changed_to_fit(monkeypatch, gpu):
    patch = patched(weighbridge.weigh(TUNED, name="run.yaml", gpu=gpu))
    assert patch.after != TUNED
    again = weighbridge.weigh(patch.after, name="run.yaml", gpu=gpu)
    same_for_llama_factory(
        of_llama_factory(patch.after, monkeypatch), again.runs[0].report.workload
    )


# torchtune: pip install --no-deps torchtune==0.6.1 torchao==0.14.1 torchdata omegaconf kagglehub
# antlr4-python3-runtime==4.9.3 tiktoken blobfile sentencepiece bitsandbytes

RECIPES = {
    "full": {"gpu": "h100:8"},
    "paged": {"gpu": "h100:8", "offload": "params", "optimizer": "paged_adamw_8bit"},
    "backward": {"gpu": "h200", "optimizer_in_backward": True, "loss": "standard"},
    "qlora": {"gpu": "4090", "method": "qlora", "lora_r": 16, "checkpointing": "full"},
    "dora": {"gpu": "h100", "method": "dora", "lora_targets": "q_proj,o_proj"},
    "lora": {"gpu": "h100:4", "method": "lora", "lora_targets": "all-linear"},
    "tensor": {"gpu": "h100:8", "tensor_parallel_size": 2, "optimizer": "adamw_torch"},
    "sgd": {"gpu": "h100", "optimizer": "sgd", "batch_size": 2, "gradient_accumulation": 4},
}


@needs("torchtune")
@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-2-7b", "llama-3.2-3b"])
@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)
def test_torchtune_binds_each_component(settings, model):
    if settings.get("optimizer", "").startswith("paged"):
        pytest.importorskip("bitsandbytes")
    from omegaconf import OmegaConf
    from torchtune.config import validate

    made = weighbridge.emit(model, "torchtune", **settings)
    config, asked = OmegaConf.create(made.text), made.report.workload
    validate(config)
    told = {"batch_size": config.batch_size, "seq_len": config.tokenizer.max_seq_len}
    told["gradient_accumulation"] = config.gradient_accumulation_steps
    assert told == {name: asked[name] for name in told}
    assert config.enable_activation_checkpointing is (asked["checkpointing"] == "full")


# torchtitan: pip install --no-deps torchtitan==0.2.2 torchdata tyro docstring-parser typeguard
# shtab triton

TITANS = {
    "full": {"gpu": "h100:8"},
    "sizes": {"gpu": "h100:8", "checkpointing": "full", "batch_size": 2, "seq_len": 4096},
    "selective": {"gpu": "h100:8", "checkpointing": "selective", "offload": "params"},
    "bf16": {"gpu": "h200", "precision": "bf16", "optimizer": "adamw_torch"},
    "compiled": {"gpu": "h200", "precision": "fp32", "compile": True},
    "tensor": {"gpu": "h100:8", "tensor_parallel_size": 2},
    "context": {"gpu": "h100:8", "context_parallel_size": 2},
    "pipeline": {"gpu": "h100:8", "pipeline_parallel_size": 2},
}
TYPES = {"bf16": "bfloat16", "bf16-mixed": "float32", "fp32": "float32"}


@needs("torchtitan")
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-8b", "qwen3-30b-a3b"])
@pytest.mark.parametrize("settings", TITANS.values(), ids=TITANS)
def test_torchtitan_takes_what_was_asked_for(tmp_path, settings, model):
    from torchtitan.config import ConfigManager

    made = written(tmp_path, "torchtitan", "run.toml", settings, model)
    asked = made.report.workload
    job = ConfigManager().parse_args(["--job.config_file", str(tmp_path / "run.toml")])
    told = {
        "batch_size": job.training.local_batch_size,
        "seq_len": job.training.seq_len,
        "checkpointing": job.activation_checkpoint.mode,
        "tensor_parallel_size": job.parallelism.tensor_parallel_degree,
        "context_parallel_size": job.parallelism.context_parallel_degree,
        "pipeline_parallel_size": job.parallelism.pipeline_parallel_degree,
    }
    assert told == {name: asked[name] for name in told}
    assert job.compile.enable is settings.get("compile", False)
    assert job.training.dtype == TYPES[asked["precision"]]
    mixed = "bfloat16" if asked["precision"] == "bf16-mixed" else job.training.dtype
    assert job.training.mixed_precision_param == mixed or job.training.dtype == "bfloat16"
    assert job.training.enable_cpu_offload is (asked["offload"] == "params")


# DeepSpeed: pip install --no-deps deepspeed==0.19.8 hjson ninja msgpack py-cpuinfo einops

ZEROS = {
    "zero1": {"shard": "zero1", "precision": "fp32"},
    "zero2": {"shard": "zero2", "offload": "optimizer", "zero_overlap_comm": False},
    "zero3": {"shard": "zero3", "offload": "params", "gradient_accumulation": 4, "batch_size": 2},
    "plain": {"shard": "zero3", "precision": "fp16-mixed", "optimizer": "adamw_torch"},
    "unpinned": {"shard": "zero2", "offload": "optimizer", "zero_pin_memory": False},
    "sizes": {"shard": "zero3", "zero_sub_group_size": 100_000_000},
    "none": {"shard": "ddp"},
}


@needs("deepspeed")
@pytest.mark.parametrize("settings", ZEROS.values(), ids=ZEROS)
def test_deepspeed_alone_takes_what_was_asked_for(tmp_path, settings):
    from deepspeed.runtime.config import DeepSpeedConfig

    given = {"gpu": "h100:8", "framework": "deepspeed", **settings}
    made = written(tmp_path, "deepspeed", "zero.json", given)
    asked = made.report.workload
    config = DeepSpeedConfig(json.loads(made.text))
    zero = config.zero_config
    assert zero.stage == (0 if asked["shard"] == "ddp" else int(asked["shard"][-1]))
    assert config.train_micro_batch_size_per_gpu == asked["batch_size"]
    assert config.gradient_accumulation_steps == asked["gradient_accumulation"]
    assert config.bfloat16_config.enabled is (asked["precision"] == "bf16-mixed")
    assert config.float16_config.enabled is (asked["precision"] == "fp16-mixed")
    plain = asked["optimizer"] == "adamw_torch"
    assert (config.optimizer_name, config.optimizer_params["torch_adam"]) == ("adamw", plain)
    for name, kept in (("optimizer", ("optimizer", "params")), ("param", ("params",))):
        place = getattr(zero, f"offload_{name}")
        assert (place is not None and place.device == "cpu") is (asked["offload"] in kept)
        assert place is None or place.pin_memory is settings.get("zero_pin_memory", True)
    if "zero_overlap_comm" in settings:
        assert zero.overlap_comm is settings["zero_overlap_comm"]
    if "zero_sub_group_size" in settings:
        assert zero.sub_group_size == settings["zero_sub_group_size"]
