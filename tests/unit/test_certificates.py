"""The web's certificate: what is asked for, what is made of the answer, what the status says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from charmlibs.interfaces import tls_certificates as library
from ops import testing

import charm
from certificates import TlsTrouble
from concourse.web import Tls
from tests.unit.charm_fakes import SEEN, FakeWorkload
from tests.unit.charm_webs import RUNNING_WEB, peers, postgresql, state

Context = testing.Context[charm.ConcourseCharm]
ADDRESS = "192.0.2.0"  # ops.testing's
YEAR = timedelta(days=365)


class Authority:
    """A provider's half: a CA, and what it says in its databag."""

    def __init__(self) -> None:
        self.key = library.PrivateKey.generate()
        attributes = library.CertificateRequestAttributes(common_name="test-ca", is_ca=True)
        self.ca = library.Certificate.generate_self_signed_ca(attributes, self.key, YEAR)

    def sign(self, asked: str, **fields: Any) -> dict[str, Any]:
        csr = library.CertificateSigningRequest.from_string(asked)
        validity = fields.pop("validity", YEAR)
        signed = library.Certificate.generate(csr, self.ca, self.key, validity)
        return {
            "certificate": str(signed),
            "certificate_signing_request": asked,
            "ca": str(self.ca),
            "chain": [str(signed), str(self.ca)],
            **fields,
        }


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def certificates(**remote: Any) -> testing.Relation:
    return testing.Relation(
        "certificates",
        interface="tls-certificates",
        remote_app_name="ca",
        remote_app_data={name: json.dumps(value) for name, value in remote.items()},
    )


def asked(out: testing.State) -> list[library.CertificateSigningRequest]:
    relation = next(each for each in out.relations if each.endpoint == "certificates")
    said = json.loads(relation.local_unit_data.get("certificate_signing_requests", "[]"))
    found = (entry["certificate_signing_request"] for entry in said)
    return [library.CertificateSigningRequest.from_string(one) for one in found]


def answer(out: testing.State, **remote: Any) -> tuple[testing.Relation, testing.State]:
    """Let the provider say something; return its relation and the state after it."""
    relation = next(each for each in out.relations if each.endpoint == "certificates")
    assert isinstance(relation, testing.Relation)
    said = {name: json.dumps(value) for name, value in remote.items()}
    told = replace(relation, remote_app_data={**relation.remote_app_data, **said})
    others = [each for each in out.relations if each.id != told.id]
    return told, replace(out, relations=[*others, told])


def related(context: Context, **options: Any) -> testing.State:
    """Return the state of a web with tls-enabled=true that has just asked its provider."""
    given = state(peers(), postgresql(), certificates(), tls_enabled=True, **options)
    return context.run(context.on.config_changed(), given)


def tls(workload: FakeWorkload) -> Tls | TlsTrouble | None:
    side = workload.wish.web_side
    assert side is not None
    return side.tls


def test_a_certificate_is_asked_for_by_name_and_address(context: Context) -> None:
    (csr,) = asked(related(context, external_url="https://CI.example.com:8443/x"))
    assert csr.common_name == "ci.example.com"
    assert csr.sans_dns == {"ci.example.com"}
    assert csr.sans_ip == {ADDRESS}


def test_without_an_external_url_it_is_for_the_units_address(context: Context) -> None:
    (csr,) = asked(related(context))
    assert csr.common_name == ADDRESS
    assert csr.sans_ip == {ADDRESS}
    assert not csr.sans_dns


def test_a_long_name_stays_out_of_the_common_name(context: Context) -> None:
    host = f"{'long-' * 14}.example.com"
    (csr,) = asked(related(context, external_url=f"https://{host}"))
    assert csr.sans_dns == {host}
    assert not csr.common_name


def test_the_signed_certificate_reaches_the_web_with_its_key(
    context: Context, workload: FakeWorkload, authority: Authority
) -> None:
    workload.seen = replace(SEEN, web=RUNNING_WEB)
    out = related(context)
    assert out.unit_status == testing.WaitingStatus("Waiting for ca to sign the web's certificate")
    signed = authority.sign(str(asked(out)[0]))
    relation, told = answer(out, certificates=[signed])
    out = context.run(context.on.relation_changed(relation), told)
    found = tls(workload)
    assert isinstance(found, Tls)
    assert found.certificate.strip() == f"{signed['certificate']}\n{authority.ca}"
    certificate = library.Certificate.from_string(found.certificate)
    assert certificate.matches_private_key(library.PrivateKey.from_string(found.key))
    assert out.unit_status == testing.ActiveStatus("Web ready")
    side = workload.wish.web_side
    assert side is not None
    assert side.url(tls=True) == f"https://{ADDRESS}:8080"


