"""Creates the sink that the command line asks for."""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from idlib.errors import ConfigurationError
from idlib.settings import Settings, Switch
from messaging_receiver.context import Context
from messaging_receiver.ending import Ending
from messaging_receiver.sinks import Sink
from messaging_receiver.standard_output import StandardOutput

if TYPE_CHECKING:
    from messaging_receiver.local_broker.bridge import LocalBridge
    from messaging_receiver.sinks.setting_aside import SetAside

SET_ASIDE_DIRECTORY: Final = "set-aside"


def sink_from(
    arguments: argparse.Namespace, context: Context, ending: Ending, bridge: "LocalBridge | None" = None
) -> Sink:
    """Return the sink; what it needs is imported only now.

    Args:
        arguments: From `messaging_receiver.arguments`.
        context: What the stages share.
        ending: How the receiver ends.
        bridge: The local broker; None if there is none.

    Raises:
        StoreError: A directory for messages cannot be used.
    """
    sink = _sink_from(arguments, context, ending) if bridge is None else _bridging(arguments, context, ending, bridge)
    if arguments.save_dir is None:
        return sink
    from messaging_receiver.message_files import MessageDirectory
    from messaging_receiver.sinks.saving import Saving

    return Saving(MessageDirectory(arguments.save_dir), sink, context.writes.retry)


def check_surroundings(arguments: argparse.Namespace, settings: Settings) -> None:
    """Check that the command of `--exec` exists and that `--confirm` can read stdin, before anything is opened.

    Args:
        arguments: From `messaging_receiver.arguments`.
        settings: From the environment.

    Raises:
        ConfigurationError: There is no such command, stdin is closed, or LOCAL_MQTT_ONLY excludes the option.
    """
    if settings.local_mqtt_only is Switch.ON and (arguments.command or arguments.confirm):
        option = "--exec" if arguments.command else "--confirm"
        raise ConfigurationError(
            f"Error: LOCAL_MQTT_ONLY=on sends messages to the local broker only, so {option} would get none; unset one"
        )
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


def _bridging(arguments: argparse.Namespace, context: Context, ending: Ending, bridge: "LocalBridge") -> Sink:
    from messaging_receiver.sinks.bridging import Bridging

    is_only = context.settings.local_mqtt_only is Switch.ON
    return Bridging(
        bridge,
        None if is_only else _sink_from(arguments, context, ending),
        _set_aside(context) if is_only else None,
        context.stopping,
        context.movements.note,
    )


def _set_aside(context: Context) -> "SetAside":
    from messaging_receiver.message_files import MessageDirectory
    from messaging_receiver.sinks.setting_aside import SetAside

    return SetAside(
        MessageDirectory(context.settings.data_path / SET_ASIDE_DIRECTORY),
        context.writes.retry,
        context.standings.is_trusted,
    )


def _sink_from(arguments: argparse.Namespace, context: Context, ending: Ending) -> Sink:
    stopping = context.stopping
    if arguments.command:
        from messaging_receiver.sinks.running import Running

        return Running(
            arguments.command,
            arguments.exec_seconds,
            _set_aside(context),
            stopping,
            context.movements.note,
        )
    if arguments.confirm:
        from messaging_receiver.sinks.confirming import Confirming

        return Confirming(StandardOutput(stopping), ending, stopping, context.movements.note)
    from messaging_receiver.sinks.printing import Printing

    return Printing(StandardOutput(stopping), context.settings.output_format)
