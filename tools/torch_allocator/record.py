"""Record what torch's own caching allocator does, without a GPU: tests/allocator/recorded.json.gz.

    python tools/torch_allocator/record.py PYTHON

PYTHON is an interpreter with a CUDA build of torch 2.13 or later (the allocator is compiled into
libc10_cuda); its cuda.h and those of triton are used to build the stand-ins for the driver's
libraries with gcc. The programs are random, but always the same. Nothing of torch is changed: the
loader finds the stand-ins first.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent.parent / "tests" / "allocator" / "recorded.json.gz"
MIB = 1 << 20
STREAMS = 3
LENGTH = 160
TOTAL = 512 * MIB
SETTINGS = (
    "",
    "expandable_segments:True",
    "max_split_size_mb:40",
    "max_split_size_mb:64,max_non_split_rounding_mb:30",
    "large_segment_size_mb:40,max_split_size_mb:50",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:[1:2,64:8,>:1]",
    "per_process_memory_fraction:0.5",
    "garbage_collection_threshold:0.3,per_process_memory_fraction:0.6",
    "garbage_collection_threshold:0.5,per_process_memory_fraction:0.9,max_split_size_mb:30",
    "expandable_segments:True,garbage_collection_threshold:0.3,per_process_memory_fraction:0.7",
    "expandable_segments:True,large_segment_size_mb:40",
    "expandable_segments:True,roundup_power2_divisions:8,max_split_size_mb:40",
)
SIZES = (  # bytes, and how often
    ((1, 4096), 3),
    ((4096, MIB), 3),
    ((MIB - 2000, MIB + 2000), 1),
    ((MIB, 10 * MIB), 4),
    ((9 * MIB, 11 * MIB), 1),
    ((10 * MIB, TOTAL // 8), 2),
    ((TOTAL // 16, TOTAL // 3), 1),
)


class Program:
    """Random operations that mean something: only what lives is freed, pools end once begun."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ops = []
        self.live = []
        self.made = 0
        self.pools = 0
        self.open = 0
        self.sizes = [self.size() for _ in range(12)]

    def size(self):
        ranges, weights = zip(*SIZES, strict=True)
        return self.random.randint(*self.random.choices(ranges, weights)[0])

    def malloc(self):
        size = self.random.choice(self.sizes) if self.random.random() < 0.5 else self.size()
        stream = max(0, self.random.randrange(-4, STREAMS))
        self.ops.append(["malloc", self.made, size, stream])
        self.live.append(self.made)
        self.made += 1

    def free(self):
        if self.live:
            recent = self.live[-30:] if self.random.random() < 0.7 else self.live
            key = self.random.choice(recent)
            self.live.remove(key)
            self.ops.append(["free", key])

    def record_stream(self):
        if self.live:
            stream = self.random.randrange(STREAMS)
            self.ops.append(["record_stream", self.random.choice(self.live), stream])

    def pool(self):
        if self.open:
            self.ops.append(["end_pool", self.open])
            if self.random.random() < 0.6:
                self.ops.append(["release_pool", self.open])
            self.open = 0
        else:
            self.pools += 1
            self.open = self.pools
            self.ops.append(["begin_pool", self.open, self.random.random() < 0.5])

    def plain(self, name):
        self.ops.append([name])

    def run(self):
        turns = {
            self.malloc: 52,
            self.free: 38,
            self.record_stream: 3,
            self.pool: 2,
            lambda: self.plain("synchronize"): 2,
            lambda: self.plain("empty_cache"): 2,
            lambda: self.plain("reset_peak"): 1,
        }
        while len(self.ops) < LENGTH:
            self.random.choices(list(turns), list(turns.values()))[0]()
        if self.open:
            self.ops.append(["end_pool", self.open])
        return self.ops


def build(python: str, folder: Path) -> None:
    """The stand-ins, under the names that torch looks for."""
    ask = "import torch, pathlib; print(pathlib.Path(torch.__file__).parent)"
    torch = Path(subprocess.check_output([python, "-c", ask], text=True).strip())
    packages = torch.parent
    cuda = next(packages.glob("nvidia/cu*/include/cuda.h")).parent
    host = packages / "triton/backends/nvidia/include"
    (folder / "include").mkdir()
    (folder / "include" / "crt").symlink_to(host / "crt")
    shared = ["-shared", "-fPIC", "-O1", "-w", f"-I{folder / 'include'}", f"-I{cuda}"]
    subprocess.check_call(["gcc", *shared, str(HERE / "driver.c"), "-o", str(folder / "driver.so")])
    headers = ["-std=c++20", f"-I{torch / 'include'}", f"-L{torch / 'lib'}", "-lc10_cuda", "-lc10"]
    shim = [str(HERE / "capture.cpp"), "-o", str(folder / "capture.so")]
    subprocess.check_call(["g++", *shared, *shim, *headers])
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        (folder / name).symlink_to("driver.so")


def run(python: str, folder: Path, ops: list, settings: str, total: int = TOTAL) -> dict:
    env = os.environ | {
        "LD_PRELOAD": str(folder / "driver.so"),
        "LD_LIBRARY_PATH": str(folder),
        "STUB_BUILT": str(folder),
        "STUB_TOTAL": str(total),
        "PYTORCH_CUDA_ALLOC_CONF": settings,
    }
    argv = [python, "-W", "ignore", str(HERE / "process.py")]
    done = subprocess.run(
        argv, input=json.dumps({"ops": ops}), env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{settings!r}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", metavar="PYTHON")
    python = parser.parse_args().python
    ask = "import torch; print(torch.__version__)"
    version = subprocess.check_output([python, "-c", ask], text=True).strip()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(python, folder)
        recorded = []
        for seed, settings in enumerate(SETTINGS):
            ops = Program(seed).run()
            found = run(python, folder, ops, settings)
            recorded.append({"settings": settings, "total": TOTAL, "ops": ops, **found})
    text = json.dumps({"torch": version, "programs": recorded}, separators=(",", ":"))
    OUT.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
