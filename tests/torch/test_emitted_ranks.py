"""`--emit accelerate` and `deepspeed`, read by the libraries that launch ranks and share out."""

import os

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.parallelism_config import ParallelismConfig
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from transformers import LlamaConfig, TrainingArguments

from tests.torch.emitted import on_a_card, same_zero, written

ALONE = {"gpu": "h100", "method": "lora"}
RANKS = {
    "one": ALONE,
    "ddp": {"gpu": "h100:8", "shard": "ddp", "method": "lora", "precision": "fp16-mixed"},
    "fsdp2": {"gpu": "h100:8", "shard": "fsdp2"},
    "fsdp2-offload": {"gpu": "h100:4", "shard": "fsdp2", "offload": "params"},
    "fsdp2-loading": {
        "gpu": "h100:8",
        "shard": "fsdp2",
        "framework": "accelerate",
        "cpu_ram_efficient_loading": True,
    },
    "fsdp1": {"gpu": "h100:8", "shard": "fsdp1", "offload": "params"},
    "tensor": {"gpu": "h100:8", "shard": "fsdp2", "tensor_parallel_size": 2},
    "context": {"gpu": "h100:8", "shard": "fsdp2", "context_parallel_size": 4},
    "ring": {
        "gpu": "h100:8",
        "shard": "fsdp2",
        "context_parallel_size": 4,
        "context_parallel_by": "ring",
    },
    "ulysses": {"gpu": "h100:8", "shard": "zero3", "context_parallel_size": 4},
    "ulysses-flash": {
        "gpu": "h100:8",
        "shard": "zero2",
        "context_parallel_size": 2,
        "attention": "flash",
    },
    "both": {
        "gpu": "h100:8",
        "shard": "fsdp2",
        "tensor_parallel_size": 2,
        "context_parallel_size": 2,
    },
    "tensor-alone": {"gpu": "h100:2", "tensor_parallel_size": 2, "method": "lora"},
    "copies": {"gpu": "h100:16", "shard": "hsdp"},
    "zero1": {"gpu": "h100:8", "shard": "zero1"},
    "zero2": {
        "gpu": "h100:4",
        "shard": "zero2",
        "offload": "optimizer",
        "gradient_accumulation": 4,
    },
    "zero3": {"gpu": "h100:8", "shard": "zero3"},
    "zero3-offload": {"gpu": "h100:16", "shard": "zero3", "offload": "params"},
    "zero3-loaded": {"gpu": "h100:8", "shard": "zero3", "no_zero_init": True},
}


def launched(path, monkeypatch):
    """Return the arguments of `accelerate launch` with a config, and set what it gives each rank."""
    typed = launch_command_parser().parse_args(["--config_file", str(path), "train.py"])
    args, _, _ = _validate_launch_command(typed)
    args.deepspeed_fields_from_accelerate_config = ""
    for name in [name for name in os.environ if name.startswith(("FSDP_", "ACCELERATE_"))]:
        monkeypatch.delenv(name)
    env = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    for name, value in env.items():
        if name.startswith(("FSDP_", "ACCELERATE_", "PARALLELISM_")):
            monkeypatch.setenv(name, value)
    return args


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("settings", RANKS.values(), ids=RANKS)
def test_accelerate_launches_the_ranks_that_were_asked_for(tmp_path, monkeypatch, settings):
    made = written(tmp_path, "accelerate", "ranks.yaml", settings)
    asked = made.report.workload
    config = load_config_from_file(str(tmp_path / "ranks.yaml"))
    args = launched(tmp_path / "ranks.yaml", monkeypatch)
    among = [asked[f"{kind}_parallel_size"] for kind in ("data", "tensor", "context")]
    count = among[0] * among[1] * among[2]
    assert args.num_processes == config.num_processes == count
    assert args.mixed_precision == asked["precision"].removesuffix("-mixed")
    assert args.num_machines == (count + 7) // 8
    shard = asked["shard"]
    kind = DistributedType.MULTI_GPU if count > 1 else DistributedType.NO
    kind = DistributedType.DEEPSPEED if shard.startswith("zero") else kind
    kind = DistributedType.FSDP if shard.startswith(("fsdp", "hsdp")) else kind
    assert config.distributed_type == kind
    if kind is DistributedType.FSDP:
        same_fsdp(asked, monkeypatch)
    if kind is DistributedType.DEEPSPEED:
        same_deepspeed(asked)
    if args.use_parallelism_config:
        same_ranks(asked, count)
    else:
        assert max(among[1:]) == 1


