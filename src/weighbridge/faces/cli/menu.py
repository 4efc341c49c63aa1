"""The menu of commands: it imports each command when it is called, and prints errors as one
line."""

import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise, takewhile
from typing import Any

import click

from weighbridge.base._version import __version__
from weighbridge.base.errors import NotFoundError, UsageError, WeighbridgeError
from weighbridge.base.sentences import Sentence, sentence
from weighbridge.base.wording import shown, spelled_like

# name -> (module:command, what it does, in one line)
COMMANDS: dict[str, tuple[str, str]] = {
    "load": ("load:load", "What the weights take in each format; largest layer; download."),
    "infer": ("infer:infer", "What serving takes, by engine, device and phase."),
    "image": ("picture:image", "What making pictures with a pipeline takes, stage by stage."),
    "video": ("picture:video", "What making video with a pipeline takes, stage by stage."),
    "train-image": ("picture:train_image", "What training a pipeline's denoiser takes, by phase."),
    "train": ("train:train", "What fine-tuning and training take, by phase."),
    "fit": ("fit:fit", "Does it fit my GPU: loading, inference, LoRA, QLoRA, full training?"),
    "measure": ("measure:measure", "Run a program on the real GPU and compare with the trace."),
    "trace": ("trace:trace", "Run your script on a simulated GPU and report its peak memory."),
    "accuracy": ("accuracy:accuracy", "Predictions beside published measurements."),
    "gpus": (
        "gpus:gpus",
        "The accelerator catalogue: the memory of each, and how much of it is yours.",
    ),
    "models": ("models:models", "The built-in model catalogue."),
    "doctor": ("doctor:doctor", "What is here: accelerators, memory, versions, extras."),
    "check": ("check:check", "Run files against their cards, for CI (weighbridge.toml)."),
    "sbatch": ("sbatch:sbatch", "Whether a Slurm job asks for enough cards and memory."),
    "scan": ("scan:scan", "Every model of a registry, asked the same questions, into Parquet."),
    "run": ("requests:run", "Requests in, reports out (JSON Lines)."),
    "web": ("web:web", "The page: the same answers in a browser, on this machine."),
    "mcp": ("mcp:mcp", "The same answers as tools for coding agents (stdio)."),
    "estimate-memory": ("accelerate:estimate_memory", "accelerate estimate-memory, numbers right."),
    "completion": ("completion:completion", "Print the shell completion script."),
}
MODEL = "fit"  # the command if a model stands in place of one
PICTURES, VIDEOS = "image", "video"  # the commands for a pipeline
# Commands for a pipeline, by the one for a language model
TRAINS = "train-image"
FITS = "fit-image"  # `fit` for a pipeline, not listed in the help
FITS_TRAINING = "fit-train-image"  # `fit --for` for a pipeline
OF_PICTURES = {"infer": PICTURES, "fit": FITS, "train": TRAINS}
EXPLAINS = "--explain-oom"  # an option of `fit`, for any kind of model
# Flags of other tools -> our option to suggest
OF_OTHERS = {
    "--zero": "--shard zero3",
    "--deepspeed": "--shard zero3",
    "--fsdp": "--shard fsdp2",
    "--width": "--size WxH",
    "--height": "--size WxH",
    "--method": "--for lora",  # for `fit`, whose --for names the method
    "--lora": "--method lora",
    "--qlora": "--method qlora",
    "--grpo": "--method grpo",
    "--rank": "--lora-r N",
    "--num-gpus": "--gpu NAME:COUNT",
    "--gpus": "--gpu NAME:COUNT",
    "--device": "--gpu NAME:COUNT",
    "--gradient-checkpointing": "--checkpointing full",
    "--load-in-4bit": "--quantization nf4",
    "--load-in-8bit": "--quantization bnb-int8",
    "--bits": "--quantization FORMAT",
    "--bf16": "--dtype bfloat16",
    "--fp16": "--dtype float16",
    "--kv": "--kv-cache-dtype FORMAT",
    "--kv-cache": "--kv-cache-dtype FORMAT",
    "--tp": "-tp N",
    "--ngl": "-ngl N",
    "--users": "--batch-size N",
    "--concurrency": "--batch-size N",
    "--micro-batch-size": "--batch-size N",
    "--per-device-train-batch-size": "--batch-size N",
}
OWN = ("-h", "--help", "--version", "--", "-")  # words that are not moved behind the command
PROGRAMS = ("trace", "measure")  # their arguments belong to another program
FILE = "FILE"  # the command if a run file stands in place of one
UNLISTED = {
    FILE: "runfile:runfile",
    FITS: "picture:fit_image",
    FITS_TRAINING: "picture:fit_train_image",
}


