"""Relations whose other side says, in every field and secret, what the interface doesn't know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import strategies as st
from ops import testing

from certificates import TlsTrouble
from concourse.web import Tls
from tests.chaos.frame import Chaos
from tests.chaos.hostile import huge, texts
from tests.chaos.hostile_hooks import PROMISE, Held, Trial, fuzz, layout, trial
from tests.chaos.hostile_states import DATABASE, certificates, database, peers, state
from tests.chaos.hostile_talks import TALKS, Talk, a_database
from tests.unit.databases import CA
from tests.unit.test_certificates import Authority, asked
from tests.unit.webs import pem

__all__ = ["layout", "trial"]

TLS_WEB = {
    "deployment-mode": "web",
    "tls-enabled": True,
    "external-url": "https://ci.example.com",
}


@dataclass(frozen=True)
class Place:
    """One field of a relation."""

    talk: Talk
    field: str

    def __str__(self) -> str:
        return f"{self.field} of {self.talk}"


PLACES = [Place(talk, field) for talk in TALKS for field in talk.fields]


@pytest.mark.parametrize("talk", TALKS, ids=str)
def test_every_field_of_a_relation(chaos: Chaos, trial: Trial, talk: Talk) -> None:
    talk.hold(trial, {})
    fuzz(chaos, str(talk), talk.drawn(), partial(talk.hold, trial), talk.full)


def test_a_megabyte_in_a_field(chaos: Chaos, trial: Trial) -> None:
    for place in chaos.part(PLACES, quick=4):
        with chaos.case(PROMISE, str(place)):
            for text in chaos.dice(str(place)).sample(huge(place.talk.fields[place.field]), 2):
                place.talk.hold(trial, {place.field: text})


def test_the_secrets_of_a_database(chaos: Chaos, trial: Trial) -> None:
    login = {"username": DATABASE["username"], "password": "pass-word", "uris": "postgresql://x"}
    encryption = {"tls": "True", "tls-ca": CA}

    def check(drawn: Mapping[str, str]) -> None:
        secrets = [
            testing.Secret({name: drawn.get(name, good) for name, good in each.items()})
            for each in (login, encryption)
        ]
        named = dict(zip(("secret-user", "secret-tls"), (one.id for one in secrets), strict=True))
        relation = database(username="", password="", **named)
        config = {"deployment-mode": "web"}
        held = trial.hold(state(config, [peers(), relation], secrets=secrets))
        a_database(held, {**login, **encryption, **drawn})
        for value in (one for one in drawn.values() if len(one) >= 8):
            assert value not in held.message
            assert not trial.logged(value)
        if held.active and drawn.get("tls", "True").lower() == "true":
            sslmode = held.files["web"]["CONCOURSE_POSTGRES_SSLMODE"]
            assert sslmode == ("verify-ca" if drawn.get("tls-ca", CA).strip() else "require")

    check({})
    goods = {**login, **encryption}
    some = st.fixed_dictionaries({}, optional={name: texts(good).filter(bool)
                                               for name, good in goods.items()})  # fmt: skip
    fuzz(chaos, "secret-user, secret-tls", some, check, full=80)


class Provider:
    """A unit that has asked for a certificate, and what its provider could say."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        relations = [peers(), database(), certificates()]
        self._asked = trial.hold(state(TLS_WEB, relations)).out
        (request,) = asked(self._asked)
        self.request = str(request)
        self.good = Authority().sign(self.request)

    def says(self, **fields: str) -> Held:
        """Run a hook after the provider has said something."""
        others = [each for each in self._asked.relations if each.endpoint != "certificates"]
        relation = next(each for each in self._asked.relations if each not in others)
        assert isinstance(relation, testing.Relation)
        told = replace(relation, remote_app_data=fields)
        held = self._trial.hold(replace(self._asked, relations=[*others, told]))
        self._check(held)
        return held

    def _check(self, held: Held) -> None:
        """The web has a certificate of its own key, or the status says whose fault it is."""
        assert held.wish
        assert held.wish.web_side
        tls = held.wish.web_side.tls
        if isinstance(tls, TlsTrouble):
            assert held.blocked if tls.blocked else held.waiting, held.message
            assert held.message.startswith(("ca ", "Waiting for ca ", "The web's certificate"))
            assert "certificate" in held.message or "addresses" in held.message
            return
        assert isinstance(tls, Tls)  # `Writing` has had it loaded, with its key
        assert held.active, held.message
        certificate = x509.load_pem_x509_certificate(tls.certificate.encode())
        request = x509.load_pem_x509_csr(self.request.encode())
        assert certificate.public_key() == request.public_key()

    def drawn(self) -> st.SearchStrategy[dict[str, str]]:
        """Return one field or more: JSON of the right shape and of others, and what is none."""
        odd = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts(""))
        entry = {name: st.one_of(st.just(value), st.just(value), odd, texts(str(value)))
                 for name, value in {**self.good, "revoked": False}.items()}  # fmt: skip
        error = {"code": st.one_of(st.sampled_from((101, 201, 999)), odd),
                 "name": texts("OTHER"), "message": texts("no"), "reason": odd}  # fmt: skip
        refusal = {"csr": st.one_of(st.just(self.request), odd),
                   "error": st.one_of(st.fixed_dictionaries(error), odd)}  # fmt: skip
        able = {"supports_ip_sans": odd, "allowed_domains": odd, "provider_type": odd}
        shapes = {
            "certificates": st.lists(st.one_of(_partly(entry), odd), max_size=3),
            "request_errors": st.lists(st.one_of(_partly(refusal), odd), max_size=3),
            "capabilities": _partly(able),
        }
        said = {name: st.one_of(shape.map(json.dumps), odd.map(json.dumps), texts("[]", "{}"))
                for name, shape in shapes.items()}  # fmt: skip
        return st.fixed_dictionaries({}, optional=said)


