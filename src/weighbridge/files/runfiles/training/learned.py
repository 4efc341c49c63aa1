"""What a run learns from rewards or preferences, by the names of TRL and of those that train by its
classes: ms-swift, LLaMA-Factory, axolotl and Unsloth.

Sources: trl 0.16 to 1.16 trainer/grpo_config.py (vllm_mode "server" from 0.18 to 0.29 and
"colocate" since 1.0; max_prompt_length until 0.27), dpo_config.py, kto_config.py, scripts/;
ms-swift @ 3602360a swift/rlhf_trainers/args_mixin.py, rollout_mixin.py (offload_model).
"""

from collections.abc import Iterator, Mapping

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.reading import KeyReading
from weighbridge.files.runfiles.record import Value
from weighbridge.files.runfiles.tables import Phrases, table
from weighbridge.files.runfiles.training import arguments, flags
from weighbridge.training.learning.words import section
from weighbridge.workload.train import LEARNS, REWARDS

KEYS = text_beside(__file__, "learned.txt")
NAMES = {  # a program's name of a method -> ours; other names are refused
    **{name: name for name in LEARNS},
    "rm": "reward",
    "distillation": "gkd",  # NeMo-RL's
    "bco": "kto",
    "dr_grpo": "grpo",
    "bnpo": "grpo",
    "reinforce++": "reinforce",
    "reinforce_plus_plus": "reinforce",
}
ONLINE = ("num_generations", "reward_funcs", "max_completion_length")  # keys of GRPO's step
COMPARED = ("dpo_alpha", "pref_beta", "beta", "max_prompt_length")  # of DPO, without those
OF_SFT = ("nll", "dft", "chunked_nll", "")  # loss_type of fine-tuning
LENGTHS = ("max_length", "max_seq_length", "model_max_length")
OF_PROMPT = ("max_prompt_length", "max_length")  # ms-swift: limits of a prompt
NO_PROMPT = ("0.27", "max_prompt_length is no argument of TRL's GRPO since 0.28")
SERVER, OWN_CARD = (
    "server",
    "the server of vLLM writes on cards of its own, by a command of its own",
)
MODES = {"axolotl": SERVER}  # utils/schemas/validation.py (check_vllm_mode_set)
GATHERS = "ds3_gather_for_generation"  # on by default
PACKED = {False: "lora", True: "qlora"}


def keys_of(framework: str, *tables: str) -> str:
    """Return the key table of a framework, joined with others that it shares."""
    return arguments.merged(*tables, KEYS, section(framework))


def method_of(keys: KeyReading) -> str:
    """Return the method that the keys of a file imply; "" for fine-tuning."""
    named = str(keys.value("rlhf_type") or "").lower()
    if named:
        return NAMES.get(named, named)
    if any(name in keys.data for name in ONLINE):
        return "grpo"
    if "reward_model_path" in keys.data:  # online DPO and similar; PPO's script has it in its name
        return "online RL"
    loss = keys.value("loss_type")
    lost = isinstance(loss, str) and loss.lower() not in OF_SFT
    return "dpo" if lost or any(name in keys.data for name in COMPARED) else ""


def take(keys: KeyReading, method: str) -> None:
    """Read a method's settings beyond fine-tuning's; LoRA settings become the tuner's."""
    settings = keys.settings
    settings["tuner"], settings["method"] = settings.get("method", "full"), method
    keys.understood = [
        replace(one, setting="tuner") if one.setting == "method" else one for one in keys.understood
    ]
    for name in ("rlhf_type", "rl", "stage"):
        if keys.value(name) is not None:
            keys.knows(name, "method")
    if method in REWARDS or (method == "gkd" and keys.on("use_vllm")):
        _read_generation(keys)
        keys.used.add("padding_free")  # rows may be as long as answers: nothing is saved
    else:
        keys.used.add("beta")  # a factor of the loss
    switches(keys, table(section(str(settings["framework"]))).phrases)


def switches(keys: KeyReading, phrases: Phrases) -> None:
    """Set the settings that the values of one or several keys mean together; the first match
    counts. Keys that must be off may also be missing."""
    for (setting, meaning), words in phrases.items():
        if setting in keys.settings:
            continue
        stand = words.items() if len(words) == 1 else _there(keys, words)
        names = [_key_with_value(keys, key, value) for key, value in stand]
        if names and all(names):
            keys.set(setting, meaning if meaning == "none" else flags.plain(meaning), names[0])
            for name in names[1:]:
                keys.knows(name, setting)


