"""The identity library: a device is its DNS name, and its certificate is in a TLSA record that DNSSEC protects.

Its parts, from the bottom up; each imports only from the parts before it: `system`, `commands`, `errors`, `files`,
`names`, `media_types`, `output`, `zones`, `printed_records`, `lists`, `settings`, `algorithms`, `base64url`,
`signatures`, `marks`, `records`, `pem`, `keys`, `key_places`, `certificates`, `storage`, `discovery`, `epochs`,
`publishing`, `bootstrap`, `envelope`, `trust`, `time_source`, `timekeeping`, `database_time`, `verdict`, `transport`,
`local_broker`, `metrics`, `program`.
`Bootstrap` is the class of the published article; everything else is imported from the part that defines it.
"""

# The version of the whole project; pyproject.toml and balena.yml have the same.
__version__ = "0.1.0"

# Type checkers recognize this name. Importing typing would take time before a program can handle Ctrl-C.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from idlib.bootstrap import Bootstrap

__all__ = ["Bootstrap", "__version__"]


def __getattr__(name: str) -> object:
    """Import `Bootstrap` when it is first used, so that programs without it start fast and take little memory."""
    if name == "Bootstrap":
        from idlib.bootstrap import Bootstrap

        return Bootstrap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
