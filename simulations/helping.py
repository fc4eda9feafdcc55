"""Show what each argument of a command is, beside what each option is.

Typer 0.20, which Flower pins, sets an argument's help before click's constructor, and click 8.5 sets it to nothing.
"""

import inspect

from click import Command, Group
from typer.core import TyperArgument
from typer.utils import get_params_from_function


def with_arguments(command: Command) -> Command:
    """Return the command, every argument in it and in its subcommands with the help that its function gives it."""
    for part in command.commands.values() if isinstance(command, Group) else ():
        with_arguments(part)
    if command.callback is not None:
        given = get_params_from_function(inspect.unwrap(command.callback))
        for parameter in command.params:
            if isinstance(parameter, TyperArgument) and parameter.name in given:
                parameter.help = given[parameter.name].default.help
    return command
