"""`doctor`: whether machine, SHARDS or a RUN are sound."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="SHARDS|RUN", help="What to examine beside the machine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine this machine, and SHARDS or a RUN; change nothing.

    Checksums, versions, device and free space are looked at. The exit status is 2 where something is wrong; all of it
    is listed. Put what it prints into a bug report.

    \b
    Examples:
      masklater doctor
      masklater doctor shards
      masklater doctor run --json
    """
    from masklater.doctor.examination import as_text
    from masklater.doctor.examine import examine

    found = examine(folder)
    print_result(found, as_json, lambda: as_text(found))
    if found.problems:
        raise typer.Exit(2)
