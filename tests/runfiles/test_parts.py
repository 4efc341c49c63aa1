"""DeepSpeed's JSON and accelerate's YAML: parts of a run, which name no model."""

import json

import pytest
from tests.cases import all_of

from weighbridge.files.runfiles import read


def zero(**options) -> dict:
    text = json.dumps({"train_micro_batch_size_per_gpu": "auto", "zero_optimization": options})
    return dict(read(text, "ds.json").runs[0].settings)


def accelerate(kind: str, text: str) -> dict:
    head = f"distributed_type: {kind}\nnum_processes: 8\n"
    return dict(read(head + text, "accelerate.yaml").runs[0].settings)


def test_what_the_trainer_fills_is_left_to_it_and_what_is_not_there_is_deepspeeds():
    assert "zero_reduce_bucket_size" not in zero(stage=2, reduce_bucket_size="auto")
    assert zero(stage=2)["zero_reduce_bucket_size"] == 500_000_000
    assert zero(stage=3)["zero_param_persistence_threshold"] == 100_000
    assert zero(stage=3)["zero_prefetch_bucket_size"] == 50_000_000
    assert zero(stage=2, reduce_bucket_size=2e8)["zero_reduce_bucket_size"] == 200_000_000


def test_stages_one_and_two_have_no_sizes_of_stage_three():
    got = zero(stage=2, stage3_max_live_parameters=5, overlap_comm=True)
    assert "zero_max_live_parameters" not in got
    assert got["zero_overlap_comm"] is True
    assert "zero_overlap_comm" not in zero(stage=3, overlap_comm=True)


@all_of(
    ("options", "offload"),
    [
        ({"stage": 3, "offload_param": {"device": "cpu"}}, "params"),
        ({"stage": 2, "offload_param": {"device": "cpu"}}, None),
        ({"stage": 3, "offload_optimizer": {"device": "cpu"}}, "optimizer"),
        ({"stage": 3, "offload_optimizer": {"device": "nvme"}}, "nvme"),
        ({"stage": 3, "offload_optimizer": {"device": "none"}}, None),
        ({"stage": 2, "cpu_offload": True}, "optimizer"),
    ],
)
def test_what_is_kept_off_the_device(options, offload):
    assert zero(**options).get("offload") == offload


@all_of(
    ("states", "params", "pins"),
    [
        (True, True, True),
        (False, False, False),
        (True, False, None),  # some of it
        (None, None, None),
        (True, None, True),
    ],
)
def test_what_is_pinned(states, params, pins):
    def kept(pinned):
        return {"device": "cpu"} | ({} if pinned is None else {"pin_memory": pinned})

    got = zero(stage=3, offload_optimizer=kept(states), offload_param=kept(params))
    assert got.get("zero_pin_memory") is pins
    away = zero(stage=3, offload_optimizer={"device": "none", "pin_memory": True})
    assert "zero_pin_memory" not in away


def test_a_stage_of_nothing_is_plain_data_parallelism():
    assert zero(stage=0)["shard"] == "ddp"
    assert zero(stage=1)["shard"] == "zero1"


def test_the_trainer_is_known_by_what_it_fills():
    assert zero(stage=2)["framework"] == "trainer"
    text = '{"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 1}}'
    assert read(text, "ds.json").runs[0].settings["framework"] == "deepspeed"


def test_tensor_and_context_ranks_leave_the_others_their_own_data():
    got = accelerate(
        "FSDP",
        "fsdp_config:\n  fsdp_version: 2\nparallelism_config:\n"
        "  parallelism_config_tp_size: 2\n  parallelism_config_cp_size: 2\n",
    )
    assert (got["shard"], got["data_parallel_size"]) == ("fsdp2", 2)
    assert (got["tensor_parallel_size"], got["context_parallel_size"]) == (2, 2)


