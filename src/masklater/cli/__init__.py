"""The command line: parse, load, call one function, say what came out.

Exit status: 0 success; 2 a mistake of the user's (one message on stderr); 1 a fault of ours (a traceback); 128 + n
where signal n stopped a run, after it was saved. With --json the last line of stdout is one JSON object.
"""

import json
import os
import sys
import traceback

import typer

from masklater import __version__
from masklater.cli.app import app
from masklater.cli.data import prepare
from masklater.cli.encoders import export, fill, quickstart
from masklater.cli.judging import blimp, compare, glue
from masklater.cli.looking import doctor, rows
from masklater.cli.training import budget, pretrain
from masklater.errors import Interrupted, SaidElsewhere, UserError

for command in (prepare, budget, pretrain, export, fill, glue, blimp, compare, rows, doctor, quickstart):
    app.command()(command)


def main() -> None:
    """Run the command line and exit with its status."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own bars for saving and loading
    try:
        status = app(standalone_mode=False)
    except UserError as error:
        print(f"masklater: {error}", file=sys.stderr)
        status = 2
    except Interrupted as stop:
        print(f"masklater: {stop}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps(stop.result))
        status = 128 + stop.signal_number
    except SaidElsewhere as other:
        status = other.status
    except (KeyboardInterrupt, typer.Abort):
        print("masklater: interrupted", file=sys.stderr)
        status = 130
    except typer.Exit as leave:
        status = leave.exit_code
    except BrokenPipeError:
        status = 1
    except Exception as error:
        status = _say(error)
    sys.exit(status)


def _say(error: Exception) -> int:
    """Say what went wrong in a place that did not expect it; return the exit status."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # what click raises for a malformed call
        error.show()
        return int(error.exit_code)
    if isinstance(error, OSError) and error.filename is not None:  # a file of the user's, and no room's business
        print(f"masklater: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if _is_out_of_memory(error):
        first_line = (str(error).strip() or "there is no more").splitlines()[0]
        print(
            f"masklater: out of memory: {first_line}\n  Lower batch.micro_rows, or choose a smaller model or shorter "
            "rows; `masklater budget` says what is needed.",
            file=sys.stderr,
        )
        return 2
    traceback.print_exc()
    print(
        f"masklater {__version__}: a fault of ours; please report the lines above, with what `masklater doctor` prints",
        file=sys.stderr,
    )
    return 1


def _is_out_of_memory(error: Exception) -> bool:
    """Memory of this machine, or a GPU's: torch has an error of its own for that one, by whose name it is known."""
    by_name = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return by_name or (isinstance(error, RuntimeError) and "not enough memory" in str(error).lower())
