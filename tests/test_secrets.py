"""Secrets in what strangers write: which values are asterisks, and which are not."""

import pytest

from tests.cases import all_of
from weighbridge.base.wording import (
    names_secret,
    printable,
    safe_json,
    safe_markdown,
    shown,
    tokenless,
    unsecret,
)


@all_of(
    ("text", "told"),
    [
        ("serve x --api-key sk-abcdef --port 80", "serve x --api-key *** --port 80"),
        ("HF_TOKEN=abcdefgh serve", "HF_TOKEN=*** serve"),
        ("wandb_api_key: 0123456789abc", "wandb_api_key: ***"),
        ("- --api-key\n- abcdefgh\n", "- --api-key\n- ***\n"),
        ('["--api-key", "abcdefgh"]', '["--api-key", "***"]'),
        ("{name: HF_TOKEN, value: abcdefgh}", "{name: HF_TOKEN, value: ***}"),
        ("- name: HF_TOKEN\n  value: abcdefgh", "- name: HF_TOKEN\n  value: ***"),
        ("--api-key 'top secret' --port 80", "--api-key '***' --port 80"),
        ('--api-key="top secret" --port 80', '--api-key="***" --port 80'),
        ("--api-key 'top secret", "--api-key '***'"),
        ("- --api-key\n- 'my key'\n", "- --api-key\n- '***'\n"),
        ("curl -u admin:PW https://a.b", "curl -u admin:*** https://a.b"),
        ("curl --user 'admin:P W' https://a.b", "curl --user 'admin:***' https://a.b"),
        ('-H "Authorization: Bearer X12"', '-H "Authorization: Bearer ***"'),
        ("Authorization: Basic YWJj", "Authorization: Basic ***"),
        ("export MY_KEY=X", "export MY_KEY=***"),
        ("MY_KEY='a b' serve x", "MY_KEY=*** serve x"),
        ("--hf-overrides.auth_token abcdefgh x", "--hf-overrides.auth_token *** x"),
        ('["--hf-overrides.a.token", "abcdefgh"]', '["--hf-overrides.a.token", "***"]'),
        ("- --additional-config.password\n- abcdefgh\n", "- --additional-config.password\n- ***\n"),
        ("--pw abcdefgh --passphrase 'a b'", "--pw *** --passphrase '***'"),
        ("--credentials abcdefgh --secret-key abcdefgh", "--credentials *** --secret-key ***"),
        ("--gradio-auth me:PW", "--gradio-auth me:***"),
        ("SSHPASS=X sshpass -e", "SSHPASS=*** sshpass -e"),
        ("environment: {MY_KEY: X1, A: 2}", "environment: {MY_KEY: ***, A: 2}"),
        ("{name: DB_PASS, value: X12}", "{name: DB_PASS, value: ***}"),
        ("with sk-abcdefghijklmnopq in it", "with sk-*** in it"),
    ],
)
def test_secrets_are_asterisks(text, told):
    assert unsecret(text) == told


@all_of(
    "text",
    [
        "--tokenizer org/name --max-num-batched-tokens 8192",
        "eos_token: <|im_end|>",
        "run.py --eos_token '<|im_end|>' --pad-token \"<|endoftext|>\" --bos_token=<|begin|>",
        "pad_token: '<|endoftext|>'",
        "use_auth_token: true",
        "--api-key $KEY",
        "the token embeddings are tied",
        "max_tokens: 327680",
        "docker run -u 1000:1000 image",
        "python -u -m a.b:c",
        "export MY_KEY=$OTHER",
        '--token "$TOKEN"',
        "task-aware-quantization",
        "--hf-overrides.eos_token '<|x|>' --hf-overrides.max_tokens 32768",
        "--hf-overrides.eos_token=<|end|>",
        "a GPU of 450 W: pw: 300",
        "MY_KEY: $OTHER",
        "MONKEY: banana",
    ],
)
def test_other_values_stay(text):
    assert unsecret(text) == text


def test_flags_whose_value_is_a_secret():
    assert names_secret("--hf-overrides.auth_token") and names_secret("--pw")
    assert not names_secret("--hf-overrides.eos_token")
    assert not names_secret("--tokenizer") and not names_secret("pw")


REAL = "AbCdEfGh1234567890IjKlMnOpQrStUvWxYz"
TOKENS = {
    f"hf_{REAL}": "hf_***",
    f"sk-proj-{REAL}": "sk-***",
    f"ghp_{REAL}": "ghp_***",
    f"gho_{REAL}": "gho_***",
    f"github_pat_{REAL}": "github_pat_***",
    f"glpat-{REAL}": "glpat-***",
    f"nvapi-{REAL}": "nvapi-***",
    f"gsk_{REAL}": "gsk_***",
    f"xoxb-{REAL}": "xoxb-***",
    f"AIza{REAL}": "AIza***",
    "AKIAABCDEFGHIJKLMNOP": "AKIA***",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{REAL}": "eyJ***",
    "me:p4ssw0rd@db.example.org": "me:***@db.example.org",
    "me:p4ssw0rd@db:5432": "me:***@db:5432",
    "https://me:p4ssw0rd@db.example.org/x": "https://db.example.org/x",
}


@pytest.mark.parametrize("show", [tokenless, printable, safe_json, safe_markdown, shown])
@pytest.mark.parametrize(("token", "told"), TOKENS.items())
def test_a_token_is_known_wherever_it_stands(token, told, show):
    said = show(f"sample_packing: {token}")
    assert "p4ssw0rd" not in said and REAL not in said and "AKIAABCD" not in said
    if show is tokenless:
        assert said == f"sample_packing: {told}"


@all_of(
    "text",
    [
        "vllm/vllm-openai:v0.6.3@sha256:0123456789abcdef",
        "llama-3.1-8b@main",
        "task-aware-quantization-of-everything",
        "hf_overrides",
        "a@b.c",
        "10:30@noon",
        "AKIA",
        "the eyJ of a token",
        "ghost-of-a-very-long-name-that-is-none",
    ],
)
def test_what_is_no_token_stays(text):
    assert tokenless(text) == text


@all_of(
    ("value", "told"),
    [
        ([32, "secretKey:", "plainvalue"], "[32, 'secretKey:', '***']"),
        (["AWS_SECRET_ACCESS_KEY=plainvalue"], "['AWS_SECRET_ACCESS_KEY=***']"),
        (["--api-key", "plainvalue", "x"], "['--api-key', '***', 'x']"),
        (["layers", "plainvalue"], "['layers', 'plainvalue']"),
        ({"hf_token": "plainvalue"}, "{'hf_token': '***'}"),
    ],
)
def test_a_value_behind_the_name_of_a_secret_is_not_shown(value, told):
    assert shown(value) == told
