"""Reads a script for the Trainer or TRL back into settings: an oracle for what is printed.

Nothing is run. What a keyword means is written here anew, from the frameworks' own documentation.
"""

import ast

DTYPES = {"float32", "bfloat16", "float16"}
KERNELS = {  # torch.backends.cuda.enable_*_sdp(False)
    frozenset(("flash", "cudnn")): "efficient",
    frozenset(("flash", "mem_efficient")): "cudnn",
    frozenset(("flash", "mem_efficient", "cudnn")): "math",
}


def settings(script):
    """The settings of `train` that a script asks for."""
    calls = {}
    tree = ast.parse(script)
    named = {
        n.targets[0].id: n.value
        for n in tree.body
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls.setdefault(_name(node.func), []).append(node)
    trl = "SFTConfig" in calls
    args = _keywords(calls["SFTConfig" if trl else "TrainingArguments"][0])
    if trl:
        given = named[args.pop("model_init_kwargs").id]
        loading = {_value(k): v for k, v in zip(given.keys, given.values, strict=True)}
    else:
        loading = next(k for k in map(_keywords, calls["from_pretrained"]) if "dtype" in k)
    found = {"framework": "trl" if trl else "trainer"}
    found |= _loaded({k: named.get(getattr(v, "id", ""), v) for k, v in loading.items()})
    found |= _adapted(calls, trl=trl)
    if "deepspeed" in args:
        args["deepspeed"] = named[args["deepspeed"].id]
    found |= _arguments(args, trl=trl)
    found |= _length(tree, args, trl=trl)
    off = frozenset(n.split("_", 1)[1][:-4] for n in calls if n.startswith("enable_"))
    if off:
        found["attention"] = KERNELS[off]
    dtype = found.pop("loaded")
    found["precision"] = _precision(args, dtype)
    if trl:  # which loads in float32 unless it is told
        found["dtype"] = dtype
    return found


def model(script):
    """What is loaded."""
    calls = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)]
    for call in calls:
        named = _name(call.func) in ("SFTTrainer", "from_pretrained")
        if named and isinstance(call.args[0], ast.Constant):
            return call.args[0].value
    raise AssertionError(script)


def _name(func):
    return func.attr if isinstance(func, ast.Attribute) else func.id


def _keywords(call):
    return {k.arg: k.value for k in call.keywords}


def _value(node):
    return ast.literal_eval(node)


def _torch(node):
    assert isinstance(node, ast.Attribute) and node.value.id == "torch" and node.attr in DTYPES
    return node.attr


def _loaded(given):
    found = {"loaded": _torch(given.pop("dtype"))}
    kernel = given.pop("attn_implementation", None)
    if kernel is not None:
        found["attention"] = {"eager": "eager", "flash_attention_2": "flash"}[_value(kernel)]
    packs = given.pop("quantization_config", None)
    assert not given, f"not read: {given}"
    if packs is not None:
        found |= _packed(_name(packs.func), _keywords(packs))
    return found


def _packed(name, given):
    assert name == "BitsAndBytesConfig"
    if "load_in_8bit" in given:
        return {"quantization": "bnb-int8"}
    assert _value(given["load_in_4bit"]) is True
    double = "-dq" if "bnb_4bit_use_double_quant" in given else ""
    found = {"quantization": f"{_value(given['bnb_4bit_quant_type'])}{double}"}
    if "bnb_4bit_quant_storage" in given:
        found["bnb_4bit_quant_storage"] = _torch(given["bnb_4bit_quant_storage"])
    return found


def _adapted(calls, *, trl):
    if "LoraConfig" not in calls:
        return {"method": "full"}
    given = {k: _value(v) for k, v in _keywords(calls["LoraConfig"][0]).items()}
    targets = given.pop("target_modules")
    found = {
        "method": "dora" if given.pop("use_dora", False) else "lora",
        "lora_r": given.pop("r"),
        "lora_alpha": given.pop("lora_alpha"),
        "lora_targets": [targets] if isinstance(targets, str) else targets,
    }
    for theirs, ours in (("lora_dropout", "lora_dropout"), ("modules_to_save", "modules_to_save")):
        if theirs in given:
            found[ours] = given.pop(theirs)
    if given.pop("use_rslora", False):
        found["use_rslora"] = True
    assert not given
    if not trl and any("BitsAndBytesConfig" in n for n in calls):
        casts = "prepare_model_for_kbit_training" in calls
        found["kbit_upcast"] = "peft" if casts else "none"
    return found


def _arguments(args, *, trl):
    read = {k: _value(v) for k, v in args.items()}
    assert read["output_dir"]
    liger = read.get("use_liger_kernel", False)
    found = {
        "batch_size": read["per_device_train_batch_size"],
        "gradient_accumulation": read.get("gradient_accumulation_steps", 1),
        "checkpointing": "full" if read.get("gradient_checkpointing", trl) else "none",
        "optimizer": read["optim"],
        "loss": "liger" if liger else "trl" if trl else "standard",
    }
    if "per_device_eval_batch_size" in read:
        found["eval_batch_size"] = read["per_device_eval_batch_size"]
    if read.get("fsdp"):
        config = read["fsdp_config"]
        found["shard"] = f"fsdp{config.get('version', 2)}"
        found["offload"] = "params" if config.get("cpu_offload") else "none"
        found["cpu_ram_efficient_loading"] = config.get("cpu_ram_efficient_loading", False)
    if "deepspeed" in read:
        zero = read["deepspeed"]["zero_optimization"]
        found["shard"] = f"zero{zero['stage']}"
        states, params = "offload_optimizer" in zero, "offload_param" in zero
        found["offload"] = "params" if params else "optimizer" if states else "none"
    return found


def _length(tree, args, *, trl):
    if trl:
        return {"seq_len": _value(args["max_length"])}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and node.targets[0].id == "ids":
            return {"seq_len": _value(node.value.right)}
    raise AssertionError("the length is not said")


def _precision(args, dtype):
    if _value(args["bf16"]):
        return "bf16-mixed"
    if "fp16" in args and _value(args["fp16"]):
        return "fp16-mixed"
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[dtype]
