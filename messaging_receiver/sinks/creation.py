"""Creates the sink that the command line asks for."""

import argparse

from messaging_receiver.context import Context
from messaging_receiver.ending import Ending
from messaging_receiver.sinks import Sink
from messaging_receiver.standard_output import StandardOutput


def sink_from(arguments: argparse.Namespace, context: Context, ending: Ending) -> Sink:
    """Return the sink; what it needs is imported only now.

    Args:
        arguments: From `messaging_receiver.arguments`.
        context: What the stages share.
        ending: How the receiver ends.
    """
    stopping = context.stopping
    if arguments.confirm:
        from messaging_receiver.sinks.confirming import Confirming

        return Confirming(StandardOutput(stopping), ending, stopping, context.movements.note)
    from messaging_receiver.sinks.printing import Printing

    return Printing(StandardOutput(stopping), context.settings.output_format)