def _there(keys: KeyReading, words: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    for key, value in words.items():
        if value is not False or any(keys.peek(name) is not None for name in key.split("|")):
            yield key, value


def _key_with_value(keys: KeyReading, names: str, value: Value) -> str:
    """Return which of `a|b` has `value`, and "" if none has."""
    for name in names.split("|"):
        if str(keys.peek(name)).lower() == str(value).lower():
            return name
    return ""


def _read_generation(keys: KeyReading) -> None:
    """Read how answers are generated: the engine, their length, and what is offloaded."""
    _read_prompt_length(keys)
    if keys.on("use_vllm"):
        _engine(keys)
    elif keys.settings["framework"] != "agilerl":
        keys.settings["rollout_engine"] = "none"
    if keys.peek(GATHERS) is False:
        keys.leave(GATHERS, "- ZeRO-3 does not gather the model while it writes")
    keys.used.update(("use_vllm", "vllm_mode", GATHERS))


def _engine(keys: KeyReading) -> None:
    mode = keys.value("vllm_mode") or MODES.get(str(keys.settings["framework"]))
    keys.settings["rollout_engine"] = "vllm"
    if "use_vllm" in keys.data:
        keys.knows("use_vllm", "rollout_engine")
    if mode is None and keys.settings.get("framework_version") == NO_PROMPT[0]:
        mode = SERVER
    if mode == SERVER:
        keys.engine_cards = max(1, number(keys.peek("vllm_tensor_parallel_size")))
        keys.notes.append(OWN_CARD)
    steps = number(keys.value("steps_per_generation"))
    if steps and keys.settings["framework"] == "trl":
        ranks = max(1, number(keys.peek("vllm_tensor_parallel_size")))
        rows = keys.settings["batch_size"] * ranks * steps
        keys.set("max_num_seqs", rows, "steps_per_generation")
    keys.used.add("steps_per_generation")


def _read_prompt_length(keys: KeyReading) -> None:
    """Read the prompt length. Unsloth's rows are as long as the model was loaded for."""
    swift, fast = (keys.settings["framework"] == name for name in ("ms-swift", "unsloth"))
    if keys.settings["framework"] != "axolotl":  # axolotl cuts rows to its sequence_len
        keys.settings.pop("seq_len", None)
        keys.understood = [one for one in keys.understood if one.setting != "seq_len"]
        keys.defaults = [each for each in keys.defaults if each[0] != "seq_len"]
    computed = number(keys.peek("max_completion_length")) == 0
    if fast:
        keys.take("max_seq_length", "seq_len")
        _fit_batch_to_groups(keys)
    if fast and computed:
        keys.used.update(("max_prompt_length", "max_completion_length"))
        return
    name = next((n for n in OF_PROMPT[: 1 + swift] if number(keys.peek(n))), "")
    if name:
        keys.take(name, "prompt_len")
    elif swift and keys.on("use_vllm") and keys.value("vllm_mode") != SERVER:
        most = number(keys.peek("vllm_max_model_len")) - number(keys.peek("max_completion_length"))
        if most > 0:  # vLLM rejects longer requests
            keys.default("prompt_len", most, sentence("swift.engine_length"))
    if name == OF_PROMPT[0] and keys.settings["framework"] == "trl":
        keys.default("framework_version", *NO_PROMPT)


def _fit_batch_to_groups(keys: KeyReading) -> None:
    """Set the batch size to the answers per prompt if a step does not hold whole groups, as Unsloth
    does (unsloth models/rl.py: "We will change the batch size")."""
    rows, answers = keys.settings["batch_size"], number(keys.peek("num_generations"))
    steps = max(1, number(keys.peek("gradient_accumulation_steps")))
    if answers and rows * steps % answers:
        keys.settings["batch_size"] = answers
        keys.notes.append(sentence("rewards.groups", rows=rows, answers=answers))


def number(value: Value) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def refusal(method: str) -> str:
    """Return why a method is not supported; "" if it is."""
    return "" if method in ("", *LEARNS) else sentence("rewards.unknown", method=f"{method:.40}")
