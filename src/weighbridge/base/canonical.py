"""What decides memory in a config, and nothing else: a thousand fine-tunes have one key.

    key(config)         text that two configs share where every question has one answer for both
    canonical(config)   the config that this key stands for, which answers as the whole one does
    public(value)       a config, or a part of one, without secrets: as others may see it

Names, ids of tokens, epsilons, scales and defaults of generation are left out. A key that nobody
here has thought of stays: that costs a second question, and never a wrong answer. Bytes and
verdicts are what is meant: a launch line and a format's published quality go by a model's name.

A config is written by whoever trained the model, and may hold the token that it was uploaded with.
That decides no memory, and goes into no file and no key of ours.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import names_secret, redacted

# Numbers that a kernel multiplies by, and ids that it compares with: no size hangs on them.
VALUES = re.compile(r"(?:^|(?:norm|ln)_)(?:eps|epsilon)$|_token_(?:ids?|index)$")
PAD = "pad_token_id"  # which RoBERTa and its relatives count positions from
ROTARY = ("rope_", "rotary_")  # how keys begin of a model that has no table of positions
# Who made it, and with what; how the weights began, and what the loss weighs; how text is
# generated, which each request says for itself
_DROPPED = """
_name_or_path name_or_path _commit_hash transformers_version wandb _diffusers_version
diffusers_version _class_hash finetuning_task tokenizer_class unsloth_version unsloth_fixed
task_specific_params
initializer_range initializer_factor init_std router_aux_loss_coef aux_loss_alpha rope_theta
begin_suppress_tokens suppress_tokens bad_words_ids forced_decoder_ids temperature top_p
typical_p repetition_penalty no_repeat_ngram_size num_beams num_beam_groups length_penalty
diversity_penalty do_sample max_length min_length early_stopping num_return_sequences prefix
encoder_no_repeat_ngram_size exponential_decay_length_penalty output_scores
remove_invalid_values return_dict_in_generate problem_type
"""
DROPPED = frozenset(_DROPPED.split())
WHOLE = frozenset(("quantization_config", "compression_config"))  # formats have words of their own
LABELS = "id2label"
NAMED = frozenset((LABELS, "label2id"))  # what a classifier calls its classes: any word
# How names of secrets end, and those that no flag is called
ENDS = re.compile(r"(?i)(?:key|token|secret|passw(?:or)?d|passphrase|credential|pw)s?$")
ALSO = re.compile(r"(?i)(?:^|[_-])(?:auth|authorization|bearer|pwd)$")
TOKEN = re.compile(r"(?i)tokens?$")
# How a tokenizer's marks look: <s>, [CLS], and words too short to keep anything
MARK = re.compile(r"[^\w/+-]|.{0,5}$")


def key(config: Mapping[str, Any]) -> str:
    """Return 32 hexadecimal digits, equal for two configs that need the same memory.

    Raises:
        weighbridge.WeighbridgeError: a config that is no JSON, or nested too deeply.
    """
    return digest(canonical_text(config))


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a config that decides memory, with sorted keys: itself a config, with the
    same answers as the whole one. Raises WeighbridgeError as `key` does."""
    plain: dict[str, Any] = json.loads(canonical_text(config))
    return plain


def digest(text: str) -> str:
    """Return the key of a canonical config given as text."""
    from hashlib import sha256  # which most questions do without

    return sha256(text.encode()).hexdigest()[:32]


def canonical_text(config: Mapping[str, Any]) -> str:
    """Return the part of a config that decides memory, as JSON text. Raises WeighbridgeError as
    `key` does."""
    try:
        return json.dumps(_config(public(config)), sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise BadFileError(sentence("config.nested")) from None
    except (TypeError, ValueError) as error:  # an object of Python; a number of 5,000 digits
        raise BadFileError(sentence("config.no_json", error=str(error))) from None


def public(value: Any) -> Any:
    """Return a config's value without keys that hold a secret, at any depth, and without passwords
    and tokens in other text. Raises RecursionError if it is nested too deeply."""
    if isinstance(value, Mapping):
        return {
            name: one if name in NAMED else public(one)
            for name, one in value.items()
            if not (isinstance(name, str) and _secret(name, one))
        }
    if isinstance(value, list | tuple):
        return [public(one) for one in value]
    return redacted(value) if isinstance(value, str) else value


def _secret(name: str, value: Any) -> bool:
    """Return whether a key holds a secret. A "token" may be a tokenizer's marker, a module
    (embed_tokens), or a count: only other text is a secret there."""
    if ENDS.search(name):  # as few do, and the other takes longer
        named = names_secret(f"--{name.removesuffix('s')}")
    else:
        named = ALSO.search(name) is not None
    if not named or not TOKEN.search(name):
        return named and type(value) is not bool
    texts = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(one, str) and not MARK.match(one) for one in texts)


def _config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config, or a nested one, without keys that decide no size."""
    rotary = any(str(name).startswith(ROTARY) for name in raw)
    plain = {}
    for name, value in raw.items():
        if not isinstance(name, str):
            raise UsageError(sentence("config_keys_text", key=name))
        if name not in DROPPED and ((name == PAD and not rotary) or not VALUES.search(name)):
            plain[name] = value if name in WHOLE else _value(value)
    return _labelled(_typed(plain), raw)


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _config(value)
    return [_value(one) for one in value] if isinstance(value, list | tuple) else value


def _typed(plain: dict[str, Any]) -> dict[str, Any]:
    """Return `plain` with the dtype under its current name, also if it was only under the old
    one."""
    if "torch_dtype" in plain and "dtype" not in plain:
        plain["dtype"] = plain.pop("torch_dtype")
    return plain


def _labelled(plain: dict[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return `plain` with a classifier's number of labels instead of their names."""
    labels = raw.get(LABELS)
    if isinstance(labels, Mapping):
        del plain[LABELS]
        plain["num_labels"] = len(labels)
        plain.pop("label2id", None)
    return plain
