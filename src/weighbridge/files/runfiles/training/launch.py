"""Lines that launch a training: accelerate, torchrun, deepspeed, python, swift, trl and others.

The script is not read: arguments that TrainingArguments and TRL have are taken by their names.

Sources: accelerate @ 16cb6eb8 commands/launch.py; torch distributed/run.py; ms-swift
@ examples/train (tuner_type, quant_bits, max_length; lora rank 8 on all linears, bfloat16),
@ 3602360a arguments/base_args/quant_args.py (packed twice; nothing prepares what is not packed).
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.paths import model_of
from weighbridge.engines.launch.shell import commands
from weighbridge.files.programs import names_of
from weighbridge.files.programs import programs as all_programs
from weighbridge.files.runfiles import slurm
from weighbridge.files.runfiles.beside import beside, missing, of_another
from weighbridge.files.runfiles.document import Document, Path, Place
from weighbridge.files.runfiles.pieces import begins_with_a_command, only_commands
from weighbridge.files.runfiles.reading import STRANGE, filled
from weighbridge.files.runfiles.record import Kind, PlannedRun, Understood, Unread, Value
from weighbridge.files.runfiles.slurm import SRUN
from weighbridge.files.runfiles.training import (
    accelerate,
    flags,
    learned,
    llama_factory,
    ranks,
    script,
    starters,
    trl,
)
from weighbridge.files.runfiles.training.starters import LAUNCHED
from weighbridge.files.runfiles.training.zero import step_contradicted
from weighbridge.models.catalogue import everyday
from weighbridge.settings.ranks import SETTINGS, SIZES, Ranks

SHELL = re.compile(r"#!.*\b(?:ba|z|da|k)?sh\b")
SCRIPTS = (".sh", ".bash", ".slurm", ".sbatch")  # with any first line
MOST = 200  # lines: a longer text counts as prose
CONFIG = "config_file"  # of accelerate
OF_TRL = "accelerate_config"  # TRL's flag for it
LAUNCHERS, PROGRAMS = names_of("launchers"), names_of("trainers")
JOB = "#SBATCH"  # Slurm, which sets the machines
FILE_VARIABLE = "CONFIG_FILE"  # the config of torchtitan's run_train.sh
MODEL = "model_name_or_path"
TRAINS = ("per_device_train_batch_size", MODEL, "lora_rank", "finetuning_type")
# Names of the model argument in users' scripts
MODELS = ("model_name", "model_id", "base_model", "model_path", "pretrained_model", "model")
HUB = re.compile(r"[A-Za-z\d][\w.-]{0,95}/[\w.-]{2,95}")
ADAPTERS = ("use_peft", "lora_enable", "use_peft_lora")  # switches that weighbridge reads
# In names of arguments that decide the memory of a step, in any script
OF_SIZE = re.compile(
    r"(?i)batch|seq|length|_len|tokens|rank|quant|bit|optim|precision|dtype|layers"
)
SWIFT = all_programs()["ms-swift"].arguments
OF_SWIFT = re.compile(r"^swift$|(?:^|[/.])swift[/.]cli[/.](?P<verb>\w+?)(?:\.py)?$")
AS_KEPT = {"kbit_upcast": "none"}  # of a base that is not quantized
OF_LLAMA_FACTORY = {MODEL, "stage", "finetuning_type"}

# starts a process per visible card (LLaMA-Factory's launcher.py)
EACH_CARD = "llamafactory-cli"
LAUNCHING = ("accelerate.", "deepspeed.")  # modules that start their own ranks


class Launched(NamedTuple):
    """A training's program (a script, or one of PROGRAMS), its arguments, and its launcher's
    start."""

    program: str
    words: Sequence[str]
    start: ranks.Start = ranks.Start()
    config: str = ""  # the launcher's config file
    flags: Sequence[str] = ()  # flags of accelerate's launcher

    @property
    def ranks(self) -> int | None:
        """Return the number of processes, None if not stated."""
        return self.start.ranks


def tells(document: Document) -> bool:
    """Return whether a text is a script that launches a training."""
    text = document.text
    script = SHELL.match(text) or document.name.endswith(SCRIPTS)
    launches = script or (begins_with_a_command(text) and only_commands(text))
    if text.count("\n") > MOST or not launches:
        return False
    return next(launched(document), None) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each line that launches a training."""
    for each in launched(document):
        yield of_launched(document, each)


