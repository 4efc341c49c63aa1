"""What processes hold on the host while they load a model, on this CPU, beside what we say.

    python -m benchmarks.loading --peers-python PATH [--processes 1,2,4] [--layers 8]

PATH is an interpreter with torch and transformers. It writes models of random weights (dense in
bfloat16, and one whose experts are stored apart), which 1, 2 and 4 processes then load at once by
`from_pretrained`, each with two threads. Of each process are told

    anonymous   pages of its own beyond those after its imports: when it has loaded, and at most
                (/proc/PID/statm, resident less shared, read every 2 ms)
    file pages  its share of mapped pages that processes have together (Pss_File), which the kernel
                may drop: all processes together hold the file once

Last, DataLoader's workers are forked behind a model and a list of lists of numbers, or an array of
the same numbers: pages of each worker's own after it has gone through all of it (Private_Dirty).
And a state dict of a GiB on the host is written by torch.save and by safetensors, of which is told
what they hold besides.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import weighbridge
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import MIB

DENSE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048,
    "intermediate_size": 8192, "num_attention_heads": 16, "num_key_value_heads": 8,
    "vocab_size": 32000, "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip
EXPERTS = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 1024,
    "intermediate_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 8,
    "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
    "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip
MODELS = {"dense": DENSE, "experts": EXPERTS}
# dtype that a process loads in -> the precision of a run that does
PRECISIONS = {"bfloat16": "bf16", "float32": "bf16-mixed"}

MADE = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
folder = sys.argv[1]
config = AutoConfig.from_pretrained(folder)
model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
model.save_pretrained(folder)
"""
LOADED = """
import json, sys, threading, time, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(2)
PAGE = 4096
def own():
    resident, shared = open("/proc/self/statm").read().split()[1:3]
    return (int(resident) - int(shared)) * PAGE
def share():
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Pss_File"):
            return int(line.split()[1]) * 1024
torch.nn.Linear(8, 8)(torch.zeros(1, 8))
before, file_before = own(), share()
most, done = before, threading.Event()
def watch():
    global most
    while not done.is_set():
        most = max(most, own())
        time.sleep(0.002)
watching = threading.Thread(target=watch)
watching.start()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=sys.argv[2])
total = sum(float(p.sum()) for p in model.parameters())
done.set(); watching.join()
print("loaded", flush=True)
sys.stdin.readline()
held, file = own() - before, share() - file_before
print(json.dumps({"before": before, "held": held, "most": most - before, "file": file}), flush=True)
sys.stdin.readline()
"""
WORKERS = """
import json, os, sys, numpy, torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
ROWS, TOKENS = 20_000, 512
class Rows(Dataset):
    def __init__(self, listed):
        rows = numpy.random.default_rng(0).integers(1000, 32000, (ROWS, TOKENS))
        self.rows = rows.tolist() if listed else rows
    def __len__(self): return ROWS
    def __getitem__(self, at): return at, torch.as_tensor(self.rows[at])
def own():
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) * 1024
def put(batch): return own(), len(batch)
told = {}
for kind in ("list", "array"):
    rows = Rows(kind == "list")
    found = [each for each, _ in DataLoader(rows, batch_size=100, num_workers=2, collate_fn=put)]
    told[kind] = {"first": min(found), "last": max(found)}
print(json.dumps(told))
"""


SAVED = """
import json, os, tempfile, threading, time, torch, safetensors
from safetensors.torch import save_file
def own():
    resident, shared = open("/proc/self/statm").read().split()[1:3]
    return (int(resident) - int(shared)) * 4096
held = {str(i): torch.ones(32 * 2**20) for i in range(8)}
told = {"version": safetensors.__version__}
for name, write in (("torch.save", torch.save), ("safetensors", save_file)):
    before = most = own()
    done = threading.Event()
    def watch():
        global most
        while not done.is_set():
            most = max(most, own())
            time.sleep(0.002)
    watching = threading.Thread(target=watch)
    watching.start()
    with tempfile.TemporaryDirectory() as root:
        write(held, os.path.join(root, "file"))
    done.set(); watching.join()
    told[name] = most - before
print(json.dumps(told))
"""


