"""The completion scripts have every verb and option; tests/integration/test_completion.py runs them in shells."""

import re

import pytest

from build_hooks.completion import _with_verbs_of_groups, completion_scripts
from dane_messenger.command import GROUPS, VERBS, verbs_of
from dane_messenger.completion import SCRIPTS
from dane_messenger.parsers import parser_of

TEXTS = completion_scripts()
BASH, ZSH, FISH = (TEXTS[SCRIPTS[shell]] for shell in ("bash", "zsh", "fish"))


def words(verb: str) -> str:
    return "_".join(["dane_messenger", *verb.split()])


@pytest.mark.parametrize("verb", VERBS)
def test_each_option_of_a_verb_is_in_each_script(verb: str) -> None:
    options = {option for action in parser_of(verb)._actions for option in action.option_strings}
    (listed,) = re.findall(rf"^_shtab_{words(verb)}_option_strings=\((.*)\)$", BASH, re.MULTILINE)
    assert set(listed.split()) == options
    (listed,) = re.findall(rf"^_shtab_{words(verb)}_options=\(\n(.*?)^\)$", ZSH, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"(?<![\w-])--?[A-Za-z][a-z-]*(?=[\[,}])", listed)) == options
    listed = "\n".join(re.findall(rf"^complete .*_using '?{re.escape(verb)}'? *'? (-.*)$", FISH, re.MULTILINE))
    named = {f"--{option}" for option in re.findall(r"-l (\S+)", listed)}
    named |= {f"-{option}" for option in re.findall(r"-s (\S+)", listed)}
    assert named | {"-h"} == options


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_a_group_has_its_own_verbs_in_the_script_for_zsh(group: str) -> None:
    (listed,) = re.findall(
        rf"^_shtab_{words(group)}_commands\(\) \{{\n  local _commands=\(\n(.*?)\n  \)$", ZSH, re.MULTILINE | re.DOTALL
    )
    names = [line.strip().partition(":")[0] for line in listed.splitlines()]
    assert sorted(names) == sorted(verb.rpartition(" ")[2] for verb in verbs_of(group))


def test_another_form_of_script_fails_the_build() -> None:
    with pytest.raises(RuntimeError, match="_shtab_dane_messenger_identity_commands is 0 times in the script"):
        _with_verbs_of_groups("#compdef dane-messenger\n")
