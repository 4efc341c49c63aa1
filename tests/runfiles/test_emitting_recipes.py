"""`--emit torchtune` and `torchtitan`: what the programs of a release read of a new file."""

import re
import tomllib
from types import SimpleNamespace

import pytest
import yaml

import weighbridge
from weighbridge.errors import UsageError
from weighbridge.runfiles import emitting
from weighbridge.runfiles.training.shapes import SHAPES
from weighbridge.runfiles.training.torchtitan import FLAVORS as FLAVORED
from weighbridge.runfiles.training.torchtune_new import BUILDERS

MODEL = "llama-3.1-8b"
# pytorch/torchtune v0.6.1, recipes/*.py: the keys that each reads as `cfg.NAME`, without a default
EVERY = """
output_dir device dtype seed epochs max_steps_per_epoch resume_from_checkpoint metric_logger model
gradient_accumulation_steps checkpointer.model_type tokenizer optimizer loss dataset shuffle
batch_size checkpointer.checkpoint_dir checkpointer.checkpoint_files checkpointer.output_dir
tokenizer.path
"""
ADAPTED = "lr_scheduler model.lora_attn_modules model.lora_rank model.lora_alpha "
READ = {
    "full_finetune_single_device": f"{EVERY} compile optimizer_in_bwd",
    "lora_finetune_single_device": f"{EVERY} {ADAPTED} compile model.apply_lora_to_mlp",
    "full_finetune_distributed": EVERY,
    "lora_finetune_distributed": f"{EVERY} {ADAPTED} model.apply_lora_to_mlp",
}
TUNED = [
    ({"gpu": "h200"}, "full_finetune_single_device"),
    ({"gpu": "h200", "method": "dora"}, "lora_finetune_single_device"),
    ({"gpu": "h100:8"}, "--nproc_per_node 8 full_finetune_distributed"),
    ({"gpu": "h100:4", "method": "qlora"}, "--nproc_per_node 4 lora_finetune_distributed"),
    (
        {"gpu": "h100:8", "tensor_parallel_size": 2, "optimizer": "adamw_torch"},
        "--nproc_per_node 8 full_finetune_distributed",
    ),
]


def has(data: dict, key: str) -> bool:
    for name in key.split("."):
        if name not in data:
            return False
        data = data[name]
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "recipe"), TUNED)
def test_a_recipe_has_every_key_that_is_read_without_a_default(settings, recipe):
    made = weighbridge.emit(MODEL, "torchtune", **settings)
    assert made.starts == f"tune run {recipe} --config run.yaml"
    assert made.text.startswith("# For torchtune 0.6.1\n# Get the model with: tune download meta-")
    data = yaml.safe_load(made.text)
    assert [key for key in READ[recipe.split()[-1]].split() if not has(data, key)] == []
    shared = settings.get("tensor_parallel_size", 1) > 1
    assert ("tensor_parallel_plan" in data) is shared
    assert data["dataset"]["packed"] is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "builder", "files"),
    [
        ("llama-2-13b", "llama2.llama2_13b", "00003"),
        ("llama-3-8b", "llama3.llama3_8b", "00004"),
        ("llama-3.1-8b-instruct", "llama3_1.llama3_1_8b", "00004"),
        ("llama-3.3-70b", "llama3_1.llama3_1_70b", "00030"),
        ("llama-3.1-405b", "llama3_1.llama3_1_405b", "00191"),
        ("llama-3.2-1b", "llama3_2.llama3_2_1b", None),
    ],
)
def test_sizes_decide_which_builder_makes_a_model(model, builder, files):
    data = yaml.safe_load(weighbridge.emit(model, "torchtune", gpu="h200:8").text)
    assert data["model"]["_component_"] == f"torchtune.models.{builder}"
    stored = data["checkpointer"]["checkpoint_files"]
    assert stored == ["model.safetensors"] if files is None else stored["max_filename"] == files
    third = "llama3." in builder or "llama3_1." in builder
    assert ("custom_sharded_layers" in data) is third  # 3.2's head is its embedding


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({}, "torchtune.modules.loss.CEWithChunkedOutputLoss"),
        ({"loss": "standard"}, "torch.nn.CrossEntropyLoss"),
    ],
)
def test_losses_are_classes_of_the_release(settings, loss):
    data = yaml.safe_load(weighbridge.emit(MODEL, "torchtune", gpu="h200", **settings).text)
    assert data["loss"]["_component_"] == loss


