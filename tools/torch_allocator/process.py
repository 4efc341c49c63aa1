"""A process whose torch believes in a GPU: runs programs of memory operations, and prints what
torch's allocator did. Started by record.py, with the stand-ins in its way.

    stdin   {"ops": [[name, arguments...], ...]}
    stdout  {"steps": [[what it returned, allocated, reserved], ...], "stats": {...},
             "streams": {...}, "snapshot": a pickle in base64}
"""

import base64
import ctypes
import json
import os
import pickle
import sys

import torch


class Machine:
    """One method for each operation. Tensors, streams and pools go by the program's numbers."""

    def __init__(self) -> None:
        here = os.environ["STUB_BUILT"]
        self.stub = ctypes.CDLL(f"{here}/driver.so")
        self.marker = ctypes.CDLL(f"{here}/capture.so")
        torch.cuda.init()
        torch.cuda.memory._record_memory_history(context=None)
        self.live = {}
        self.streams = {0: torch.cuda.default_stream()}
        self.capturing = False

    def stream(self, number):
        if number not in self.streams:
            self.streams[number] = torch.cuda.Stream()
        return self.streams[number]

    def malloc(self, key, nbytes, stream=0):
        try:
            with torch.cuda.stream(self.stream(stream)):
                self.live[key] = torch.empty(nbytes, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError as error:
            return str(error)
        return self.live[key].data_ptr()

    def free(self, key):
        self.live.pop(key, None)

    def record_stream(self, key, stream):
        if key in self.live:
            self.live[key].record_stream(self.stream(stream))

    def synchronize(self):
        self.stub.stub_synchronize()

    def empty_cache(self):
        torch.cuda.empty_cache()

    def reset_peak(self):
        torch.cuda.reset_peak_memory_stats()

    def begin_pool(self, pool, capture):
        torch._C._cuda_beginAllocateToPool(0, (0, pool))
        self.capturing = capture
        self._capture(begin=True)

    def end_pool(self, pool):
        self._capture(begin=False)
        torch._C._cuda_endAllocateToPool(0, (0, pool))

    def _capture(self, *, begin):
        if self.capturing:
            self.marker.mark_capture(int(begin))
            self.stub.stub_capture(int(begin))

    def release_pool(self, pool):
        torch._C._cuda_releasePool(0, (0, pool))


def main():
    machine, steps = Machine(), []
    for name, *arguments in json.load(sys.stdin)["ops"]:
        returned = getattr(machine, name)(*arguments)
        steps.append([returned, torch.cuda.memory_allocated(), torch.cuda.memory_reserved()])
    print(
        json.dumps(
            {
                "steps": steps,
                "stats": torch.cuda.memory_stats(),
                "streams": {n: stream.cuda_stream for n, stream in machine.streams.items()},
                "snapshot": base64.b64encode(
                    pickle.dumps(torch.cuda.memory._snapshot(), protocol=4)
                ).decode(),
            }
        ),
        flush=True,
    )
    os._exit(0)  # tensors would be freed on a driver that is gone


if __name__ == "__main__":
    main()
