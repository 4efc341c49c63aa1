"""More cases by target: run files, pastes, contradictions, tokens in wrong places, the page's wire
and damaged scans. What each may do is what `cases.py` says of all."""

import json
import shutil
import socket
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

import yaml

from tests import packings
from tests.hostile import contradictions, mutation
from tests.hostile.cases import Case
from tests.hostile.mutation import mutated
from tests.hostile.shapes import SHAPES, WORDS

# Run files

AXOLOTL = {
    "base_model": "qwen3-0.6b",
    "adapter": "lora",
    "lora_r": 8,
    "lora_target_modules": ["q_proj", "v_proj"],
    "sequence_len": 256,
    "micro_batch_size": 1,
    "gradient_checkpointing": True,
}
FACTORY = {
    "model_name_or_path": "Qwen/Qwen2.5-0.5B",
    "stage": "sft",
    "finetuning_type": "lora",
    "cutoff_len": 256,
    "per_device_train_batch_size": 1,
    "bf16": True,
}
COMPOSE = {
    "services": {
        "llm": {
            "image": "vllm/vllm-openai:v0.11.0",
            "command": ["--model", "qwen3-0.6b", "--max-model-len", "2048"],
            "deploy": {"resources": {"reservations": {"devices": [{"count": 1}]}}},
        }
    }
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "x"},
    "spec": {
        "containers": [
            {
                "name": "a",
                "image": "vllm/vllm-openai:v0.11.0",
                "args": ["--model", "qwen3-0.6b"],
                "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}},
            }
        ]
    },
}
ZERO = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1}
TITAN = '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = 1\nseq_len = 512\n'
TREES = {"axolotl": AXOLOTL, "llama-factory": FACTORY, "compose": COMPOSE, "kubernetes": POD}
TREES |= {"deepspeed": ZERO}
TEXTS = (
    TITAN,
    "FROM llama3.2:1b\nPARAMETER num_ctx 4096\n",
    "#!/bin/bash\n#SBATCH --gres=gpu:2\nsrun vllm serve qwen3-0.6b -tp 2 --max-model-len 2048\n",
    "torchrun --nproc-per-node 2 train.py --model_name_or_path gpt2 --bf16\n",
    (
        "I have a 4090 and get OOM with qwen3-0.6b, 8 users at once, 16k context:\n"
        "```bash\nvllm serve qwen3-0.6b --max-model-len 16384\n```\nWhat now?\n"
    ),
    (
        "from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained('gpt2', torch_dtype='auto')\n"
    ),
)
KINDS = ("axolotl", "llama-factory", "trl", "torchtune", "deepspeed", "compose", "kubernetes")
KINDS += ("litgpt", "server-config", "megatron", "unanswered", "command", "text", "modelfile")


def _typed(rng, path):
    words = [str(path), "--gpu", rng.choice(("4090", "h100:2")), "--offline"]
    if rng.random() < 0.3:
        words += ["--as", rng.choice(KINDS)]
    if rng.random() < 0.3:
        words.append("--fix")
    return [*words, "--json"]


def run_files(rng, place):
    """Configs of trainers and servers with wrong values, in YAML or JSON, some with more documents
    than one; and texts with wrong words."""
    folder = place.new()
    if rng.random() < 0.3:
        path = folder / rng.choice(("run.toml", "run.sh", "run.txt", "run.py", "run"))
        path.write_text(_words(rng, rng.choice(TEXTS)), errors="surrogatepass")
    else:
        tree = mutated(rng, rng.choice(list(TREES.values())), keys=mutation.keys_read("runfiles"))
        text = json.dumps(tree) if rng.random() < 0.3 else yaml.safe_dump(tree)
        text += rng.choice(("", "", "", "---\n", "---\n- 1\n", "...\n", "\x00", "{{ x }}"))
        path = folder / rng.choice(("run.yaml", "run.yml", "run.json", "run"))
        path.write_bytes(text.encode(errors="surrogatepass"))
    return Case(arguments=_typed(rng, path), form="human", named=(path.name,), alone=False)


def _words(rng, text):
    for _ in range(rng.choice((0, 1, 3))):
        at = rng.randrange(len(text) + 1)
        new = rng.choice((*WORDS, *mutation.NAMES, "--hf-overrides", "=", "\n\n"))
        text = text[:at] + new.replace("\0", "") + text[at + rng.choice((0, 0, 1, 9)) :]
    return text


def pastes(rng, place):
    """Long texts of one shape, alone or around a right one."""
    shape = rng.choice([one for one in SHAPES.values() if one.most == 1 << 20])
    made = shape.make(rng.choice((10, 1000, 1 << 15, 1 << 18, 1 << 20)))
    made = made if isinstance(made, str) else made.decode()
    text = rng.choice((made, f"{rng.choice(TEXTS)}{made}", f"{made}\n{rng.choice(TEXTS)}"))
    words = ["-", "--gpu", "4090", "--offline", "--json"]
    raw = text.encode(errors="surrogatepass")
    return Case(arguments=words, stdin=raw, form="human", alone=False)


