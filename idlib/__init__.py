"""The identity library: a device is its DNS name, and its certificate stands in a DNSSEC-signed TLSA record.

Its packages and modules, the lowest first, each importing only from those before it: `system`, `errors`, `files`,
`names`, `output`, `zones`, `lists`, `settings`, `algorithms`, `records`, `pem`, `keys`, `certificates`, `storage`,
`discovery`, `publishing`, `bootstrap`, `envelope`, `trust`, `timekeeping`, `verdict`, `transport`, `program`.
`Bootstrap` is the class of the published article; programs import every other thing from its room.
"""

# Of the whole project; pyproject.toml and balena.yml say the same.
__version__ = "0.1.0"

# Type checkers know it by its name; typing itself would be imported before a program can be told of Ctrl-C.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from idlib.bootstrap import Bootstrap

__all__ = ["Bootstrap", "__version__"]


def __getattr__(name: str) -> object:
    """Import `Bootstrap` when it is first asked for, so that a program that does without it starts small and fast."""
    if name == "Bootstrap":
        from idlib.bootstrap import Bootstrap

        return Bootstrap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
