"""The other tools, in the interpreter that --peers-python names.

hf-mem has the Hub's address in its URLs. Its launcher here (`python -m`'s equivalent, with the
same `main`) puts the stand-in's address in their place when the client is about to use them.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HF_MEM_AT = """
import sys
from hf_mem import _fetch, cli
client, endpoint = _fetch.httpx2.AsyncClient, sys.argv.pop(1)
get = client.get
def at_endpoint(self, url, **settings):
    return get(self, url.replace("https://huggingface.co", endpoint), **settings)
client.get = at_endpoint
cli.main()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """`versions` holds what is installed: a tool that is not there is not measured."""

    python: str
    versions: dict[str, str]

    def script(self, name: str) -> str:
        return str(Path(self.python).parent / name)

    def has(self, tool: str) -> bool:
        return tool in self.versions

    def hf_mem_at(self, endpoint: str, repo_id: str) -> Sequence[str]:
        return [self.python, "-c", HF_MEM_AT, endpoint, "--model-id", repo_id]

    def accelerate(self, repo_id: str) -> Sequence[str]:
        return [self.script("accelerate"), "estimate-memory", repo_id]


PACKAGES = ("accelerate", "hf-mem", "huggingface_hub", "transformers", "torch", "safetensors")
ASK = """
import importlib.metadata as m, sys
for name in sys.argv[1:]:
    try: print(name, m.version(name))
    except m.PackageNotFoundError: pass
"""


def peers(python: str) -> Peers:
    done = subprocess.run(
        [python, "-c", ASK, *PACKAGES], capture_output=True, text=True, check=True
    )
    return Peers(python=python, versions=dict(line.split() for line in done.stdout.splitlines()))
