"""Files, servers and requests of strangers: bounded, in one line, without secrets.

Each case here was once a hang, gigabytes, "this is a defect", or a wrong number without a word.
"""

import io
import json
import random
import re
import time
from contextlib import suppress

import pytest

import weighbridge
from tests import packings, work
from tests.cases import all_of, each
from tests.formats import build_torch
from tests.formats.build_gguf import Writer
from tests.fuzz import MOST_BYTES, fuzz
from tests.hostile import asking, laws
from tests.hostile.mutation import mutated
from tests.hub import Fault, Hub
from tests.sparse import write_repo, write_safetensors
from weighbridge.answers.questions import requests
from weighbridge.base import wording
from weighbridge.base.errors import BadFileError, HubError, UnsupportedError, WeighbridgeError
from weighbridge.faces.cli.menu import run
from weighbridge.faces.cli.requests import lines
from weighbridge.machines.allocator.filling import filled
from weighbridge.models.formats.strict_json import decode
from weighbridge.models.sources import http

TINY = packings.CONFIG
PASSWORD = "p4ssw0rd"


def written(folder, config):
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def refusal(task, model, **settings):
    with pytest.raises(WeighbridgeError) as caught:
        getattr(weighbridge, task)(str(model), **settings)
    message = str(caught.value)
    assert len(message) <= wording.LONGEST
    assert "\n" not in message
    return message


# Words


def test_an_error_is_one_line_of_at_most_300_characters():
    message = str(BadFileError("a file " + "x" * 1000 + "\n\n  and what to do"))
    assert len(message) == 300
    assert (message[:8], message[-15:]) == ("a file x", " and what to do")


@all_of(
    ("text", "told"),
    [
        (f"http://user:{PASSWORD}@host:8/x is gone", "http://host:8/x is gone"),
        (f"https://h/m.gguf?X-Amz-Signature={PASSWORD}&y=1: no", "https://h/m.gguf?***: no"),
        (f"at //u:{PASSWORD}@host", "at //host"),
        (f"at http://u:{PASSWORD}?x is", "at http://?*** is"),
        ("at http://host:8080/x is", "at http://host:8080/x is"),
        (f"token={PASSWORD}, then", "token=***"),
        (f"hf_{'a1' * 12} is no token", "hf_*** is no token"),
        ("org/name@main has no file", "org/name@main has no file"),
        ("does it fit? yes", "does it fit? yes"),
    ],
)
def test_passwords_and_signatures_are_not_told(text, told):
    assert str(HubError(text)).startswith(told)
    assert PASSWORD not in str(HubError(text))


def test_a_value_is_shown_in_part_and_without_writing_it_out():
    assert wording.shown([0] * 10**6) == "a list of 1,000,000 items"
    assert wording.shown(10**4000) == "a number of some 4,000 digits"
    assert len(wording.shown("x" * 10**6)) == wording.SHOWN
    assert wording.shown(7) == "7"


def test_json_holds_no_sign_that_a_terminal_obeys_and_is_the_same():
    text = json.dumps({"name": "a\x9b31m\u202eb\u2028"}, ensure_ascii=False)
    safe = wording.safe_json(text)
    assert json.loads(safe) == json.loads(text)
    assert all(c.isprintable() for c in safe)


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=y>", "![x](http://evil/y.png)", "[x](javascript:y)", "a|b", "`x`"]
)
def test_markdown_shows_names_and_does_not_follow_them(tmp_path, capsys, name):
    from markdown_it import MarkdownIt

    place = written(tmp_path, {**TINY, "architectures": ["LlamaForCausalLM"], "x_size": 1})
    report = weighbridge.load(str(place))
    page = report.__class__(
        **{f: getattr(report, f) for f in report.__dataclass_fields__} | {"warnings": (name,)}
    )._repr_markdown_()
    html = MarkdownIt("commonmark", {"html": True, "linkify": False}).render(page)
    tail = html[html.index("warning:") :]
    assert not re.search("<(img|a|script|code)", tail), tail


# Files


