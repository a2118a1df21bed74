"""The settings as far as they can be read, so that a bad one hides only the checks that need it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from idlib.errors import ConfigurationError
from idlib.settings import VARIABLES, load
from messaging_maintenance.checks.result import Item, fail, ok


@dataclass(frozen=True, slots=True)
class Problem:
    """A setting that cannot be read.

    Args:
        variable: Its name.
        text: What is wrong, as any other program prints it.
    """

    variable: str
    text: str


def find_problems(environment: Mapping[str, str], names: Collection[str]) -> tuple[Problem, ...]:
    """Return what is wrong with optional settings, each by itself and all together.

    Args:
        environment: Usually `os.environ`.
        names: Of the variables that are read.
    """
    required = {variable.name: environment[variable.name] for variable in VARIABLES if variable.required}
    problems = []
    for variable in VARIABLES:
        if variable.name not in names or variable.name not in environment or variable.required:
            continue
        try:
            load({**required, variable.name: environment[variable.name]}, {variable.name})
        except ConfigurationError as error:
            problems += [Problem(variable.name, text) for text in error.problems]
    bad = {problem.variable for problem in problems}
    good = {name: text for name, text in environment.items() if name not in bad}
    try:
        load(good, names)
    except ConfigurationError as error:
        # Only MQTT_URL excludes other variables already when they are read.
        problems += [Problem("MQTT_URL", text) for text in error.problems]
    return tuple(problems)


def check_settings(problems: Collection[Problem], names: Collection[str]) -> list[Item]:
    """Return what there is to say about the settings.

    Args:
        problems: From `find_problems`.
        names: Of the variables that were read.
    """
    if problems:
        return [
            fail("settings", problem.text, f"correct {problem.variable}; see docs/settings.md") for problem in problems
        ]
    return [ok("settings", f"all {len(names)} variables that are checked here can be read")]
