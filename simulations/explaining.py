"""Turn what goes wrong in a command into one line and an exit status."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from privacy.config import ConfigError


@contextmanager
def errors() -> Iterator[None]:
    """Turn what a person can mend into one line and exit status 2; what is not finished into status 3."""
    from protocols.faults import Abort

    try:
        yield
    except ConfigError as wrong:
        typer.echo(f"parley: {wrong}", err=True)
        raise typer.Exit(2) from None
    except (Abort, TimeoutError) as ended:
        typer.echo(f"parley: {ended}", err=True)
        raise typer.Exit(3) from None
    except KeyboardInterrupt:
        typer.echo("parley: interrupted; nothing is left running", err=True)
        raise typer.Exit(130) from None
    except Exception as failed:
        if type(failed).__name__ not in ("NodeDied", "RunFailed", "ControlError", "Unreachable"):
            raise
        typer.echo(f"parley: {failed}", err=True)
        raise typer.Exit(3) from None
