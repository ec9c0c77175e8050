"""Warnings as one line on stderr, without the source line that Python adds."""

import sys
import warnings


def show_warnings_as_lines() -> None:
    """Each warning becomes one line on stderr, without the place in the code."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        sys.stderr.write(f"warning: {message}\n")

    warnings.showwarning = show