def _partly(fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.fixed_dictionaries(dict(fields)),
        st.fixed_dictionaries({}, optional=dict(fields)),
    )


def test_every_field_of_a_certificates_provider(chaos: Chaos, trial: Trial) -> None:
    provider = Provider(trial)
    assert provider.says(certificates=json.dumps([provider.good])).active
    fuzz(chaos, "certificates", provider.drawn(), lambda said: provider.says(**said), full=90)


def test_certificates_that_lie(chaos: Chaos, trial: Trial) -> None:
    """Their extensions or version are none, or make them a CA's; some come in hundreds."""
    provider = Provider(trial)
    basic, other = ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.SUBJECT_KEY_IDENTIFIER
    twice = bytes.fromhex("0603551d0e"), bytes.fromhex("0603551d13")
    broken = x509.UnrecognizedExtension(basic, b"\xff\xff")
    authority = x509.BasicConstraints(ca=True, path_length=None)
    key_id = x509.UnrecognizedExtension(other, b"\x30\x00")
    plain = x509.BasicConstraints(ca=False, path_length=None)
    version = bytes.fromhex("a003020102"), bytes.fromhex("a003020105")
    several = {
        "broken": _certificate(provider.request, broken),
        "an authority's": _certificate(provider.request, authority),
        "doubled": _certificate(provider.request, plain, key_id).replace(*twice),
        "of version 6": _certificate(provider.request).replace(*version),
    }
    for name in chaos.part(sorted(several), quick=3):
        with chaos.case(PROMISE, name):
            lie = {**provider.good, "certificate": pem(several[name], "CERTIFICATE")}
            held = provider.says(certificates=json.dumps([lie]))
            assert not held.active
    with chaos.case(PROMISE, "hundreds"):
        provider.says(certificates=json.dumps([provider.good] * 200))
    for text in chaos.part(("certificates", "request_errors", "capabilities"), quick=3):
        with chaos.case(PROMISE, text):
            for megabyte in chaos.dice(text).sample(huge("[]"), 4):
                provider.says(**{text: megabyte})


def _certificate(request: str, *extensions: x509.ExtensionType) -> bytes:
    """Return a certificate for a request, in DER."""
    asked_for = x509.load_pem_x509_csr(request.encode())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ci.example.com")])
    now = datetime.now(timezone.utc)
    made = x509.CertificateBuilder(
        name, name, asked_for.public_key(), 7, now, now + timedelta(days=9)
    )
    for extension in extensions:
        made = made.add_extension(extension, critical=False)
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)
