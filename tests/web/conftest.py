"""The stand-in Hub, where a test asks for one."""

from tests.sources.conftest import client_home, hub

__all__ = ["client_home", "hub"]
