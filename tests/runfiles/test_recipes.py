"""Recipes of torchtune, torchtitan and litgpt: the keys that decide something together."""

import pytest
from tests.cases import all_of

from weighbridge.files.runfiles import read

TUNE = """
model: {{_component_: torchtune.models.llama3_2.{model}, lora_attn_modules: [q_proj, output_proj]{more}}}
tokenizer: {{max_seq_len: 512}}
checkpointer: {{checkpoint_dir: /tmp/Llama-3.2-1B/}}
batch_size: 2
"""
TITAN = '[model]\nname = "llama3"\nflavor = "8B"\n{model}\n[training]\nseq_len = 512\n{training}\n'
LIT = "checkpoint_dir: checkpoints/org/name\ntrain: {micro_batch_size: 2, global_batch_size: 32}\n"


def tune(model: str = "lora_llama3_2_1b", more: str = "", rest: str = ""):
    return read(TUNE.format(model=model, more=more) + rest, "r.yaml", "torchtune").runs[0]


def titan(rest: str = "", model: str = "", training: str = ""):
    text = TITAN.format(model=model, training=training) + rest
    return read(text, "r.toml", "torchtitan").runs[0]


def lit(rest: str):
    return read(LIT + rest, "r.yaml", "litgpt").runs[0]


def test_a_component_says_the_method():
    assert tune("llama3_2_1b").settings["method"] == "full"
    assert tune().settings["method"] == "lora"
    assert tune("qlora_llama3_2_1b").settings["method"] == "qlora"
    assert tune(more=", use_dora: true").settings["method"] == "dora"
    assert tune().model == "Llama-3.2-1B"


def test_adapters_of_attention_and_of_the_feed_forward():
    assert tune().settings["lora_targets"] == ["q_proj", "o_proj"]
    with_mlp = tune(more=", apply_lora_to_mlp: true").settings["lora_targets"]
    assert with_mlp == ["q_proj", "o_proj", "gate_proj", "down_proj", "up_proj"]
    run = tune(more=", apply_lora_to_output: true")
    assert [one.key for one in run.unread] == ["model.apply_lora_to_output"]


def test_an_optimizer_is_a_class_and_its_switch():
    rest = "optimizer: {{_component_: torch.optim.AdamW, fused: {}}}\noptimizer_in_bwd: true\n"
    assert tune(rest=rest.format("true")).settings["optimizer"] == "adamw_torch_fused"
    assert tune(rest=rest.format("false")).settings["optimizer"] == "adamw_torch"
    assert tune(rest=rest.format("false")).settings["optimizer_in_backward"] is True
    other = tune(rest="optimizer: {_component_: my.Optimizer}\n")
    assert [one.key for one in other.unread] == ["optimizer._component_"]


def test_recipes_of_several_devices_share_out():
    assert "shard" not in tune().settings
    assert tune(rest="fsdp_cpu_offload: false\n").settings["shard"] == "fsdp2"
    offloaded = tune(rest="fsdp_cpu_offload: true\ndata_parallel_replicate_dim: 2\n").settings
    assert (offloaded["shard"], offloaded["offload"]) == ("hsdp", "params")


def test_a_teacher_and_a_dpo_loss_are_refused_by_name():
    assert "teacher" in tune(rest="teacher_model: {a: 1}\n").refused
    loss = tune(rest="loss: {_component_: torchtune.rlhf.loss.DPOLoss}\n")
    assert "DPOLoss" in loss.refused


def test_a_length_that_is_not_set_is_said():
    text = TUNE.format(model="llama3_2_1b", more="").replace("512", "null")
    (run,) = read(text, "r.yaml").runs
    assert run.notes
    assert "seq_len" not in run.settings


@all_of(
    ("degrees", "shard", "ranks", "copies"),
    [
        ("", "fsdp2", None, None),
        ("data_parallel_shard_degree = 8", "fsdp2", 8, None),
        ("data_parallel_shard_degree = 4\ndata_parallel_replicate_degree = 2", "hsdp", 8, 2),
        ("data_parallel_shard_degree = -1\ndata_parallel_replicate_degree = 4", "hsdp", None, 4),
        ("data_parallel_shard_degree = 1\ndata_parallel_replicate_degree = 2", "ddp", None, None),
        ("data_parallel_shard_degree = 1", "none", None, None),
    ],
)
def test_degrees_of_data_parallelism(degrees, shard, ranks, copies):
    settings = titan(f"[parallelism]\n{degrees}\n").settings
    assert (settings["shard"], settings.get("data_parallel_size")) == (shard, ranks)
    assert settings.get("data_parallel_replicas") == copies


