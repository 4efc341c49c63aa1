"""The Python API: one function per question. The command line calls the same functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.prepared import Prepared, opened
from weighbridge.answers.questions.question import by_its_name, question, served_model, serving
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.memory.report import Report
from weighbridge.models.catalogue import pipelines
from weighbridge.models.checkpoint.gather import GatherOptions
from weighbridge.workload import TABLES

if TYPE_CHECKING:
    import os

    from weighbridge.files.oom import Oom
    from weighbridge.files.runfiles.checking import FileCheck
    from weighbridge.files.runfiles.emitting import Emitted
    from weighbridge.files.runfiles.weighing import WeighedFile
    from weighbridge.memory.report.fit import Fit
    from weighbridge.memory.report.together import Services
    from weighbridge.workload import Infer, Train
    from weighbridge.workload.picture import Picture
    from weighbridge.workload.picture_training import PictureTraining

Progress = Callable[[int, int], None]
PLAIN = (str, bytes, Mapping)  # types of a model that is not an object of another library
SOURCE = ("revision", "token", "cache_dir", "offline", "trust_remote_code", "progress")


def _options(typed: Mapping[str, Any], then: str = "") -> GatherOptions:
    """Return the options for reaching a model, taken from the arguments `typed` that all questions
    share. `then`: the module below weighbridge to import while the source is awaited, "" for
    none."""
    after = then and f"weighbridge.{then}"
    return GatherOptions(**{name: typed[name] for name in SOURCE}, then=after)


def prepare(
    model: Any,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Return `model`, read once, to ask many questions of it: `.load(...)`, `.infer(...)`,
    `.train(...)`.

    Args:
        model: as for `load`.

    Returns:
        A frozen `Prepared`. It does not see later changes of the repository or the folder.

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown model, or an unreachable Hub.
    """
    prepared = opened(model, _options(locals()))
    prepared.model()
    return prepared