@pytest.mark.slow
def test_all_linear_layers_are_named_one_by_one():
    settings = {"gpu": "h100", "method": "lora", "lora_targets": "all-linear"}
    made = weighbridge.emit(MODEL, "torchtune", **settings)
    assert made.report.peak == weighbridge.train(MODEL, framework="torchtune", **settings).peak
    model = yaml.safe_load(made.text)["model"]
    assert model["lora_attn_modules"] == ["q_proj", "k_proj", "v_proj", "output_proj"]
    assert model["apply_lora_to_mlp"] is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tensor_parallel_size": 2}, "no recipe with --optimizer adamw_torch_fused beside"),
        (
            {"tensor_parallel_size": 2, "optimizer": "adamw_torch", "method": "lora"},
            "no recipe with --tensor-parallel-size beside adapters",
        ),
        ({"context_parallel_size": 2}, "no recipe with --context-parallel-size"),
        ({"shard": "hsdp"}, "no word for --shard hsdp"),
        ({"checkpointing": "selective"}, "no word for --checkpointing selective"),
        ({"optimizer": "adafactor"}, "no word for --optimizer adafactor"),
    ],
)
def test_what_no_recipe_starts_with_is_refused_by_name(settings, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        weighbridge.emit(MODEL, "torchtune", gpu="h100:8", **settings)


FLAVORS = [
    ("llama-3-8b", "llama3 8B"),
    ("llama-3.1-8b-instruct", "llama3 8B"),
    ("llama-3.3-70b", "llama3 70B"),
    ("llama-3.1-405b", "llama3 405B"),
    ("qwen3-0.6b", "qwen3 0.6B"),
    ("qwen3-32b", "qwen3 32B"),
    ("qwen3-30b-a3b", "qwen3 30B-A3B"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "flavor"), FLAVORS)
def test_sizes_decide_which_flavor_a_model_has(model, flavor):
    made = weighbridge.emit(model, "torchtitan", gpu="h200:8", tensor_parallel_size=2)
    data = tomllib.loads(made.text)
    assert f"{data['model']['name']} {data['model']['flavor']}" == flavor
    assert made.starts == "NGPU=8 CONFIG_FILE=run.toml ./run_train.sh"
    assert made.text.startswith("# For torchtitan 0.2.2\n# Get the model with: python scripts/")
    assert data["checkpoint"] == {"enable": True, "initial_load_in_hf": True}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama-3.2-1b", "llama-3.2-3b", "llama-2-7b", "gemma-3-4b"])
def test_a_model_of_other_sizes_has_no_flavor(model):
    with pytest.raises(UsageError, match=r"torchtitan has no flavor of .* that we know"):
        weighbridge.emit(model, "torchtitan", gpu="h200:8")


@pytest.mark.slow
def test_selective_checkpoints_are_of_operators():
    """Without an option torchtitan recomputes every second layer instead."""
    made = weighbridge.emit(MODEL, "torchtitan", gpu="h200", checkpointing="selective")
    kept = tomllib.loads(made.text)["activation_checkpoint"]
    assert kept == {"mode": "selective", "selective_ac_option": "op"}


def test_no_two_shapes_are_the_same():
    assert len(set(SHAPES.values())) == len(SHAPES)
    assert {*BUILDERS, *FLAVORED} <= SHAPES.keys()


def test_a_refusal_names_what_was_typed():
    """An answer calls torchtune's standard loss `torchtune`, which nobody typed."""
    meant, again = (
        SimpleNamespace(workload={"loss": loss}, peak=1) for loss in ("torchtune", "chunked")
    )
    with pytest.raises(UsageError, match=r"no word for --loss standard$"):
        emitting._same("torchtune", meant, again, {"loss": "standard"})
    with pytest.raises(UsageError, match=r"no word for --loss torchtune$"):
        emitting._same("torchtune", meant, again, {"loss": None})
