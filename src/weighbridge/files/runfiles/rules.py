"""What keys decide together, as rows of a kind's table in place of code.

    [rules]                                       the first row of a setting that holds decides it
    precision  bf16       pure_bf16               on: the key says yes; `!pure_bf16`: it does not
    precision  bf16-mixed mixed_precision = bf16 | bfloat16       it has one of these values
    lora_r     {}         lora_r != -             its own value; `-`: the key is not there
    shard      hsdp       copies > 1 & .shard = fsdp2             `.`: a setting that is decided
    dtype      ~float16   .precision = fp16-mixed                 `~`: no key is said to say it
    lora_r     =8         lora_rank = -           a default, by its key's name, or `=8; a reason`
    seq_len    ?          packing                 the key is understood, and decides with others
    -          why        use_badam               it is not understood, and why
    !          why        stage = ppo             no run is answered, and why
    note       a.sentence lora_r = -              what is to be said of the run
    read       lora_*     .method = full          keys of these names count as read

The key of a row is the first in it; a text has its value in the place of `{:.40}`.
"""

from collections.abc import Callable, Mapping

from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.reading import OFF, VARIABLE, KeyReading, plain_value


def decide(keys: KeyReading, framework: str) -> str:
    """Decide settings by the rows of a table; return why the run is not answered, or ""."""
    refused = ""
    for setting, means, when in keys.keys.rules:
        tests = when.split(" & ")
        if means != "?" and setting in keys.settings:
            continue
        if not all(_holds(keys, test) for test in tests):
            continue
        names = (test.split()[0].lstrip("!") for test in tests)
        key = next((name for name in names if name[0] != "."), "")
        text = means.format(str(keys.value(key)).lower()) if "{:" in means else means
        if setting == "!":
            refused = refused or text
        elif setting in SAYS:
            SAYS[setting](keys, key, text)
        else:
            _settle(keys, setting, text, key, framework)
    return refused


def _read(keys: KeyReading, _: str, start: str) -> None:
    keys.used.update(name for name in keys.data if name.startswith(start.rstrip("*")))


SAYS: Mapping[str, Callable[[KeyReading, str, str], None]] = {
    "-": KeyReading.leave,
    "note": lambda keys, _, text: keys.notes.append(sentence(text)),
    "read": _read,
}


def _settle(keys: KeyReading, setting: str, means: str, key: str, framework: str) -> None:
    if means == "?":
        keys.knows(key, setting)
    elif means == "{}":
        keys.take(key, setting)
    elif means[0] == "~":
        keys.settings[setting] = plain_value(means[1:])
    elif means[0] == "=":
        value, _, why = means[1:].partition("; ")
        own = sentence("own_name", framework=framework, name=key)
        keys.default(setting, plain_value(value), why or own)
    else:
        keys.set(setting, plain_value(means), key)


def _holds(keys: KeyReading, test: str) -> bool:
    key, sign, words = (*test.split(maxsplit=2), "", "")[:3]
    if not sign:
        return keys.on(key.lstrip("!")) is (key[0] != "!")
    value = keys.settings.get(key[1:]) if key[0] == "." else keys.value(key)
    if sign == ">":
        return isinstance(value, int) and value > int(words)
    text = "-" if value in OFF and value is not False else str(value).lower()
    text = "$" if VARIABLE.search(text) else text
    return (text in words.split(" | ")) is (sign == "=")
