"""The web's certificate, over `certificates` (interface tls-certificates).

Canonical's own library speaks the interface: for each web unit a private key in a Juju
secret of its own, a request in the unit's databag, another one before the certificate
expires.  It is imported only where there is such a relation, as cryptography and pydantic
take a good part of a second.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import ops

import peers
import web_address
from concourse.web import Tls
from options import InvalidOption
from words import shown

if TYPE_CHECKING:
    from charmlibs.interfaces.tls_certificates import (
        CertificateRequestAttributes,
        ProviderCapabilities,
        ProviderCertificate,
        TLSCertificatesRequiresV4,
    )

RELATION = "certificates"
_LONGEST_COMMON_NAME = 64  # characters (RFC 5280, A.1: ub-common-name)
_FIELDS = ("certificates", "request_errors", "capabilities")  # of the provider, in JSON
# RecursionError comes of JSON that is nested too deeply.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_NO_ADDRESSES = 101  # the interface's code for a request that names addresses


@dataclass(frozen=True)
class TlsTrouble:
    """Why there is no certificate to use.

    Attributes:
        message: one sentence for the status.
        blocked: whether somebody has to do something about it.
    """

    message: str
    blocked: bool = True


class Certificates:
    """One unit's certificate.  To be made before the charm observes the relation's events.

    Args:
        charm: the charm.
    """

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm
        self._requirer: TLSCertificatesRequiresV4 | None = None
        self._flaw = ""
        self._related = False
        if _is_idle(charm):
            return
        relation = next(iter(charm.model.relations[RELATION]), None)
        self._provider = relation.app.name if relation and relation.app else "the provider"
        self._related = relation is not None
        # While a relation is being broken ops has it no more; the library tidies up then.
        is_here = relation is not None or os.environ.get("JUJU_RELATION") == RELATION
        if not is_here or not _is_readable(charm.config):
            return
        if relation and relation.app:
            self._flaw = _flaw(relation.data[relation.app])
        if not self._flaw:
            self._requirer = _requirer(charm, self._requests)

    def request(self) -> None:
        """Ask for a certificate for the names of today, or for none; asking again is nothing."""
        if self._requirer:
            self._requirer.sync()

    def read(self) -> Tls | TlsTrouble | None:
        """Return the certificate and its key, or why there is none; None if none is wanted.

        A trouble says nothing about a certificate that was read before: a web goes on with
        the one that it has.
        """
        if not _is_wanted(self._charm):
            return None
        endpoint = f"{self._charm.app.name}:{RELATION}"
        if not self._related:
            remedy = f"juju relate {endpoint} PROVIDER:certificates"
            return TlsTrouble(f"tls-enabled=true, but no certificate: {remedy}")
        if self._flaw or self._requirer is None:
            return TlsTrouble(f"{self._provider} gives {endpoint} no usable data: {self._flaw}")
        requests = self._requests(self._requirer.get_provider_capabilities())
        if not requests:
            return TlsTrouble(f"{self._provider} signs no addresses: {_NAME_REMEDY}")
        given, key = self._requirer.get_assigned_certificate(requests[0])
        if given is None or key is None:
            return self._refusal() or TlsTrouble(
                f"Waiting for {self._provider} to sign the web's certificate", blocked=False
            )
        return self._gone(given) or Tls(_chain(given), str(key))

    def _requests(
        self, capabilities: ProviderCapabilities | None
    ) -> list[CertificateRequestAttributes]:
        """Return what is asked for: external-url's host and the unit's own address."""
        from charmlibs.interfaces.tls_certificates import CertificateRequestAttributes

        if not _is_wanted(self._charm):
            return []
        host = web_address.external_host(self._charm.config)
        names = [name for name in (host, web_address.of_unit(self._charm)) if name]
        addresses = {str(found) for name in names if (found := _address(name))}
        dns = {name for name in names if not _address(name)}
        if capabilities and capabilities.supports_ip_sans is False:
            addresses = set()
        if not dns | addresses:
            return []
        first = next(name for name in (*sorted(dns), *sorted(addresses)))
        fits = len(first) <= _LONGEST_COMMON_NAME
        return [
            CertificateRequestAttributes(
                common_name=first if fits else None, sans_dns=dns, sans_ip=addresses
            )
        ]

    def _refusal(self) -> TlsTrouble | None:
        """Return what the provider said of this unit's request, if it refused it."""
        if self._requirer is None:
            return None
        mine = {
            str(asked.certificate_signing_request)
            for asked in self._requirer.get_csrs_from_requirer_relation_data()
        }
        for refused in self._requirer.get_request_errors():
            if str(refused.certificate_signing_request) in mine:
                error = refused.error
                why = shown(error.message, 120)
                remedy = f": {_NAME_REMEDY}" if error.code == _NO_ADDRESSES else ""
                message = f"{self._provider} refused the web's certificate ({why}){remedy}"
                return TlsTrouble(message, blocked=not 200 <= error.code < 300)
        return None

    def _gone(self, given: ProviderCertificate) -> TlsTrouble | None:
        """Return why a certificate can't be used any more."""
        remedy = f"see juju status {self._provider}"
        if given.revoked:
            return TlsTrouble(f"{self._provider} has revoked the web's certificate: {remedy}")
        ends = given.certificate.expiry_time
        if ends <= datetime.now(timezone.utc):
            when = f"{ends:%Y-%m-%d %H:%M} UTC"
            return TlsTrouble(f"The web's certificate expired on {when}: {remedy}")
        return None


