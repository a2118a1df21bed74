"""The registrable domain of a name, by the Public Suffix List including its private part (publicsuffix.org)."""

import functools
from typing import TYPE_CHECKING

from idlib.names import IdentityName

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


def registrable_domain(name: IdentityName) -> str:
    """Return the domain of one registrant, who can create names in it for free.

    It is the public suffix and one label more: `example.co.uk`, or `example.dedyn.io`. A top-level domain that is not
    listed counts as a public suffix (the list's rule `*`). For a public suffix, the result is the name itself.

    Args:
        name: Any name. Labels with underscores count like others.
    """
    return _public_suffixes().privatesuffix(name.text) or name.text


@functools.cache
def _public_suffixes() -> "PublicSuffixList":
    # Imported late, because loading the list takes 70 ms and more than 1 MB, and most programs never need it.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
