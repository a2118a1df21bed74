"""The text of the units, of the file that declares their user, and of an identity's settings.

The units are templates: one of each kind serves every identity, and %i is its name.
Source: systemd.exec(5), systemd.service(5), sysusers.d(5).
"""

import textwrap
from pathlib import Path
from typing import Final

from dane_messenger.service.layout import CREDENTIALS_OF, UNITS, USER, VERBS, Layout
from idlib.names import IdentityName
from idlib.settings import CREDENTIALS, VARIABLES, Variable

# A device whose memory card is busy may be silent for some of this.
WATCHDOG_SECONDS: Final = 120
RESTART_SECONDS: Final = 10
_STATE: Final = Layout().state
_WIDTH: Final = 100
_DESCRIPTIONS: Final = {
    "receiver": "Receive DANE messages for %i",
    "sender": "Deliver queued DANE messages of %i",
    "maintenance": "Look after the DANE identity of %i",
}
# Of the directories of an identity, what each kind of service cannot write, or not even see.
_PROTECTED: Final = {
    "receiver": (f"ReadOnlyPaths={_STATE}/%i/identity",),
    "sender": (f"ReadOnlyPaths={_STATE}/%i/identity", f"InaccessiblePaths={_STATE}/%i/epoch-records"),
    "maintenance": (f"ReadOnlyPaths={_STATE}/%i/epoch-records", f"InaccessiblePaths={_STATE}/%i/data"),
}
_UNIT: Final = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
Type=notify
ExecStart={command} {verb}
EnvironmentFile={settings}/%i.env
User={user}
Group={user}
UMask=0077
StateDirectory=dane-messenger/%i dane-messenger/%i/identity dane-messenger/%i/data dane-messenger/%i/epoch-records
StateDirectoryMode=0700
# Files with secrets, which only root can read where they are.
LoadCredential={group}:{credentials}/%i/{group}/
Restart=always
RestartSec={restart}s
# Wrong usage: this unit and the program do not match.
RestartPreventExitStatus=64
TimeoutStopSec=20s
# At once, and without a core file: the memory of the process has private keys.
WatchdogSec={watchdog}s
WatchdogSignal=SIGKILL
LimitCORE=0

# Other identities are not visible.
TemporaryFileSystem={state}:ro
BindPaths={state}/%i
{protected}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateIPC=yes
ProtectProc=invisible
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
CapabilityBoundingSet=
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
# Not ProtectClock=, which also forbids to read with adjtimex whether the clock is set; setting it needs a capability.
SystemCallFilter=@system-service adjtimex
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
# What the file of settings need not show: variables for tests, and those that other systems set.
_NOT_SHOWN: Final = {
    *("BALENA_SERVICE_NAME", "ROTATE_TEST_SPEED", "DNS_SERVER_PORT", "DNS_BOGUS_NAME"),
    *("IDENTITY_NAME", "CRYPTO_PATH", "DATA_PATH", "EPOCH_SPOOL", "EPOCH_PATH", "APP_UID"),
}
_SETTINGS: Final = """\
# The settings of {name}: of its services, and of commands that you run for it.
# After a change, run: systemctl restart 'messenger-*@{name}.service'

# The units let the services write only here.
IDENTITY_NAME={name}
CRYPTO_PATH={state}/identity
DATA_PATH={state}/data
EPOCH_SPOOL={state}/epoch-records
# The user {user}, so that keys that root creates belong to it.
APP_UID={uid}

"""
SYSUSERS: Final = f'u {USER} - "DANE messenger" {_STATE} -\n'


def unit(kind: str, command: Path) -> str:
    """Return the text of a unit.

    Args:
        kind: Of the service: receiver, sender or maintenance.
        command: The absolute path of dane-messenger.
    """
    return _UNIT.format(
        description=_DESCRIPTIONS[kind],
        command=_quoted(command),
        verb=VERBS[kind],
        settings=Layout().settings,
        user=USER,
        state=_STATE,
        watchdog=WATCHDOG_SECONDS,
        restart=RESTART_SECONDS,
        credentials=Layout().credentials,
        group=CREDENTIALS_OF[kind],
        protected="\n".join(_PROTECTED[kind]),
    )


def units(command: Path) -> dict[str, str]:
    """Return the text of each unit, by the name of its file.

    Args:
        command: The absolute path of dane-messenger.
    """
    return {UNITS[kind]: unit(kind, command) for kind in VERBS}


def settings_text(name: IdentityName, uid: int) -> str:
    """Return the file of an identity's settings: those of its files, and all others as comments.

    Args:
        name: The device.
        uid: The user ID of the services.
    """
    beginning = _SETTINGS.format(name=name, state=Layout().state_of(name), user=USER, uid=uid)
    return beginning + "\n".join(_comment(one, name) for one in VARIABLES if one.name not in _NOT_SHOWN)


def _comment(variable: Variable, name: IdentityName) -> str:
    lines = textwrap.wrap(f"{variable.help}; {variable.form}", _WIDTH)
    group = next((group for group, names in CREDENTIALS.items() if variable.name in names), None)
    if group is not None:
        path = Layout().credentials_of(name) / group / variable.name
        example = f"Leave it out, and put the file at {path} (mode 0600)."
    else:
        example = f"{variable.name}={variable.default or ''}"
    return "".join(f"# {line}\n" for line in [*lines, example])


def _quoted(command: Path) -> str:
    """Return a path as the first word of a command line; a % or a $ in it is itself (systemd.service(5))."""
    text = str(command).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if any(one in text for one in " \t'\"\\;") else text
