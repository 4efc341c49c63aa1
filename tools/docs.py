"""Write the generated parts of docs/, or with --check fail where they are out of date.

docs/commands.md      --help of every command
docs/architectures.md model types in our tables, and the classes of each
docs/formats.md       formats of weights, and what each leaves alone
docs/models.md        the built-in catalogue
docs/gpus.md          the accelerators, and what each figure rests on
src/weighbridge/models/catalogue/parameters.json   how many each model has, for lists of them
skills/weighbridge/SKILL.md   what agents are told: the copy that is installed from the repository
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import click

from weighbridge import prepare
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.units import human_count
from weighbridge.faces.agents import skill as skill_text
from weighbridge.faces.cli.menu import COMMANDS, menu
from weighbridge.faces.cli.questions import EVERY
from weighbridge.faces.view.lists import gpus as gpus_screen
from weighbridge.faces.view.records import Grid
from weighbridge.machines.accelerators.parts import instances, parts
from weighbridge.machines.accelerators.rules import KEPT, METAL, RULES
from weighbridge.models import catalogue
from weighbridge.models.arch.builder import blueprint, family
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import all_types
from weighbridge.models.catalogue import pipelines
from weighbridge.models.quantization.schemes import NAMES, scheme
from weighbridge.pictures.components import declared

DOCS = Path(__file__).parent.parent / "docs"
NOTE = "<!-- written by tools/docs.py -->\n"


def commands() -> Iterator[str]:
    yield "# Commands\n"
    yield NOTE
    yield (
        "You need this page if you look for a flag. `weighbridge infer --help` prints the common "
        "ones, `--help-all` all.\n"
    )
    context = click.Context(menu, info_name="weighbridge", max_content_width=90)
    context.meta[EVERY] = True
    for name in ("", *COMMANDS):
        command = menu if not name else menu.get_command(context, name)
        inner = context if not name else click.Context(command, info_name=name, parent=context)
        yield f"## weighbridge {name}".rstrip() + "\n"
        yield "```\n" + command.get_help(inner) + "\n```\n"
        if name and isinstance(command, click.Group):
            yield from _below(command, inner)


def _below(group: click.Group, outer: click.Context) -> Iterator[str]:
    """The commands of a command."""
    for name in group.list_commands(outer):
        command = group.get_command(outer, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=outer)
        yield f"### {inner.command_path}\n"
        yield "```\n" + command.get_help(inner) + "\n```\n"


def architectures() -> Iterator[str]:
    yield "# Architectures\n"
    yield NOTE
    yield "You need this page if a model of yours is refused, or read by its headers alone:"
    yield "`weighbridge load ./config.json` says its model type.\n"
    known = sorted(name for name, record in all_types().items() if record.family)
    yield f"{len(known)} model types are read from their config alone, without torch.\n"
    yield "| model_type | default class | classes with a head |\n| --- | --- | --- |"
    for model_type in known:
        kind = family(model_type)
        heads = ", ".join(f"`{suffix}`" for suffix in (*kind.heads, *kind.classes))
        yield f"| {model_type} | {kind.cls} | {heads} |"


def formats() -> Iterator[str]:
    yield "# Formats of weights\n"
    yield NOTE
    yield "You need this page if you choose a format (`weighbridge load MODEL --quantization nf4`)"
    yield "and want to know which modules its loader leaves in the model's own dtype.\n"
    yield "| format | left alone | source |\n| --- | --- | --- |"
    for name in NAMES:
        found = scheme(name)
        yield f"| {name} | {found.left} | {found.source} |".replace("\n", " ")


def models() -> Iterator[str]:
    yield "# The built-in catalogue\n"
    yield NOTE
    yield "You need this page if you look for a model that is answered without a network:"
    yield "`weighbridge models PATTERN` searches it, and `weighbridge load NAME` asks about one.\n"
    yield "| name | parameters | model_type | Hub id |\n| --- | ---: | --- | --- |"
    for entry in catalogue.search(""):
        count = blueprint(Config(entry.config)).parameters
        yield f"| {entry.name} | {human_count(count)} | {entry.model_type} | {entry.repo_id} |"


def parameters() -> Iterator[str]:
    """A JSON object, since who lists models has no time to count; without pipelines of classes that
    no program follows. A pipeline's first denoiser has a count of its own, NAME/PART."""
    counts = {name: prepare(name).model().parameters for name in catalogue.names()}
    for name in pipelines.names():
        if (count := _count(name)) is not None:
            part, config = pipelines.find(name).denoiser()
            whole = declared(config).declared.values()
            counts |= {name: count, f"{name}/{part}": sum(param.numel for param in whole)}
    yield json.dumps(counts, indent=1)


