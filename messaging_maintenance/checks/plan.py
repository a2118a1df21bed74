"""Which checks are made of any name, and which of the device itself."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from idlib.discovery.resolver import Resolver, servers_from
from idlib.errors import IdlibError
from idlib.names import IdentityName
from idlib.settings import Settings
from messaging_maintenance.checks import catalogue
from messaging_maintenance.checks.broker import check_broker
from messaging_maintenance.checks.chain import check_chain
from messaging_maintenance.checks.clock import check_clock
from messaging_maintenance.checks.configuration import Problem
from messaging_maintenance.checks.credentials import check_credentials
from messaging_maintenance.checks.device_files import (
    check_data_path,
    check_key_files,
    check_published_key,
    read_own_key,
)
from messaging_maintenance.checks.epochs import check_epochs, check_halves
from messaging_maintenance.checks.local_broker import check_local_broker
from messaging_maintenance.checks.name_servers import ask_name_servers, check_name_servers
from messaging_maintenance.checks.observation import SECONDS, observe
from messaging_maintenance.checks.policy_files import check_policies
from messaging_maintenance.checks.records import check_records, judge_all
from messaging_maintenance.checks.resolver import check_resolver
from messaging_maintenance.checks.result import Item, fail, skip
from messaging_maintenance.checks.running import Once, Part
from messaging_maintenance.checks.store import check_store

_DNS_SETTINGS: Final = (
    "DNS_RESOLVER",
    "DNS_CA_FILE",
    "DNSSEC",
    "DNS_SERVER_PORT",
    "DNS_BOGUS_NAME",
    "PKIX_CA_FILE",
)
_KEY_SETTINGS: Final = ("CRYPTO_PATH", "APP_UID")


class Plan:
    """The checks of one name, which share what they ask DNS.

    Args:
        name: The name.
        settings: From the environment.
        problems: Settings that cannot be read; what needs them is not checked.
    """

    def __init__(self, name: IdentityName, settings: Settings, problems: Collection[Problem] = ()) -> None:
        self._name = name
        self._settings = settings
        self._problems = problems
        self._resolver = Resolver(servers_from(settings), SECONDS)
        self._port = settings.dns_server_port
        self._own_key = Once(lambda: read_own_key(settings))
        self._seen = Once(lambda: observe(name, settings))
        self._judged = Once(lambda: judge_all(self._seen.get().rdatas, name, settings.pkix_ca_file))
        self._servers = Once(lambda: ask_name_servers(self._seen.get(), self._resolver, self._port))

    def of_any_name(self) -> list[Part]:
        """Return the checks of a name that is not this device's."""
        return [*self._of_dns(skip), self._epochs(None)]

    def of_this_device(self) -> list[Part]:
        """Return the checks of this device's own name, and of the device itself."""
        settings, problems = self._settings, self._problems
        return [
            *self._of_dns(fail),
            self._epochs(settings.epoch_length),
            self._part(
                catalogue.EPOCH_HALF_IDS,
                lambda: check_halves(self._seen.get(), self._judged.get(), settings),
                (*_DNS_SETTINGS, "DATA_PATH", "EPOCH_"),
            ),
            self._part(
                catalogue.KEY_IDS, lambda: check_key_files(settings, self._own_key, self._known_rdatas()), _KEY_SETTINGS
            ),
            self._part(
                catalogue.PUBLISHED_KEY_IDS,
                lambda: check_published_key(self._seen.get(), self._judged.get(), settings),
                (*_DNS_SETTINGS, *_KEY_SETTINGS),
            ),
            self._part(catalogue.DATA_IDS, lambda: check_data_path(settings.data_path), ("DATA_PATH",)),
            Part(catalogue.CLOCK_IDS, check_clock),
            self._part(catalogue.BROKER_IDS, lambda: check_broker(settings, self._own_key), ("MQTT_",)),
            self._part(
                catalogue.LOCAL_BROKER_IDS,
                lambda: check_local_broker(settings),
                ("LOCAL_MQTT_", "HOME_ASSISTANT", "MQTT_"),
            ),
            self._part(catalogue.STORE_IDS, lambda: check_store(settings), ("STORE",)),
            self._part(catalogue.CREDENTIAL_IDS, lambda: check_credentials(settings), ("DNS_", "TLSA_", "APP_UID")),
            Part(catalogue.POLICY_IDS, lambda: check_policies(settings, problems)),
        ]

    def _known_rdatas(self) -> Sequence[bytes]:
        try:
            return self._seen.get().rdatas
        except IdlibError:
            return ()

    def _epochs(self, epoch_length: int | None) -> Part:
        return self._part(
            catalogue.EPOCH_IDS,
            lambda: check_epochs(self._seen.get(), self._judged.get(), self._settings, epoch_length),
            (*_DNS_SETTINGS, "EPOCH_"),
        )

    def _of_dns(self, when_silent: Callable[[str, str, str], Item]) -> list[Part]:
        return [
            self._part(catalogue.CHAIN_IDS, lambda: check_chain(self._seen.get()), _DNS_SETTINGS),
            self._part(
                catalogue.RECORD_IDS,
                lambda: check_records(self._seen.get(), self._judged.get(), self._servers.get().served, self._resolver),
                _DNS_SETTINGS,
            ),
            self._part(
                catalogue.SERVER_IDS,
                lambda: check_name_servers(self._seen.get(), self._servers.get(), self._port, when_silent),
                _DNS_SETTINGS,
            ),
            self._part(
                catalogue.RESOLVER_IDS,
                lambda: check_resolver(self._seen.get(), self._resolver, self._settings.dns_bogus_name, when_silent),
                _DNS_SETTINGS,
            ),
        ]

    def _part(self, ids: Sequence[str], find: Callable[[], Sequence[Item]], needs: Sequence[str]) -> Part:
        """Return a part that is not run if a setting that it needs cannot be read."""
        bad = [problem.variable for problem in self._problems if problem.variable.startswith(tuple(needs))]
        if bad:
            return Part(ids, lambda: [skip(identifier, f"the setting {bad[0]} cannot be read") for identifier in ids])
        return Part(ids, find)
