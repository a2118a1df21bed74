"""Creates the sink that the command line asks for."""

import argparse
import sys
from typing import Final

from idlib.errors import ConfigurationError
from messaging_receiver.context import Context
from messaging_receiver.ending import Ending
from messaging_receiver.sinks import Sink
from messaging_receiver.standard_output import StandardOutput

SET_ASIDE_DIRECTORY: Final = "set-aside"


def sink_from(arguments: argparse.Namespace, context: Context, ending: Ending) -> Sink:
    """Return the sink; what it needs is imported only now.

    Args:
        arguments: From `messaging_receiver.arguments`.
        context: What the stages share.
        ending: How the receiver ends.

    Raises:
        StoreError: A directory for messages cannot be used.
    """
    sink = _sink_from(arguments, context, ending)
    if arguments.save_dir is None:
        return sink
    from messaging_receiver.message_files import MessageDirectory
    from messaging_receiver.sinks.saving import Saving

    return Saving(MessageDirectory(arguments.save_dir), sink, context.writes.retry)


def check_surroundings(arguments: argparse.Namespace) -> None:
    """Check that the command of `--exec` exists and that `--confirm` can read stdin, before anything is opened.

    Args:
        arguments: From `messaging_receiver.arguments`.

    Raises:
        ConfigurationError: There is no such command, or stdin is closed.
    """
    if arguments.confirm and sys.stdin is None:
        # The next file to be opened would get descriptor 0, and be read in its place.
        raise ConfigurationError("Error: stdin is closed, so no message could be confirmed")
    if not arguments.command:
        return
    import shutil

    if shutil.which(arguments.command[0]) is None:
        raise ConfigurationError(
            f"Error: --exec {arguments.command[0]!r} is not a command that can be run; give the path of an executable"
            " file, or a name in PATH"
        )


def _sink_from(arguments: argparse.Namespace, context: Context, ending: Ending) -> Sink:
    stopping = context.stopping
    if arguments.command:
        from messaging_receiver.message_files import MessageDirectory
        from messaging_receiver.sinks.running import Running

        return Running(
            arguments.command,
            arguments.exec_seconds,
            MessageDirectory(context.settings.data_path / SET_ASIDE_DIRECTORY),
            stopping,
            context.movements.note,
            context.writes.retry,
            context.standings.is_trusted,
        )
    if arguments.confirm:
        from messaging_receiver.sinks.confirming import Confirming

        return Confirming(StandardOutput(stopping), ending, stopping, context.movements.note)
    from messaging_receiver.sinks.printing import Printing

    return Printing(StandardOutput(stopping), context.settings.output_format)