@pytest.mark.slow
def test_a_list_that_is_copied_for_each_recall_is_refused(tmp_path):
    """1 MB that made 5 GB: OrderedDict(list), and the list recalled from the memo."""
    head = b"]q\x01(" + b"K\x01K\x02\x86" * 65_000 + b"e0]q\x02"
    copies = b"ccollections\nOrderedDict\nh\x01\x85R0" * 20_000
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(build_torch.zipped(b"\x80\x02" + head + copies + b".", {}))
    assert "copies more than" in refusal("load", path)


@pytest.mark.slow
def test_a_long_key_that_is_recalled_for_each_tensor_is_refused(tmp_path):
    tensor = build_torch.tensor("0", (2, 3))
    name = build_torch.text("x" * 4000) + b"q\x07"
    inside = b"".join(b"}h\x07h\x08sa" for _ in range(9000))
    raw = b"\x80\x02]" + tensor + b"q\x080" + name + b"0" + inside + b"."
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(build_torch.zipped(raw, {"0": 24}))
    assert "names its tensors with more than" in refusal("load", path)


def gguf(tmp_path, facts, tensors=(("blk.0.ffn_up_exps.weight", [32, 4, 8]),), arch="llama"):
    w = Writer()
    w.key("general.architecture", w.value("str", arch))
    usual = {"block_count": 1, "embedding_length": 32, "attention.head_count": 4}
    for key, value in {**usual, **facts}.items():
        kind, number = value if isinstance(value, tuple) else ("u32", value)
        w.key(f"{arch}.{key}", w.value(kind, number))
    w.tensor("token_embd.weight", [32, 100])
    for name, dims in tensors:
        w.tensor(name, dims)
    path = tmp_path / "model.gguf"
    path.write_bytes(w.file())
    return path


def test_a_token_cannot_use_more_experts_than_there_are(tmp_path):
    path = gguf(tmp_path, {"expert_count": 8, "expert_used_count": (1 << 31) - 1})
    assert "a token cannot use 2,147,483,647 of 8 experts" in refusal("load", path)


@pytest.mark.parametrize("used", [None, 0, 9])
def test_a_graph_needs_experts_that_the_tensors_hold(tmp_path, used):
    path = gguf(tmp_path, {} if used is None else {"expert_used_count": used})
    told = refusal("infer", path, engine="llama.cpp")
    assert f"a token cannot use {used or 0} experts of 8: correct expert_used_count" in told


def test_experts_that_are_used_are_counted(tmp_path):
    path = gguf(tmp_path, {"expert_count": 8, "expert_used_count": 2})
    report = weighbridge.load(str(path))
    assert report.model.parameters == 32 * 100 + 32 * 4 * 8
    assert report.model.active_parameters == 32 * 100 + 32 * 4 * 2


@pytest.mark.parametrize("key", ["attention.head_count_kv", "attention.key_length"])
def test_no_size_of_a_gguf_file_is_below_zero(tmp_path, key):
    path = gguf(tmp_path, {key: ("i32", -8)})
    assert f"llama.{key} is -8, outside 0" in refusal("infer", path, engine="llama.cpp")


@pytest.mark.parametrize("number", ["30000000", "9" * 5000])
def test_block_numbers_that_no_model_has(tmp_path, number):
    names = ((f"blk.{number}.attn_q.weight", [32, 32]),)
    path = gguf(tmp_path, {}, names, arch="clip")

    def ask():
        if number == "30000000":
            assert "block 30,000,000" in refusal("infer", path, engine="llama.cpp")
        else:  # a name that is no block's
            assert weighbridge.load(str(path)).model.parameters == 32 * 100 + 32 * 32

    assert work.calls_made(ask) < 1_000_000, "blocks that are not there are not counted up"


@pytest.mark.parametrize("shape", [(), (7,), (0, 4)])
def test_tensors_of_ranks_that_their_names_do_not_have(tmp_path, shape):
    tensors = packings.plain()
    tensors["model.layers.0.self_attn.o_proj.weight"] = ("BF16", shape)
    write_repo(tmp_path, {**TINY, "model_type": "nobody_knows"}, tensors)
    report = weighbridge.load(str(tmp_path))
    assert laws.broken(report.to_dict()) == []


@pytest.mark.slow
def test_junk_keys_are_refused_before_they_are_built():
    text = b"{" + b"".join(b'"%d":"x",' % i for i in range(4_000_000)) + b'"x":1}'
    with pytest.raises(BadFileError, match="would take more than"):
        decode(text, 1 << 30)