def test_a_chain_that_begins_with_the_root_is_turned_round(
    context: Context, workload: FakeWorkload, authority: Authority
) -> None:
    out = related(context)
    signed = authority.sign(str(asked(out)[0]))
    signed["chain"].reverse()
    relation, told = answer(out, certificates=[signed])
    context.run(context.on.relation_changed(relation), told)
    found = tls(workload)
    assert isinstance(found, Tls)
    assert found.certificate.startswith(signed["certificate"])


def test_the_private_key_lies_in_a_secret_of_the_unit_and_nowhere_else(
    context: Context, workload: FakeWorkload, authority: Authority
) -> None:
    out = related(context)
    relation, told = answer(out, certificates=[authority.sign(str(asked(out)[0]))])
    out = context.run(context.on.relation_changed(relation), told)
    found = tls(workload)
    assert isinstance(found, Tls)
    held = [one for one in out.secrets if "private-key" in (one.tracked_content or {})]
    assert [one.owner for one in held] == ["unit"]
    said = [str(each.local_unit_data) + str(each.local_app_data) for each in out.relations]
    said += [line.message for line in context.juju_log]
    said += [repr(workload.wish), out.unit_status.message]
    secret = found.key.splitlines()[3]
    assert not any(secret in text for text in said)


def test_another_external_url_asks_again_and_withdraws_the_old_request(
    context: Context, workload: FakeWorkload, authority: Authority
) -> None:
    out = related(context)
    first = asked(out)[0]
    _, told = answer(out, certificates=[authority.sign(str(first))])
    changed = replace(told, config={**told.config, "external-url": "https://ci.example.com"})
    out = context.run(context.on.config_changed(), changed)
    (second,) = asked(out)
    assert second.sans_dns == {"ci.example.com"}
    trouble = tls(workload)
    assert isinstance(trouble, TlsTrouble)
    assert not trouble.blocked


def test_a_renewal_is_asked_for_when_juju_says_that_the_certificate_nears_its_end(
    context: Context, workload: FakeWorkload, authority: Authority
) -> None:
    out = related(context)
    first = asked(out)[0]
    relation, told = answer(out, certificates=[authority.sign(str(first))])
    out = context.run(context.on.relation_changed(relation), told)
    secret = next(one for one in out.secrets if "csr" in (one.tracked_content or {}))
    out = context.run(context.on.secret_expired(secret, revision=1), out)
    (second,) = asked(out)
    assert second != first
    relation, told = answer(out, certificates=[authority.sign(str(second))])
    context.run(context.on.relation_changed(relation), told)
    found = tls(workload)
    assert isinstance(found, Tls)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"revoked": True}, "ca has revoked the web's certificate: see juju status ca"),
        ({"validity": timedelta(seconds=0)}, "The web's certificate expired on "),
    ],
    ids=["revoked", "expired"],
)
def test_a_certificate_that_is_none_any_more_blocks_the_unit(
    wanted: dict[str, Any], message: str, context: Context, authority: Authority
) -> None:
    out = related(context)
    signed = authority.sign(str(asked(out)[0]), **wanted)
    relation, told = answer(out, certificates=[signed])
    out = context.run(context.on.relation_changed(relation), told)
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert out.unit_status.message.startswith(message)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (
            102,
            testing.BlockedStatus("ca refused the web's certificate ('not\\nthat one')"),
        ),
        (
            101,
            testing.BlockedStatus(
                "ca refused the web's certificate ('not\\nthat one'): set external-url to an "
                "https address with a name"
            ),
        ),
        (
            201,
            testing.WaitingStatus("ca refused the web's certificate ('not\\nthat one')"),
        ),
    ],
    ids=["for good", "as it names an address", "as its server is away"],
)
def test_a_refused_request_says_what_the_provider_said(
    code: int, status: testing.BlockedStatus | testing.WaitingStatus, context: Context
) -> None:
    out = related(context)
    error = {"code": code, "name": "X", "message": "not\nthat one"}
    relation, told = answer(out, request_errors=[{"csr": str(asked(out)[0]), "error": error}])
    assert context.run(context.on.relation_changed(relation), told).unit_status == status


