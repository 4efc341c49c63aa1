"""The extension of the `hf` CLI: `hf weighbridge fit llama-3.1-8b --gpu 4090`."""

from weighbridge.faces.cli import main as weighbridge


def main() -> None:
    """Entry point of `hf-weighbridge`, which `hf weighbridge` starts."""
    weighbridge("hf weighbridge")