def of_launched(document: Document, each: Launched) -> PlannedRun:
    """Return the run of a launched training, with its ranks per machine."""
    start, run = each.start, ranked(_run(document, each), each.start)
    return replace(run, refused=run.refused or start.refused, unread=(*run.unread, *start.not_read))


def ranked(run: PlannedRun, start: ranks.Start) -> PlannedRun:
    """Return a run with its launcher's ranks, unless it states its own. Those that other kinds of
    parallelism leave are data parallel, and replicate the model without a sharding setting."""
    settings = dict(run.settings)
    if start.ranks and SIZES["data"] not in settings:
        by = Ranks.of(settings).over(start.ranks)
        shard = {"shard": "ddp"} if by.data > 1 else {}
        settings = {**shard, **settings, **by.settings("data")}
    if start.inside is not None:
        settings[SETTINGS["per_machine"]] = start.inside
    wrong = step_contradicted(run, start.ranks) if start.ranks else ""
    return replace(run, settings=settings, refused=wrong or run.refused)


def launched(document: Document) -> Iterator[Launched]:
    """Yield the trainings that a text launches: programs with known arguments, and local training
    scripts."""
    for each in started(document, document.text, (*PROGRAMS, *starters.STARTERS)):
        if _trains(each) or _script(document, each) is not None:
            yield each


def _script(document: Document, each: Launched) -> Document | None:
    """Return the script that is started, if it exists next to the run file and trains; else
    None."""
    if not each.program.endswith(".py"):
        return None
    try:
        called = beside(document, each.program, script.KIND.syntaxes)
    except BadFileError:
        return None
    return called if called is not None and script.tells(called) else None


def started(
    document: Document, text: str, programs: Sequence[str] = PROGRAMS
) -> Iterator[Launched]:
    """Yield all launches in a text: of scripts of any name, or of `programs`."""
    try:
        all_commands = list(commands(text))
    except UsageError:
        return
    for command in all_commands:
        words = [filled(word) for word in command.words]
        each = _launched(document, words, command.env, programs)
        if each is not None:
            yield each._replace(start=each.start._replace(elsewhere=JOB in document.text))


def _trains(each: Launched) -> bool:
    arguments = flags.mapping(each.words)
    if each.program in starters.STARTERS and starters.begins(each.program, each.words):
        return True
    known = each.program in PROGRAMS or OF_SWIFT.search(each.program)
    return bool(known) or any(name in arguments for name in TRAINS)


def _launched(
    document: Document, words: Sequence[str], env: Mapping[str, str], programs: Sequence[str]
) -> Launched | None:
    """Return the training that a command launches, by the last of its launchers; None without
    one."""
    names = [word.rpartition("/")[2] for word in words]
    places = [place for place, name in enumerate(names) if name in (*LAUNCHERS, *programs)]
    if not places:
        return None
    # A program's name behind a flag is that flag's value: `swift sft --model_author swift`
    last = next((n for n in places if names[n] == names[places[-1]] and _no_value(words, n)), None)
    start = next(
        (n for n in places if _begins_config_start(names, words, n)),
        places[-1] if last is None else last,
    )
    if names[start] in programs:
        by = next((n for n in reversed(places) if n < start and names[n] in LAUNCHERS), None)
        return _launched_program(document, words, env, start, by)
    script = next((n for n in range(start + 1, len(words)) if _is_script(words, n)), None)
    if script is None:
        return None
    launchers_words = words[start:script]
    config = str(flags.mapping(launchers_words).get(CONFIG) or "")
    accelerate_words = launchers_words if names[start] == "accelerate" else ()
    alone = _is_started_by_srun(names, start, script)
    srun = names.index(SRUN) + 1 if alone else 0
    tasks = slurm.step(document.text, words[srun:start]) if srun else None
    how = tasks or ranks.of_launcher(names[start], launchers_words, env, words[:start], document)
    return Launched(words[script], words[script + 1 :], how, config, accelerate_words)


