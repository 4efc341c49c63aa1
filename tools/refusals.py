"""The inventory of refusals: every sentence that refuses, with its class and where it stands.

    python -m tools.refusals           counts by class, and those that programs refuse themselves
    python -m tools.refusals --write   the same in docs/refusals.md

A sentence that names a program claims something of that program. It is a TriedError (the program's
own words were seen), an UnsupportedError (nobody here knows) or a ContradictionError (it claims
nothing of what the program does): `unclassed` lists those that are none of them.
"""

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tools.syntax import nodes, parse

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "weighbridge"
PAGE = ROOT / "docs" / "refusals.md"
CLASSES = {  # by the name of the error
    "UsageError": "contradiction",
    "ContradictionError": "contradiction",
    "BadFileError": "contradiction",
    "NotFoundError": "contradiction",
    "NoCardError": "contradiction",
    "TriedError": "tried",
    "UnsupportedError": "gap",
    "NotServedError": "gap",
    "ReleaseError": "gap",
}
MEANS = {
    "contradiction": "what was given contradicts itself, or is no such thing",
    "tried": "a program refuses it itself: its words were seen, by release",
    "gap": "nobody here knows it; nothing is said of whether it would run",
}
LEAD = """\
You need this page if a question was refused. A refusal is a claim, and each has a class: `ground`
of an error or a verdict in JSON. A "no" of memory is `physical`: the least that it can take is more
than there is. What somebody read in a source, and nobody saw refused, only warns, and makes the
answer wider: `weighbridge infer MODEL --json` shows both."""
ROOMS = ("arch", "checkpoint", "engines", "forward", "kernels", "quantization", "training")
PROGRAMS = re.compile(
    r"(?i)\b(?:vllm|sglang|llama\.cpp|llama-quantize|transformers|peft|torchtitan|megatron"
    r"|deepspeed|litgpt|torch|accelerate|axolotl|trl|trainer|bitsandbytes|mlx-lm|ollama|hqq|gptmodel"
    r"|hybridmodel|unsloth)\b(?!-)|\{program\}"
)
PROGRAM = "{program}"
NAMED = re.compile(
    r"\b(?:engine|framework|trainer|program|needs|rules)\w*(?:\.\w+)*\.(?:name|title|engine)"
)
OPTIONS = re.compile(r"--(?:framework|engine) \S+|--megatron-args")


class Refusal(NamedTuple):
    """One sentence that refuses: `seen` is what a program says itself, "" of another class."""

    module: str
    error: str
    sentence: str
    seen: str

    @property
    def kind(self) -> str:
        return CLASSES[self.error]


def refusals(source: Path = SOURCE) -> Iterator[Refusal]:
    """Yield every error of those classes that is made in the package, in the order of modules."""
    for path in sorted(source.rglob("*.py")):
        text = path.read_text()
        constants = _constants(parse(text))
        for node in nodes(text, ast.Call):
            if getattr(node.func, "id", "") in CLASSES and node.args:
                words = {k.arg: k.value for k in node.keywords}
                yield Refusal(
                    module=path.relative_to(source).as_posix(),
                    error=node.func.id,
                    sentence=_sentence(node.args[0], constants),
                    seen=_sentence(words["seen"], constants) if "seen" in words else "",
                )


def unclassed(source: Path = SOURCE) -> list[Refusal]:
    """List refusals that claim something of a program, by a class that claims nothing."""
    return [
        each
        for each in refusals(source)
        if each.module.partition("/")[0] in ROOMS
        and (
            (each.error == "UsageError" and PROGRAMS.search(OPTIONS.sub("", each.sentence)))
            or (each.error == "TriedError" and not each.seen)
        )
    ]


def _constants(tree: ast.Module) -> Mapping[str, ast.expr]:
    """Return what a module names at its top."""
    return {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _sentence(node: ast.expr, constants: Mapping[str, ast.expr]) -> str:
    """Return a sentence as it is written: {} stands for what is filled in, a program's name too."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_sentence(part, constants) for part in parts)
        case ast.FormattedValue(value=value):
            return PROGRAM if NAMED.search(ast.unparse(value)) else "{}"
        case ast.Name(id=name) if name in constants:
            return _sentence(constants[name], {})
        case ast.Call(func=ast.Attribute(value=ast.Name() as template, attr="format")):
            return _sentence(template, constants)
    return "{}"


def page() -> str:
    """Write the inventory: how many of each class, and the words of programs."""
    every = list(refusals())
    counts = Counter(each.kind for each in every)
    rows = [f"| {kind} | {counts[kind]} | {means} |" for kind, means in MEANS.items()]
    tried = sorted({(each.sentence, each.seen) for each in every if each.kind == "tried"})
    words = [f"| {_cell(sentence)} | {_cell(seen)} |" for sentence, seen in tried]
    return "\n".join(
        (
            "# Refusals",
            "",
            "<!-- written by tools/refusals.py -->",
            "",
            LEAD,
            "",
            "| class | sentences | means |",
            "| --- | ---: | --- |",
            *rows,
            "",
            "## What programs refuse themselves",
            "",
            "`{}` stands for what your question says. The second column is `error.seen`.",
            "",
            "| we say | its own words, or where it raises them |",
            "| --- | --- |",
            *words,
            "",
        )
    )


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/refusals.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
        return 0
    print(page())
    for each in unclassed():
        print("no class:", *each)
    return int(bool(unclassed()))


if __name__ == "__main__":
    raise SystemExit(main())
