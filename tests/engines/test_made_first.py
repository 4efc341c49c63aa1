"""Lines that make a model first: by what Ollama and llama.cpp themselves read of them."""

import re
import shlex
import subprocess

import pytest

import weighbridge
from weighbridge.engines.launch import parse
from weighbridge.engines.ollama.launching import _inside

# ollama fb30760: parser/parser.go (isValidCommand), fs/ggml/type.go (ParseFileType),
# types/model/name.go (isValidPart), api/types.go (Runner)
COMMANDS = {"from", "license", "template", "system", "adapter", "parameter", "message"}
QUANTIZES = {"F32", "F16", "BF16", "Q8_0", "Q4_K_S", "Q4_K_M", "Q4_K"}
NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(:[A-Za-z0-9_][\w.-]*)?")
OPTIONS = {"num_gpu", "num_batch", "main_gpu", "use_mmap"}
# llama.cpp convert_hf_to_gguf.py (main), tools/quantize/quantize.cpp (QUANT_OPTIONS)
OUTTYPES = {"f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0", "auto"}


def lines(name, engine, **settings):
    return weighbridge.infer(name, engine=engine, **settings).derived["launch"].splitlines()


def written(line, folder):
    """The Modelfile that a shell writes."""
    subprocess.run(["sh", "-c", line], cwd=folder, check=True, timeout=60)
    return (folder / "Modelfile").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "settings", "by"),
    [
        ("llama-3.1-8b", {"quantization": "Q4_K_S"}, "ollama"),
        ("llama-3.1-8b", {"quantization": "F16", "n_gpu_layers": 20, "no_mmap": True}, "ollama"),
        ("llama-3-8b", {"quantization": "Q6_K"}, "llama.cpp"),  # Ollama does not make it
        ("qwen3-8b", {"quantization": "Q4_0"}, "llama.cpp"),  # Ollama does not convert it
        ("qwen3-8b", {"n_gpu_layers": 9}, "tag"),
    ],
)
def test_ollama_reads_every_line(tmp_path, name, settings, by):
    made = lines(name, "ollama", context=4096, gpu="3060", **settings)
    tells = [line for line in made if line.startswith("printf ")]
    file = written(tells[0], tmp_path)
    assert {line.split()[0].lower() for line in file} <= COMMANDS
    source = file[0].removeprefix("FROM ")
    assert {line.split()[1] for line in file[1:]} <= OPTIONS
    create = shlex.split(made[-2])
    assert create[:2] == ["ollama", "create"] and NAME.fullmatch(create[-1])
    assert made[-1] == f"ollama run {create[-1]}"
    if "-q" in create:
        assert create[create.index("-q") + 1] in QUANTIZES
    shell = "\n".join(made)
    assert (by == "llama.cpp") == ("convert_hf_to_gguf.py" in shell) == source.endswith(".gguf")
    assert (by == "ollama") == (f"--local-dir {source[2:]}\n" in shell)
    if by == "llama.cpp":
        assert f" {source[2:]}" in made[-4]  # the step before makes that very file
    assert parse(shell).model == create[-1]


@pytest.mark.parametrize(("context", "says"), [(4096, False), (8192, True)])
def test_a_tag_is_run_as_it_is_where_the_server_does_so_by_itself(context, says):
    (line,) = lines("qwen3:8b", "ollama", context=context, gpu="3060")
    assert line.endswith("ollama run qwen3:8b")
    assert ("OLLAMA_CONTEXT_LENGTH=8192 ollama serve & sleep 5; " in line) == says
    assert line.startswith("ollama run") != says


def test_a_card_of_24_gb_has_a_longer_context_by_itself():
    (line,) = lines("qwen3:8b", "ollama", context=32_768, gpu="4090")
    assert line == "ollama run qwen3:8b"
    (short,) = lines("all-minilm:22m", "ollama", context=512, gpu="4090")
    assert "OLLAMA_CONTEXT_LENGTH" not in short  # the model's maximum is what is taken


@pytest.mark.parametrize(
    ("form", "count", "outtype"),
    [("Q8_0", 2, "q8_0"), ("Q6_K", 3, "bf16"), ("IQ2_XS", 4, "bf16"), ("BF16", 2, "bf16")],
)
def test_llama_cpp_makes_the_file_that_it_serves(form, count, outtype):
    made = lines("llama-3-8b", "llama.cpp", quantization=form)
    assert len(made) == count
    convert = shlex.split(made[0])
    assert convert[:4] == [
        "python",
        "convert_hf_to_gguf.py",
        "--remote",
        "meta-llama/Meta-Llama-3-8B",
    ]
    assert convert[-1] == outtype and outtype in OUTTYPES
    file = f"llama-3-8b-{form}.gguf"
    assert made[-1].startswith(f"llama-server -m {file} ")
    assert file in made[-2]
    if count > 2:
        assert made[-2].endswith(f" {file} {form}")
        assert convert[convert.index("--outfile") + 1] in made[-2]
    assert ("--imatrix imatrix.gguf" in made[-2]) == ("llama-imatrix" in made[1]) == (count == 4)