def _no_value(words: Sequence[str], place: int) -> bool:
    return not place or words[place - 1][:1] != "-"


def _launched_program(
    document: Document,
    words: Sequence[str],
    env: Mapping[str, str],
    start: int,
    launcher: int | None,
) -> Launched | None:
    """Return the program that a command starts at word `start`, with or without a launcher; None
    without arguments."""
    program, told_to_it = words[start].rpartition("/")[2], words[start + 1 :]
    named = [env[FILE_VARIABLE]] if FILE_VARIABLE in env else []
    if not named and not told_to_it:
        return None
    if launcher is None:
        how = ranks.of_program(program, words[:start], env, EACH_CARD)
    else:
        by = words[launcher].rpartition("/")[2]
        how = ranks.of_launcher(by, words[launcher:start], env, words[:launcher], document)
    if program in (*starters.STARTERS, "trl"):
        how = _start_or_own_ranks(how, starters.start_of(told_to_it))
    return Launched(program, [*named, *told_to_it], how)


def _start_or_own_ranks(start: ranks.Start, program: ranks.Start) -> ranks.Start:
    """Return a launcher's start, with the program's own ranks if it states none."""
    counted = start if start.ranks else program
    return start._replace(
        each=counted.each,
        whole=counted.whole,
        machines=program.machines if start.machines is None else start.machines,
        unread=(*start.not_read, *program.unread),
        refused=start.refused or program.refused,
    )


def _is_started_by_srun(names: Sequence[str], start: int, script: int) -> bool:
    """Return whether srun starts a script directly, without another launcher."""
    starts = names[start].startswith("python") and not names[script].startswith(LAUNCHING)
    others = {*ranks.TORCHRUN, *ranks.MPI}
    return starts and SRUN in names[:start] and others.isdisjoint(names[:script])


def _begins_config_start(names: Sequence[str], words: Sequence[str], place: int) -> bool:
    """Return whether the word at `place` begins a command that starts a config."""
    return names[place] in starters.STARTERS and starters.begins(names[place], words[place + 1 :])


def _is_script(words: Sequence[str], place: int) -> bool:
    """Return whether the word at `place` is a script that a launcher starts: a file or a module."""
    module = words[place - 1] in ("-m", "--module") and words[place] not in ranks.TORCHRUN
    return module or words[place].endswith(".py")


def _run(document: Document, each: Launched) -> PlannedRun:
    """Return the run of a launched training, with a note if its launcher's config file is
    missing."""
    run = _started(document, each)
    if not each.config:
        arguments = flags.document(document.text, each.flags, document.name, document.folder)
        accelerate_config = accelerate.flagged(arguments)
        if accelerate_config is None:
            return run
        by_flags = accelerate.by_flags(next(accelerate.read(accelerate_config)))
        return accelerate.launched(run, by_flags, counted=each.ranks is not None)
    line = document.line_of(max(document.text.find(each.config), 0))
    shared = _by_accelerate_config(document, each.config, each.start)
    if shared is None and "/" in each.config and trl.shipped(each.config):
        return trl.shared_out(run, f"--{CONFIG}", each.config, line)
    if shared is None:
        absent = missing(each.config, f"--{CONFIG}", line)
        return replace(run, unread=(*run.unread, absent))
    config_read = Understood(key=f"--{CONFIG}", value=each.config, setting="shard", line=line)
    run = replace(run, understood=(*run.understood, config_read))
    shared = of_another(shared, each.config)
    return accelerate.launched(run, shared, counted=each.ranks is not None)