@all_of(
    ("kind", "said", "size", "way"),
    [
        ("DEEPSPEED", {"sp_size": 4, "sp_backend": "deepspeed"}, 4, "ulysses"),
        ("DEEPSPEED", {"cp_size": 1, "sp_size": 2}, 2, "ulysses"),
        ("DEEPSPEED", {"cp_size": 2, "cp_backend": "deepspeed"}, 2, "ulysses"),  # as it was drafted
        ("FSDP", {"cp_size": 2, "sp_size": 1}, 2, None),
        ("FSDP", {"cp_size": 2, "cp_comm_strategy": "alltoall"}, 2, "ring"),
        ("FSDP", {"cp_size": 2, "cp_comm_strategy": "allgather"}, 2, "allgather"),
        ("FSDP", {"cp_size": 1, "cp_comm_strategy": "alltoall"}, 1, None),
    ],
)
def test_how_ranks_of_a_sequence_attend(kind, said, size, way):
    lines = "".join(f"  parallelism_config_{name}: {value}\n" for name, value in said.items())
    got = accelerate(kind, "parallelism_config:\n" + lines)
    assert (got["context_parallel_size"], got.get("context_parallel_by")) == (size, way)
    assert got["data_parallel_size"] == 8 // size


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ("", None),
        ("sample_packing: true\n", "heads"),
        ("sample_packing: true\nring_attn_func: batch_ring\n", "ring"),
        ("ring_attn_func: varlen_llama3\n", "heads"),
        ("context_parallel: {backend: ulysses}\n", "ulysses"),
        ("context_parallel: {backend: auto}\n", None),
    ],
)
@pytest.mark.parametrize("name", ["context_parallel_size", "sequence_parallel_degree"])
def test_how_ranks_of_axolotls_sequence_attend(name, said, way):
    text = f"base_model: a/b\nsequence_len: 512\n{name}: 4\n{said}"
    found = read(text, "run.yaml").runs[0]
    assert found.settings["context_parallel_size"] == 4
    assert found.settings.get("context_parallel_by") == way
    assert [one.key for one in found.unread] == (
        ["context_parallel.backend"] if "auto" in said else []
    )
    alone = read(text.replace(": 4", ": 1"), "run.yaml").runs[0]
    assert "context_parallel_by" not in alone.settings


def test_deepspeed_and_ms_swift_name_ranks_of_a_sequence():
    text = '{"sequence_parallel_size": 4, "train_micro_batch_size_per_gpu": 1, '
    found = read(text + '"zero_optimization": {"stage": 3}}', "ds.json").runs[0]
    assert found.settings["context_parallel_size"] == 4
    line = "NPROC_PER_NODE=8 swift sft --model a/b --sequence_parallel_size 4 --max_length 512\n"
    swift = read(line, "run.sh").runs[0].settings
    assert (swift["context_parallel_size"], swift["data_parallel_size"]) == (4, 2)
    assert swift["context_parallel_by"] == "ulysses"
    (odd,) = read(line.replace("512", "65535"), "run.sh").runs
    assert odd.settings["seq_len"] == 65536, "rows are padded until ranks divide them"


def test_replicas_of_shards_are_hybrid():
    sizes = "  parallelism_config_dp_replicate_size: 2\n  parallelism_config_dp_shard_size: 4\n"
    got = accelerate("FSDP", "parallelism_config:\n" + sizes)
    assert (got["shard"], got["data_parallel_replicas"]) == ("hsdp", 2)


def test_fsdp2_reads_no_strategy():
    hybrid = "fsdp_config: {{fsdp_version: {}, fsdp_sharding_strategy: HYBRID_SHARD}}\n"
    assert accelerate("FSDP", hybrid.format(1))["shard"] == "hsdp"
    assert accelerate("FSDP", hybrid.format(2))["shard"] == "fsdp2"


