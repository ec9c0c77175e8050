"""A Markdown table of what the benchmarks wrote.

  python -m workflows.benchmarks.table benchmarks/*.json

Rows that are the baseline of others are left out.
"""

import json
import sys
from pathlib import Path

from cyclopts import App, Parameter

from workflows.benchmarks._common import shown


def main(*files: Path) -> None:
    """Prints the rows of all FILES."""
    lines = ["| | here | baseline | | ratio |", "|---|---|---|---|---|"]
    for path in files:
        for row in json.loads(path.read_text()):
            if row["name"] != row["baseline"]:
                lines.append(
                    "| {name} | {value} {unit} | {baseline} | {baseline_value} | {ratio} |".format(
                        **shown(row)
                    )
                )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    app = App(default_parameter=Parameter(consume_multiple=True), help=__doc__, help_format="plaintext")
    app.default(main)
    app()
