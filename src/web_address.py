"""Where a web is reached: the unit's own address, and what external-url says."""

from __future__ import annotations

from urllib.parse import urlsplit

import ops

import peers
from options import InvalidOption, text
from words import shown


def of_unit(charm: ops.CharmBase) -> str:
    """Return where workers, the other webs and, without external-url, users reach this unit."""
    binding = charm.model.get_binding(peers.RELATION)
    address = binding.network.ingress_address if binding else None
    return str(address or "127.0.0.1")


def url(address: str, port: int, *, tls: bool) -> str:
    """Return an address as users type it."""
    host = f"[{address}]" if ":" in address else address
    scheme, usual = ("https", 443) if tls else ("http", 80)
    return f"{scheme}://{host}" + ("" if port == usual else f":{port}")


def external_url(config: ops.ConfigData) -> str:
    """Return external-url; "" if it is empty.

    Raises:
        InvalidOption: it is no http(s) address, or none that a certificate could be for.
    """
    found = text(config, "external-url", r"(https?://[^\s\"'\\,]{1,500})?", "an http(s) address")
    host = _host(found)
    if found and (not host or "%" in host):  # no browser knows an address' zone
        raise InvalidOption(f"external-url={shown(found)} is not an http(s) address")
    if found and config["tls-enabled"] and not found.startswith("https:"):
        raise InvalidOption(
            f"external-url={shown(found)} is not an https address: tls-enabled is true"
        )
    if not host.isascii():
        raise InvalidOption(f"external-url={shown(found)}: write its host in ASCII, as xn--...")
    return found.rstrip("/")


def external_host(config: ops.ConfigData) -> str:
    """Return the host of external-url, in lower case; "" if it is empty.

    Raises:
        InvalidOption: as `external_url`.
    """
    return _host(external_url(config))


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
