"""Tell whether anybody has set up anything for requests to the Hub, and if not, which certificates
are trusted."""

import os
import re
import ssl
import sys
from collections.abc import Mapping
from functools import cache
from urllib.parse import urlsplit

from weighbridge.errors import UsageError

HASHED = r"[0-9a-fA-F]{8}\.\d"  # a certificate's name in a folder of them
SYSTEMS = ("darwin", "win32")  # whose proxies and certificates are settings of the system


def suits(url: str) -> bool:
    """Tell whether nothing is set up that only huggingface_hub's client knows of."""
    parts = urlsplit(url)
    return (
        "huggingface_hub.utils._http" not in sys.modules  # where a client may have been set
        and parts.scheme in ("http", "https")
        and "@" not in parts.netloc
        and not _proxies()
        and not os.environ.get("HF_DEBUG")  # which has each request printed
        and os.environ.get("HF_HUB_VERBOSITY", "").lower() != "debug"  # and this
        and _certificates_known()
    )


def _proxies() -> bool:
    if sys.platform in SYSTEMS:
        from urllib.request import getproxies

        return bool(getproxies().keys() - {"no"})
    names = (name.lower() for name, value in os.environ.items() if value)
    return any(name.endswith("_proxy") and name != "no_proxy" for name in names)


@cache
def _certificates_known() -> bool:
    """Tell whether we find those that the client trusts; version 2 has the system's, 1 and 0
    others."""
    import huggingface_hub

    version: str = huggingface_hub.__version__
    return version.startswith("2.") and (sys.platform in SYSTEMS or bool(_certificates()))


def _certificates() -> Mapping[str, str]:
    """Find certificates that the environment names, else OpenSSL's own (httpcore2 2.16,
    _ssl.py)."""
    if file := os.environ.get("SSL_CERT_FILE"):
        return {"cafile": file}
    if folder := os.environ.get("SSL_CERT_DIR"):
        return {"capath": folder}
    if sys.platform in SYSTEMS:
        return {}
    paths, places = ssl.get_default_verify_paths(), {}
    if os.path.isfile(paths.openssl_cafile):
        places["cafile"] = paths.openssl_cafile
    folder = paths.openssl_capath
    if os.path.isdir(folder) and (
        places or any(re.fullmatch(HASHED, f) for f in os.listdir(folder))
    ):
        places["capath"] = folder
    return places


@cache
def context() -> ssl.SSLContext:
    """Make TLS with the certificates that huggingface_hub's client trusts."""
    given = _certificates()
    if not given:
        from truststore import SSLContext

        trusted: ssl.SSLContext = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return trusted
    try:
        return ssl.create_default_context(cafile=given.get("cafile"), capath=given.get("capath"))
    except OSError as error:
        raise UsageError(f"SSL_CERT_FILE, SSL_CERT_DIR: no certificates ({error})") from None