def _by_accelerate_config(document: Document, name: str, start: ranks.Start) -> PlannedRun | None:
    """Return the ranks and sharding in an accelerate config, with the command's number of ranks;
    None if the file is missing."""
    config = beside(document, name, accelerate.KIND.syntaxes)
    if config is None or not isinstance(config.data, dict):
        return None
    counts = {"num_processes": start.ranks, "num_machines": ranks.number(start.machines)}
    data = {**config.data, **{key: value for key, value in counts.items() if value}}
    return next(accelerate.read(replace(config, data=data)))


def _started(document: Document, each: Launched) -> PlannedRun:
    verb = OF_SWIFT.search(each.program)
    if verb is not None:
        words = each.words if verb["verb"] is None else (verb["verb"], *each.words)
        return _swift(document, each._replace(words=words))
    if each.program in starters.STARTERS and starters.begins(each.program, each.words):
        return starters.run_of(document, each.program, each.words)
    arguments = flags.document(document.text, each.words, document.name, document.folder)
    if each.program == "trl":  # trl passes launcher flags on to accelerate
        arguments = replace(
            arguments, data={n: v for n, v in arguments.data.items() if n not in LAUNCHED}
        )
    if each.program == EACH_CARD or arguments.data.keys() >= OF_LLAMA_FACTORY:
        return _of_llama_factory(arguments)
    called = _script(document, each)
    if called is not None and not any(name in arguments.data for name in TRAINS):
        return of_another(next(script.read(called)), each.program)
    config = starters.arguments_of(document, each.words)
    if config:
        return _of_arguments(document, each, arguments, config)
    return _plain(each, arguments)


def _of_llama_factory(arguments: Document) -> PlannedRun:
    """Return the run of LLaMA-Factory's arguments, whatever program starts it."""
    if MODEL not in arguments.data:
        return PlannedRun(task="train", refused="it starts another file, which it does not name")
    return next(llama_factory.read(arguments))


def _of_arguments(document: Document, each: Launched, arguments: Document, name: str) -> PlannedRun:
    """Return the run of a script, or of TRL, whose arguments are also in the config `name`."""
    config = beside(document, name, trl.KIND.syntaxes)
    if config is None or not isinstance(config.data, dict):
        line = document.line_of(max(document.text.find(name), 0))
        run = _plain(each, arguments)
        return replace(run, unread=(*run.unread, missing(name, name, line)))
    flags_said = {key: value for key, value in arguments.data.items() if key != "config"}
    return of_another(_plain(each, starters.changed(config, flags_said)), name)


def _plain(each: Launched, arguments: Document) -> PlannedRun:
    """Return the run of transformers' and TRL's arguments, with the model under any of its usual
    names."""
    alias = next((name for name in MODELS if _is_model(arguments.data.get(name))), MODEL)
    if MODEL not in arguments.data:
        arguments = _renamed(arguments, {alias: MODEL})
    framework = "trl" if each.program == "trl" or "use_peft" in arguments.data else "trainer"
    if each.program == "trl":
        return _of_trl(trl.of_arguments(arguments, framework, "", _learns(each)), arguments)
    arguments = _with_adapters(arguments)
    run = trl.of_arguments(arguments, framework, sentence("script.unread"), _learns(each))
    typed = (u for u in run.understood if u.line)
    known = tuple(replace(u, key=alias) if u.key == MODEL else u for u in typed)
    return replace(run, understood=known, unread=tuple(map(_may_change_either_way, run.unread)))


def _with_adapters(arguments: Document) -> Document:
    """Return the arguments of a user's script, with adapters on if they set a rank and no switch
    turns them off."""
    arguments = _renamed(arguments, {"lora_rank": "lora_r"})
    data = arguments.data
    switched = any(name in data for name in ADAPTERS)
    off = any(value is False and "lora" in name for name, value in data.items())
    if switched or off or "lora_r" not in data:
        return arguments
    return replace(arguments, data={**data, "use_peft": True})


def _may_change_either_way(key: Unread) -> Unread:
    """Return an unread key; if its name suggests a size, it may change the answer either way."""
    sizes = key.why.startswith(STRANGE) and OF_SIZE.search(key.key)
    return replace(key, lowers=True, raises=True) if sizes else key


