'''The script that trains a model as it was sized: it is saved, and runs as it is.

    """QLoRA of org/name with TRL ..."""
    imports
    # What decides the memory: packed, lora, args, and the model of the Trainer
    # Data: a data set that is named, or rows of the full length that stand in for one
    the trainer

The Trainer is handed its model, adapters and arguments; TRL's SFTTrainer is told what to make.
Arguments are made before the model: they choose the device of a rank, and ZeRO-3 has to be told of
before from_pretrained shares weights out (transformers 5.23 integrations/deepspeed.py).
Source: transformers 5.23 training_args.py (fsdp, fsdp_config, deepspeed, optim); trl 1.16
trainer/sft_config.py, base_config.py, sft_trainer.py (rows of input_ids are taken as they are);
PEFT 0.21 tuners/lora/config.py, utils/other.py.
'''

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.units import ceil_div
from weighbridge.engines.transformers.derived import IMPLEMENTATIONS, OFF
from weighbridge.machines.allocator.settings import GROWING, VARIABLES
from weighbridge.models.quantization.on_load import arguments
from weighbridge.training.launching import (
    CHECKPOINTS,
    LOSSES,
    MASKED,
    NEXT,
    SEEN,
    TrainerRun,
    TrainingLine,
    unwritten,
)

WIDE = 79  # columns per line
STEPS = 8  # steps that the stand-in rows are enough for
DECIDES = "# What decides the memory"  # heading of the statements that a screen shows
METHODS = {"full": "Full training", "lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA"}
MOVED = ("CPO", "ORPO")  # to trl.experimental (trl 1.16)
WRITES = ("GRPO", "RLOO")  # trainers that generate answers
LOSS_TYPES: Mapping[str, tuple[str, ...]] = {
    "ipo": ('loss_type=["ipo"]',),
    "simpo": ('loss_type="simpo"', "cpo_alpha=0.0"),
}
ROWS = {  # stand-in rows of data, for trainers that compare or label rows
    "DPO": '{"prompt": "a", "chosen": " a" * args.max_length, "rejected": " a" * args.max_length}',
    "KTO": '{"prompt": "a", "completion": " a" * args.max_length, "label": True}',
    # Rows longer than max_length are left out, with what a tokenizer puts around them (trl 1.16
    # trainer/reward_trainer.py): eight tokens fewer
    "Reward": '{word: " a" * (args.max_length - 8) for word in ("chosen", "rejected")}',
}
# Classes whose config has no num_experts, which TRL's fused loss reads for the load-balancing loss
# (trl 1.16 trainer/utils.py, _fused_forward): without that loss it runs
BALANCES_NONE = ("GraniteMoe", "Phimoe")
WRITERS = {"trainer": "the Trainer", "trl": "TRL"}


def line(run: TrainerRun) -> TrainingLine:
    """Return the script of a run, the command of a program for reinforcement learning, or the
    reason why there is none."""
    if run.settings["framework"] not in WRITERS:
        from weighbridge.training.learning import lines

        if lines.written(run.settings):
            return lines.command(run)
    why = unwritten(run)
    return TrainingLine(why=f"no script: {why}") if why else TrainingLine(script(run), script=True)


def script(run: TrainerRun) -> str:
    """Return the text of the whole script."""
    parts = (_about(run), ["import argparse"], _imports(run), _decides(run), _data(run))
    return "\n\n".join(map("\n".join, (*parts, _trains(run)))) + "\n"


def _about(run: TrainerRun) -> Iterator[str]:
    t = run.settings
    tuned, rows = METHODS[_tuning(run)], f"{t['batch_size']} x {t['seq_len']:,} tokens"
    name = "Reward model" if t["method"] == "reward" else str(t["method"]).upper()
    method = f"{name}, {tuned.replace('Full', 'full')}" if run.learns else tuned
    yield f'"""{method} of {run.model} with {WRITERS[run.framework]}, {rows} a step.'
    yield ""
    yield f"    {run.starts}"
    yield f"    {run.starts} --dataset ORG/NAME"
    yield ""
    yield 'Without --dataset rows of the full length stand in for data."""'