def test_headers_of_all_files_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(weighbridge.models.checkpoint.inventory, "MAX_TENSORS", 10)
    for i in range(3):
        write_safetensors(
            tmp_path / f"s{i}.safetensors", {f"{i}.{j}": ("U8", (1,)) for j in range(4)}
        )
    names = {f"{i}.{j}": f"s{i}.safetensors" for i in range(3) for j in range(4)}
    index = {"weight_map": names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "name more than 10 tensors, our limit" in refusal("load", tmp_path)
    monkeypatch.setattr(weighbridge.models.checkpoint.inventory, "MAX_TENSORS", 12)
    assert weighbridge.load(str(tmp_path)).model.parameters == 12
    monkeypatch.setattr(weighbridge.models.checkpoint.inventory, "MAX_HEADERS", 100)
    assert "take more than 100 bytes, our limit" in refusal("load", tmp_path)


# Configs


def test_sizes_that_no_model_has(tmp_path):
    told = refusal("load", written(tmp_path, {**TINY, "hidden_size": 10**9}))
    assert "parameters, more than any model: model." in told
    nothing = {**TINY, "vocab_size": 0, "hidden_size": 0, "intermediate_size": 0}
    told = refusal("load", written(tmp_path, nothing))
    assert "model.embed_tokens.weight of LlamaForCausalLM would be 0 x 0" in told
    told = refusal("infer", written(tmp_path, {**TINY, "vocab_size": 0}))
    assert "would be 0 x 256: correct vocab_size, which is 0" in told
    heads = {**TINY, "num_attention_heads": 0, "hidden_dropout_size_prob": 0, "head_dim": 64}
    told = refusal("infer", written(tmp_path, heads))
    assert told.endswith("correct num_attention_heads, which is 0")


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("positions", [-1, -(1 << 31)])
def test_positions_below_zero_are_refused(tmp_path, engine, positions):
    """vLLM's table of rotary positions was filled with blocks of less than nothing, without end."""
    place = written(tmp_path, {**TINY, "max_position_embeddings": positions})
    assert "max_position_embeddings" in refusal("infer", place, engine=engine)


def test_a_model_type_is_text(tmp_path):
    told = refusal("infer", written(tmp_path, {**TINY, "model_type": {"x": 1}}))
    assert "model_type must be text, not {'x': 1}" in told


def test_no_block_is_smaller_than_nothing():
    with pytest.raises(ValueError, match="a block of -512 bytes"):
        filled([-512])


def test_a_format_that_a_config_asks_for_is_refused_as_the_configs(tmp_path):
    strange = {"quant_method": "gptq", "bits": {"x": 3}}
    told = refusal("load", written(tmp_path, {**TINY, "quantization_config": strange}))
    assert told.startswith(str(tmp_path))
    assert "quantization_config" in told
    strange = {"quant_method": "compressed-tensors", "config_groups": [1]}
    told = refusal("load", written(tmp_path, {**TINY, "quantization_config": strange}))
    assert "config_groups must be an object, not [1]" in told


def test_what_could_not_be_followed_is_one_line_and_a_defect_of_ours_in_the_catalogue(
    tmp_path, monkeypatch
):
    def breaks(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("weighbridge.answers.estimate.load.load", breaks)
    told = refusal("load", written(tmp_path, TINY))
    assert "could not be followed (ZeroDivisionError: by zero at test_strangers.py" in told
    with pytest.raises(ZeroDivisionError):
        weighbridge.load("gpt2")


@pytest.mark.slow
def test_ranks_that_are_alike_are_listed_up_to_a_limit():
    report = weighbridge.train({**TINY}, shard="fsdp2", data_parallel_size=65_536, seq_len=64)
    assert len([d for d in report.devices if d.kind == "gpu"]) == 4096
    assert "4,096 of 65,536 ranks that are alike are listed" in report.warnings
    few = weighbridge.train({**TINY}, shard="fsdp2", data_parallel_size=4096, seq_len=64)
    assert len([d for d in few.devices if d.kind == "gpu"]) == 4096
    assert not any("alike are listed" in w for w in few.warnings)


def test_nothing_but_a_model_is_called_by_a_name_from_a_file():
    from types import SimpleNamespace

    from weighbridge.models.arch import torch_modules

    class Base: ...

    class Real(Base): ...

    library = SimpleNamespace(__name__="lib", __version__="1", Real=Real, pipeline=print)
    assert torch_modules._class(library, "Real", Base) is Real
    with pytest.raises(UnsupportedError, match="has no class 'pipeline'"):
        torch_modules._class(library, "pipeline", Base)
    with pytest.raises(BadFileError, match="no name of a timm model"):
        torch_modules.timm("hf-hub:evil/model")


# Requests


def test_a_line_has_a_limit_and_the_others_go_on():
    given = io.BytesIO(b"a\n" + b"x" * 25 + b"\nb\n")
    assert [len(line) for line in lines(given, 20)] == [2, 21, 2]


def test_what_has_no_lines_ends():
    class Zeros(io.RawIOBase):
        read_bytes = 0

        def readable(self):
            return True

        def readinto(self, held):
            self.read_bytes += len(held)
            held[:] = bytes(len(held))
            return len(held)

    zeros = Zeros()
    assert len(list(lines(io.BufferedReader(zeros), 1 << 20))) == 1
    assert zeros.read_bytes < 4 << 20


def test_errors_of_requests_echo_little():
    long = json.dumps({"task": "x" * 10**6, "model": "gpt2"})
    assert len(requests.Requests().answer(long)["error"]["message"]) <= wording.LONGEST
    told = requests.Requests().answer(
        json.dumps({"task": "load", "model": "gpt2", "workload": [1] * 10**5})
    )
    assert "not a list of 100,000 items" in told["error"]["message"]
    with pytest.raises(BadFileError, match="longer than"):
        requests.parsed("x" * 101, most=100)


@pytest.mark.parametrize("pattern", ["(a+)+x", "(a|a)*x", ".*" * 9 + "x"])
def test_a_pattern_that_could_search_for_hours_is_refused(pattern):
    with pytest.raises(WeighbridgeError, match="could search for hours"):
        weighbridge.train(TINY, method="lora", lora_targets=[pattern], seq_len=16)
    found = weighbridge.train(TINY, method="lora", lora_targets=[r".*\.(q|v)_proj"], seq_len=16)
    assert found.derived["trainable_parameters"] > 0


# Servers


@pytest.fixture
def hub(tmp_path, monkeypatch):
    write_repo(tmp_path / "hub/org/tiny", TINY, packings.plain())
    with Hub(tmp_path / "hub") as running:
        from huggingface_hub import constants

        endpoint = running.endpoint.replace("//", f"//user:{PASSWORD}@")
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield running


def asked(tmp_path):
    return refusal("load", "org/tiny", cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("status", [401, 403, 404, 418, 503])
def test_no_error_tells_the_password_of_an_endpoint(hub, tmp_path, status, monkeypatch):
    monkeypatch.setattr(http, "TRIES", 1)
    hub.faults = [Fault("/", status=status)]
    told = asked(tmp_path)
    assert PASSWORD not in told
    assert "org/tiny" in told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "../../etc"),
        ("id", "org/\x1b[2J"),
        ("id", ["org/tiny"]),
        ("id", "x" * 5000),
        ("sha", "main/../.."),
        ("sha", 7),
        ("sha", "a" * 39),
    ],
)
def test_what_the_listing_says_of_itself_is_checked(hub, tmp_path, key, value):
    listing = {"id": "org/tiny", "sha": "a" * 40, "siblings": []} | {key: value}
    hub.faults = [Fault("/api/", body=json.dumps(listing).encode())]
    assert f"does not answer as a Hub does: {key} is " in asked(tmp_path)


