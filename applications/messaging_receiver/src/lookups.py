"""Asks DNS beside the pipeline, so that one name's slow answer holds up no other name's messages."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from idlib.discovery import Found
from idlib.errors import DiscoveryError
from idlib.names import IdentityName

_LOG = logging.getLogger(__name__)

WORKERS_FOR_KNOWN_NAMES: Final = 8
WORKERS_FOR_UNKNOWN_NAMES: Final = 16
# The others are left for names of other domains, where one domain's servers are dead.
MAX_UNKNOWN_OF_A_DOMAIN: Final = 4
MAX_QUESTIONS: Final = 256
# So that the dead names of one domain never take all places of the queue.
MAX_QUESTIONS_OF_A_DOMAIN: Final = 32
_DOMAIN_LABELS: Final = 2

# None where the look-up met an error of this program.
Outcome = Found | DiscoveryError | None


@dataclass(frozen=True, slots=True)
class Question:
    """A name to be looked up.

    Args:
        name: Whose records are needed.
        ask: Asks DNS and remembers the outcome.
    """

    name: IdentityName
    ask: Callable[[IdentityName], Found]

    @property
    def domain(self) -> str:
        """What names of the same owner are likely to end in."""
        return ".".join(self.name.text.split(".")[-_DOMAIN_LABELS:])


class Lookups:
    """A bounded number of threads that look names up, those that come first, but few of one domain at a time.

    Args:
        answered: Called by one of the threads with each name that has been asked for, and with what came of it.
        workers: How many threads.
        of_a_domain: How many names of one domain are looked up at a time.
        questions_of_a_domain: How many names of one domain may wait for that.
    """

    def __init__(
        self,
        answered: Callable[[IdentityName, Outcome], None],
        workers: int,
        of_a_domain: int,
        questions_of_a_domain: int,
    ) -> None:
        self._answered = answered
        self._of_a_domain = of_a_domain
        self._questions_of_a_domain = questions_of_a_domain
        self._changed = threading.Condition()
        self._questions: list[Question] = []
        self._under_way: Counter[str] = Counter()
        for number in range(workers):
            threading.Thread(target=self._work, name=f"Lookup-{number}", daemon=True).start()

    def start(self, question: Question) -> bool:
        """Look a name up when a thread is free; return False where too many wait for that already.

        Args:
            question: The name, and how it is asked for.
        """
        with self._changed:
            of_the_domain = sum(other.domain == question.domain for other in self._questions)
            if len(self._questions) >= MAX_QUESTIONS or of_the_domain >= self._questions_of_a_domain:
                return False
            self._questions.append(question)
            self._changed.notify()
            return True

    def _work(self) -> None:
        while True:
            question = self._take()
            outcome: Outcome = None
            try:
                outcome = question.ask(question.name)
            except DiscoveryError as error:
                outcome = error
            except Exception:  # noqa: BLE001  # the messages that need it are refused where nothing came of it
                _LOG.exception("The look-up of %s met an error of this program", question.name)
            with self._changed:
                self._under_way[question.domain] -= 1
                self._under_way += Counter()
                self._changed.notify()
            self._answered(question.name, outcome)

    def _take(self) -> Question:
        with self._changed:
            while True:
                for number, question in enumerate(self._questions):
                    if self._under_way[question.domain] < self._of_a_domain:
                        self._under_way[question.domain] += 1
                        return self._questions.pop(number)
                self._changed.wait()