def load(
    model: Any,
    *,
    dtype: str | None = None,
    quantization: str | None = None,
    engine_version: str | None = None,
    device_map: str | None = None,
    base_model: bool = False,
    gpu: str | None = None,
    gpu_memory: str | int | None = None,
    headroom: str | int | None = None,
    ram: str | int | None = None,
    platform: str | None = None,
    not_understood: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Return the memory of the weights of `model` in every format, and of loading them.

    Args:
        model: a reference as the command line takes it (catalogue name, Hub id, path, URL), a
            `pathlib.Path`, a config as a mapping, a live `torch.nn.Module`, or a pipeline of
            diffusers.
        dtype: the dtype to load in ("bfloat16"); None is the engine's default, as reported.
        quantization: the format to load in ("nf4", "gptq-4bit-g128", "Q4_K_M").
        engine_version: version of transformers ("4.40"); None is the newest known.
        device_map: "auto" or "cuda" loads straight to the device; None is `.to("cuda")`.
        base_model: count the class without its head.
        gpu: the device to judge the fit on: "4090", "a100-80gb:8", "2x RTX 4090".
        gpu_memory: what a process can use of that device, or of an unnamed one: "24GiB", or bytes.
        headroom: memory to leave free on each device: "1GiB", "10%" or bytes; None is nothing.
        ram: host memory that processes can use: "64GiB", bytes, or "local" for this machine's;
            None reports the need without a verdict on it.
        platform: "windows" moves to RAM, slowly, what does not fit the card; None is Linux.
        not_understood: words of a question that were not understood; the verdict is "unknown".

    Returns:
        A frozen `Report`; all sizes are bytes.

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown model, or an unreachable Hub.
    """
    settings = {name: value for name, value in locals().items() if name in TABLES["load"]}
    asked = question("load", None, settings)
    return opened(model, _options(locals(), then="answers.estimate.load")).answer(asked)


def infer(
    model: Any = None,
    workload: "Infer | None" = None,
    *,
    command: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Report:
    """Return the memory that serving `model` takes, per device and phase, by the rules of one
    engine.

    Args:
        model: as for `load`; optional if the command names one.
        workload: all settings as one typed record. Or pass them by name instead, as Python values
            or as the command line writes them: `engine="vllm", context="32K", gpu="h100:2"`.
        command: the engine's own launch command ("vllm serve org/name -tp 2"). Flags that it leaves
            out have the engine's defaults. Settings given by name win over it.

    Returns:
        A frozen `Report`; `devices` are the accelerators and then the host.

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown model or engine, or an
            unreachable Hub.
    """
    if command is None and workload is None and pipelines.makes_pictures(model):
        source = {name: value for name, value in locals().items() if name in SOURCE}
        return image(model, **source, **settings)
    asked = serving(workload, command, settings)
    asked = by_its_name(asked, model)
    model, revision = served_model(asked, model, revision)
    if model is None:
        raise UsageError(sentence("model_or_command"))
    return opened(model, _options(locals(), then="answers.estimate.infer")).answer(asked)


def image(
    model: Any,
    workload: "Picture | None" = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Report:
    """Return the memory that making pictures or video with a pipeline takes, stage by stage.

    Args:
        model: as for `load`: the name of a pipeline, a repository or a folder with a
            model_index.json.
        workload: all settings as one typed record. Or pass them by name instead, as Python values
            or as the command line writes them: `size="1024x1024", offload="model", gpu="3060"`.

    Returns:
        A frozen `Report`; `devices` are the card and then the host.

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown pipeline, or an unreachable Hub.
    """
    asked = question("image", workload, settings)
    options = _options(locals(), then="answers.estimate.pictures")._replace(pictures=True)
    return opened(model, options).answer(asked)


def train_image(
    model: Any,
    workload: "PictureTraining | None" = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Report:
    """Return the memory that training a pipeline's denoiser takes, per device and phase.

    Args:
        model: as for `image`.
        workload: all settings as one typed record. Or pass them by name instead, as Python values
            or as the command line writes them: `method="lora", size="1024", gpu="3060"`.

    Returns:
        A frozen `Report`; `devices` are the card and then the host.

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown pipeline, or an unreachable Hub.
    """
    asked = question("train_image", workload, settings)
    options = _options(locals(), then="answers.estimate.picture_training")._replace(pictures=True)
    return opened(model, options).answer(asked)


def train(
    model: Any,
    workload: "Train | None" = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Report:
    """Return the memory that fine-tuning or training `model` takes, per device and phase.

    Args:
        model: as for `load`.
        workload: all settings as one typed record. Or pass them by name instead, as Python values
            or as the command line writes them: `method="lora", lora_r=16, seq_len="4K"`. `method`
            also takes a config of PEFT (`LoraConfig`).

    Returns:
        A frozen `Report`; `devices` are the accelerators and then the host.

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown model, settings that contradict
            each other, or an unreachable Hub.
    """
    if workload is None and pipelines.makes_pictures(model):
        source = {name: value for name, value in locals().items() if name in SOURCE}
        return train_image(model, **source, **settings)
    asked = question("train", workload, settings)
    return opened(model, _options(locals(), then="answers.estimate.train")).answer(asked)


def fit(
    model: Any,
    *,
    gpu: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> "Fit":
    """Return whether `model` fits an accelerator, and what to change if it does not.

    Answers five questions at once: loading, inference, LoRA, QLoRA and full training.

    Args:
        model: as for `load`.
        gpu: "4090", "a100-80gb:8", "2x RTX 4090"; or pass `gpu_memory="24GiB"`.
        settings: those of `infer` and `train`, by name; each applies to the questions that have it.
            `for_` is the question that `.fits` answers (load, infer, lora, qlora or train); `max`
            solves for context, users, batch, seq-len, lora-r or model-size; `smallest` for gpu,
            count or instance.

    Returns:
        A frozen `Fit`: `.fits`, `.plan`, `.questions`, `.solved`, `.to_dict()`. For a pipeline of
        pictures or video it has one question: "image", "video" or "train_image".

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown model, or an unreachable Hub.
    """
    from weighbridge.answers.questions.fit.request import asked as read_fit

    typed = {"gpu": gpu, **settings}
    if pipelines.makes_pictures(model):
        how = _options(locals(), then="answers.estimate.pictures")._replace(pictures=True)
        return opened(model, how).fit(**typed)
    read_fit(typed)  # before anything is fetched
    return opened(model, _options(locals(), then="answers.questions.fit.answers")).fit(**typed)


def together(
    models: "Sequence[Any]",
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> "Services":
    """Return whether several models can be served on the same cards at once.

    Args:
        models: two or more, as for `load`.
        settings: those of `infer`, applied to each model; `gpu` names the card. Without `engine`,
            each model gets the engine that is usual on that card.

    Returns:
        A frozen `Services`: `.fits`, `.services`, `.left`, `.to_dict()`.

    Raises:
        weighbridge.WeighbridgeError: bad input, an unknown model, or an unreachable Hub.
    """
    from weighbridge.answers.questions.together import together as asked

    options = _options(locals(), then="answers.questions.together")
    return asked(models, lambda model: opened(model, options), settings)


def explain_oom(
    text: "str | bytes | os.PathLike[str]",
    model: Any = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> "Oom":
    """Return why memory ran out, from the error message, and what to change.

    Args:
        text: the message or the log, as text or bytes; a path is read.
        model: the model that ran, as for `load`, or a `Prepared`: its estimate is then compared
            with the message. None answers from the message alone.
        settings: known settings of the run, as for `infer` and `train`; they win over what the log
            states. `task` is load, infer or train, for a log that does not tell.

    Returns:
        A frozen `Oom`; all sizes are bytes.

    Raises:
        weighbridge.WeighbridgeError: an unknown message, a file that is not text, or a model or
            settings that `infer` and `train` would refuse.
    """
    from weighbridge.files.oom import explained

    options = _options(locals())

    def prepared() -> Prepared:
        return model if isinstance(model, Prepared) else opened(model, options)

    return explained(text, None if model is None else prepared, settings)


def weigh(
    file: "str | os.PathLike[str]",
    *,
    name: str | None = None,
    kind: str | None = None,
    task: str | None = None,
    model: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> "WeighedFile":
    """Estimate the runs that a file starts; the file is a config, a launch command or a log.

    Args:
        file: its text, or a path.
        name: a name for the text, if `file` is not a path.
        kind: the kind of file ("axolotl"); None detects it from the content.
        task: "train" or "infer", if the file must be about that task.
        model: the model, if the file does not name it.
        settings: those of `infer` and `train`; they win over the file's.

    Returns:
        A frozen `WeighedFile`: `.runs`, each with what was read and its `Report`; `.fits`.

    Raises:
        weighbridge.WeighbridgeError: a file of unknown kind, a broken file, or settings that its
            runs do not have.
    """
    from weighbridge.files.runfiles.kinds import folder_of, of_task, read, text_of
    from weighbridge.files.runfiles.weighing import weighed

    options = _options(locals())
    text, called = text_of(file, name)
    of_text = of_task(read(text, called, kind, folder_of(file, name)), task)
    return weighed(
        of_text,
        lambda named, commit: opened(named, options._replace(revision=commit or revision)),
        settings,
        model,
    )


def emit(
    model: str | None,
    kind: str,
    *,
    file: "str | os.PathLike[str] | None" = None,
    name: str | None = None,
    file_kind: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> "Emitted":
    """Return a new run file for another program, made from these settings or from another run file.

    Args:
        model: the model, as for `train` and `infer`; None if `file` names it.
        kind: the program that the file is for: "axolotl", "trl", "accelerate", "vllm", "compose"...
        file: a run file of another kind to convert: its text, or a path.
        name, file_kind: the `name` and `kind` of `file`, as for `weigh`.
        settings: those of `train` or `infer`, whichever task `kind` is for.

    Returns:
        A frozen `Emitted`: `.text`, `.starts` (the command that starts it) and `.report`.

    Raises:
        weighbridge.WeighbridgeError: a setting that the file's format cannot express, and what
            `train`, `infer` and `weigh` raise.
    """
    from weighbridge.answers.remedies.case import DEVICE
    from weighbridge.files.runfiles.emitting import emitted, of_file, target
    from weighbridge.files.runfiles.kinds import folder_of, read, text_of
    from weighbridge.files.runfiles.record import PlannedRun
    from weighbridge.files.runfiles.weighing import answered

    options = _options(locals())
    typed = {name: value for name, value in settings.items() if value is not None}
    source = None
    if file is None:
        run = PlannedRun(task=target(kind).task, model=model or "", settings=typed)
    else:
        about = read(*text_of(file, name), file_kind, folder_of(file, name))
        run, source = of_file(about, kind, typed, model)
    if not run.model:
        raise UsageError(sentence("emit.no_model"))
    opened_once: dict[str, Prepared] = {}

    def prepared(named: str, commit: str | None = None) -> Prepared:
        if named not in opened_once:
            opened_once[named] = opened(named, options._replace(revision=commit or revision))
        return opened_once[named]

    return emitted(
        kind,
        run,
        lambda named: prepared(named).model(),
        lambda asked: answered(
            asked, asked.model, prepared, {}, remedies=DEVICE.isdisjoint(asked.settings)
        ),
        source,
    )


def check(
    rules: "os.PathLike[str]",
    files: "Sequence[str]" = (),
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> "FileCheck":
    """Check run files against the cards that they must fit, as `weighbridge check` does.

    Args:
        rules: the path of a weighbridge.toml; its patterns are relative to its folder.
        files: the files to check; empty for all that a rule matches.

    Returns:
        A frozen `FileCheck`: `.files`, each with `.result`, `.reason` and `.found`; `.code`.

    Raises:
        weighbridge.WeighbridgeError: invalid rules.
    """
    from pathlib import Path

    from weighbridge.files.runfiles.checking import checked, rules_of

    options, path = _options(locals()), Path(rules)
    return checked(
        rules_of(path),
        path.parent,
        files,
        lambda named, commit: opened(named, options._replace(revision=commit or revision)),
    )
