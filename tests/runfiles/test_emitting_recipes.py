"""`--emit torchtune` and `torchtitan`: what the programs of a release read of a new file."""

import json
import re
import tomllib
from types import SimpleNamespace

import pytest
import yaml
from tests.cases import all_of

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.files.runfiles import emitting, read
from weighbridge.files.runfiles.training.shapes import SHAPES, shape_name
from weighbridge.files.runfiles.training.torchtitan import FLAVORS as FLAVORED
from weighbridge.files.runfiles.training.torchtune_new import BUILDERS
from weighbridge.models import catalogue

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


@pytest.mark.parametrize(("settings", "recipe"), TUNED)
def test_a_recipe_has_every_key_that_is_read_without_a_default(settings, recipe, tiny, tiny_shape):
    made = weighbridge.emit(tiny, "torchtune", **settings)
    assert made.starts == f"tune run {recipe} --config run.yaml"
    assert made.text.startswith("# For torchtune 0.6.1\n# Start it with: tune run")
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
    made = weighbridge.emit(model, "torchtune", gpu="h200:8")
    assert "\n# Get the model with: tune download meta-" in made.text
    data = yaml.safe_load(made.text)
    assert data["model"]["_component_"] == f"torchtune.models.{builder}"
    stored = data["checkpointer"]["checkpoint_files"]
    assert stored == ["model.safetensors"] if files is None else stored["max_filename"] == files
    third = "llama3." in builder or "llama3_1." in builder
    assert ("custom_sharded_layers" in data) is third  # 3.2's head is its embedding


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({}, "torchtune.modules.loss.CEWithChunkedOutputLoss"),
        ({"loss": "standard"}, "torch.nn.CrossEntropyLoss"),
    ],
)
def test_losses_are_classes_of_the_release(settings, loss, tiny, tiny_shape):
    data = yaml.safe_load(weighbridge.emit(tiny, "torchtune", gpu="h200", **settings).text)
    assert data["loss"]["_component_"] == loss


@pytest.mark.slow
def test_all_linear_layers_are_named_one_by_one(tiny, tiny_shape):
    settings = {"gpu": "h100", "method": "lora", "lora_targets": "all-linear"}
    made = weighbridge.emit(tiny, "torchtune", **settings)
    meant = {"framework": "torchtune", "checkpointing": "full", **settings}
    assert made.report.peak == weighbridge.train(tiny, **meant).peak
    model = yaml.safe_load(made.text)["model"]
    assert model["lora_attn_modules"] == ["q_proj", "k_proj", "v_proj", "output_proj"]
    assert model["apply_lora_to_mlp"] is True


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
def test_what_no_recipe_starts_with_is_refused_by_name(settings, said, tiny, tiny_shape):
    with pytest.raises(UsageError, match=re.escape(said)):
        weighbridge.emit(tiny, "torchtune", gpu="h100:8", **settings)


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


def test_selective_checkpoints_are_of_operators(tiny, tiny_shape):
    """Without an option torchtitan recomputes every second layer instead."""
    made = weighbridge.emit(tiny, "torchtitan", gpu="h200", checkpointing="selective")
    kept = tomllib.loads(made.text)["activation_checkpoint"]
    assert kept == {"mode": "selective", "selective_ac_option": "op"}


PUBLISHED = {"llama-3-405b": "llama-3.1-405b"}


@all_of("name", [*SHAPES])
def test_a_shape_is_that_of_the_published_config(name):
    config = catalogue.find(PUBLISHED.get(name, name)).config
    assert shape_name(config) == name
    text = config.get("text_config", config)
    assert shape_name({"text_config": text}) == name
    others = ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads")
    for one in (key for key in others if key in text):
        assert shape_name({key: value for key, value in text.items() if key != one}) == ""
    assert {*BUILDERS, *FLAVORED} <= SHAPES.keys()


def test_heads_that_are_not_shared_and_a_config_of_nothing_have_their_names():
    """Llama 2's first configs say nothing of heads of keys."""
    config = dict(catalogue.find("llama-2-7b").config)
    config.pop("num_key_value_heads", None)
    assert shape_name(config) == "llama-2-7b"
    assert shape_name({}) == ""


def test_a_refusal_names_what_was_typed():
    """An answer calls torchtune's standard loss `torchtune`, which nobody typed."""
    meant, again = (
        SimpleNamespace(workload={"loss": loss}, peak=1) for loss in ("torchtune", "chunked")
    )
    with pytest.raises(UsageError, match=r"no word for --loss standard$"):
        emitting._same("torchtune", meant, again, {"loss": "standard"})
    with pytest.raises(UsageError, match=r"no word for --loss torchtune$"):
        emitting._same("torchtune", meant, again, {"loss": None})


# What the libraries themselves refuse of a file, or leave unread: tests/torch/test_emitted_*.py