class LoadedOne(NamedTuple):
    """Bytes of one process: after imports, of its own once it has loaded, at most, and its share
    of file pages."""

    before: int
    held: int
    most: int
    file: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--layers", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for line in run(Path(root), asked):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def run(root: Path, asked: argparse.Namespace) -> Iterator[str]:
    yield "| model | loaded in | processes | own, held | own, most | we say | file pages | file |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    before = 0
    for name, config in MODELS.items():
        folder = made(root / name, config, asked)
        for dtype in PRECISIONS:
            for count in map(int, asked.processes.split(",")):
                found = loaded(folder, dtype, count, asked.peers_python)
                before = found[0].before
                yield _row(name, dtype, found, folder)
    yield ""
    yield f"After its imports a process holds {before / MIB:,.0f} MiB of its own."
    yield ""
    for kind, told in workers(asked.peers_python).items():
        first, last = told["first"] / MIB, told["last"] / MIB
        yield f"A worker over rows of a {kind}: {first:,.0f} MiB at first, {last:,.0f} at most."
    yield ""
    yield saved(asked.peers_python)


def made(folder: Path, config: dict[str, Any], asked: argparse.Namespace) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": asked.layers}))
    subprocess.run([asked.peers_python, "-c", MADE, str(folder)], check=True, capture_output=True)
    return folder


def loaded(folder: Path, dtype: str, count: int, python: str) -> list[LoadedOne]:
    """Let processes load a model at the same time, and ask each when all of them have."""
    command = [python, "-c", LOADED, str(folder), dtype]
    started = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(count)
    ]
    for each in started:
        assert each.stdout is not None
        assert each.stdout.readline() == "loaded\n"
    found = []
    for each in started:
        assert each.stdin is not None
        assert each.stdout is not None
        each.stdin.write("\n")
        each.stdin.flush()
        found.append(LoadedOne(**json.loads(each.stdout.readline())))
    for each in started:
        each.communicate("\n")
    return found


def workers(python: str) -> dict[str, dict[str, int]]:
    done = subprocess.run([python, "-c", WORKERS], check=True, capture_output=True, text=True)
    told: dict[str, dict[str, int]] = json.loads(done.stdout)
    return told


def saved(python: str) -> str:
    done = subprocess.run([python, "-c", SAVED], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    plain, ours = told["torch.save"] / MIB, told["safetensors"] / MIB
    return (
        f"Of 1,024 MiB on the host torch.save holds {plain:,.0f} MiB more, and safetensors "
        f"{told['version']} {ours:,.0f}."
    )


def said(folder: Path, dtype: str, count: int) -> Bytes:
    """Return the bytes of copies that `weighbridge train` names for so many ranks of a machine."""
    report = weighbridge.train(
        str(folder), method="full", precision=PRECISIONS[dtype], data_parallel_size=count
    )
    host = next(device for device in report.devices if device.kind == "host")
    load = next(phase for phase in host.phases if phase.name == "load")
    copies = [each.bytes for each in load.components if each.name == "weights"][:-1]  # pages last
    return copies[0] if copies else exactly(0)


def _row(name: str, dtype: str, found: list[LoadedOne], folder: Path) -> str:
    size = sum(each.stat().st_size for each in folder.glob("*.safetensors"))
    say = said(folder, dtype, len(found))
    ours = f"{_mib(say.expected)} ({_mib(say.low)} to {_mib(say.high)})"
    held, most, file = (
        _mib(sum(getattr(each, key) for each in found)) for key in ("held", "most", "file")
    )
    cells = (name, dtype, len(found), held, most, ours, file, _mib(size))
    return f"| {' | '.join(map(str, cells))} |"


def _mib(nbytes: int) -> str:
    return f"{nbytes / MIB:,.0f}"


if __name__ == "__main__":
    main()
