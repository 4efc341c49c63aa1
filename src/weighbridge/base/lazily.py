"""Names of a package that are imported from their modules when they are first used.

It imports no `typing`, which takes as long as all else that `import weighbridge` does.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def named(package: str, homes: "Mapping[str, str]") -> "Callable[[str], object]":
    """Return the `__getattr__` of `package`: `homes` maps names to their modules, relative to it,
    or for the laboratory in full."""

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        home = homes[name]
        try:
            return getattr(
                import_module(home if home.startswith(package) else f"{package}.{home}"), name
            )
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith(package):
                raise
            says = f"{package}.{name} needs {error.name}, which is not installed (README, Extras)"
            raise ModuleNotFoundError(says, name=error.name) from error

    return find