@all_of(
    ("sizes", "shard", "ranks", "copies"),
    [
        ("dp_shard_size: 8\ndp_replicate_size: 2\n", "hsdp", 16, 2),
        ("dp_shard_size: 4\ndp_replicate_size: 2\ncontext_parallel_size: 2\n", "hsdp", 8, 2),
        ("dp_shard_size: 4\ndp_replicate_size: 2\n", "hsdp", 8, 2),
        ("dp_replicate_size: 4\n", "hsdp", None, 4),
        ("dp_shard_size: 8\ndp_replicate_size: 1\n", "fsdp2", 8, None),
        ("dp_shard_size: 8\ndp_replicate_size: '2'\n", "fsdp2", 8, None),
    ],
)
def test_copies_of_axolotl(sizes, shard, ranks, copies):
    text = (
        "base_model: a/b\nsequence_len: 512\nfsdp_version: 2\nfsdp_config: {state_dict_type: X}\n"
    )
    got = read(text + sizes, "run.yaml").runs[0].settings
    assert (got["shard"], got.get("data_parallel_size")) == (shard, ranks)
    assert got.get("data_parallel_replicas") == copies


def test_processes_without_more_are_data_parallel():
    assert accelerate("MULTI_GPU", "mixed_precision: fp16\n")["shard"] == "ddp"
    assert accelerate("MULTI_GPU", "mixed_precision: fp16\n")["precision"] == "fp16-mixed"
    assert "precision" not in accelerate("MULTI_GPU", "mixed_precision: 'no'\n")


def test_deepspeed_in_accelerate():
    got = accelerate("DEEPSPEED", "deepspeed_config: {zero_stage: 3, zero3_init_flag: false}\n")
    assert (got["shard"], got["no_zero_init"]) == ("zero3", True)
    got = accelerate("DEEPSPEED", "deepspeed_config: {offload_optimizer_device: cpu}\n")
    assert (got["shard"], got["offload"]) == ("zero2", "optimizer")


def test_megatron_is_refused_by_name():
    text = "distributed_type: MEGATRON_LM\nnum_processes: 8\n"
    assert "Megatron" in read(text, "accelerate.yaml").runs[0].refused


def test_compiling_is_told_and_its_absence_is_not():
    text = "distributed_type: NO\nnum_processes: 1\ndynamo_backend: '{}'\n"
    for backend, told in (("NO", []), ("INDUCTOR", ["dynamo_backend"])):
        run = read(text.format(backend), "accelerate.yaml").runs[0]
        assert [one.key for one in run.unread] == told


def titan(parallelism, sequences=8):
    text = f'[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = {sequences}\n'
    said = "".join(f"{name} = {value}\n" for name, value in parallelism.items())
    kept = '[activation_checkpoint]\nmode = "full"\n'
    return read(f"{text}{kept}[parallelism]\n{said}", "run.toml").runs[0]


@pytest.mark.parametrize(
    ("said", "batch", "count"),
    [
        ({}, 1, 8),
        ({"pipeline_parallel_microbatch_size": 2}, 2, 4),
        ({"pipeline_parallel_microbatches": 2}, 4, 2),
        ({"pipeline_parallel_microbatch_size": 3}, 8, None),  # it does not divide
    ],
)
def test_a_pipeline_of_torchtitan_cuts_a_ranks_sequences(said, batch, count):
    found = titan({"pipeline_parallel_degree": 4, **said}).settings
    assert (found["batch_size"], found.get("gradient_accumulation")) == (batch, count)
    alone = titan({"pipeline_parallel_degree": 1, **said}).settings
    assert (alone["batch_size"], alone.get("gradient_accumulation")) == (8, None)


@all_of(
    ("name", "order"),
    [
        ("GPipe", "gpipe"),
        ("1F1B", "1f1b"),
        ("Interleaved1F1B", "interleaved"),
        ("ZBVZeroBubble", "zero-bubble"),
        ("LoopedBFS", None),
    ],
)
def test_the_order_of_torchtitans_stages(name, order):
    key = "pipeline_parallel_schedule"
    found = titan({"pipeline_parallel_degree": 4, key: f'"{name}"'})
    assert found.settings.get("pipeline_schedule") == order
    assert [one.key for one in found.unread] == ([] if order else [f"parallelism.{key}"])
    assert "pipeline_schedule" not in titan({key: f'"{name}"'}).settings