def test_torchtitans_own_sizes_and_precision():
    settings = titan().settings
    assert (settings["batch_size"], settings["checkpointing"]) == (8, "none")
    assert (settings["precision"], settings["optimizer"]) == ("bf16-mixed", "adamw_torch_fused")
    assert settings["framework_version"] == "0.2.2"  # later ones read no TOML
    assert titan(training='dtype = "bfloat16"').settings["precision"] == "bf16"
    foreach = '[optimizer]\nname = "AdamW"\nimplementation = "foreach"\n'
    assert titan(foreach).settings["optimizer"] == "adamw_torch"
    for word, told in (("never", False), ("always", True), ("default", None)):
        run = titan(f'[parallelism]\nfsdp_reshard_after_forward = "{word}"\n')
        assert run.settings.get("reshard_after_forward") is told
        assert "parallelism.fsdp_reshard_after_forward" not in [one.key for one in run.unread]


def test_products_in_float8_are_read_and_others_told():
    small = 'converters = ["quantize.linear.{}"]\nhf_assets_path = "a/hf/M"'
    gathers = "[quantize.linear.float8]\nenable_fsdp_float8_all_gather = true\n"
    run = titan(gathers, model=small.format("float8"))
    assert (run.settings["precision"], run.settings["float8_all_gather"]) == ("fp8-mixed", True)
    assert "model.converters" not in [told.key for told in run.unread]
    rows = titan(gathers + 'recipe_name = "rowwise"\n', model=small.format("float8"))
    assert rows.settings["float8_recipe"] == "rowwise"
    assert "float8_all_gather" not in rows.settings  # a recipe has none
    mx = titan(model=small.format("mx"))
    assert (mx.settings["precision"], mx.settings["float8_recipe"]) == ("fp8-mixed", "mxfp8")
    both = 'converters = ["quantize.linear.mx", "quantize.grouped_mm.mx"]\nhf_assets_path = "a/M"'
    assert titan(model=both).settings["float8_experts"] is True


@pytest.mark.parametrize(
    ("converters", "training"),
    [
        ('["quantize.linear.float8"]', 'dtype = "bfloat16"'),
        ('["quantize.grouped_mm.mx"]', ""),
        ('["quantize.linear.float8", "quantize.grouped_mm.mx"]', ""),
        ('["quantize.linear.mxfp4"]', ""),
    ],
)
def test_products_that_are_not_counted_are_told(converters, training):
    model = f'converters = {converters}\nhf_assets_path = "a/hf/M"'
    run = titan(model=model, training=training)
    assert "model.converters" in [told.key for told in run.unread]
    assert run.settings["precision"] != "fp8-mixed"


@all_of(
    ("given", "checkpointing", "unread"),
    [
        ('mode = "selective"\nselective_ac_option = "op"', "selective", False),
        ('mode = "selective"\nselective_ac_option = "2"', "none", True),
        ('mode = "selective"\nselective_ac_option = "1"', "full", False),
        ('mode = "selective"', "none", True),
        ('selective_ac_option = "op"', "selective", False),
        ('mode = "full"\nselective_ac_option = "2"', "full", False),
        ("", "none", True),
    ],
)
def test_torchtitan_recomputes_operators_or_every_second_layer(given, checkpointing, unread):
    """A file that does not say which of them means every second layer, which takes less than none."""
    run = titan(f"[activation_checkpoint]\n{given}\n", model='hf_assets_path = "a/hf/M"')
    assert run.settings["checkpointing"] == checkpointing
    assert [one.lowers for one in run.unread] == [True] * unread


