"""The command `redone-train`: verbs that need torch. A user's error is one line on stderr and exit code 2."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from redone_data.errors import USER_ERROR_EXIT_CODE, RedoneError
from redone_train.swarm import CHECKPOINT_SECONDS, RunFailedError, train_swarm

SIGINT_EXIT_CODE = 128 + signal.SIGINT
FAILURE_EXIT_CODE = 1

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def redone_train() -> None:
    """Train what redone-data prepares: swarms of proxy models."""


@app.command()
def swarm(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A swarm folder: swarm.json, runs.csv and the token pools they name.")
    ],
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs trained side by side.", show_default="one a usable core")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a process; one is fastest for proxies.")] = 1,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="How often a run under way is saved.")
    ] = CHECKPOINT_SECONDS,
) -> None:
    """Train every run of a swarm that has no result yet, and write metrics.csv.

    Stopped or killed at any moment, the same command goes on where it stopped and gives the same numbers.
    """
    train_swarm(directory, processes, threads=threads, checkpoint_seconds=checkpoint_seconds)


def main() -> None:
    try:
        app()
    except RedoneError as error:
        print(f"redone-train: {error}", file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)
    except RunFailedError as error:
        print(f"redone-train: {error}", file=sys.stderr)
        sys.exit(FAILURE_EXIT_CODE)
    except KeyboardInterrupt:
        sys.exit(SIGINT_EXIT_CODE)
