"""``python -m idl_cli``: the same command line as ``idl`` (what torchrun starts)."""

from idl_cli.cli import entry

if __name__ == "__main__":
    entry()
