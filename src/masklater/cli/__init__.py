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
from masklater.cli.training import budget, pretrain
from masklater.errors import Interrupted, SaidElsewhere, UserError

for command in (prepare, budget, pretrain, export, fill, glue, blimp, compare, quickstart):
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
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # what click raises for a malformed call
            error.show()
            status = error.exit_code
        else:
            traceback.print_exc()
            print(f"masklater {__version__}: a fault of ours; please report the lines above", file=sys.stderr)
            status = 1
    sys.exit(status)