def test_a_file_is_no_larger_than_its_listing_says(hub, tmp_path):
    hub.faults = [Fault("config.json", status=200, body=b" " * (1 << 20))]
    assert "the size that was listed" in asked(tmp_path)


@pytest.mark.slow
def test_an_answer_that_unpacks_to_more_is_left_off(hub, tmp_path):
    import gzip

    packed = gzip.compress(b" " * (100 << 20), 9)
    assert len(packed) < 1 << 18
    headers = {"Content-Encoding": "gzip"}
    hub.faults = [Fault("config.json", status=200, body=packed, headers=headers)]
    assert "the size that was listed" in asked(tmp_path)


@pytest.mark.slow
def test_headers_that_trickle_end(tmp_path, monkeypatch):
    """The limit of all headers ends them; on a busy machine that of one read may come first."""
    import socket
    import threading

    monkeypatch.setattr(http, "HEAD_SECONDS", 0.5)
    server = socket.create_server(("127.0.0.1", 0))

    def trickle():
        connection, _ = server.accept()
        with connection, suppress(OSError):  # who asked may be gone
            connection.recv(1000)
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10:
                connection.send(bytes([byte]))
                time.sleep(0.1)

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/model.safetensors"
    told = refusal("load", url)
    assert "took more than 0.5 s" in told or "(timed out)" in told
    thread.join()
    server.close()


