"""The settings for reaching the Hub, on a computer or in a browser page.

On a computer those are huggingface_hub's settings. A page in a browser has neither huggingface_hub
nor threads, disks or processes: `BrowserSettings` has the settings that matter there.
"""

import os
import sys
from typing import Any

from weighbridge.models.sources.reference import ENDPOINT

IN_BROWSER = sys.platform == "emscripten"
NOWHERE = os.devnull + "/none"  # an impossible folder: a page keeps nothing between visits


class BrowserSettings:
    """The settings of huggingface_hub that matter in a page, under huggingface_hub's names. The
    page sets the Hub with HF_ENDPOINT."""

    HF_HUB_OFFLINE = False
    HF_HUB_ETAG_TIMEOUT = 10
    HF_HUB_CACHE = NOWHERE
    HF_HUB_DISABLE_IMPLICIT_TOKEN = True  # nobody is logged in: a token comes with the question

    @property
    def ENDPOINT(self) -> str:  # noqa: N802
        return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def constants() -> Any:
    """Return `huggingface_hub.constants`, or its replacement in a browser page."""
    if IN_BROWSER:
        return BrowserSettings()
    from huggingface_hub import constants

    return constants


def agent() -> str:
    """Return the User-Agent header of a request; browsers replace it."""
    from weighbridge.base._version import __version__

    python = f"python/{sys.version_info.major}.{sys.version_info.minor}"
    if IN_BROWSER:
        return f"weighbridge/{__version__}; {python}"
    from huggingface_hub import __version__ as hub_version

    return f"weighbridge/{__version__}; hf_hub/{hub_version}; {python}"


def login() -> str:
    """Return a phrase on what to do if the Hub requires a login."""
    return "give a token of yours" if IN_BROWSER else "log in with `hf auth login` or give --token"
