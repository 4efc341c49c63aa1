"""The extension of the `hf` CLI: what its repository must hold; installed as its users do it, from a
stand-in of GitHub (slow: pip fills an environment)."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.agents.github import SHA, github

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "extensions" / "hf-weighbridge"
NAME = "hf-weighbridge"


def project():
    return tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]


def test_the_package_has_the_script_that_hf_looks_for():
    found = project()
    assert found["name"] == FOLDER.name == NAME
    assert found["scripts"] == {NAME: "hf_weighbridge:main"}
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found["description"] == own["description"]
    assert found["license"] == own["license"]
    assert found["requires-python"] == own["requires-python"]


def started(*arguments):
    code = "import sys; from hf_weighbridge import main; sys.argv[0] = 'hf-weighbridge'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(FOLDER / "src")},
    )


@pytest.mark.slow
def test_it_is_the_same_program_under_the_name_that_was_typed():
    found = started("load", "llama-3.1-8b", "-q")
    assert (found.returncode, found.stderr) == (0, "")
    assert int(found.stdout) > 15 << 30
    wrong = started("load")
    assert wrong.returncode == 2
    assert "See `hf weighbridge load --help`" in wrong.stderr
    card = ("fit", "llama-3.1-8b", "--gpu", "3060", "-q")
    chosen, strict = started(*card), started(*card, "--as-published")
    assert (chosen.stdout, chosen.returncode) == ("yes\n", 0), "in a format that the card holds"
    assert (strict.stdout, strict.returncode) == ("no\n", 1)


def hf_with_extensions():
    """The `hf` beside this Python, where it has extensions."""
    hf = shutil.which("hf", path=str(Path(sys.executable).parent))
    if hf is None:
        return None
    done = subprocess.run([hf, "extensions", "--help"], capture_output=True, text=True)
    return hf if "install" in done.stdout else None


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_it_is_installed_as_its_users_do_it(tmp_path):
    hf = hf_with_extensions()
    if hf is None:
        pytest.skip("this hf has no extensions")
    wheels, home = tmp_path / "wheels", tmp_path / "home"
    home.mkdir()
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT]
    if subprocess.run(build, capture_output=True).returncode:
        pytest.skip("pip cannot build here: no package index")
    with github(FOLDER, "someone", tmp_path) as (proxy, bundle, seen):
        env = {
            **os.environ,
            "HOME": str(home),
            "HTTPS_PROXY": proxy,
            "NO_PROXY": "pypi.org,files.pythonhosted.org,localhost,127.0.0.1",
            "SSL_CERT_FILE": str(bundle),
            "PIP_CERT": str(bundle),
            "REQUESTS_CA_BUNDLE": str(bundle),
            "PIP_FIND_LINKS": f"{wheels} {os.environ.get('PIP_FIND_LINKS', '')}".strip(),
            "PATH": "/usr/bin:/bin",  # without uv: pip fills the environment
        }

        def ran(*words):
            return subprocess.run([hf, *words], env=env, capture_output=True, text=True)

        done = ran("extensions", "install", f"someone/{NAME}")
        assert done.returncode == 0, done.stdout + done.stderr
        listed = ran("extensions", "list", "--json")
        assert SHA[:7] in listed.stdout
        assert project()["description"] in listed.stdout
        assert "weighbridge" in ran("--help").stdout
        fits = ran("weighbridge", "fit", "qwen3-0.6b", "--gpu", "4090", "-q")
        assert (fits.stdout, fits.returncode) == ("yes\n", 0)
        assert ran("weighbridge", "load", "no-such-model").returncode == 2
        assert ran("extensions", "remove", "weighbridge").returncode == 0
    assert f"GET github.com/someone/{NAME}/archive/HEAD.zip" in seen
