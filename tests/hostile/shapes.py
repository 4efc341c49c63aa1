"""Texts, names, documents and keys of one shape and any size, each with what reads it.

    SHAPES["words"] -> Shape(make, meet):  meet(make(1 << 16))

A reader refuses what is too large for it at once; what it reads costs it no more than twice as much
where it is twice as large.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from weighbridge.base.errors import WeighbridgeError


class Shape(NamedTuple):
    make: Callable[[int], Any]  # of some number of characters
    meet: Callable[[Any], Any]
    most: int = 1 << 20  # characters: a run file has no more


def text(name):
    def meet(given):
        import weighbridge

        return weighbridge.weigh(given, name=name, gpu="4090")

    return meet


def repeated(one, *, head="", tail=""):
    def make(size):
        return head + one * ((size - len(head) - len(tail)) // len(one)) + tail

    return make


def documents(size):
    return ("model_name_or_path: qwen3-0.6b\nstage: sft\nfinetuning_type: lora\n---\n") * (
        size // 64
    )


def request(key, value):
    """One line of `weighbridge run`, in which one value is long."""

    def make(size):
        return json.dumps({"task": "load", "model": "gpt2", key: value(size)})

    return make


def ask(given):
    from weighbridge.answers.questions.requests import answered

    return answered(json.loads(given))


def header(one):
    def make(size):
        entries = ",".join(one % n for n in range(size // len(one % 99999)))
        return ("{" + entries + "}").encode()

    return make


def parse_header(given):
    from weighbridge.models.formats.safetensors import _parse

    return _parse(given, "model.safetensors")


def card(given):
    from weighbridge.machines.accelerators.names import find

    return find(given)


WORDS = (
    *("A=1 ", "a=b ", "export A=", "docker run ", "python ", "vllm ", "vllm serve ", "$ ", "$"),
    *(
        "1.",
        "a.",
        "-- ",
        "--a ",
        "--a=",
        "| ",
        "&& ",
        "\\\n",
        "\\",
        "'",
        '"',
        "`",
        "(",
        "((",
        "[",
        "{",
    ),
    *(
        "{{",
        "```\n",
        "# ",
        "\n",
        "on ",
        "with an RTX 4090 ",
        "4090 ",
        "8x ",
        "x",
        "- ",
        ": ",
        "<",
        "@",
    ),
    *("ollama run ", "llama-server -m ", "torchrun ", "accelerate launch ", "sglang ", "srun "),
    *(
        "lora ",
        "8 users ",
        "16k context ",
        "not ",
        "GiB ",
        "24 GB ",
        "/",
        "a/b ",
        "https://a/ ",
        "，",
    ),
    *(
        "显存",
        "单卡",
        "FROM a\n",
        "RUN a\n",
        "#SBATCH a\n",
        "OutOfMemoryError: ",
        "0 ",
        "\t",
        "&a ",
        "*a ",
    ),
)
SHAPES = {
    **{f"text of {one!r}": Shape(repeated(one), text("x.txt")) for one in WORDS},
    **{f"lines of {one!r}": Shape(repeated(one + "\n"), text("x.txt")) for one in WORDS},
    **{f"a script of {one!r}": Shape(repeated(one), text("x.sh")) for one in WORDS},
    "toml of depth": Shape(lambda n: "a" + ".a" * (n // 2) + " = 1", text("x.toml")),
    "toml tables of depth": Shape(lambda n: "[a" + ".a" * (n // 2) + "]\nb = 1", text("x.toml")),
    "toml of tables": Shape(repeated("[[a]]\n"), text("x.toml")),
    "toml of keys": Shape(lambda n: "".join(f"k{i} = 1\n" for i in range(n // 10)), text("x.toml")),
    "toml in brackets": Shape(lambda n: "a = " + "[" * (n // 2) + "]" * (n // 2), text("x.toml")),
    "yaml of depth": Shape(lambda n: "a: " + "[" * (n // 2) + "]" * (n // 2), text("x.yaml")),
    "yaml of sixties": Shape(repeated("1:", head="sequence_len: ", tail="1"), text("x.yaml")),
    "yaml of digits": Shape(repeated("9", head="sequence_len: "), text("x.yaml")),
    "yaml of a float": Shape(repeated("9", head="sequence_len: 1."), text("x.yaml")),
    "yaml of zeros": Shape(repeated("0", head="sequence_len: 0"), text("x.yaml")),
    "yaml of bits": Shape(repeated("1", head="sequence_len: 0b"), text("x.yaml")),
    "yaml of underscores": Shape(repeated("_", head="sequence_len: 1", tail="1"), text("x.yaml")),
    "yaml of documents": Shape(documents, text("x.yaml")),
    "yaml of empty documents": Shape(repeated("---\n"), text("x.yaml")),
    "yaml of keys": Shape(lambda n: "".join(f"k{i}: 1\n" for i in range(n // 9)), text("x.yaml")),
    "yaml of one long key": Shape(repeated("k", tail=": 1"), text("x.yaml")),
    "yaml of aliases": Shape(repeated("*a, ", head="a: &a 1\nb: [", tail="]"), text("x.yaml")),
    "yaml of tags": Shape(repeated("!a ", head="a: ", tail="1"), text("x.yaml")),
    "json of depth": Shape(lambda n: "[" * (n // 2) + "]" * (n // 2), text("x.json")),
    "json of keys": Shape(
        lambda n: json.dumps({f"k{i}": 1 for i in range(n // 12)}), text("x.json")
    ),
    "json of lists": Shape(lambda n: "[" + "[]," * (n // 3) + "1]", text("x.json")),
    "python of signs": Shape(repeated("-", head="x = ", tail="1"), text("x.py")),
    "python of brackets": Shape(lambda n: "x = " + "(" * (n // 2) + ")" * (n // 2), text("x.py")),
    "python of a sum": Shape(repeated("1+", head="x = ", tail="1"), text("x.py")),
    "python of attributes": Shape(repeated(".a", head="x = a"), text("x.py")),
    "python of calls": Shape(repeated("()", head="x = a"), text("x.py")),
    "python of ifs": Shape(repeated("x if x else ", head="x = ", tail="1"), text("x.py")),
    "python of lines": Shape(repeated("x = 1\n"), text("x.py")),
    "python of a pipeline's calls": Shape(
        repeated(
            "pipe('x', height=1024)\n",
            head="from diffusers import FluxPipeline\n"
            "pipe = FluxPipeline.from_pretrained('black-forest-labs/FLUX.1-dev')\n",
        ),
        text("x.py"),
        1 << 18,
    ),
    "a card's name": Shape(lambda n: "rtx" * (n // 3), card),
    "a card of hyphens": Shape(lambda n: "-" * n, card),
    "a card of sums": Shape(lambda n: "4090+" * (n // 5), card),
    "a card of counts": Shape(lambda n: "2x" * (n // 2), card),
    "a header of integers": Shape(header('"%d":1'), parse_header, 1 << 24),
    "a header of objects": Shape(header('"%d":{}'), parse_header, 1 << 24),
}


def met(shape: Shape, size: int) -> None:
    """Let a reader meet a shape of that size: it answers, or refuses."""
    made = shape.make(size)
    with contextlib.suppress(WeighbridgeError):
        shape.meet(made)