def _renamed(arguments: Document, names: Mapping[str, str]) -> Document:
    """Return the arguments under other names, at their original places."""
    data = {names.get(name, name): value for name, value in arguments.data.items()}
    first = ((str(path[0]), place) for path, place in arguments.places.items() if path)
    places: dict[Path, Place] = {(names.get(name, name),): place for name, place in first}
    return replace(arguments, data=data, places=places)


def _is_model(value: Value) -> bool:
    """Return whether a value is a Hub repository, a catalogue name or a folder of one."""
    named = model_of(value) if isinstance(value, str) else ""
    return bool(HUB.fullmatch(named)) or everyday.has(named)


def _learns(each: Launched) -> str:
    """Return the method in a TRL verb or in a script's name, as a word of it (trl/scripts/dpo.py);
    "" for fine-tuning."""
    name = each.words[0] if each.program == "trl" else each.program.rpartition("/")[2]
    words = re.split(r"[^a-z]+", name.lower().removesuffix(".py"))
    return next((learned.NAMES[word] for word in words if word in learned.NAMES), "")


def _of_trl(run: PlannedRun, arguments: Document) -> PlannedRun:
    """Return a run with TRL's defaults, and the sharding of the config that its arguments name."""
    named = arguments.data.get(OF_TRL, "")
    if trl.shipped(named):
        run = trl.shared_out(run, OF_TRL, str(named), arguments.place((OF_TRL,)).line)
    return trl.with_dropout(run)


def _swift(document: Document, each: Launched) -> PlannedRun:
    """Return the run of ms-swift's arguments, renamed to TRL's."""
    arguments = flags.document(document.text, each.words, document.name, document.folder)
    arguments = _renamed(arguments, SWIFT)
    data = dict(arguments.data)
    kind = str(data.get("rlhf_type", "") or "")
    tuner = str(data.pop("tuner_type", data.pop("train_type", "lora")))
    if tuner == "lora":
        data |= {"use_peft": True, "lora_r": data.get("lora_r", 8)}
        data.setdefault("lora_target_modules", "all-linear")
        bits = data.pop("quant_bits", None)
        data |= {"load_in_4bit": bits == 4} | ({"load_in_8bit": True} if bits == 8 else {})
        if bits == 4:
            data["use_bnb_nested_quant"] = data.pop("bnb_4bit_use_double_quant", True)
        if data.get("quant_method") == "bnb":
            del data["quant_method"]
    data.setdefault("per_device_train_batch_size", 1)
    data.setdefault("bf16", True)
    data.setdefault("gradient_checkpointing", True)
    model = str(data.get(MODEL) or "")
    framework = "ms-swift" if kind else "trainer"
    run = trl.of_arguments(replace(arguments, data=data), framework)
    refused = run.refused
    if each.words[0] not in ("sft", "pt") and not kind:
        refused = f"ms-swift's {each.words[0]:.20} is not answered yet"
    elif tuner not in ("lora", "full"):
        refused = f"tuner_type: {tuner:.20} is not answered yet"
    return replace(
        run,
        settings={**run.settings, **(AS_KEPT if "quantization" in run.settings else {})},
        model=model_of(model) if "$" not in model else "",
        understood=tuple(one for one in run.understood if one.line),
        unread=(*run.unread, *_unlimited(data, run.settings)),
        refused=refused,
    )


def _unlimited(data: Mapping[str, Value], settings: Mapping[str, Value]) -> Iterator[Unread]:
    """Yield a note that ms-swift does not truncate samples, if no length is set and no engine
    limits them."""
    if data.keys().isdisjoint(trl.LENGTHS) and "prompt_len" not in settings:
        yield Unread(key="max_length", line=0, why=sentence("swift.length"), raises=True)


KIND = Kind(
    name="training-command",
    title=sentence("title.training"),
    syntaxes=("shell",),
    source="https://github.com/huggingface/accelerate @ 16cb6eb8",
    tells=tells,
    read=read,
    written=trl.KIND.written,
)