def _imports(run: TrainerRun) -> Iterator[str]:
    """Yield the import lines in isort's order."""
    t, config, trl = run.settings, run.packs, run.framework == "trl"
    if t.get("expandable_segments"):
        yield "import os"
        yield ""
    yield "import torch"
    if trl:
        yield "from datasets import Dataset, load_dataset"
    if t["lora_r"]:
        peft = ["LoraConfig"]
        peft += [] if trl else ["get_peft_model"]
        peft += ["prepare_model_for_kbit_training"] if t["kbit_upcast"] == "peft" else []
        yield _imported("peft", peft)
    if config is not None and config.inner is not None:
        yield _imported("torchao.quantization", [config.inner.name])
    names = [] if trl else [run.cls, "Trainer", "TrainingArguments", *_readers(run)]
    names += [config.name] if config is not None else []
    if names:
        yield _imported("transformers", sorted(names))
    if trl:
        home = f"trl.experimental.{run.learns.lower()}" if run.learns in MOVED else "trl"
        yield _imported(home, [f"{run.learns or 'SFT'}Config", f"{run.learns or 'SFT'}Trainer"])


def _imported(module: str, names: Sequence[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    inner = "".join(f"\n    {name}," for name in names)
    return line if len(line) <= WIDE else f"from {module} import ({inner}\n)"


def _readers(run: TrainerRun) -> tuple[str, ...]:
    texts = run.cls.endswith((*NEXT, *MASKED))
    return ("AutoTokenizer", "DataCollatorForLanguageModeling") if texts else ()


def _decides(run: TrainerRun) -> Iterator[str]:
    t, config = run.settings, run.packs
    yield DECIDES
    yield from _allocator(run)
    for name in OFF.get(t["attention"] or "", ()):
        yield f"torch.backends.cuda.enable_{name}_sdp(False)"
    if config is not None:
        yield from assigned(
            "packed", config.name, arguments(config, run.asked.bnb_4bit_quant_storage)
        )
    if t["lora_r"]:
        yield from assigned("lora", "LoraConfig", _adapters(run))
    if run.zero:
        yield from _pretty("zero = ", _deepspeed(run))
    if run.framework == "trl":
        yield from _wrapped("loading = {", tuple(_loading(run, ": ")), "}")
        args = f"{run.learns or 'SFT'}Config"
        yield from assigned("args", args, (*_arguments(run), "model_init_kwargs=loading"))
        return
    model = json.dumps(run.model)
    yield from assigned("args", "TrainingArguments", tuple(_arguments(run)))
    yield from assigned("model", f"{run.cls}.from_pretrained", (model, *_loading(run, "=")))
    if t["kbit_upcast"] == "peft":
        checks = f"use_gradient_checkpointing={CHECKPOINTS[t['checkpointing']]}"
        yield from assigned("model", "prepare_model_for_kbit_training", ("model", checks))
    if t["lora_r"]:
        yield "model = get_peft_model(model, lora)"


def _allocator(run: TrainerRun) -> Iterator[str]:
    """Yield the line that sets torch's allocator, which reads it when a device is first used."""
    if run.settings.get("expandable_segments"):
        yield f'os.environ["{VARIABLES[0]}"] = "{GROWING}"'


def _loading(run: TrainerRun, sign: str) -> Iterator[str]:
    """Yield the arguments of from_pretrained; `sign` "=" writes keyword arguments, ": " items of a
    dict."""
    quoted = (lambda name: f'"{name}"') if sign == ": " else str
    yield f"{quoted('dtype')}{sign}torch.{run.settings['dtype']}"
    if run.packs is not None:
        yield f"{quoted('quantization_config')}{sign}packed"
    kernel = run.settings["attention"] or ""
    if kernel in IMPLEMENTATIONS:
        yield f'{quoted("attn_implementation")}{sign}"{IMPLEMENTATIONS[kernel]}"'


def assigned(name: str, call: str, values: Sequence[str]) -> Iterator[str]:
    """Yield the lines of `name = call(values)`: one line, or one argument per line."""
    yield from _wrapped(f"{name} = {call}(", values, ")")


def _wrapped(start: str, values: Sequence[str], end: str) -> Iterator[str]:
    line = f"{start}{', '.join(values)}{end}"
    if len(line) <= WIDE:
        yield line
        return
    yield start
    yield from (f"    {each}," for each in values)
    yield end


def _pretty(start: str, value: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of a dict literal after `start`, with one item per line if it is long."""
    if len(f"{indent}{start}{value!r},") <= WIDE:
        yield f"{indent}{start}{_quoted(value)}{',' if indent else ''}"
        return
    yield f"{indent}{start}{{"
    for key, each in value.items():
        if isinstance(each, dict):
            yield from _pretty(f'"{key}": ', each, f"{indent}    ")
        else:
            yield f'{indent}    "{key}": {_quoted(each)},'
    yield f"{indent}}}{',' if indent else ''}"


def _quoted(value: Any) -> str:
    return repr(value).replace("'", '"')


def _adapters(run: TrainerRun) -> tuple[str, ...]:
    t = run.settings
    lora = [f"r={t['lora_r']}", f"lora_alpha={t['lora_alpha']}"]
    targets = list(t["lora_targets"])
    lora.append(f"target_modules={json.dumps(targets[0] if len(targets) == 1 else targets)}")
    lora += [f"lora_dropout={t['lora_dropout']}"] if t["lora_dropout"] else []
    lora += ["use_dora=True"] if _tuning(run) == "dora" else []
    lora += ["use_rslora=True"] if t["use_rslora"] else []
    saved = _saved(run)
    lora += ['task_type="SEQ_CLS"'] * (run.learns == "Reward")
    lora += [f"modules_to_save={json.dumps(saved)}"] if saved else []
    return tuple(lora)


def _saved(run: TrainerRun) -> list[str]:
    """Return the names of modules that are trained whole, except the head that PEFT trains by its
    task."""
    head = ("score",) if run.learns == "Reward" else ()
    return [name for name in run.settings["modules_to_save"] or () if name not in head]


def _arguments(run: TrainerRun) -> Iterator[str]:
    """Yield the trainer's arguments that an answer depends on, the most important first."""
    t = run.settings
    yield f"per_device_train_batch_size={t['batch_size']}"
    if run.learns in WRITES:
        yield from _answers(run)
    elif run.framework == "trl":
        yield f"max_length={t['seq_len']}"
        yield from LOSS_TYPES.get(t["method"], ())
        yield from ["precompute_ref_log_probs=True"] * (t.get("reference") == "precomputed")
    if t["gradient_accumulation"] != 1:
        yield f"gradient_accumulation_steps={t['gradient_accumulation']}"
    if CHECKPOINTS[t["checkpointing"]] or run.framework == "trl":  # its default is True
        yield f"gradient_checkpointing={CHECKPOINTS[t['checkpointing']]}"
    if run.asked.use_reentrant is not None:
        yield f'gradient_checkpointing_kwargs={{"use_reentrant": {run.asked.use_reentrant}}}'
    yield from ["router_aux_loss_coef=0.0"] * (
        t["loss"] == "trl" and run.cls.startswith(BALANCES_NONE)
    )
    yield f"optim={json.dumps(t['optimizer'])}"
    yield f"bf16={t['precision'] == 'bf16-mixed'}"
    if t["precision"] == "fp16-mixed":
        yield "fp16=True"
    if LOSSES[run.framework][t["loss"]]:
        yield "use_liger_kernel=True"
    yield from _shards(run)
    yield from _reading(run)
    yield 'output_dir="out"'


def _tuning(run: TrainerRun) -> str:
    """Return the tuning method: "full", "lora", "qlora"..."""
    return str(run.settings["tuner"] if run.learns else run.settings["method"])


def _answers(run: TrainerRun) -> Iterator[str]:
    """Yield the arguments for generated answers: their number, their length, and the engine."""
    t = run.settings
    yield f"num_generations={t['num_generations']}"
    yield f"max_completion_length={t['max_new_tokens']}"
    if t.get("kl_beta") or run.learns == "RLOO":  # whose default is 0.05
        yield f"beta={t.get('kl_beta') or 0.0}"
    if t["rollout_engine"] == "none":
        return
    yield "use_vllm=True"
    yield 'vllm_mode="colocate"'
    yield f"vllm_gpu_memory_utilization={t['gpu_memory_utilization']}"
    if t["rollout_tp"] != 1:
        yield f"vllm_tensor_parallel_size={t['rollout_tp']}"
    if t.get("sleep_level"):
        yield "vllm_enable_sleep_mode=True"


def _reading(run: TrainerRun) -> Iterator[str]:
    """Yield the arguments for data loading, and for evaluation during training."""
    t = run.settings
    if workers := t.get("dataloader_num_workers"):
        yield f"dataloader_num_workers={workers}"
    if t["eval_batch_size"]:
        yield 'eval_strategy="steps"'
        yield f"per_device_eval_batch_size={t['eval_batch_size']}"


def _shards(run: TrainerRun) -> Iterator[str]:
    t = run.settings
    if t["shard"] == "fsdp2":
        config: dict[str, Any] = {"version": 2}
        config |= {"cpu_offload": True} if t["offload"] == "params" else {}
        config |= {"cpu_ram_efficient_loading": True} if t["cpu_ram_efficient_loading"] else {}
        if t.get("reshard_after_forward") is False:
            config["reshard_after_forward"] = False
        yield "fsdp=True"
        yield f"fsdp_config={_quoted(config)}"
    if run.zero:
        yield "deepspeed=zero"


def _deepspeed(run: TrainerRun) -> dict[str, Any]:
    """Return DeepSpeed's configuration; the Trainer fills in values that are "auto"."""
    away, stage = run.settings["offload"], int(run.settings["shard"][-1])
    share: dict[str, Any] = {"stage": stage, "reduce_bucket_size": "auto"}
    if stage == 3:
        share["stage3_prefetch_bucket_size"] = "auto"
        share["stage3_param_persistence_threshold"] = "auto"
        if run.asked.gather_on_save is not None:
            share["stage3_gather_16bit_weights_on_model_save"] = run.asked.gather_on_save
    asked = run.asked.zero_pin_memory
    pins = {} if asked is None else {"pin_memory": asked}
    if away != "none":
        share["offload_optimizer"] = {"device": "cpu", **pins}
    if away == "params":
        share["offload_param"] = {"device": "cpu", **pins}
    kinds = {name: {"enabled": "auto"} for name in ("bf16", "fp16")}
    batch = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size")
    return {"zero_optimization": share, **kinds, **dict.fromkeys(batch, "auto")}


# Data


def _data(run: TrainerRun) -> Iterator[str]:
    yield "# Data: a data set, or rows that stand in for one"
    yield "parser = argparse.ArgumentParser()"
    yield 'parser.add_argument("--dataset")'
    yield "name = parser.parse_args().dataset"
    yield from _standing(run)
    yield "if name:"
    yield from (f"    {line}".rstrip() for line in _named(run))


def _standing(run: TrainerRun) -> Iterator[str]:
    """Yield the lines that make stand-in rows: as many as a few steps take on all ranks."""
    t = run.settings
    rows = STEPS * t["batch_size"] * t["gradient_accumulation"] * t["data_parallel_size"]
    if run.learns in WRITES:
        yield f'data = Dataset.from_dict({{"prompt": [" a" * {t["prompt_len"]}] * {rows}}})'
        return
    if run.learns:
        row = ROWS.get(run.learns, ROWS["DPO"])
        yield from _wrapped("row = {", row[1:-1].split(", "), "}")
        if run.learns == "KTO":  # which compares wanted rows with unwanted ones
            both = '[row, {**row, "label": False}]'
            yield f"data = Dataset.from_list({both} * {ceil_div(rows, 2)})"
            return
        yield f"data = Dataset.from_list([row] * {rows})"
        return
    if run.framework == "trl":
        yield f'data = Dataset.from_dict({{"input_ids": [[1] * args.max_length] * {rows}}})'
        return
    if run.cls.endswith(SEEN):
        yield "side = model.config.image_size"
        yield 'row = {"pixel_values": torch.zeros(3, side, side), "labels": 0}'
    else:
        yield f"ids = [1] * {t['seq_len']}"
        yield 'row = {"input_ids": ids, "labels": ids}'
    yield f"data, collator = [row] * {rows}, None"


def _named(run: TrainerRun) -> Iterator[str]:
    """Yield the lines that load a named data set, and tokenize it unless SFTTrainer does."""
    if run.framework != "trl":
        yield "from datasets import load_dataset"
        yield ""
    yield 'data = load_dataset(name, split="train")'
    if run.framework == "trl" or not _readers(run):
        return
    mlm, length = run.cls.endswith(MASKED), run.settings["seq_len"]
    yield "tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)"
    if not mlm:
        yield "tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token"
    yield "data = data.map("
    yield f'    lambda rows: tokenizer(rows["text"], truncation=True, max_length={length}),'
    yield "    batched=True,"
    yield "    remove_columns=data.column_names,"
    yield ")"
    yield f"collator = DataCollatorForLanguageModeling(tokenizer, mlm={mlm})"


def _trains(run: TrainerRun) -> Iterator[str]:
    trl, t = run.framework == "trl", run.settings
    values = [json.dumps(run.model) if trl else "model", "args=args", "train_dataset=data"]
    if run.learns in WRITES:
        yield ""
        yield "# What an answer is worth: its length, until you say it"
        yield "def reward(completions, **columns):"
        yield "    return [float(len(answer)) for answer in completions]"
        yield ""
        yield ""
        values.append("reward_funcs=reward")
    values += ["eval_dataset=data"] if t["eval_batch_size"] else []
    values += [] if trl else ["data_collator=collator"]
    values += ["peft_config=lora"] if trl and t["lora_r"] else []
    trainer = f"{run.learns or 'SFT'}Trainer" if trl else "Trainer"
    yield from assigned("trainer", trainer, values)
    yield "trainer.train()"
