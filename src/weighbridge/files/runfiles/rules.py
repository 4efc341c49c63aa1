"""What keys decide together, as rows of a kind's table in place of code.

    [rules]                                       the first row of a setting that holds decides it
    precision  bf16        pure_bf16              on: the key says yes; `!pure_bf16`: it does not
    precision  bf16-mixed  mixed_precision = bf16 | bfloat16      it has one of these values; `!=`
    loss       cce         plugins ~ cut_cross_entropy            its value holds this; `!~`
    shard      hsdp        copies > 1 & .shard = fsdp2            `.`: a setting that is decided
    lora_r     {}          lora_rank *            whatever it is: its own value, if it has one
    lora_r     {}=8        lora_rank *            and else a default, by the key's own name
    attention  values      kernel *               what [values] has for its value, if it does
    lora_r     =8; why     lora_rank = - | $      a default; `-`: there is none, `$`: a variable
    dtype      ~float16    .precision = fp16-mixed                `~`: no key is said to say it
    precision^ bf16        full_bf16              `^`: over what was decided before
    method     lora        use_peft|use_lora      of several keys the first that is not off
    seq_len    ?           packing                the key is understood, and decides with others
    -          why         use_badam              it is not understood, and why
    !          why         stage = ppo            no run is answered, and why
    note       a.sentence  lora_r = -             what is to be said of the run
    read       lora_*      .method = full         keys of these names count as read

The key of a row is the first in it; a text has its value in the place of `{0:.40}`, and what stands
behind its last dot in that of `{1:.40}`. A default's reason is the program's own key by its name,
which `=8; own NAME` has another, and `=8; own NAME of PROGRAM`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.reading import OFF, VARIABLE, KeyReading
from weighbridge.files.runfiles.tables import plain_value


def decide(keys: KeyReading, framework: str) -> str:
    """Set the settings that the table's rules decide in `keys`. Return why the run has no estimate,
    "" if it has one."""
    refused = ""
    for setting, means, when in keys.keys.rules:
        tests = when.split(" & ")
        if means != "?" and setting in keys.settings:
            continue
        if not all(_holds(keys, test) for test in tests):
            continue
        names = (test.split()[0].lstrip("!") for test in tests)
        key = next((_one(keys, name) for name in names if name[0] != "."), "")
        value = str(keys.value(key))
        text = means.format(value, value.rpartition(".")[2]) if ":." in means else means
        if setting == "!":
            refused = refused or text
        elif setting in SAYS:
            SAYS[setting](keys, key, text)
        else:
            _settle(keys, setting.rstrip("^"), text, key, framework)
    return refused


def _read(keys: KeyReading, _: str, start: str) -> None:
    keys.used.update(name for name in _dotted(keys.data) if name.startswith(start.rstrip("*")))


def _dotted(data: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in data.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")


SAYS: Mapping[str, Callable[[KeyReading, str, str], None]] = {
    "-": KeyReading.leave,
    "note": lambda keys, _, text: keys.notes.append(sentence(text)),
    "read": _read,
}


def _settle(keys: KeyReading, setting: str, means: str, key: str, framework: str) -> None:
    if means == "?":
        keys.knows(key, setting)
    elif means == "values":
        keys.means(key, setting)
    elif means[0] == "~":
        keys.settings[setting] = plain_value(means[1:])
    elif means[0] not in "{=":
        keys.set(setting, plain_value(means), key)
    elif (means[0] == "=" or keys.take(key, setting) is None) and "=" in means:
        value, _, why = means.partition("=")[2].partition("; ")
        name, _, program = why.removeprefix("own ").partition(" of ")
        program = program or framework
        whose = "own_names" if program.endswith("s") else "own_name"
        named = sentence(whose, framework=program, name=name or key)
        keys.default(setting, plain_value(value), named if why[:4] in ("", "own ") else why)


def _one(keys: KeyReading, names: str) -> str:
    """Return which of `a|b` counts: the first that is present and not off, else the first."""
    several = names.split("|")
    values = {name: keys.value(name) for name in several}
    written = [name for name, value in values.items() if value is not None]
    return next((name for name in written if values[name] not in OFF), (written or several)[0])


def _holds(keys: KeyReading, test: str) -> bool:
    names, sign, words = (*test.split(maxsplit=2), "", "")[:3]
    key = _one(keys, names.lstrip("!")) if names[0] != "." else names[1:]
    if not sign:
        return keys.on(key) is (names[0] != "!")
    value = keys.settings.get(key) if names[0] == "." else keys.value(key)
    if sign == ">":
        return isinstance(value, int) and value > int(words)
    text = "-" if value in (None, "") else str(value).lower()
    text = "$" if VARIABLE.search(text) else text
    is_one = words in text if "~" in sign else text in words.split(" | ")
    return sign == "*" or is_one is (sign[0] != "!")