def test_the_layers_of_torchtitans_stages():
    """A rank has two parts: the first and the third are one rank's."""
    parts = [["tok_embeddings", "layers.0"], ["layers.1", "layers.2"], ["layers.3"], ["norm"]]
    usual = {"pipeline_parallel_degree": 2}
    found = titan({**usual, "module_fqns_per_model_part": json.dumps(parts)})
    assert (found.settings["pp_layer_partition"], found.unread) == ([2, 2], ())
    assert "pp_layer_partition" not in titan(usual).settings
    for nonsense in ("[1, 2]", '"layers"', '[["layers.0"]]', "[[], []]", '[["norm"], ["a"]]'):
        odd = titan({**usual, "module_fqns_per_model_part": nonsense})
        assert [one.key for one in odd.unread] == ["parallelism.module_fqns_per_model_part"]
    strange = titan({"fsdp_reshard_after_forward": '"sometimes"'})
    assert [one.key for one in strange.unread] == ["parallelism.fsdp_reshard_after_forward"]
    fewer = titan({**usual, "pipeline_parallel_first_stage_less_layers": 2})
    assert [one.key for one in fewer.unread] == [
        "parallelism.pipeline_parallel_first_stage_less_layers"
    ]


def test_tensor_ranks_that_send_while_they_multiply_are_told():
    """Async TP: its runs are up to 18 % above what is counted, and one is below."""
    found = titan({"tensor_parallel_degree": 8, "enable_async_tensor_parallel": "true"})
    (told,) = found.unread
    assert told.key == "parallelism.enable_async_tensor_parallel"
    assert told.raises and told.lowers


FSDP = """compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: {version}
  {said}
num_processes: 4
"""


@all_of(
    ("version", "said", "reshards", "ahead"),
    [
        (1, "fsdp_sharding_strategy: 2", False, None),
        (1, "fsdp_sharding_strategy: SHARD_GRAD_OP", False, None),
        (1, "fsdp_sharding_strategy: FULL_SHARD", None, None),
        (1, "fsdp_reshard_after_forward: SHARD_GRAD_OP", False, None),
        (1, "fsdp_backward_prefetch: BACKWARD_POST", None, "post"),
        (1, "fsdp_backward_prefetch_policy: NO_PREFETCH", None, "none"),
        (2, "fsdp_reshard_after_forward: false", False, None),
        (2, "fsdp_reshard_after_forward: true", None, None),
        (2, "fsdp_backward_prefetch: BACKWARD_PRE", None, None),  # FSDP2 has no such word
    ],
)
def test_when_accelerate_gathers_layers(version, said, reshards, ahead):
    (run,) = read(FSDP.format(version=version, said=said), "fsdp.yaml").runs
    assert run.settings["shard"] == f"fsdp{version}"
    assert run.settings.get("reshard_after_forward") is reshards
    assert run.settings.get("backward_prefetch") == ahead
    assert run.unread == ()


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (1, "fsdp_sharding_strategy: BANANA"),
        (1, "fsdp_sharding_strategy: 9"),
        (1, "fsdp_backward_prefetch: SIDEWAYS"),
        (2, "fsdp_reshard_after_forward: maybe"),
    ],
)
def test_words_that_fsdp_does_not_know_are_told(version, said):
    (run,) = read(FSDP.format(version=version, said=said), "fsdp.yaml").runs
    assert [one.key for one in run.unread] == [f"fsdp_config.{said.partition(':')[0]}"]


def test_layers_gathered_ahead_in_forward_are_told():
    (run,) = read(FSDP.format(version=1, said="fsdp_forward_prefetch: true"), "fsdp.yaml").runs
    assert [one.key for one in run.unread] == ["fsdp_config.fsdp_forward_prefetch"]


@pytest.mark.parametrize(("word", "way"), [("alltoall", "ring"), ("allgather", "allgather")])
def test_how_ranks_of_torchtitans_sequence_attend(word, way):
    said = {"context_parallel_degree": 4, "context_parallel_rotate_method": f'"{word}"'}
    assert titan(said).settings["context_parallel_by"] == way
    said["context_parallel_degree"] = 1
    assert "context_parallel_by" not in titan(said).settings


