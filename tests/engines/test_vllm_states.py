"""vLLM refuses to start where a hybrid has fewer blocks than sequences (vllm-project/vllm pull request
38270): a line of the report, and a remedy of its own."""

import pytest

import weighbridge

H100 = {"gpu": "h100", "offline": True}


def line(flags="", version="0.22.1", model="Qwen/Qwen3.6-27B-FP8"):
    command = f"vllm serve {model} --gpu-memory-utilization 0.95 {flags}"
    return weighbridge.infer(command=command, engine_version=version, **H100)


def blocks(report):
    conditions = report.to_dict()["verdict"]["conditions"]
    return next((c for c in conditions if c["name"] == "state_blocks"), None)


def test_a_published_refusal():
    """1,024 sequences on an H100, of which 856 have a block (vllm-project/recipes pull request 551)."""
    report = line()
    assert (report.verdict.fits, report.verdict.ground) == ("no", "tried")
    assert not report.derived["serves_as_asked"]
    available = blocks(report)["available"]
    assert available["expected"] == pytest.approx(856, rel=0.015)
    assert report.derived["num_gpu_blocks"] == available["expected"]
    (change,) = (r.change for r in report.remedies if "max_num_seqs" in r.change)
    assert 700 <= change["max_num_seqs"] <= 856  # what has a block, not a request alone
    assert line(f"--max-num-seqs {change['max_num_seqs']}").verdict.fits == "yes"


@pytest.mark.parametrize(
    ("flags", "version", "model"),
    [
        ("", "0.19", "Qwen/Qwen3.6-27B-FP8"),  # captured for as many as there are
        ("--enforce-eager", "0.22.1", "Qwen/Qwen3.6-27B-FP8"),  # nothing is captured
        ("", "0.22.1", "Qwen/Qwen3-8B"),  # no states
        # whole graphs alone are of states
        ("-cc.cudagraph_mode=PIECEWISE", "0.22.1", "Qwen/Qwen3.6-27B-FP8"),
        ("-O1", "0.22.1", "Qwen/Qwen3.6-27B-FP8"),
    ],
)
def test_where_it_does_not_ask(flags, version, model):
    assert blocks(line(flags, version, model)) is None


def test_an_unnamed_release_is_no_refusal():
    """A published line of an earlier release starts (vllm-project/recipes, Nemotron 3 Nano)."""
    report = line(version=None)
    assert (report.verdict.fits, report.derived["serves_as_asked"]) == ("unknown", False)
    assert blocks(report)["needed"] == {"low": 0, "expected": 1024, "high": 1024}


@pytest.mark.parametrize("mode", ["FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"])
def test_whole_graphs_ask_for_a_block_each(mode):
    assert line(f"-cc.cudagraph_mode={mode}").verdict.fits == "no"


MTP = """--kv-cache-dtype fp8 --speculative-config '{"method":"mtp","num_speculative_tokens":3}'"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpu", "flags", "asks"),
    [
        ("a40", MTP, None),  # FlashInfer reads fp8 there, and decodes one token at a time
        ("4090:2", f"{MTP} -tp 2", None),
        ("a40", f"{MTP} --attention-backend TRITON_ATTN", "no"),
        ("a40", "--kv-cache-dtype fp8", "no"),  # nothing is proposed
        ("a40", MTP.replace("--kv-cache-dtype fp8", ""), "no"),  # FlashAttention
        ("b200", f"{MTP} --max-num-seqs 8192 --max-num-batched-tokens 8192", "no"),
        ("rtx-pro-6000", f"{MTP} --max-num-seqs 2048 --max-num-batched-tokens 2048", "unknown"),
    ],
)
def test_proposed_tokens_of_flashinfer_are_decoded_in_pieces(gpu, flags, asks):
    """On one A40 0.28 serves it with 256 sequences (TUM-DSE/doctor-cluster-config pull 1806): graphs
    are in pieces (vllm-project/vllm issue 54992), which ask for no block each."""
    command = f"vllm serve Qwen/Qwen3.8-27B-FP8 --gpu-memory-utilization 0.94 {flags}"
    report = weighbridge.infer(
        command=command, engine_version="0.28.0", gpu=gpu, context=131_072, offline=True
    )
    conditions = {c.name: c.holds for c in report.verdict.conditions}
    assert conditions.get("state_blocks") == asks
    if gpu == "a40" and asks is None:
        assert report.verdict.fits == "yes"


@pytest.mark.slow
def test_graphs_in_pieces_are_fewer():
    whole, pieces = (
        line(f"{MTP} --max-num-seqs 8 {flag}").derived["cuda_graph_bytes"]
        for flag in ("", "-cc.cudagraph_mode=PIECEWISE")
    )
    assert 0 < pieces < whole


def test_more_sequences_are_never_easier():
    fits = [
        line(f"--max-num-seqs {n} --max-num-batched-tokens 8192").verdict.fits
        for n in (64, 800, 4096)
    ]
    assert fits == sorted(fits, key=["yes", "unknown", "no"].index)
    assert (fits[0], fits[-1]) == ("yes", "no")
