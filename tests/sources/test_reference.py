"""Forms of a reference. Oracle: huggingface_hub's own parsers of ids and hf:// URIs."""

import subprocess
import sys

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.models.sources.reference import (
    CatalogueRef,
    HubRef,
    LocalRef,
    SizeRef,
    TimmRef,
    UrlRef,
    check_repo_id,
    parse,
)

HERE = {"./model", "gpt2-here", "model.gguf", "~/model", "dir/shared-name", "7B", "/srv/a b", " "}
CATALOGUE = {"llama-3.1-8b", "dir/shared-name", "1b"}


def read(text, revision=None, **more):
    return parse(
        text,
        revision=revision,
        exists=HERE.__contains__,
        catalogue=CATALOGUE.__contains__,
        **more,
    )


def hub(repo_id, **more):
    return HubRef(repo_id=repo_id, **more)


@all_of(
    ("text", "expected"),
    [
        ("./model", LocalRef(path="./model")),
        ("model.gguf", LocalRef(path="model.gguf")),
        ("gpt2-here", LocalRef(path="gpt2-here")),
        ("dir/shared-name", LocalRef(path="dir/shared-name")),
        ("~/model", LocalRef(path="~/model")),
        ("  ./model ", LocalRef(path="./model")),
        (" ", LocalRef(path=" ")),
        ("file:///srv/a%20b", LocalRef(path="/srv/a b")),
        ("7B", LocalRef(path="7B")),
        ("llama-3.1-8b", CatalogueRef(name="llama-3.1-8b")),
        ("1b", CatalogueRef(name="1b")),
        ("70B", SizeRef(parameters=70_000_000_000)),
        ("1.5b", SizeRef(parameters=1_500_000_000)),
        ("350M", SizeRef(parameters=350_000_000)),
        ("0.1t", SizeRef(parameters=100_000_000_000)),
        ("timm/resnet50.a1_in1k", TimmRef(name="resnet50.a1_in1k")),
        ("timm/resnet50@v2", TimmRef(name="resnet50", revision="v2")),
        ("hf-hub:timm/resnet50.a1_in1k", TimmRef(name="resnet50.a1_in1k")),
        ("timm/vit/model.safetensors", hub("timm/vit", filename="model.safetensors")),
    ],
)
def test_kinds(text, expected):
    assert read(text) == expected


@all_of(
    ("text", "expected"),
    [
        ("gpt2", hub("gpt2")),
        ("org/name", hub("org/name")),
        ("org/name@v1", hub("org/name", revision="v1")),
        ("org/name@refs/pr/3", hub("org/name", revision="refs/pr/3")),
        ("org/name@a%2Fb", hub("org/name", revision="a/b")),
        ("gpt2@607a30d7", hub("gpt2", revision="607a30d7")),
        ("org/name:Q4_K_M", hub("org/name", quant="Q4_K_M")),
        ("org/name@v1:UD-Q4_K_XL", hub("org/name", revision="v1", quant="UD-Q4_K_XL")),
        ("org/name/file.gguf", hub("org/name", filename="file.gguf")),
        ("org/name/sub/x.safetensors", hub("org/name", filename="sub/x.safetensors")),
        ("org/name/transformer", hub("org/name", subfolder="transformer")),
        ("org/name@v1/sub/x.GGUF", hub("org/name", revision="v1", filename="sub/x.GGUF")),
        ("hf://org/name", hub("org/name")),
        ("hf://models/org/name@v1/config.json", hub("org/name", revision="v1", filename="config.json")),
        ("HF://org/name@refs/pr/3/sub", hub("org/name", revision="refs/pr/3", subfolder="sub")),
        ("https://huggingface.co/org/name", hub("org/name")),
        ("https://huggingface.co/org/name/", hub("org/name")),
        ("https://HuggingFace.co/gpt2/tree/main", hub("gpt2", revision="main")),
        ("http://hf.co/org/name/tree/v1/sub/dir", hub("org/name", revision="v1", subfolder="sub/dir")),
        ("https://hf.co/org/name/tree/refs%2Fpr%2F1", hub("org/name", revision="refs/pr/1")),
        ("https://hf.co/org/name/tree/refs/pr/1/sub", hub("org/name", revision="refs/pr/1", subfolder="sub")),
        ("https://hf.co/org/name/blob/main/a%20b.gguf", hub("org/name", revision="main", filename="a b.gguf")),
        ("https://hf.co/org/name/resolve/main/x.bin?download=true#top", hub("org/name", revision="main", filename="x.bin")),
        ("https://hf.co/org/name/commit/abc123", hub("org/name", revision="abc123")),
        ("https://huggingface.co/api/models/org/name", hub("org/name")),
        ("huggingface.co/org/name", hub("org/name")),
        ("hf.co/org/name:Q4_K_M", hub("org/name", quant="Q4_K_M")),
        ("https://hf-mirror.com/org/name", hub("org/name", endpoint="https://hf-mirror.com")),
    ],
)  # fmt: skip
def test_repositories(text, expected):
    assert read(text) == expected


@all_of(
    ("endpoint", "text"),
    [
        ("https://hub.corp:8443/", "https://hub.corp:8443/org/name/blob/main/x.gguf"),
        ("https://art.corp/api/hf", "https://art.corp/api/hf/org/name/blob/main/x.gguf"),
        ("http://127.0.0.1:80", "127.0.0.1:80/org/name/blob/main/x.gguf"),
        ("https://hf-mirror.com", "https://hf-mirror.com/org/name/blob/main/x.gguf"),
        ("https://hub.corp", "https://huggingface.co/org/name/blob/main/x.gguf"),
    ],
)
def test_urls_of_the_configured_hub_need_no_endpoint(endpoint, text):
    assert read(text, endpoint=endpoint) == hub("org/name", revision="main", filename="x.gguf")