def _count(pipeline: str) -> int | None:
    """Return the parameters that our own tables count, None if they have none: torch and diffusers
    could build it where they are installed."""
    with patch.dict(sys.modules, {"torch": None}):
        try:
            return prepare(pipeline).model().parameters
        except UnsupportedError:
            return None


GPUS = """You need this page if you want to know what `--gpu NAME` understands, and how much of a
card you can use: `weighbridge gpus PATTERN` lists the cards.

Three numbers belong to a device, each smaller than the one before:

- *sold as*: what the data sheet says, in GB. "24 GB" of a card is about 24 GiB, and less where
  ECC takes a part
- *driver shows*: the total of nvidia-smi (rocm-smi; all of the RAM where CPU and GPU share it)
- *a process can have*: the total of `torch.cuda.mem_get_info()`. On Linux NVIDIA's driver keeps
  0.1 to 0.9 GiB of what it shows ("Reserved" in `nvidia-smi -q`); Windows keeps nothing back and
  gives memory to the desktop instead. On a Mac it is the recommended working set, which
  `iogpu.wired_limit_mb` changes

Where processor and GPU share one memory (GB10, Apple's chips, Jetson, AMD's APUs) the card's name
brings the machine's RAM, and nobody needs to type `--ram`: the system keeps 3 to 15 % of it before
anything starts (a GB10 of 119 to 122 GiB has 101 to 113 free), a process can have no more than the
rest, and what the device holds is added to what its processes need (one verdict,
[report.md](report.md)). A smaller `--ram` is taken as what they have; one that is more than the
chip is sold with contradicts it, and is said. How much of an APU's memory the GPU may take is set
in the BIOS and by `ttm.pages_limit`: with ROCm half where nothing is set, with Vulkan 112 of 128
GiB; `--gpu-memory` says it. GH200 has two memories: HBM is the card's, and `--ram` names the other.

On Windows the driver of a GeForce or Radeon moves to RAM what the card has no room for, up to half
of RAM, and the run goes on about 10 times slower: `--platform windows` says so in the place of
"does not fit". `--gpu local` knows its own system.

A verdict compares the driver-level peak with the third, less `--headroom`. What other processes
hold is not known of a card that is named: say what is free with `--gpu-memory 20GiB`, alone or
beside `--gpu`. Of the cards of this machine it is measured: `--gpu local` takes every card that is
here and judges by what is free now; `--gpu-memory total` judges as if nobody else used them
([doctor.md](doctor.md)).

Cards that differ are named with a plus: `1x4090+1x3090`. Each is judged by its own memory, never
by their sum, in the order in which they are named. An engine that splits evenly (tensor parallel,
ranks of training) is held by the card that has least; llama.cpp deals layers by what each has free;
`device_map="auto"` gives each card an even share or all that it has, and the last one what is left.
Kernels are taken to be those of the card with least. Cards of two makers are refused: no program
that we know splits a model over both.

`weighbridge gpus` lists them, with filters and an order:

```sh
weighbridge gpus --bf16 --min-memory 24GiB --sort memory   # sold with 24 GB or more
weighbridge gpus --fp8 --nvlink --vendor nvidia
weighbridge gpus --fp4 --format markdown
```

*computes in* follows from the architecture by rule: NVIDIA's compute capability (bf16 from 8.0, fp8
from 8.9, fp4 from 10.0, int8 from 6.1), AMD's gfx name, the generation of the others; the pages are
named in `src/weighbridge/machines/accelerators/listing.py`. A blank is "not known"; a filter leaves
such parts out. Bandwidth stands only where a page that we read prints it. NVLink is what the board
has: through switches, by a bridge, or wired directly. Years of release are unverified: they order
the list (`--sort year`) and are no figure.

`read` figures were printed by a tool on such a part (the source is in `weighbridge gpus --json`).
All others are `assumed`: an interval that holds every published reading of its kind. Old drivers
show less (A100 40536 MiB, V100 32510): trust a live reading more than this table.

Names are compared without case, spaces, hyphens, the maker's words (NVIDIA, GeForce, RTX, Radeon,
...) and the B of GB. A count stands before or after (`2x RTX 4090`, `a100-80gb:8`, `A10*4`,
`4张3090`, `8卡A800`). A name without a size is the part that lists it (`A100` the 40 GB one, `V100`
the 16 GB one: the report says so); where none does (`4060 Ti`, `M3 Max`) the error lists the sizes.
A MIG slice follows a slash, a colon or a hyphen: `a100-80gb/1g.10gb`. A bare size is a device too:
`24GiB`; the report
says what it was read as (`24GB` is 22.35 GiB) and what cards that are sold with so much give. A
second `--gpu` is an error: an answer is about one.

What a card cannot do is said by every command. Before compute capability 8.0 products in bfloat16
are emulated. Weights in fp8 (before 8.9) and mxfp4 (before 7.5) are unpacked into 16 bits by
transformers 5, so that they take twice or four times as much there, and transformers 4 refuses fp8;
vLLM and SGLang keep them packed. A part of Apple, Intel or others has no context, workspaces or
pools of CUDA: its runtime is one row, `other`, with the range of CUDA's; ROCm has rows of its own.
"""


