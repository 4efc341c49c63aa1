"""The folder that a Space is made of: app.py, requirements.txt, README.md.

Source of the front matter's keys: huggingface.co/docs/hub/spaces-config-reference.
"""

from collections.abc import Mapping
from pathlib import Path

from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence

GRADIO = "6.31.0"  # the version that is tested (pyproject.toml, test-space)
APP = '''"""A Space: weighbridge weighs models before they are loaded."""

from weighbridge.faces.web.space.app import serve

if __name__ == "__main__":
    serve()
'''
REQUIREMENTS = """weighbridge[web]=={version}
gradio[mcp]=={gradio}
"""
README = text_beside(__file__, "readme.md")
FILES: Mapping[str, str] = {
    "app.py": APP,
    "requirements.txt": REQUIREMENTS.format(version=__version__, gradio=GRADIO),
    "README.md": README.format(version=__version__, gradio=GRADIO),
}


def write(folder: Path) -> None:
    """Write the three files of a Space into `folder`. Raises UsageError if it holds other files of
    these names."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(sentence("space.is_file", path=str(folder)))
    for name, text in FILES.items():
        place = folder / name
        if place.exists() and place.read_text(encoding="utf-8", errors="replace") != text:
            raise UsageError(sentence("space.others", path=str(place)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