@all_of(
    ("given", "checkpointing", "unread"),
    [
        ("ac_mode: selective\nac_option: 2", "none", True),
        ("ac_mode: selective\nac_option: 1", "full", False),
        ("ac_mode: full", "full", False),
        ("ac_mode: none", "none", False),
        ("enable_activation_checkpointing: true\nac_mode: selective\nac_option: 2", "none", False),
        ("enable_activation_checkpointing: true", "full", False),
    ],
)
def test_torchtunes_selective_mode_recomputes_whole_layers(given, checkpointing, unread):
    """recipes/full_finetune_distributed.py: beside the older switch the mode does nothing, and the
    switch neither."""
    run = tune("llama3_2_1b", rest=f"fsdp_cpu_offload: false\n{given}\n")
    assert run.settings["checkpointing"] == checkpointing
    assert [one.lowers for one in run.unread if one.key == "ac_option"] == [True] * unread
    alone = tune("lora_llama3_2_1b", rest=f"{given}\n")
    whole = "true" in given
    assert alone.settings.get("checkpointing") == ("full" if whole else "none")
    assert not alone.unread


@all_of(
    ("model", "layers", "sign"),
    [
        ("llama3_1_8b", "[tok_embeddings, output]", ""),
        ("llama3_1_8b", "[output]", "+"),
        ("llama3_1_8b", "null", "+"),
        ("llama3_2_1b", "null", ""),
        ("llama3_2_1b", "[tok_embeddings]", "-"),
        ("lora_llama3_1_8b", "[tok_embeddings, output]", "-"),
    ],
)
def test_embedding_and_head_are_units_where_torchtunes_own_files_say_so(model, layers, sign):
    """Files of Llama 3 that is trained whole name them; the head of 3.2 is its embedding."""
    family = model.removeprefix("lora_").rpartition("_")[0]
    text = TUNE.format(model=model, more="").replace("llama3_2.", f"{family}.")
    rest = f"fsdp_cpu_offload: false\ncustom_sharded_layers: {layers}\n"
    run = read(text + rest, "r.yaml", "torchtune").runs[0]
    told = [one for one in run.unread if one.key == "custom_sharded_layers"]
    meant = [(sign == "-", sign == "+")] * bool(sign)
    assert [(one.lowers, one.raises) for one in told] == meant


def test_litgpt_counts_micro_batches_by_its_devices():
    assert lit("devices: 4\n").settings["gradient_accumulation"] == 4
    assert lit("devices: 4\n").settings["shard"] == "fsdp1"
    assert lit("devices: 1\n").settings["gradient_accumulation"] == 16
    assert "shard" not in lit("devices: 1\n").settings


def test_litgpts_adapters():
    settings = lit("lora_r: 4\nlora_mlp: true\nlora_value: false\nquantize: bnb.nf4-dq\n").settings
    assert settings["lora_targets"] == ["query", "mlp"]
    assert (settings["method"], settings["quantization"]) == ("qlora", "nf4-dq")
    assert lit("lora_r: 4\nquantize: bnb.int8-training\n").settings["method"] == "lora"
    assert lit("out_dir: a\n").settings["method"] == "full"
    assert [one.key for one in lit("quantize: bnb.nf4\n").unread] == ["quantize"]


@all_of(
    ("family", "flavor", "path", "model", "told"),
    [
        ("llama3", "70B", "./assets/hf/Llama-3.1-8B", "llama-3.1-70b", "Llama-3.1-8B"),
        ("llama3", "8B", "./assets/hf/Llama-3.1-8B", "Llama-3.1-8B", ""),
        ("llama3", "8B", "./assets/hf/My-Own-Tune", "llama-3.1-8b", ""),
        ("llama3", "8B", "./tests/assets/tokenizer", "llama-3.1-8b", ""),
        ("llama3", "405B", "", "llama-3.1-405b", ""),
        ("qwen3", "14B", "", "qwen3-14b", ""),
        ("llama3", "debugmodel", "./tests/assets/tokenizer", "", ""),
        ("llama3", "debugmodel", "./assets/hf/Llama-3.1-8B", "", ""),
        ("deepseek_v3", "16B", "./assets/hf/deepseek-moe-16b-base", "deepseek-moe-16b-base", ""),
        ("deepseek_v3", "16B", "./tests/assets/tokenizer", "", ""),
    ],
)
def test_a_flavor_decides_the_model(family, flavor, path, model, told):
    text = (
        f'[model]\nname = "{family}"\nflavor = "{flavor}"\nhf_assets_path = "{path}"\n'
        "[training]\nseq_len = 512\n"
    )
    run = read(text, "r.toml").runs[0]
    assert run.model == model
    assert any(one.key == "model.flavor" for one in run.unread) == (not model)
    assert [f"{told} of hf_assets_path has others" in note for note in run.notes] == [True] * bool(
        told
    )