def test_a_draft_is_made_as_well():
    made = lines("qwen3-8b", "llama.cpp", quantization="Q4_0", draft_model="qwen3-0.6b")
    files = [line.partition("--outfile ")[2].split()[0] for line in made[:-1] if "--out" in line]
    assert files == ["qwen3-0.6b-BF16.gguf", "qwen3-8b-BF16.gguf"]
    assert "-m qwen3-8b-Q4_0.gguf " in made[-1] and made[-1].endswith(f"-md {files[0]}")
    published = lines("qwen3-8b", "llama.cpp", quantization="Q8_0", draft_model="qwen3-0.6b")
    assert len(published) == 2 and published[-1].endswith(f"-md {files[0]}")
    assert published[-1].startswith("llama-server -hf unsloth/Qwen3-8B-GGUF:Q8_0 ")


def test_a_path_with_a_space_stays_one_path(tmp_path):
    text = f"FROM {_inside('/a b/50%')}\\n"
    assert written(f"printf {shlex.quote(text)} > Modelfile", tmp_path) == ['FROM "/a b/50%"']


@pytest.mark.parametrize(
    ("repository", "form", "loads"),
    [
        ("unsloth/Qwen3-8B-GGUF:Q8_0", "Q8_0", "unsloth/Qwen3-8B-GGUF:Q8_0"),
        ("unsloth/Qwen3-8B-GGUF:UD-Q6_K_XL", "Q6_K", "unsloth/Qwen3-8B-GGUF:UD-Q6_K_XL"),
        ("Qwen/Qwen3-8B-GGUF", "Q4_K_M", "Qwen/Qwen3-8B-GGUF"),
        ("someone/Qwen3-8B-Q6_K-GGUF", "Q6_K", "someone/Qwen3-8B-Q6_K-GGUF"),
        ("ggml-org/gpt-oss-20b-GGUF", "MXFP4_MOE", "ggml-org/gpt-oss-20b-GGUF"),
        (
            "google/gemma-3-27b-it-qat-q4_0-gguf",
            "Q4_0",
            "google/gemma-3-27b-it-qat-q4_0-gguf --no-mmproj",  # which sees
        ),
    ],
)
def test_files_of_a_repository_out_of_reach_are_not_made_again(repository, form, loads):
    model = weighbridge.prepare(repository, offline=True)
    report = model.infer(engine="llama.cpp", context=4096)
    assert report.to_dict()["workload"]["quantization"] == form
    command, flag, others = report.derived["launch"].partition(" -c 4096")
    assert flag and command + others == f"llama-server -hf {loads}"


def test_a_type_that_is_typed_is_the_file_that_is_taken():
    model = weighbridge.prepare("Qwen/Qwen3-8B-GGUF", offline=True)
    report = model.infer(engine="llama.cpp", context=4096, quantization="Q8_0")
    assert report.derived["launch"].startswith("llama-server -hf Qwen/Qwen3-8B-GGUF:Q8_0 ")


def test_files_of_no_type_are_taken_as_the_server_takes_them():
    name = weighbridge.prepare("Qwen/Qwen3-8B-GGUF", offline=True)
    said = [w for w in name.infer(engine="llama.cpp").warnings if "of no type" in w]
    assert said and "Q4_K_M" in said[0]
    assert (
        weighbridge.prepare("qwen3-8b-gguf")
        .infer(engine="llama.cpp")
        .derived["launch"]
        .endswith("llama-server -hf unsloth/Qwen3-8B-GGUF:Q4_K_M -c 4096")
    )


@pytest.mark.parametrize(
    ("engine", "gpu", "note"),
    [
        ("vllm", "h200:16", "for 2 machines the line needs a Ray cluster of them, or --nnodes"),
        ("sglang", "h200:24", "for 3 machines the line needs --nnodes, --node-rank and --dist"),
        ("vllm", "h200:8", ""),
        ("vllm", None, ""),
    ],
)
def test_a_line_for_several_machines_says_what_joins_them(engine, gpu, note):
    count = int((gpu or ":8").rpartition(":")[2])
    report = weighbridge.infer(
        "llama-3.1-8b",
        engine=engine,
        gpu=gpu,
        tensor_parallel_size=8,
        pipeline_parallel_size=count // 8,
    )
    assert (report.derived.get("launch_note") or "").startswith(note)
    assert bool(report.derived.get("launch_note")) == bool(note)
