"""What the libraries make of files that `--emit` writes, on a machine without a card: what their own
parsers ask about the machine before they read a value is answered here."""

import weighbridge

MODEL = "llama-3.1-8b"
PRECISIONS = {(True, False): "bf16-mixed", (False, True): "fp16-mixed", (False, False): "fp32"}


def on_a_card(monkeypatch):
    """Let TrainingArguments take bfloat16 and a config of DeepSpeed, as where a card and DeepSpeed are:
    there transformers makes its class of accelerate's. Return that class."""
    from accelerate.utils.deepspeed import HfDeepSpeedConfig
    from transformers import training_args
    from transformers.integrations import deepspeed

    class Config(deepspeed.HfTrainerDeepSpeedConfig, HfDeepSpeedConfig):
        pass

    monkeypatch.setattr(training_args, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(deepspeed, "HfTrainerDeepSpeedConfig", Config)
    monkeypatch.setattr(deepspeed, "dep_version_check", lambda name: None)
    return Config


def written(folder, kind, name, settings, model=MODEL):
    """Write a new file of a kind under a name; return what it was made of."""
    made = weighbridge.emit(model, kind, **settings)
    (folder / name).write_text(made.text)
    return made


def same_arguments(args, asked):
    """Fail where TrainingArguments ask for another step than an answer was about."""
    told = {
        "batch_size": args.per_device_train_batch_size,
        "gradient_accumulation": args.gradient_accumulation_steps,
        "optimizer": args.optim.value,
        "precision": PRECISIONS[bool(args.bf16), bool(args.fp16)],
        "checkpointing": "full" if args.gradient_checkpointing else "none",
        "eval_batch_size": args.per_device_eval_batch_size if args.eval_strategy != "no" else None,
    }
    kwargs = args.gradient_checkpointing_kwargs or {}
    if args.gradient_checkpointing and "use_reentrant" in kwargs:
        told["use_reentrant"] = kwargs["use_reentrant"]
    assert told == {name: asked[name] for name in told}
    assert args.use_liger_kernel is (asked["loss"] == "liger")
    same_shares(args, asked)


def same_shares(args, asked):
    """Fail where TrainingArguments share out otherwise than an answer was about."""
    plugin = args.fsdp_plugin_args
    if asked["shard"].startswith("fsdp"):
        assert f"fsdp{plugin['fsdp_version']}" == asked["shard"]
        assert plugin.get("cpu_offload", False) is (asked["offload"] == "params")
        assert plugin["reshard_after_forward"] in (True, "full_shard")
        assert plugin["auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
    else:
        assert plugin is None
    assert bool(args.deepspeed) is asked["shard"].startswith("zero")
    if args.deepspeed:
        same_zero(args.hf_deepspeed_config, asked)


def same_zero(config, asked):
    """Fail where a config of DeepSpeed, filled in by the Trainer, is not that of an answer."""
    assert config.get_value("zero_optimization.stage") == int(asked["shard"][-1])
    kept = {"none": set(), "optimizer": {"optimizer"}, "params": {"optimizer", "param"}}
    for name in ("optimizer", "param"):
        device = config.get_value(f"zero_optimization.offload_{name}.device", "none")
        assert device == ("cpu" if name in kept[asked["offload"]] else "none")
    assert config.get_value("train_micro_batch_size_per_gpu") == asked["batch_size"]
    assert config.get_value("gradient_accumulation_steps") == asked["gradient_accumulation"]
    half = asked["precision"].partition("-")[0]
    for name in ("bf16", "fp16"):
        assert config.get_value(f"{name}.enabled") is (half == name)


def same_adapters(lora, asked):
    """Fail where PEFT's config makes other adapters than an answer was about."""
    if asked["method"] == "full":
        assert lora is None
        return
    assert lora.use_dora is (asked["method"] == "dora")
    assert lora.r == asked["lora_r"]
    assert lora.lora_alpha == (asked["lora_alpha"] or asked["lora_r"])
    assert lora.lora_dropout == (asked["lora_dropout"] or 0.0)
    assert lora.use_rslora is bool(asked["use_rslora"])
    targets = lora.target_modules
    assert targets == "all-linear" or set(targets) == set(asked["lora_targets"])
    assert (targets == "all-linear") is (list(asked["lora_targets"]) == ["all-linear"])
    assert set(lora.modules_to_save or ()) == set(asked["modules_to_save"] or ())


def same_packing(config, asked):
    """Fail where bitsandbytes packs the base in another format than an answer was about."""
    form = asked["quantization"]
    if form is None:
        assert config is None
    elif form == "bnb-int8":
        assert config.load_in_8bit
    else:
        assert config.load_in_4bit
        nested = "-dq" if config.bnb_4bit_use_double_quant else ""
        assert config.bnb_4bit_quant_type + nested == form
