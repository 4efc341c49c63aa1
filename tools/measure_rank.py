"""Measure one rank of many on the GPU that is here: the Trainer under DDP, FSDP or DeepSpeed.

    python -m tools.measure_rank tests/golden/h100_ranks.jsonl CONFIGS > records.jsonl

The other ranks are not there: torch's fake backend gives each collective back at once, into the
buffers that the library has made for it. What a rank allocates is what it would among the others;
NCCL's own buffers are outside of torch and missing. CONFIGS is a folder of MODEL.json, each the
config.json of that model; weights are zeros, and tokens drawn. A run is a process of its own, and a
record keeps what it was asked for: {"run", "model", "ranks", "rank", "workload" (settings of
`train`), "pin_memory", "environment"}.

    allocated, reserved    torch's peaks over four steps, loading and all
    load                   the allocated peak up to the first step
    host                   bytes of this process: pinned by torch's allocator, anonymous pages, and
                           pages of files

Needs torch with CUDA, transformers and accelerate, and for `zero` DeepSpeed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STEPS = 4
NODE = 8


def main(runs: str, configs: str) -> None:
    for line in Path(runs).read_text(encoding="utf-8").splitlines():
        command = [sys.executable, "-m", "tools.measure_rank", "--one", line, configs]
        done = subprocess.run(command, capture_output=True, text=True)
        record = [said for said in done.stdout.splitlines() if said.startswith('{"run"')]
        print(record[0] if record else f"{line}: {done.stderr[-300:]}", flush=True)


def one(run: dict[str, Any], configs: str) -> dict[str, Any]:
    """Run it here, and return its record."""
    ranks, rank = run["ranks"], run["rank"]
    places = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": ranks}
    places["LOCAL_WORLD_SIZE"] = min(ranks, NODE)
    os.environ.update({name: str(number) for name, number in places.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")
    os.environ.update(run.get("environment", {}))
    import torch
    from torch import distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    dist.barrier = lambda *_, **__: None
    torch.cuda.init()
    seen = SimpleNamespace(load=0, host={"pinned": 0, "anonymous": 0, "files": 0})
    trainer = _trainer(run, configs, seen)
    trainer.train()
    look(seen)
    peaks = {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
    }
    return {**run, "measured": {**peaks, "load": seen.load, "host": seen.host}}


def look(seen: SimpleNamespace) -> None:
    """Note what this process holds of the host, if it is more than before."""
    import torch

    now = {"pinned": torch.cuda.host_memory_stats().get("allocated_bytes.peak", 0)}
    names = {"RssAnon": "anonymous", "RssFile": "files"}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, text = line.partition(":")
        if name in names:
            now[names[name]] = 1024 * int(text.split()[0])
    seen.host = {name: max(nbytes, now.get(name, 0)) for name, nbytes in seen.host.items()}


def _trainer(run: dict[str, Any], configs: str, seen: SimpleNamespace) -> Any:
    import torch
    from transformers import AutoConfig, Trainer, TrainerCallback, TrainingArguments

    asked = run["workload"]
    told = json.loads(Path(configs, f"{run['model']}.json").read_text(encoding="utf-8"))
    config = AutoConfig.for_model(**told)
    args = TrainingArguments(**_arguments(run), **_shared(run))  # ZeRO 3 cuts models made after it
    model = _model(asked, config)

    class Watch(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            seen.load = torch.cuda.max_memory_allocated()
            look(seen)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            look(seen)

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10_000

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            drawn = torch.Generator().manual_seed(index)
            ids = torch.randint(0, config.vocab_size, (asked["seq_len"],), generator=drawn)
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    if asked["shard"] == "ddp":
        _answer_ddp()
    return Trainer(model=model, args=args, train_dataset=Rows(), callbacks=[Watch()])


def _model(asked: dict[str, Any], config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, initialization

    lower = asked.get("precision") == "bf16" or "method" in asked
    with initialization.no_init_weights():
        dtype = torch.bfloat16 if lower else torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for name, parameter in model.named_parameters():
        if "norm" in name and parameter.numel():
            parameter.data.fill_(1)
        if name.endswith("mlp.gate.weight") and parameter.numel():  # or all go to the same experts
            parameter.data.normal_(0, 0.02)
    del parameter  # it would live, whole, on the device
    if config.tie_word_embeddings:
        model.tie_weights()
    if "method" in asked:
        import peft

        targets = asked["lora_targets"]
        lora = peft.LoraConfig(r=asked["lora_r"], target_modules=targets, task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, lora)
    return model


def _arguments(run: dict[str, Any]) -> dict[str, Any]:
    asked = run["workload"]
    args = {
        "output_dir": "out",
        "per_device_train_batch_size": asked["batch_size"],
        "gradient_accumulation_steps": asked.get("gradient_accumulation", 1),
        "gradient_checkpointing": asked["checkpointing"] == "full",
        "bf16": asked.get("precision", "bf16-mixed") == "bf16-mixed",
        "max_steps": STEPS,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
    }
    return args | ({"optim": asked["optimizer"]} if "optimizer" in asked else {})


def _shared(run: dict[str, Any]) -> dict[str, Any]:
    asked = run["workload"]
    shard, offload = asked["shard"], asked.get("offload", "none")
    if shard.startswith("zero"):
        return {"deepspeed": _zero(int(shard[-1]), offload, pins=run.get("pin_memory", True))}
    if not shard.startswith("fsdp"):
        return {}
    config: dict[str, Any] = {"version": int(shard[-1])}
    if "backward_prefetch" in asked:
        config["backward_prefetch"] = f"backward_{asked['backward_prefetch']}"
    words = ["full_shard" if asked.get("reshard_after_forward", True) else "shard_grad_op"]
    words += ["auto_wrap", *(["offload"] if offload != "none" else [])]
    return {"fsdp": " ".join(words), "fsdp_config": config}


def _zero(stage: int, offload: str, *, pins: bool) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": "auto"}
    if stage == 3:
        zero["stage3_prefetch_bucket_size"] = "auto"
        zero["stage3_param_persistence_threshold"] = "auto"
    host = {"device": "cpu", "pin_memory": pins}
    if offload != "none":
        zero["offload_optimizer"] = host
    if offload == "params":
        zero["offload_param"] = host
    batches = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size")
    config: dict[str, Any] = {"zero_optimization": zero, "bf16": {"enabled": "auto"}}
    config |= dict.fromkeys(("gradient_clipping", *batches), "auto")
    if offload != "none":
        rates = dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")
        config["optimizer"] = {"type": "AdamW", "params": rates}
    return config


def _answer_ddp() -> None:
    """Let DDP have the future that it waits for, which the fake backend does not give it."""
    import torch
    from torch.distributed import GradBucket
    from torch.nn.parallel import DistributedDataParallel

    make = DistributedDataParallel.__init__

    def answer(_: Any, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def made(self: Any, *args: Any, **more: Any) -> None:
        make(self, *args, **more)
        self.register_comm_hook(None, answer)

    DistributedDataParallel.__init__ = made


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(one(json.loads(sys.argv[2]), sys.argv[3])))
        sys.stdout.flush()
        os._exit(0)  # the group that is not there does not end
    main(*sys.argv[1:])