def gpus() -> Iterator[str]:
    yield "# Accelerators\n"
    yield NOTE
    yield GPUS
    yield "## What is assumed\n"
    yield "| kind | driver shows, of the GiB sold | a process can have, of that | why |"
    yield "| --- | --- | --- | --- |"
    for name, rule in RULES.items():
        seen = "less what the driver keeps" if rule.visible is None else _share(rule.visible)
        yield f"| {name} | {_share(rule.total)} | {seen} | {rule.source} |"
    sizes = "; ".join(f"up to {gib} GiB {low} to {high} MiB" for gib, low, high in KEPT[:-1])
    yield f"\nWhat NVIDIA's driver keeps: {sizes}; above {KEPT[-1][1]} to {KEPT[-1][2]} MiB.\n"
    sizes = "; ".join(f"up to {gib} GB {_share((old, old, new))}" for gib, old, new in METAL[:-1])
    yield f"What Metal recommends of a Mac's memory, before macOS 26 and there: {sizes}; above "
    yield f"{_share((METAL[-1][1], 0, METAL[-1][2]))}.\n"
    yield f"## {len(parts())} parts\n"
    page = gpus_screen(list(parts().values()), [], full=True)
    table = next(block for block in page.blocks if isinstance(block, Grid))
    yield f"| {' | '.join((*(column.head for column in table.columns), 'also'))} |"
    yield (
        "| --- |"
        + "".join(" ---: |" if c.right else " --- |" for c in table.columns[1:])
        + " --- |"
    )
    for part, cells in zip(parts().values(), table.rows, strict=True):
        yield f"| {' | '.join((*(cell.text for cell in cells), ', '.join(part.aliases)))} |"
    yield f"\n## {len(instances())} machines of clouds\n"
    yield "| name | provider | devices |\n| --- | --- | --- |"
    for i in instances().values():
        yield f"| {i.name} | {i.provider} | {i.count} x {parts()[i.part].name} |"


def _share(mille: tuple[int, int, int]) -> str:
    low, _, high = mille
    return f"{low / 1000:.3f}" if low == high else f"{low / 1000:.3f} to {high / 1000:.3f}"


def skill() -> Iterator[str]:
    yield skill_text()


PAGES = {
    "commands.md": commands,
    "architectures.md": architectures,
    "formats.md": formats,
    "models.md": models,
    "gpus.md": gpus,
    "../src/weighbridge/models/catalogue/parameters.json": parameters,
    "../skills/weighbridge/SKILL.md": skill,
}


def main(arguments: list[str]) -> int:
    stale = []
    for name, write in PAGES.items():
        text = "\n".join(write()).rstrip() + "\n"
        path = DOCS / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text)
    if stale:
        print("docs:", "out of date:" if "--check" in arguments else "wrote", ", ".join(stale))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