def same_fsdp(asked, monkeypatch):
    # FSDP1 asks which card a rank takes its first copy to
    monkeypatch.setattr("accelerate.utils.dataclasses.is_cuda_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == (1 if asked["shard"] == "fsdp1" else 2)
    kept = plugin.cpu_offload
    kept = kept.offload_params if plugin.fsdp_version == 1 else type(kept).__name__[:3] == "CPU"
    assert kept is (asked["offload"] == "params")
    assert plugin.cpu_ram_efficient_loading is bool(asked["cpu_ram_efficient_loading"])
    if plugin.fsdp_version == 1:
        assert plugin.sharding_strategy.name == "FULL_SHARD"
    else:
        assert plugin.reshard_after_forward is True


def same_deepspeed(asked):
    plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == int(asked["shard"][-1])
    assert plugin.gradient_accumulation_steps == asked["gradient_accumulation"]
    kept = {"none": "none none", "optimizer": "cpu none", "params": "cpu cpu"}
    devices = f"{plugin.offload_optimizer_device} {plugin.offload_param_device}"
    assert devices == kept[asked["offload"]]
    whole = asked["shard"] == "zero3" and not asked.get("no_zero_init")
    assert plugin.zero3_init_flag is whole


def same_ranks(asked, count):
    """Fail where accelerate would refuse these ranks, or share out otherwise."""
    ranks = ParallelismConfig()
    assert ranks.total_size == count  # _validate_accelerator, which needs them all
    assert ranks.tp_size == asked["tensor_parallel_size"]
    same_sequence(ranks, asked)
    if asked["shard"] in ("fsdp2", "hsdp"):
        assert ranks.dp_shard_size * ranks.cp_size > 1
    if asked["shard"] == "hsdp":
        assert (ranks.dp_replicate_size, ranks.dp_shard_size) == (count // 8, 8)


def same_sequence(ranks, asked):
    """Ulysses is DeepSpeed's; torch's ranks of a sequence gather keys, or send them round."""
    size, way = asked["context_parallel_size"], asked.get("context_parallel_by")
    exchanges = way == "ulysses"
    assert (ranks.sp_size, ranks.cp_size) == ((size, 1) if exchanges else (1, size))
    if exchanges:
        kernel = "flash_attention_2" if asked["attention"] == "flash" else "sdpa"
        assert ranks.sp_handler.sp_attn_implementation == kernel
        assert ranks.sp_handler.sp_seq_length_is_variable
    elif size > 1:
        strategy = {"ring": "alltoall", "allgather": "allgather"}[way]
        assert ranks.cp_handler.cp_comm_strategy == strategy


ZEROS = {
    "zero1": {"gpu": "h100:8", "shard": "zero1", "precision": "fp16-mixed"},
    "zero2": {"gpu": "h100:4", "shard": "zero2", "offload": "optimizer", "batch_size": 2},
    "zero2-sizes": {
        "gpu": "h100:4",
        "shard": "zero2",
        "zero_reduce_bucket_size": 10_000_000,
        "zero_overlap_comm": True,
    },
    "zero3": {"gpu": "h100:8", "shard": "zero3", "gradient_accumulation": 4},
    "zero3-offload": {"gpu": "h100:8", "shard": "zero3", "offload": "params"},
    "zero3-sizes": {
        "gpu": "h100:8",
        "shard": "zero3",
        "zero_prefetch_bucket_size": 1_000_000,
        "zero_param_persistence_threshold": 5_000,
        "zero_max_live_parameters": 300_000_000,
        "zero_sub_group_size": 100_000_000,
    },
}
NAMES = {  # of the release that rules.py cites
    "zero_reduce_bucket_size": "reduce_bucket_size",
    "zero_overlap_comm": "overlap_comm",
    "zero_prefetch_bucket_size": "stage3_prefetch_bucket_size",
    "zero_param_persistence_threshold": "stage3_param_persistence_threshold",
    "zero_max_live_parameters": "stage3_max_live_parameters",
    "zero_sub_group_size": "sub_group_size",
}
FILLED = {  # hidden 4096, transformers integrations/deepspeed.py
    "reduce_bucket_size": 4096 * 4096,
    "stage3_prefetch_bucket_size": int(0.9 * 4096 * 4096),
    "stage3_param_persistence_threshold": 40_960,
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("settings", ZEROS.values(), ids=ZEROS)
def test_the_trainer_fills_in_a_config_of_deepspeed(tmp_path, monkeypatch, settings):
    on_a_card(monkeypatch)
    made = written(tmp_path, "deepspeed", "zero.json", settings)
    asked = made.report.workload
    args = TrainingArguments(
        output_dir=str(tmp_path),
        deepspeed=str(tmp_path / "zero.json"),
        per_device_train_batch_size=asked["batch_size"],
        gradient_accumulation_steps=asked["gradient_accumulation"],
        **{asked["precision"].removesuffix("-mixed"): True},
    )
    config = args.hf_deepspeed_config
    model = type("Model", (), {"config": LlamaConfig(hidden_size=4096)})
    config.trainer_config_finalize(args, model, 100)
    same_zero(config, asked)
    zero = config.config["zero_optimization"]
    told = {name: settings[ours] for ours, name in NAMES.items() if ours in settings}
    assert {name: zero[name] for name in told} == told
    filled = {name: FILLED[name] for name in FILLED if name in zero and name not in told}
    assert {name: zero[name] for name in filled} == filled
    assert ("stage3_prefetch_bucket_size" in zero) is (asked["shard"] == "zero3")
    assert "auto" not in str(config.config)
