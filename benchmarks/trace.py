"""A training step on the fake GPU: seconds after imports, memory, beside torch's MemTracker.

By hand, bfloat16 AdamW over all parameters at once holds at its peak the weights, their gradients,
two averages, and the square roots of one: five times 2 B a parameter.
"""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.measure import Command, Turn, added, side_by_side, table, verdict

STEP = str(Path(__file__).with_name("training_step.py"))
ROUNDS = 3  # each takes seconds, and most of them are imports
DEPTHS = (8, 16, 32, 64)
LLAMA_8B, LLAMA_70B = ("8b", "32"), ("70b", "80")
COPIES = 5
PARAMETERS = 8_030_261_248  # of Llama 3.1 8B
NOTHING = "import torch\nfrom transformers.models.llama import modeling_llama\nprint('here')\n"


def run(bench: Bench) -> Iterator[str]:
    absent = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if absent:
        yield f"not installed: {', '.join(absent)}"
        return
    found = side_by_side([*_commands(bench)], min(bench.rounds, ROUNDS))
    yield table(found)
    yield ""
    for name in ("trace 8b", "trace 8b, checkpointed"):
        yield verdict(f"`{name}` after imports, s", _seconds(found[name]), 10)
        yield verdict(f"`{name}`, peak RSS, GiB", _rss(found[name]), 4)
    yield verdict("`trace 70b` after imports, s", _seconds(found["trace 70b"]), 60)
    depths = {depth: _seconds(found[f"trace, {depth} layers"]) for depth in DEPTHS}
    told = ", ".join(f"{depth} layers {seconds:.2f} s" for depth, seconds in depths.items())
    slopes = (depths[64] - depths[32]) / 32, (depths[16] - depths[8]) / 8
    yield f"- {told}: {slopes[1]:.3f} s a layer up to 16, {slopes[0]:.3f} s from 32 to 64"
    yield f"- by hand at least {PARAMETERS * 2 * COPIES / 2**30:.2f} GiB, and peaks of the 8B step:"
    for name, turns in found.items():
        if "8b" in name:
            yield f"  - {name}: {_told(turns)['peak'] / 2**30:.2f} GiB, {_seconds(turns):.2f} s"
    start = added(found["trace of imports alone"], found["imports alone"])
    yield f"- `weighbridge trace` adds to the imports of a script {start:.2f} s"


def _commands(bench: Bench) -> Iterator[Command]:
    nothing = bench.folder / "imports.py"
    nothing.write_text(NOTHING)
    yield bench.python("imports alone", NOTHING)
    yield bench.weighbridge("trace of imports alone", "trace", str(nothing), expect="here")
    for more in ("", "checkpointed"):
        yield _trace(bench, ", ".join(filter(None, ("trace 8b", more))), *LLAMA_8B, more or "kept")
        for device in ("cpu", "cuda"):
            name = ", ".join(filter(None, (f"MemTracker 8b on {device}", more)))
            yield _memtracker(bench, name, *LLAMA_8B, more or "kept", "--memtracker", device)
    for depth in DEPTHS:
        yield _trace(bench, f"trace, {depth} layers", "8b", str(depth), "kept")
    yield _trace(bench, "trace 70b", *LLAMA_70B, "checkpointed")


def _trace(bench: Bench, name: str, *arguments: str) -> Command:
    return bench.weighbridge(name, "trace", STEP, *arguments, expect='"peak"')


def _memtracker(bench: Bench, name: str, *arguments: str) -> Command:
    code = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    return bench.python(name, code, STEP, *arguments)


def _told(turns: Sequence[Turn]) -> dict[str, float]:
    """What the step printed of itself."""
    lines = turns[0].output.splitlines()
    return json.loads(next(line for line in lines if line.startswith("{")))


def _seconds(turns: Sequence[Turn]) -> float:
    return median(_told([turn])["seconds"] for turn in turns)


def _rss(turns: Sequence[Turn]) -> float:
    return median(turn.rss for turn in turns) / 2**20