def test_a_body_that_trickles_ends(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(http, "SLOW_AFTER", 0)
    monkeypatch.setattr(http, "SLOWEST", 1 << 60)
    assert "too slow" in asked(tmp_path)


@pytest.mark.parametrize("to", ["http://127.0.0.1:99999/x", "http://[::1", "file:///etc/passwd"])
def test_a_redirect_to_what_is_no_address(hub, tmp_path, to, monkeypatch):
    monkeypatch.setattr(http, "TRIES", 1)
    hub.faults = [Fault("config.json", status=302, headers={"Location": to})]
    assert "config.json" in asked(tmp_path)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/m.gguf", "https://u:p4ssw0rd@h:99999/m.gguf"]
)
def test_a_port_that_there_is_not(url):
    told = refusal("load", url)
    assert "Port out of range" in told
    assert PASSWORD not in told


def test_a_password_that_stands_where_a_port_does_is_not_told():
    told = refusal("load", f"https://user:{PASSWORD}?@h/m.gguf")
    assert PASSWORD not in told
    assert "its port is no number" in told


# All of it at once


def test_the_command_line_says_one_line(tmp_path, capsys):
    place = written(tmp_path, {**TINY, "hidden_size": "x" * 5000})
    assert run(["load", str(place)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert (told.count("\n"), len(told) <= 301, "config.json" in told) == (1, True, True)


def test_the_laws_can_break():
    report = weighbridge.load("gpt2").to_dict()
    assert laws.broken(report) == []
    report["devices"][0]["phases"][0]["components"][0]["bytes"]["low"] += 1
    assert laws.broken(report)
    report["model"]["parameters"] = -1
    assert any("parameters is -1" in what for what in laws.broken(report))
    del report["devices"]
    assert laws.broken(report) == ["report has no devices"]


def test_mutations_are_the_same_for_the_same_seed():
    made = [mutated(random.Random(7), TINY, keys=["x"]) for _ in range(2)]
    assert json.dumps(made[0]) == json.dumps(made[1])
    assert any(mutated(random.Random(n), TINY) != TINY for n in range(3))


CHEAP = ("config", "params", "safetensors", "names", "index", "small", "gguf", "pickled")
CHEAP += ("requests", "launches", "gpus")


def found(targets, cases, seed):
    tally = fuzz(targets, cases=cases, seed=seed)
    return {f"{target}: {what}": held[:3] for (target, what), held in tally.wrong.items()}


@pytest.mark.slow
def test_strangers_files_are_answered_or_refused():
    assert found(CHEAP, 6, seed=1) == {}


@pytest.mark.slow
@pytest.mark.parametrize("cases", each(2, (20, 60)))
def test_strangers_files_and_servers_are_answered_or_refused(cases):
    assert found((*CHEAP, "hub", "references"), cases, seed=2) == {}
    assert found(("bomb",), cases // 20, seed=3) == {}
    assert MOST_BYTES == 1 << 30


@pytest.mark.slow
def test_random_requests_keep_the_laws():
    answered, refused, wrong = asking.run(12, 5)
    assert wrong == {}
    assert answered >= 6 > refused - 6


@pytest.mark.slow
@pytest.mark.parametrize("requests", each(2, (20, 150)))
def test_more_random_requests_keep_the_laws(requests):
    answered, _, wrong = asking.run(requests, 6)
    assert wrong == {}
    assert answered > requests // 2
