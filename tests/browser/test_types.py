"""The modules of the page are typed: `tsc --checkJs --strict`, where npm can give it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "src" / "weighbridge" / "faces" / "web" / "page"
TYPESCRIPT = "7.0.2"


def test_types(tmp_path):
    pytest.importorskip("playwright", reason="needs weighbridge[test-web]")
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("needs npm")
    options = {
        "checkJs": True, "allowJs": True, "strict": True, "noEmit": True, "types": [],
        "noUncheckedIndexedAccess": True, "target": "es2023", "module": "esnext",
        "moduleResolution": "bundler", "lib": ["es2023", "dom", "dom.iterable"],
    }  # fmt: skip
    checked = [
        str(p) for p in sorted(PAGE.glob("*.js")) if p.name not in ("worker.js", "offline.js")
    ]
    config = {"compilerOptions": options, "files": [*checked, str(PAGE / "types.d.ts")]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    command = [npx, "--yes", f"--package=typescript@{TYPESCRIPT}", "tsc", "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and "error TS" not in done.stdout:
        pytest.skip(f"npm cannot give typescript: {done.stderr.strip()[-200:]}")
    assert done.stdout.strip() == ""