@pytest.mark.parametrize(
    ("machines", "processes", "inside"), [(2, 8, 4), (1, 8, None), (3, 8, None), (2, 16, 8)]
)
def test_machines_of_accelerate_share_its_processes_out(machines, processes, inside):
    text = f"distributed_type: FSDP\nnum_machines: {machines}\nnum_processes: {processes}\n"
    (run,) = read(text, "ranks.yaml").runs
    assert run.settings.get("ranks_per_machine") == inside


ARRANGED = "distributed_type: FSDP\nnum_machines: {}\nnum_processes: {}\nparallelism_config:\n"
AT = "  parallelism_config_"


def arranged(machines, processes, **sizes):
    text = ARRANGED.format(machines, processes)
    text += "".join(f"{AT}{name}: {size}\n" for name, size in sizes.items())
    return text if sizes else text.replace("parallelism_config:\n", "")


def test_groups_that_are_not_all_processes_are_refused():
    def refused(*args, **sizes):
        return read(arranged(*args, **sizes), "a.yaml").runs[0].refused

    why = refused(2, 16, dp_replicate_size=4, dp_shard_size=8)
    assert why.startswith("dp_replicate_size 4 x dp_shard_size 8 is 32 processes, and num_proc")
    assert refused(2, 16, dp_shard_size=8, tp_size=4)
    assert not refused(2, 16, dp_replicate_size=2, dp_shard_size=8, tp_size=1)
    assert not refused(2, 16, dp_shard_size=1)
    assert not refused(2, 16)
    assert not refused(3, 16)


def test_processes_that_machines_do_not_divide_are_told():
    (run,) = read(arranged(3, 16), "a.yaml").runs
    (told,) = (one for one in run.unread if one.key == "num_machines")
    assert told.why.endswith("starts 5 on each machine, and no more")
    assert told.lowers and told.raises
    assert not read(arranged(2, 16), "a.yaml").runs[0].unread


def test_processes_of_the_command_go_before_those_of_the_config(tmp_path):
    (tmp_path / "c.yaml").write_text(arranged(2, 16, dp_replicate_size=4, dp_shard_size=8))
    line = "accelerate launch --config_file c.yaml {} train.py --model_name_or_path org/name\n"

    def run(words):
        return read(line.format(words), "a.sh", folder=str(tmp_path)).runs[0]

    assert "num_processes is 16" in run("").refused
    four = run("--num_machines 4 --num_processes 32")
    assert not four.refused
    assert four.settings["ranks_per_machine"] == 8


def test_whether_deepspeed_makes_a_model_in_parts_is_accelerates_own_key():
    text = "distributed_type: DEEPSPEED\nnum_processes: 4\ndeepspeed_config:\n"
    text += "  deepspeed_config_file: zero3.json\n  zero3_init_flag: true\n"
    assert not any("zero3_init" in one.key for one in read(text, "a.yaml").runs[0].unread)


def test_a_file_of_deepspeed_that_accelerate_names_says_its_sizes(tmp_path):
    sizes = '"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 4'
    (tmp_path / "z.json").write_text(f'{{"zero_optimization": {{"stage": 3}}, {sizes}}}')
    text = "distributed_type: DEEPSPEED\nnum_processes: 4\ndeepspeed_config:\n"
    text += "  deepspeed_config_file: z.json\n"
    (tmp_path / "c.yaml").write_text(text)
    (alone,) = read(text, "c.yaml", folder=str(tmp_path)).runs
    assert (alone.settings["batch_size"], alone.settings["gradient_accumulation"]) == (2, 4)
    line = "accelerate launch --config_file c.yaml train.py --model_name_or_path org/name "
    line += "--per_device_train_batch_size {} --gradient_accumulation_steps 4\n"
    like, other = (read(line.format(size), "a.sh", folder=str(tmp_path)).runs[0] for size in (2, 3))
    assert (like.settings["batch_size"], like.refused) == (2, "")
    assert "train_micro_batch_size_per_gpu 2 is not per_device_train_batch" in other.refused
