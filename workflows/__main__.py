"""`physgen NAME --option value`: every file of this folder is a command; its docstring is the help."""

import ast
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from cyclopts import App, CycloptsError, Parameter, Token, convert

from workflows._warnings import show_warnings_as_lines

SUMMARY = """Ising Monte Carlo, generative models trained on it, and the two compared.

A first session:

  physgen simulate --L 16 --temperature 1.8 2.269 3.0 --out data/square16.h5
  physgen info data/square16.h5
  physgen train_autoregressive --data data/square16.h5 --temperature 2.269
  physgen compare --data data/square16.h5
"""


def documented(module: Path) -> tuple[str, str]:
    """First paragraph and remainder of a file's docstring, read without importing the file."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    first, _, rest = text.partition("\n\n")
    return first, rest


def exactly(kind: Any, tokens: Sequence[Token]) -> Any:
    """Converts as usual, but a whole number must be written as one: the usual way rounds 16.5 to 16."""
    for token in tokens:
        if int in (kind, *get_args(kind)) and not re.fullmatch(r"[+-]?[0-9]+", token.value):
            raise ValueError(f"{token.value!r} is not a whole number")
    return convert(kind, tokens)


def build_app() -> App:
    """One command for every file of this folder; none is imported before it is called."""
    app = App(
        name="physgen",
        help=SUMMARY,
        version=version("physgen"),
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(
            consume_multiple=True,
            negative_iterable=(),
            converter=exactly,
            name_transform=lambda name: name.replace("_", "-"),
            show_default=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else value,
        ),
    )
    for module in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        first, rest = documented(module)
        app.command(f"workflows.{module.stem}:main", name=module.stem, help=first, help_epilogue=rest)
    return app


def main() -> None:
    """Runs one command. What the user can mend is one sentence on stderr and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    show_warnings_as_lines()
    try:
        build_app()(sys.argv[1:], exit_on_error=False, print_error=False)
    except KeyboardInterrupt as stop:
        hint = f" {stop}" if str(stop) else ""
        sys.stderr.write(f"\nphysgen: stopped.{hint}\n")
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "allocate" in str(error)):
            raise
        sys.exit("physgen: that does not fit into memory; take a smaller lattice, batch or model")
    except (CycloptsError, ValueError, OSError, FloatingPointError) as error:
        if "PHYSGEN_TRACEBACK" in os.environ:
            raise
        named = isinstance(error, OSError) and error.filename
        text = f"{error.filename}: {error.strerror}; check the path" if named else str(error)
        sys.exit(f"physgen: {' '.join(text.split())}")


if __name__ == "__main__":
    main()