RANKS = [
    ({"gpu": "h100:8", "tensor_parallel_size": 2}, {"tp": 2, "dp_replicate": 1, "dp_shard": 4}),
    ({"gpu": "h100:8", "context_parallel_size": 2}, {"cp": 2, "dp_replicate": 1, "dp_shard": 4}),
    ({"gpu": "h100:16", "shard": "hsdp"}, {"dp_replicate": 2, "dp_shard": 8}),
    ({"gpu": "h100:8"}, None),
]
ULYSSES = {"gpu": "h100:8", "shard": "zero3", "context_parallel_size": 4}


def test_accelerate_is_told_of_ulysses_beside_zero(tiny):
    made = weighbridge.emit(tiny, "accelerate", **ULYSSES)
    told = yaml.safe_load(made.text)["parallelism_config"]
    at = "parallelism_config_"
    assert {name.removeprefix(at): value for name, value in told.items()} == {
        "sp_size": 4,
        "dp_shard_size": 2,
        "sp_backend": "deepspeed",
        "sp_seq_length_is_variable": True,
        "sp_attn_implementation": "sdpa",
    }


@pytest.mark.parametrize(("way", "word"), [("allgather", None), ("ring", "alltoall")])
def test_accelerate_is_told_of_a_ring_beside_fsdp2(way, word, tiny):
    asked = {**ULYSSES, "shard": "fsdp2", "context_parallel_by": way}
    told = yaml.safe_load(weighbridge.emit(tiny, "accelerate", **asked).text)
    assert told["parallelism_config"].get("parallelism_config_cp_comm_strategy") == word


@pytest.mark.parametrize(
    ("way", "key", "value"),
    [("ring", "ring_attn_func", "batch_ring"), ("heads", "sample_packing", True)],
)
def test_axolotl_is_told_how_ranks_of_a_sequence_attend(way, key, value, tiny):
    asked = {**ULYSSES, "shard": "fsdp2", "attention": "flash", "context_parallel_by": way}
    assert yaml.safe_load(weighbridge.emit(tiny, "axolotl", **asked).text)[key] == value


def test_deepspeed_is_told_of_ranks_of_a_sequence(tiny):
    made = weighbridge.emit(tiny, "deepspeed", **ULYSSES, framework="deepspeed")
    assert json.loads(made.text)["sequence_parallel_size"] == 4


@pytest.mark.parametrize(("settings", "sizes"), RANKS)
def test_accelerate_is_told_ranks_of_every_kind(settings, sizes, tiny):
    """It starts none where the product of their numbers is not that of its processes."""
    made = weighbridge.emit(tiny, "accelerate", **{"shard": "fsdp2", **settings})
    data = yaml.safe_load(made.text)
    told = sizes and {f"parallelism_config_{name}_size": size for name, size in sizes.items()}
    assert data.get("parallelism_config") == told
    assert "fsdp_sharding_strategy" not in data["fsdp_config"]


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (
            "accelerate",
            {"shard": "zero3", "context_parallel_size": 2, "context_parallel_by": "ring"},
            "do not by ring; give --context-parallel-by ulysses",
        ),
        (
            "accelerate",
            {"shard": "fsdp2", "context_parallel_size": 2, "context_parallel_by": "ulysses"},
            "do not by ulysses; leave",
        ),
        (
            "axolotl",
            {"context_parallel_size": 2, "context_parallel_by": "ulysses", "attention": "flash"},
            "no word for --context-parallel-by ulysses; nearest is ring",
        ),
        ("accelerate", {"shard": "ddp", "tensor_parallel_size": 2}, "give --shard fsdp2"),
        ("accelerate", {"shard": "fsdp2", "pipeline_parallel_size": 2}, "it has no pipelines"),
        ("accelerate", {"shard": "fsdp2", "reduce_dtype": "float32"}, "no word for --reduce-dtype"),
        (
            "accelerate",
            {"shard": "fsdp2", "tensor_parallel_size": 8},
            "leave --shard fsdp2 out, which shares out nothing",
        ),
        ("axolotl", {"context_parallel_size": 2}, "by flash attention alone"),
        ("deepspeed", {"shard": "zero3", "context_parallel_size": 2}, "use --emit accelerate"),
        ("trl", {"optimizer": "muon"}, "no word for --optimizer muon"),
        ("trl", {"optimizer": "galore_adamw"}, "no word for --optimizer galore_adamw"),
        ("llama-factory", {"optimizer": "adamax"}, "no word for --optimizer adamax"),
        ("trl", {"gpu": "h100:16", "shard": "hsdp"}, "no word for --shard hsdp"),
    ],
)
def test_what_a_library_refuses_is_not_written(kind, settings, said, tiny, tiny_shape):
    with pytest.raises(UsageError, match=re.escape(said)):
        weighbridge.emit(tiny, kind, **{"gpu": "h100:8", **settings})


def test_copies_of_a_model_are_numbers_of_ranks_for_axolotl(tiny):
    """It reads no strategy of FSDP."""
    made = weighbridge.emit(tiny, "axolotl", gpu="h100:16", shard="hsdp")
    data = yaml.safe_load(made.text)
    assert (data["dp_shard_size"], data["dp_replicate_size"]) == (8, 2)
    assert "sharding_strategy" not in data["fsdp_config"]
    assert made.report.workload["shard"] == "hsdp"


