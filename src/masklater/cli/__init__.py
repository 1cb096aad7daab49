"""The command line: parse, load, call one function, say what came out.

Exit status: 0 success; 2 a mistake of the user's (one message on stderr); 1 a fault of ours (a traceback); 128 + n
where signal n stopped a run, after it was saved. With --json the last line of stdout is one JSON object.
"""

import io
import json
import os
import sys
import traceback

import typer

from masklater import __version__
from masklater.cli.app import add, app
from masklater.cli.blimp import blimp
from masklater.cli.budget import budget
from masklater.cli.compare import compare
from masklater.cli.doctor import doctor
from masklater.cli.export import export
from masklater.cli.fill import fill
from masklater.cli.glue import glue
from masklater.cli.join import join
from masklater.cli.judge import judge
from masklater.cli.prepare import prepare
from masklater.cli.pretrain import pretrain
from masklater.cli.push import push
from masklater.cli.quickstart import quickstart
from masklater.cli.rows import rows
from masklater.cli.select import select
from masklater.cli.stop import StopAtOnce, Stopped
from masklater.errors import Interrupted, SaidElsewhere, UserError, is_out_of_memory

NOT_ON_WINDOWS = (
    "Windows is not supported: it lacks the file locks (fcntl), limits of a process (resource) and signals by which a "
    "run stays safe\n  Use WSL 2, which is a Linux (`wsl --install`). Exported encoders load on Windows as any other."
)

for command in (
    prepare, join, select, budget, pretrain, export, push, fill, judge, glue, blimp, compare, rows, doctor, quickstart
):  # fmt: skip
    add(command)


def main() -> None:
    """Run the command line and exit with its status."""
    if sys.platform == "win32":
        print(f"masklater: {NOT_ON_WINDOWS}", file=sys.stderr)
        sys.exit(2)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own bars for saving and loading
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: Latin-1, say, lacks characters of a result
    stop = StopAtOnce()
    try:
        with stop:
            status = _run(stop)
    except Stopped:
        stop.leave()
    sys.exit(status)


def _run(stop: StopAtOnce) -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except BaseException as error:
        if stop.received is not None:
            raise Stopped from None  # whatever exception a library has turned it into
        return _status_of(error)


def _status_of(error: BaseException) -> int:
    """Report why a command ended early; return the exit status."""
    if isinstance(error, typer.Abort) and isinstance(error.__cause__, EOFError):  # typer takes end of input for Ctrl-D
        error = error.__cause__
    match error:
        case UserError() | Interrupted():
            print(f"masklater: {error}", file=sys.stderr)
            if isinstance(error, Interrupted) and "--json" in sys.argv:
                print(json.dumps(error.result))
            return 128 + error.signal_number if isinstance(error, Interrupted) else 2
        case SaidElsewhere():
            return error.status
        case typer.Exit():
            return error.exit_code
        case KeyboardInterrupt():
            print("masklater: interrupted", file=sys.stderr)
            return 130
        case BrokenPipeError():
            return 1
        case Exception():
            return _say(error)
    raise error


def _say(error: Exception) -> int:
    """Report an unexpected error; return the exit status."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # click raises these for a malformed call
        error.show()
        return int(error.exit_code)
    if isinstance(error, OSError) and error.filename is not None:  # a file of the user's, which no module took care of
        print(f"masklater: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if is_out_of_memory(error):
        first_line = (str(error).strip() or "there is no more").splitlines()[0]
        print(
            f"masklater: out of memory: {first_line}\n  Lower batch.micro_rows, or choose a smaller model or shorter "
            "rows; `masklater budget` says what is needed, and on a GPU `nvidia-smi` what others hold of it.",
            file=sys.stderr,
        )
        return 2
    traceback.print_exc()
    print(
        f"masklater {__version__}: a fault of ours; please report the lines above, with what `masklater doctor` prints",
        file=sys.stderr,
    )
    return 1
