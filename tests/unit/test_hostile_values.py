"""Options and relations that hold what nobody would write by mistake: one sentence, and soon."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from ops import testing

from gpu.openpgp import read_keys
from gpu.repository import check_url
from tests.unit.charm_fakes import FakeWorkload, key
from tests.unit.charm_webs import Context, peers, postgresql, state
from tests.unit.test_certificates import answer, asked, certificates, related

WIDE = "\U000e0001" * 60  # ten characters each, as repr writes them
BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"


REFUSED = [
    ("log-level", WIDE),
    ("container-placement-strategy", WIDE),
    ("initial-admin-username", WIDE),
    ("worker-env", f"{WIDE}=1"),
    ("concourse-release-url", "http://mirror/\x1b[31m"),
    ("concourse-release-url", "http://mirror/\u00e9"),
    ("containerd-dns-server", "fe80::1%\nX=1"),
    ("containerd-dns-server", "fe80::1%$(id)"),
    ("containerd-dns-server", ",".join(["10.0.0.1"] * 33)),
    ("external-url", "https://ci.example.com/\x1b[31m"),
    ("external-url", "https://ci.example.com/\u202e"),
    ("external-url", "https://[fe80::1%25eth0]/"),
    ("external-url", "http://\u00e9/" + "x" * 490),
    ("external-url", "http://:80/" + "x" * 480),
]


@pytest.mark.parametrize(("option", "value"), REFUSED, ids=[option for option, _ in REFUSED])
def test_a_hostile_option_is_refused_in_a_short_printable_sentence(
    option: str, value: str, context: Context, workload: FakeWorkload
) -> None:
    given = state(peers(), postgresql(), mode="all")
    out = context.run(
        context.on.config_changed(), replace(given, config={**given.config, option: value})
    )
    assert not workload.wishes
    assert isinstance(out.unit_status, testing.BlockedStatus)
    message = out.unit_status.message
    assert option in message
    assert message.isprintable()
    assert len(message) <= 300


def test_a_strategy_counts_once(context: Context, workload: FakeWorkload) -> None:
    given = state(
        peers(), postgresql(), container_placement_strategy="random,random , volume-locality,random"
    )
    context.run(context.on.config_changed(), given)
    assert workload.wish.web_side
    assert workload.wish.web_side.placement == ("random", "volume-locality")


@pytest.mark.parametrize("port", ["9" * 5000, "0", "65536", "22222222", "٢٢", ""])
def test_a_webs_port_that_is_none_is_named(
    port: str, context: Context, workload: FakeWorkload
) -> None:
    relation = testing.Relation(
        "worker-tsa",
        interface="concourse-tsa",
        remote_app_name="web",
        remote_app_data={"tsa-host-public-key": key()},
        remote_units_data={0: {"tsa-host": "10.0.0.2", "tsa-port": port}},
    )
    out = context.run(context.on.config_changed(), state(relation, mode="worker"))
    said = "The related web's data can't be used: tsa-port is no port: '"
    if port:
        assert out.unit_status.message.startswith(said)
    else:
        assert isinstance(out.unit_status, testing.WaitingStatus)


def test_a_secret_of_another_kind_is_no_web_secret(
    context: Context, workload: FakeWorkload
) -> None:
    other = testing.Secret({"username": "u"})
    given = state(peers(web_secret=other.id), postgresql())
    out = context.run(context.on.config_changed(), replace(given, secrets={other}))
    assert out.unit_status == testing.WaitingStatus("Waiting for the leader to make the web's keys")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("certificates", "[" * 100_000),
        ("request_errors", "[" * 100_000),
        ("capabilities", '{"a":' * 100_000),
        ("capabilities", "9" * 5000),
        ("request_errors", "{"),
        ("request_errors", '[{"csr": 7}]'),
    ],
)
def test_a_certificates_provider_that_fails_the_library_fails_no_hook(
    field: str, text: str, context: Context
) -> None:
    out = related(context)
    others = [each for each in out.relations if each.endpoint != "certificates"]
    told = replace(certificates(), remote_app_data={field: text})
    mine = next(each for each in out.relations if each not in others)
    told = replace(told, id=mine.id, local_unit_data=dict(mine.local_unit_data))
    out = context.run(context.on.relation_changed(told), replace(out, relations=[*others, told]))
    assert isinstance(out.unit_status, testing.BlockedStatus)
    where = f"{field}: " if text[:2] != "[{" else "request error 1: "
    assert f"certificates no usable data: {where}" in out.unit_status.message


@pytest.mark.parametrize(
    ("part", "other"),
    [("0603551d0e", "0603551d13"), ("a003020102", "a003020105")],
    ids=["an extension twice", "of version 6"],
)
def test_a_certificate_that_the_library_stumbles_over_fails_no_hook(
    part: str, other: str, context: Context
) -> None:
    out = related(context)
    said: dict[str, Any] = _signed(str(asked(out)[0]), bytes.fromhex(part), bytes.fromhex(other))
    relation, told = answer(out, certificates=[said])
    out = context.run(context.on.relation_changed(relation), told)
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert "certificates no usable data: certificate 1: " in out.unit_status.message


def _signed(request: str, part: bytes, other: bytes) -> dict[str, Any]:
    """Return what a provider says of a request, with some bytes of the certificate changed."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from tests.unit.test_certificates import Authority
    from tests.unit.webs import pem

    entry = Authority().sign(request)
    der = x509.load_pem_x509_certificate(entry["certificate"].encode()).public_bytes(Encoding.DER)
    assert part in der
    return {**entry, "certificate": pem(der.replace(part, other), "CERTIFICATE"), "chain": []}


def test_a_repositorys_address_has_an_end() -> None:
    assert check_url("http://x/" + "y" * 480)
    with pytest.raises(Exception, match="nvidia-repository-url is no http"):
        check_url("http://x/" + "y" * 500)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BEGIN * 7000, "no line"),
        (BEGIN * 30_000, "larger than any key"),
        (BEGIN + "A" * 300_000, "larger than any key"),
    ],
    ids=["many beginnings", "too many", "too large"],
)
def test_a_keys_reader_takes_linear_time(text: str, why: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=why):
        read_keys(text.encode())
    assert time.process_time() - started < 1


def test_a_key_packet_that_no_fingerprint_fits_is_refused() -> None:
    packet = b"\x9a" + (70_000).to_bytes(4, "big") + b"\x04" * 70_000
    with pytest.raises(ValueError, match="longer than any"):
        read_keys(packet)