def test_llama_factory_has_rows_to_evaluate_and_a_switch_of_its_own_for_muon(tiny):
    settings = {"gpu": "h200", "eval_batch_size": 2, "optimizer": "muon"}
    data = yaml.safe_load(weighbridge.emit(tiny, "llama-factory", **settings).text)
    assert (data["val_size"], data["use_muon"], data.get("optim")) == (0.1, True, None)


@pytest.mark.parametrize("kind", ["trl", "llama-factory"])
def test_fsdp_wraps_layers_by_words_that_old_and_new_releases_take(kind, tiny, tiny_shape):
    """transformers 5.6, the last that LLaMA-Factory takes, makes one unit of a model without them."""
    made = weighbridge.emit(tiny, kind, gpu="h100:8", shard="fsdp2", offload="params")
    data = yaml.safe_load(made.text)
    assert (data["fsdp"], data["fsdp_config"]) == (
        "full_shard auto_wrap offload",
        {"version": 2, "reshard_after_forward": True},
    )


@pytest.mark.parametrize("pinned", [True, False])
def test_what_was_turned_off_is_written(pinned, tiny):
    settings = {"shard": "zero2", "offload": "optimizer", "zero_pin_memory": pinned}
    made = weighbridge.emit(tiny, "deepspeed", gpu="h100:8", framework="deepspeed", **settings)
    assert f'"pin_memory": {str(pinned).lower()}' in made.text


@pytest.mark.parametrize(
    ("attention", "kernel"), [("flash", "flash_attention_2"), ("eager", "eager")]
)
def test_axolotl_is_told_its_kernel_by_one_key(attention, kernel, tiny):
    """The switches of each kernel are deprecated in 0.19."""
    data = yaml.safe_load(weighbridge.emit(tiny, "axolotl", attention=attention).text)
    assert data["attn_implementation"] == kernel


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["axolotl", "llama-factory", "torchtune", "trl"])
def test_adapters_keep_the_checkpoints_of_their_recipe(kind):
    """Where no framework is named, adapters are trained as the guides of PEFT and TRL do."""
    asked = {"method": "qlora", "gpu": "4080"}
    assert weighbridge.train("llama-3.1-8b", **asked).workload["checkpointing"] == "full"
    found = weighbridge.emit("llama-3.1-8b", kind, **asked).report
    assert found.workload["checkpointing"] == "full"
    assert found.verdict.fits == "yes"


@pytest.mark.slow
def test_a_framework_that_is_named_keeps_its_own_checkpoints():
    named = {"method": "lora", "framework": "axolotl"}
    found = weighbridge.emit("llama-3.2-1b", "axolotl", **named).report
    assert found.workload["checkpointing"] == "none"


@pytest.mark.slow
def test_torchtitan_is_told_how_its_stages_run(tiny, tiny_shape):
    made = weighbridge.emit(
        tiny,
        "torchtitan",
        gpu="h100:8",
        pipeline_parallel_size=2,
        pipeline_schedule="gpipe",
        pp_layer_partition="1,3",
        gradient_accumulation=4,
        batch_size=2,
        context_parallel_size=2,
        context_parallel_by="ring",
    )
    told = tomllib.loads(made.text)
    assert told["training"]["local_batch_size"] == 8
    assert {name: told["parallelism"][name] for name in TOLD} == TOLD
    parts = told["parallelism"]["module_fqns_per_model_part"]
    assert [len(part) for part in parts] == [1 + 1, 3 + 2]
    assert parts[0][-1:] + parts[1][:1] == ["layers.0", "layers.1"]


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("accelerate", {"shard": "fsdp1", "reshard_after_forward": False}),
        ("accelerate", {"shard": "fsdp1", "backward_prefetch": "post"}),
        ("accelerate", {"shard": "fsdp2", "reshard_after_forward": False}),
        ("llama-factory", {"shard": "fsdp1", "backward_prefetch": "pre"}),
        ("llama-factory", {"shard": "fsdp1", "reshard_after_forward": False}),
        ("llama-factory", {"shard": "fsdp2", "reshard_after_forward": False}),
        ("trainer", {"shard": "fsdp2", "reshard_after_forward": False}),
        ("torchtitan", {"reshard_after_forward": True, "reduce_dtype": "bfloat16"}),
    ],
)
def test_when_layers_are_gathered_is_said_and_read(kind, asked, tiny, tiny_shape):
    made = weighbridge.emit(tiny, kind, gpu="h100:8", **asked)
    assert {name: made.report.workload[name] for name in asked} == asked
    name = {"torchtitan": "run.toml", "trainer": "train.py"}.get(kind, "run.yaml")
    (run,) = read(made.text, name).runs
    assert {name: run.settings[name] for name in asked} == asked


TOLD = {
    "pipeline_parallel_degree": 2,
    "pipeline_parallel_schedule": "GPipe",
    "pipeline_parallel_microbatch_size": 2,
    "context_parallel_degree": 2,
    "context_parallel_rotate_method": "alltoall",
}