def of_pictures(words: Sequence[str]) -> list[str]:
    """Return the command and words of a question that names a pipeline of pictures or video, else
    []."""
    if (words[0] in COMMANDS and words[0] not in OF_PICTURES) or EXPLAINS in words:
        return []
    from weighbridge.models import catalogue

    command = OF_PICTURES.get(words[0], FITS)
    if command == FITS and any(word.partition("=")[0] == "--for" for word in words):
        command = FITS_TRAINING
    asked = [*words[1:]] if words[0] in OF_PICTURES else [*words]
    named = [word for word in asked if not word.startswith("-")]
    if any(map(catalogue.has, named)):  # a language model: pipelines need not be read
        return []
    from weighbridge.models.catalogue import pipelines

    return [command, *asked] if any(map(pipelines.makes_pictures, named)) else []


def of_workflow(words: Sequence[str]) -> list[str]:
    """Return FILE and its words for a ComfyUI workflow, or for a run file given to a pipeline's
    command; [] for other questions."""
    asked = [*words[1:]] if words[0] in (*OF_PICTURES, PICTURES, VIDEOS, TRAINS) else [*words]
    if words[0] in (PICTURES, VIDEOS, TRAINS) and asked:
        from weighbridge.faces.cli.references import starts

        if asked[0] != "-" and starts(asked[0]):
            return [FILE, *asked]
    if not asked or not asked[0].lower().endswith(".json"):
        return []
    from weighbridge.files.runfiles.serving.workflow import is_workflow

    return [FILE, *asked] if is_workflow(asked[0]) else []


def of_no_command(words: Sequence[str]) -> list[str]:
    """Return the command and its words if a file, a model or a sentence stands in place of a
    command; else []. Raises NotFoundError for a missing file."""
    if words[0] in COMMANDS:
        return []
    from weighbridge.faces.cli.references import in_sentences, is_text, names_model, no_file

    if is_text(words[0]):  # a name like --x.yaml followed "--", which click has removed
        ended = ["--"] if words[0].startswith("-") and words[0] != "-" else []
        return [FILE, *ended, *words]
    if words[0] == FILE:  # FILE is the command's name in errors and help
        return [*words]
    if names_model(words, COMMANDS):
        return [MODEL, *words]
    if in_sentences(words[0]):  # questions and texts, as people paste them
        return [FILE, *words]
    if wrong := no_file(words[0]):
        raise NotFoundError(wrong)
    return []


def in_order(words: Sequence[str]) -> list[str]:
    """Return `words` with the command, or the model in its place, moved before the options typed
    ahead of it: `--gpu 4090 fit NAME`. `help` becomes --help."""
    if words[:1] == ["help"]:
        return [*words[1:], "--help"]
    if not words or not words[0].startswith("-") or words[0] in OWN:
        return [*words]
    from weighbridge.models.checkpoint.gather import has_name

    for place, word in enumerate(words):
        if word in COMMANDS or has_name(word):
            return [word, *words[:place], *words[place + 1 :]]
    return [*words]


class Menu(click.Group):
    """A click group that lists its commands by name and imports a command only when it runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, in_order(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS and name not in UNLISTED:
            return None
        module, command = (UNLISTED.get(name) or COMMANDS[name][0]).split(":")
        loaded = getattr(import_module(f"weighbridge.faces.cli.{module}"), command)
        assert isinstance(loaded, click.Command)
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from weighbridge.faces.cli.references import asked_behind, asked_in_words

        if words := (asked_behind if args[0] in COMMANDS else asked_in_words)(args):
            click.echo(f"> {shlex.join(['weighbridge', *words])}", err=True)
            return self.resolve_command(ctx, words)
        if words := of_workflow(args) or of_pictures(args) or of_no_command(args):
            listed = {
                FITS: PICTURES,
                FITS_TRAINING: TRAINS,
            }  # listed command with the same settings
            name = listed.get(words[0], words[0])
            return name, self.get_command(ctx, words[0]), words[1:]
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = spelled_like(args[0], COMMANDS)
            key = "no_command.near" if near else "no_command"
            raise click.UsageError(sentence(key, name=args[0], near="".join(near)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=Menu,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 a number, or it fits; 1 does not fit; 2 bad input; 3 Hub cannot be "
    "reached; 4 cannot say: too close to call (1 and 4 with --check alone, and of fit).",
)
@click.version_option(__version__, prog_name="weighbridge")
@click.pass_context
def menu(ctx: click.Context) -> None:
    """Weigh a model before it is loaded: what it takes, and where each number comes from.

    \b
    weighbridge "can I run qwen3-32b on two 3090s with 32k context?"
    weighbridge llama-3.1-8b --gpu 4090       can I run it: the same as fit
    weighbridge load llama-3.1-8b             built-in catalogue, no network
    weighbridge load meta-llama/Llama-3.1-8B  the Hub; reads headers, never weights
    weighbridge load ./my-model --explain     a local folder, file or config.json
    weighbridge infer llama-3.1-8b --gpu 4090 what serving takes, and whether it fits
    weighbridge run.yaml --gpu 4090           a run file that you have, or - for a paste
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def run(arguments: Sequence[str], name: str = "weighbridge") -> int:
    """Run the program on `arguments` and return its exit code; errors are printed, not raised.
    `name` is the program name that the user typed."""
    _open_streams()
    try:
        return _run(arguments, name)
    except click.exceptions.Abort:
        return 130
    except (BrokenPipeError, SystemExit):  # `weighbridge ... | head`: click exits with 1 then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("WEIGHBRIDGE_DEBUG") == "1":
            raise
        # Python wraps exceptions raised in the creation of a class
        stopped = isinstance(error.__cause__, KeyboardInterrupt)
        return 130 if stopped else _print_error(error, arguments)


