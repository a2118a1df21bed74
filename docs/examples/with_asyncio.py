"""Print each message, and reply to it, in a program that uses asyncio."""

import asyncio
import sys

from dane_messenger import IdlibError, Receiver, Sender


async def main() -> None:
    """Receive and send in threads."""
    with Receiver() as receiver, Sender() as sender:
        while True:
            message = await asyncio.to_thread(receiver.get)
            print(message.sender, message.text, flush=True)
            try:
                await asyncio.to_thread(sender.send, message.sender, "Good morning to you")
            except IdlibError as error:
                print("no reply:", error, file=sys.stderr)


asyncio.run(main())