_NAME_REMEDY = "set external-url to an https address with a name"


def _requirer(
    charm: ops.CharmBase,
    requests: Callable[[ProviderCapabilities | None], list[CertificateRequestAttributes]],
) -> TLSCertificatesRequiresV4:
    from charmlibs.interfaces.tls_certificates import TLSCertificatesRequiresV4

    return TLSCertificatesRequiresV4(charm, RELATION, certificate_requests=requests)


def _is_wanted(charm: ops.CharmBase) -> bool:
    """Return whether this unit's web is to have a certificate."""
    mode = charm.config["deployment-mode"]
    is_web = mode in ("web", "all")
    is_web |= mode == "auto" and peers.web_unit(charm) == charm.unit.name
    return is_web and bool(charm.config["tls-enabled"])


def _is_idle(charm: ops.CharmBase) -> bool:
    """Return whether neither this unit nor the event has to do with a certificate.

    One that is wanted no more is given up in the hook that says so.
    """
    return os.environ.get("JUJU_DISPATCH_PATH") == "hooks/update-status" and not _is_wanted(charm)


def _is_readable(config: ops.ConfigData) -> bool:
    """Return whether the options are; what was asked for stays while they aren't."""
    try:
        web_address.external_url(config)
    except InvalidOption:
        return False
    return True


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _chain(given: ProviderCertificate) -> str:
    """Return a certificate with the rest of its chain behind it, whichever way that was given."""
    chain = [str(one) for one in given.chain]
    leaf = str(given.certificate)
    if chain[-1:] == [leaf]:
        chain.reverse()
    return "\n".join([leaf, *(one for one in chain if one != leaf)])


def _flaw(bag: ops.RelationDataContent) -> str:
    """Return what can't be read of a provider's data, which the library would fail at."""
    from charmlibs.interfaces import tls_certificates as library
    from cryptography import x509

    where = ""
    said: dict[str, Any] = {}
    try:
        for where in _FIELDS:
            said[where] = json.loads(bag.get(where, "[]"))
        for number, entry in enumerate(said["certificates"], start=1):
            where = f"certificate {number}"
            for pem in (entry["certificate"], entry["ca"], *(entry.get("chain") or ())):
                _ = library.Certificate.from_string(pem).is_ca  # reads all extensions
            library.CertificateSigningRequest.from_string(entry["certificate_signing_request"])
        for number, entry in enumerate(said["request_errors"], start=1):
            where = f"request error {number}"
            with suppress(library.TLSCertificatesError):  # the library leaves it out
                library.CertificateSigningRequest.from_string(entry["csr"])
    except (
        *_UNREADABLE,
        library.TLSCertificatesError,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        return f"{where}: {shown(str(error) or type(error).__name__, 80)}"
    return ""