def _open_streams() -> None:
    """Open stdin, stdout and stderr on the null device where the shell closed them (`2>&-`) and
    Python has None."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _run(arguments: Sequence[str], name: str) -> int:
    if not arguments or arguments[0] not in PROGRAMS:
        _refuse_files_as_options(arguments)
    code: Any = menu.main(args=list(arguments), prog_name=name, standalone_mode=False)
    return code if isinstance(code, int) else 0


def _refuse_files_as_options(arguments: Sequence[str]) -> None:
    """Refuse arguments that begin with "-" and are existing files, by UsageError. A shell pattern,
    or a list of changed files, may insert such names."""
    for word in takewhile("--".__ne__, arguments):
        if word.startswith("-") and word != "-" and os.path.lexists(word):
            raise UsageError(sentence("file.as_option", name=shown(word), path=shown(f"./{word}")))


def _print_error(error: Exception, arguments: Sequence[str]) -> int:
    """Print an error as one line on stderr in the user's language, and return the exit code."""
    if isinstance(error, WeighbridgeError):
        line, code = error.sentence, error.code
    elif isinstance(error, click.ClickException):
        line, code = _click_message(error), 2
        if isinstance(error, click.UsageError) and error.ctx is not None:
            key = "see_help.ended" if line.endswith(("?", ".")) else "see_help"
            ctx = error.ctx.parent if error.ctx.command.hidden and error.ctx.parent else error.ctx
            line = sentence(key, line=line, command=ctx.command_path)
    elif isinstance(error, OSError):  # most likely a full disk behind stdout
        line, code = f"{error.filename or 'the output'}: {error.strerror}", 2
    else:
        line = (
            f"this is a defect of weighbridge: {type(error).__name__}: {error}. "
            "Set WEIGHBRIDGE_DEBUG=1 for the traceback, and report it"
        )
        code = 2
    from weighbridge.base.wording import LONGEST, clipped, one_line, printable
    from weighbridge.base.words import words_in

    meant = isinstance(error, WeighbridgeError | click.ClickException)
    words = words_in(_language(arguments) if meant else "en", "errors")
    complaint = words("error", message=one_line(words.told(line)))
    click.echo(clipped(printable(complaint), LONGEST), err=True)
    return code


def _click_message(error: click.ClickException) -> str:
    """Return click's message for an error; for an unknown option or a missing argument it carries
    the key of our own sentence."""
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        near = ", ".join(map(repr, error.possibilities or ()))
        meant = OF_OTHERS.get(error.option_name, "")
        if meant and meant.partition(" ")[0] in _option_strings(error.ctx):
            near, text = meant, f"No such option {error.option_name}: type {meant}."
        values = {"name": error.option_name, "near": near}
        return Sentence(text, "no_option.near" if near else "no_option", values)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return Sentence(text, "no_argument", {"name": error.param.get_error_hint(error.ctx)})
    return text


def _option_strings(ctx: click.Context | None) -> list[str]:
    """Return all option strings of a context's command; [] if `ctx` is None."""
    return [] if ctx is None else [o for each in ctx.command.get_params(ctx) for o in each.opts]


def _language(arguments: Sequence[str]) -> str:
    """Return the language of the option --lang among `arguments`, else the terminal's."""
    from weighbridge.faces.cli.options import in_signs, language

    words = [part for word in arguments for part in word.split("=", 1)]
    named = next((b for a, b in pairwise(words) if a == "--lang"), "")
    return in_signs(named) if named in ("en", "zh") else language()