# What may be said of nobody's secret

TOKEN = "hf_" + "AbCdEfGh1234" * 3
LOGIN = "me:p4ssw0rdOfMine@db.example.org"


def tokens(rng, place):
    """A run file with a token in the place of a value, a key or a word."""
    token = rng.choice((TOKEN, f"sk-proj-{TOKEN[3:]}", f"ghp_{TOKEN[3:]}", f"https://{LOGIN}/x"))
    secret = "p4ssw0rdOfMine" if "://" in token else TOKEN[3:]
    tree = json.loads(json.dumps(rng.choice(list(TREES.values()))))
    _planted(rng, tree, token)
    path = place.new() / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    words = _typed(rng, path)
    if rng.random() < 0.5:
        (path.parent / "weighbridge.toml").write_text(
            '[[check]]\nfiles = ["*.yaml"]\ngpu = "4090"\n'
        )
        form = rng.choice(("human", "json", "markdown", "sarif"))
        rules = str(path.parent / "weighbridge.toml")
        words = ["check", "--config", rules, "--format", form, "--offline", "--", str(path)]
    return Case(arguments=words, form="human", secrets=(secret,), alone=False)


def _planted(rng, tree, token):
    place = tree
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
            continue
        if isinstance(place, dict) and rng.random() < 0.2:
            place[token] = place.pop(key)
        else:
            place[key] = token
        return


# Contradictions


@cache
def _folders():
    return dict(contradictions.folders())


def folders(rng, place):
    """A folder that contradicts itself, asked anything: it is refused, or said."""
    folder = place.new()
    name = rng.choice(list(_folders()))
    _folders()[name](folder)
    target = folder / "model.gguf" if name.startswith("gguf") else folder
    words = [rng.choice(("load", "infer", "infer")), str(target), "--offline", "--quiet"]
    return Case(arguments=words, form="human", says=True, alone=False)


# The page's wire


def page(rng, place):
    """Bytes of any kind to the served page: an answer of HTTP, or a closed connection."""
    raw = b"".join(rng.choice(PIECES) for _ in range(rng.choice((1, 3, 8))))
    return Case(arguments=[], act=lambda: _sent(raw))


PIECES = (
    b"GET / HTTP/1.1\r\n",
    b"POST /x/ask HTTP/1.1\r\n",
    b"Host: 127.0.0.1\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Origin: null\r\nOrigin: http://127.0.0.1\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0" * 100,
    b"x" * 70_000,
    b"GET /" + b"a/../" * 99 + b" HTTP/9.9\r\n",
    b"{}",
)


@cache
def _server():
    from weighbridge.faces.web.protocol import AskDesk
    from weighbridge.faces.web.server import PageServer

    class Here:
        def answer(self, line, gone, tell):
            return json.dumps(AskDesk(offline=True).answer(line)).encode()

    server = PageServer(0, Here())
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def _sent(raw):
    """Return (code, what was answered)."""
    server, answer = _server(), b""
    address = "127.0.0.1", server.gate.port
    with suppress(OSError), socket.create_connection(address, 5) as line:
        line.sendall(raw)
        line.shutdown(socket.SHUT_WR)
        while piece := line.recv(1 << 16):
            answer += piece
    return 0, answer.decode(errors="replace").replace("\r", "")


# Scans


@cache
def _scanned():
    """A dataset that is whole, made once: None where its libraries are not here."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return None
    import tempfile

    from weighbridge.faces.cli.menu import run

    folder = Path(tempfile.mkdtemp(prefix="scanned"))
    source = folder / "source"
    for layers in (1, 2, 3):
        one = source / f"m{layers}"
        one.mkdir(parents=True)
        (one / "config.json").write_text(
            json.dumps(packings.CONFIG | {"num_hidden_layers": layers})
        )
    out = folder / "out"
    assert run(["scan", "plan", str(source), str(out), "--gpu", "4090"]) == 0
    assert run(["scan", "run", str(out), "--jobs", "1"]) == 0
    return out


def scans(rng, place):
    """A dataset of which one byte is another: it is found, and answered again or named."""
    whole = _scanned()
    if whole is None:
        return Case(arguments=["doctor", "--json"], form="human")
    out = place.new() / "out"
    shutil.copytree(whole, out)
    path = rng.choice(sorted(p for p in out.rglob("*") if p.is_file() and p.stat().st_size))
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)
    known = path.suffix in (".json", ".parquet")
    return Case(
        arguments=["scan", "check", str(out)], codes=(1, 2) if known else (0, 1, 2), alone=False
    )


MORE = (run_files, pastes, tokens, folders, page, scans)
