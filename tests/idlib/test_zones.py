import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.names import IdentityName
from idlib.zones import registrable_domain

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,8}[a-z0-9_])?", fullmatch=True)
LABELS = st.lists(LABEL, min_size=1, max_size=8)
SUFFIX = st.sampled_from(
    ["com", "co.uk", "dedyn.io", "github.io", "not-listed", "b.ck", "xn--p1ai", "s3.amazonaws.com"]
)


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("alice._device.example.com", "example.com"),
        ("example.com", "example.com"),
        ("alice._device.example.co.uk", "example.co.uk"),
        ("alice._device.dedyn.io", "_device.dedyn.io"),
        ("a.b.c.example.dedyn.io", "example.dedyn.io"),
        ("alice._device.example.not-listed", "example.not-listed"),
        ("a.b.c.ck", "b.c.ck"),
        ("www.ck", "www.ck"),
        ("a.www.ck", "www.ck"),
        ("a.xn--bcher-kva.xn--p1ai", "xn--bcher-kva.xn--p1ai"),
        ("alice.xn--55qx5d.cn", "alice.xn--55qx5d.cn"),
        ("co.uk", "co.uk"),
        ("dedyn.io", "dedyn.io"),
    ],
)
def test_names_are_grouped_by_their_registered_domain(name: str, domain: str) -> None:
    assert registrable_domain(IdentityName(name)) == domain


@given(LABELS, LABEL.map("zz9-{}".format), SUFFIX)
def test_every_name_below_a_registered_domain_belongs_to_it(below: list[str], own: str, suffix: str) -> None:
    domain = f"{own}.{suffix}"
    assert registrable_domain(IdentityName(domain)) == domain
    assert registrable_domain(IdentityName(".".join([*below, domain]))) == domain


@given(LABELS, LABEL)
def test_every_name_ends_with_its_domain(labels: list[str], last: str) -> None:
    name = IdentityName(".".join([*labels, last]))
    domain = registrable_domain(name)
    assert f".{name}".endswith(f".{domain}")
    assert domain.count(".") >= 1
    assert registrable_domain(IdentityName(domain)) == domain


def test_the_longest_name_has_a_domain() -> None:
    assert registrable_domain(IdentityName("a." * 120 + "example.com")) == "example.com"


def test_several_threads_can_ask_at_the_same_time() -> None:
    domains: list[str] = []
    name = IdentityName("a.example.com")
    threads = [threading.Thread(target=lambda: domains.append(registrable_domain(name))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert domains == ["example.com"] * 8


def test_a_program_that_needs_no_domain_does_not_load_the_list() -> None:
    code = "import sys, idlib.discovery; sys.exit('publicsuffixlist' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