def test_a_provider_that_signs_no_addresses_is_asked_for_the_name_alone(context: Context) -> None:
    out = related(context, external_url="https://ci.example.com")
    relation, told = answer(out, capabilities={"supports_ip_sans": False})
    (csr,) = asked(context.run(context.on.relation_changed(relation), told))
    assert csr.sans_dns == {"ci.example.com"}
    assert not csr.sans_ip
    nameless = replace(told, config={**told.config, "external-url": ""})
    out = context.run(context.on.config_changed(), nameless)
    assert out.unit_status == testing.BlockedStatus(
        "ca signs no addresses: set external-url to an https address with a name"
    )


def test_tls_without_the_relation_names_the_command(
    context: Context, workload: FakeWorkload
) -> None:
    given = state(peers(), postgresql(), tls_enabled=True)
    out = context.run(context.on.config_changed(), given)
    assert out.unit_status == testing.BlockedStatus(
        "tls-enabled=true, but no certificate: "
        "juju relate concourse-ci-machine:certificates PROVIDER:certificates"
    )


def test_the_relation_without_tls_is_fine_and_asks_for_nothing(
    context: Context, workload: FakeWorkload
) -> None:
    workload.seen = replace(SEEN, web=RUNNING_WEB)
    given = state(peers(), postgresql(), certificates())
    out = context.run(context.on.config_changed(), given)
    assert out.unit_status == testing.ActiveStatus("Web ready")
    assert asked(out) == []
    assert tls(workload) is None


def test_tls_switched_off_withdraws_the_request(context: Context, workload: FakeWorkload) -> None:
    out = related(context)
    off = replace(out, config={**out.config, "tls-enabled": False})
    assert asked(context.run(context.on.config_changed(), off)) == []
    assert tls(workload) is None


def test_a_typing_error_in_the_address_leaves_the_request_alone(context: Context) -> None:
    out = related(context)
    wrong = replace(out, config={**out.config, "external-url": "http://ci.example.com"})
    again = context.run(context.on.config_changed(), wrong)
    assert asked(again) == asked(out)
    assert again.unit_status == testing.BlockedStatus(
        "external-url='http://ci.example.com' is not an https address: tls-enabled is true"
    )


@pytest.mark.parametrize(
    "said",
    [
        {"certificates": [{"certificate": "x", "ca": "y", "certificate_signing_request": "z"}]},
        {"certificates": [{"certificate": 7}]},
        {"certificates": "none"},
        {"certificates": {"certificate": "x"}},
        {"certificates": 7},
    ],
    ids=["no PEM", "fields missing", "a string", "a map", "a number"],
)
def test_a_providers_nonsense_fails_no_hook(said: dict[str, Any], context: Context) -> None:
    out = related(context)
    relation, told = answer(out, **said)
    out = context.run(context.on.relation_changed(relation), told)
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert out.unit_status.message.startswith(
        "ca gives concourse-ci-machine:certificates no usable data: "
    )


def test_a_provider_that_speaks_no_json_fails_no_hook(context: Context) -> None:
    out = related(context)
    relation, _ = answer(out)
    broken = replace(relation, remote_app_data={"certificates": "{"})
    others = [each for each in out.relations if each.id != broken.id]
    told = replace(out, relations=[*others, broken])
    out = context.run(context.on.relation_changed(broken), told)
    assert "no usable data" in out.unit_status.message


def test_the_key_goes_with_the_relation(context: Context, authority: Authority) -> None:
    out = related(context)
    relation, told = answer(out, certificates=[authority.sign(str(asked(out)[0]))])
    out = context.run(context.on.relation_changed(relation), told)
    out = context.run(context.on.relation_broken(relation), out)
    assert not [one for one in out.secrets if "private-key" in (one.tracked_content or {})]
    assert "juju relate" in out.unit_status.message


@pytest.mark.parametrize(
    ("mode", "chosen", "count"),
    [
        ("worker", "", 0),
        ("all", "", 1),
        ("auto", "concourse-ci-machine/0", 1),
        ("auto", "concourse-ci-machine/1", 0),
    ],
    ids=["a worker", "all on one", "auto, the web", "auto, a worker"],
)
def test_only_a_unit_that_runs_a_web_asks(
    mode: str, chosen: str, count: int, context: Context
) -> None:
    shared = peers(1, **({"web_unit": chosen} if chosen else {}))
    given = state(shared, postgresql(), certificates(), mode=mode, tls_enabled=True)
    assert len(asked(context.run(context.on.config_changed(), given))) == count


def test_the_admins_address_speaks_https(context: Context) -> None:
    out = related(context)
    context.run(context.on.action("get-admin-password"), out)
    assert context.action_results is not None
    assert context.action_results["url"] == f"https://{ADDRESS}:8080"
