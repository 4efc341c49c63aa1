"""Commands that start a config: `axolotl train run.yaml`, `llamafactory-cli train run.yaml`, ...

The config is read by the reader of its kind where it lies beside the run file (beside.py), with
what the command says besides in its place.

Sources: axolotl @ 067b021c cli/main.py (options are keys of the config with dashes; what follows
`--` is the launcher's); LLaMA-Factory @ ff6d4d12 hparams/parser.py (key=value); torchtune 0.6.1
_cli/run.py, config/_parse.py (key=value); litgpt 0.5 __main__.py; trl @ f2cd5771
trl/scripts/utils.py (--config); torchtitan v0.2.2 run_train.sh (CONFIG_FILE, NGPU).
"""

from collections.abc import Mapping, Sequence

from weighbridge.base.cost import DEEPEST
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.files.programs import ConfigStart, config_starts
from weighbridge.files.runfiles import kinds
from weighbridge.files.runfiles.beside import beside, missing, of_another
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.record import PlannedRun, Value
from weighbridge.files.runfiles.training import flags, ranks

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
ARGUMENTS = (".yaml", ".yml")
OF_LAUNCHERS = frozenset(  # options of axolotl's command that are no config keys
    ("launcher", "num_processes", "nproc_per_node", "main_process_port", "cloud", "sweep")
)
LAUNCHED = ("num_processes", "nproc_per_node", "nnodes", "num_machines")


STARTERS = config_starts()


def begins(program: str, words: Sequence[str]) -> bool:
    """Return whether `words` start a training with a program of STARTERS and name a config."""
    starter = STARTERS[program]
    trains = not starter.verbs or (words[:1] and words[0] in starter.verbs)
    return bool(trains and config_of(program, words))


def config_of(program: str, words: Sequence[str]) -> str:
    """Return the config named in a command; "" without one."""
    flag = STARTERS[program].flag
    if flag:
        named = flags.mapping(_of_program(words)).get(flag)
        first = _first(named)
        return first if isinstance(first, str) else ""
    words_of_program = _of_program(words)
    files = [
        number for number, word in enumerate(words_of_program) if word.lower().endswith(SUFFIXES)
    ]
    alone = [number for number in files if not number or not _is_flag(words_of_program[number - 1])]
    # The file after a flag is its value, unless the flag is a switch: `axolotl train --debug
    # run.yaml`
    named = alone or ([] if STARTERS[program].assigns else files)
    return words_of_program[named[0]] if named else ""


def _is_flag(word: str) -> bool:
    """Return whether a word is a flag whose value may follow it."""
    return word.startswith("--") and "=" not in word


def arguments_of(document: Document, words: Sequence[str]) -> str:
    """Return the config with a script's arguments, in TRL's and transformers' names: that of
    --config, or an existing file as first word; "" without one."""
    named = flags.mapping(words).get("config")
    if isinstance(named, str) and named.lower().endswith(ARGUMENTS):
        return named
    first = words[0] if words else ""
    there = first.lower().endswith(ARGUMENTS) and beside(document, first, ("yaml",)) is not None
    return first if there else ""


def run_of(document: Document, program: str, words: Sequence[str]) -> PlannedRun:
    """Return the run of the config that a command names; if the file is missing, a run without a
    known model."""
    starter, name = STARTERS[program], config_of(program, words)
    kind = kinds.named(starter.kind)
    line = document.line_of(max(document.text.find(name), 0))
    config = beside(document, name, kind.syntaxes)
    if config is None:
        why = f"it starts {name:.80}, which is not here"
        return PlannedRun(task="train", refused=why, unread=(missing(name, name, line),))
    if not isinstance(config.data, dict):
        return PlannedRun(task="train", refused=f"{name:.80} is no {kind.title}")
    changes = _changes(starter, name, words)
    return of_another(next(kind.read(changed(config, changes))), name)


def changed(document: Document, changes: Mapping[str, Value]) -> Document:
    """Return a config with the values that a command overrides, by dotted key. Raises UsageError
    for a key with too many parts."""
    data = dict(document.data)
    for key, value in changes.items():
        if key.count(".") > DEEPEST:
            raise UsageError(sentence("file.too_deep", kind="YAML"))
        section = data
        *above, last = key.split(".")
        for part in above:
            within = section.get(part)
            section[part] = dict(within) if isinstance(within, dict) else {}
            section = section[part]
        section[last] = value
    return replace(document, data=data)


def _of_program(words: Sequence[str]) -> Sequence[str]:
    """Return the program's own words, those before `--`."""
    return words[: list(words).index("--")] if "--" in words else words


def _first(value: Value) -> Value:
    """Return a flag's value without further words after it that are not its own."""
    return value[0] if isinstance(value, list) else value


def start_of(words: Sequence[str]) -> ranks.Start:
    """Return the processes that a program's words state, before and after `--`."""
    flags_given = flags.mapping([word for word in words if word != "--"])
    counts = {name: _first(flags_given[name]) for name in LAUNCHED if name in flags_given}
    return ranks.counted(counts)


def _changes(starter: ConfigStart, name: str, words: Sequence[str]) -> dict[str, Value]:
    """Return the config keys that a command overrides, with their values."""
    words_of_program = [word for word in _of_program(words) if word != name]
    if starter.assigns:
        split = (word.partition("=") for word in words_of_program if not word.startswith("-"))
        return {key: flags.plain(value) for key, equals, value in split if equals}
    dropped = {*OF_LAUNCHERS, starter.flag}
    return {
        key: value for key, value in flags.mapping(words_of_program).items() if key not in dropped
    }