def test_a_path_beside_the_configured_hub_is_a_plain_url():
    url = "https://art.corp/api/hfx/org/name/x.gguf"
    assert read(url, endpoint="https://art.corp/api/hf") == UrlRef(url=url, filename="x.gguf")


def test_plain_urls():
    url = "https://host.org/dir/model-00001-of-00002.gguf?sig=1"
    assert read(url) == UrlRef(url=url, filename="model-00001-of-00002.gguf")
    assert read("http://[::1]:80/a%20b.safetensors").filename == "a b.safetensors"


@all_of(
    ("text", "word"),
    [
        ("", "names no model"),
        ("   ", "names no model"),
        ("a\nb", "names no model"),
        ("a" * 5000, "names no model"),
        ("https://huggingface.co/datasets/org/name", "a dataset"),
        ("https://huggingface.co/spaces/org/name", "a Space"),
        ("hf://datasets/org/name", "a dataset"),
        ("https://huggingface.co", "names no model"),
        ("https://huggingface.co/models?search=x", "names no model"),
        ("https://huggingface.co/org/name/discussions/4", "no page of files"),
        ("https://huggingface.co/org/name/resolve/main/../../x.bin", "leaves its folder"),
        ("https://host.org/readme.html", "names no model file"),
        ("https://host.org", "names no model file"),
        ("https://", "names no host"),
        ("https://[::1/x.gguf", "not a URL"),
        ("https://host:port/x.gguf", "not a URL"),
        ("https://" + "a" * 70 + ".org/x.gguf", "not a URL"),
        ("s3://bucket/model", "s3:// cannot be read"),
        ("org/na me", "neither a path here nor a Hub id"),
        ("org/na..me", "Hub id"),
        ("org/na--me", "Hub id"),
        ("org/name.git", "Hub id"),
        ("-org/name", "Hub id"),
        ("org/" + "a" * 97, "Hub id"),
        ("orgé/name", "Hub id"),
        ("org//name", "Hub id"),
        ("org/name/../../x.gguf", "leaves its folder"),
        ("org/name@", "not a revision"),
        ("org/name@a..b", "not a revision"),
        ("org/name@%2Fetc", "not a revision"),
        ("org/name:", "no quantization"),
        ("org/name:Q4 K", "no quantization"),
        ("0B", "without parameters"),
        ('{"model_type": "llama"}', "text of a config"),
    ],
)
def test_errors_are_one_line(text, word):
    with pytest.raises(UsageError, match=word) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@all_of(
    "text",
    ["./no", "/no", "../no", "~/no", "no/", "C:\\no", "dir\\no", "no.safetensors", "dir/no.gguf", "file:///no"],
)  # fmt: skip
def test_missing_paths_are_not_looked_up_on_the_hub(text):
    with pytest.raises(NotFoundError, match="no such file"):
        read(text)


def test_revisions():
    assert read("org/name", revision="v1").revision == "v1"
    assert read("org/name@v1", revision="v1").revision == "v1"
    assert read("./model", revision="v1") == LocalRef(path="./model", revision="v1")
    with pytest.raises(UsageError, match=r"two revisions are given: 'v1' .* 'v2'"):
        read("org/name@v1", revision="v2")
    for text in ("llama-3.1-8b", "70B", "https://host.org/x.gguf"):
        with pytest.raises(UsageError, match="has no revision 'v1'"):
            read(text, revision="v1")
    with pytest.raises(UsageError, match="not a revision"):
        read("org/name", revision="../../etc")


ids = st.text(st.sampled_from("ab9-_./é G") | st.characters(codec="ascii"), max_size=12)


@pytest.mark.slow
@given(ids | st.from_regex(r"[a-z0-9_.-]{1,8}/[A-Za-z0-9_.-]{1,98}", fullmatch=True))
def test_ids_obey_the_rules_of_the_hub(text):
    try:
        validate_repo_id(text)
        expected = True
    except HFValidationError:
        expected = False
    try:
        found = check_repo_id(text) == text
    except UsageError:
        found = False
    assert found == expected


word = st.from_regex(r"[a-z0-9][a-z0-9_]{0,6}", fullmatch=True)


@pytest.mark.slow
@given(
    word,
    word,
    st.none() | word | st.just("refs/pr/7") | st.just("a%2Fb"),
    st.lists(word, max_size=3),
)
def test_hf_uris_read_as_the_client_reads_them(org, name, revision, path):
    parse_hf_uri = pytest.importorskip("huggingface_hub.utils._hf_uris").parse_hf_uri  # 2.0
    at = "" if revision is None else f"@{revision}"
    uri = f"hf://models/{org}/{name}{at}" + "".join(f"/{part}" for part in path)
    theirs, ours = parse_hf_uri(uri), read(uri)
    assert isinstance(ours, HubRef)
    assert (ours.repo_id, ours.revision) == (theirs.id, theirs.revision)
    assert (ours.subfolder or "") == theirs.path_in_repo


@pytest.mark.slow
@given(st.text(max_size=40) | st.text(st.sampled_from("hf:/@.%[]~\\a1 -"), max_size=30))
def test_any_text_is_a_record_or_one_error(text):
    try:
        found = read(text)
    except UsageError as error:
        found = str(error)
    assert found
    assert not isinstance(found, str) or len(found.splitlines()) == 1


def test_nothing_heavy_is_imported():
    code = "import sys, weighbridge.models.sources.reference, weighbridge.models.sources; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    for module in ("huggingface_hub", "httpx2", "requests", "http.client", "torch"):
        assert module not in loaded.stdout.split()
