"""An opener for http and https that goes through given proxies alone.

urllib's own ProxyHandler reads `no_proxy` from this process' environment; in a
hook that is Juju's, while the charm hands the model's settings over itself.
"""

from __future__ import annotations

import base64
import ipaddress
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit


class _Proxies(urllib.request.BaseHandler):
    """Sends requests through the given proxies; urllib's own handler reads os.environ."""

    handler_order = 100  # before the handlers that connect

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._proxies = {name.lower(): value.strip() for name, value in proxies.items()}

    def http_open(self, request: urllib.request.Request) -> None:
        """Choose the proxy of an http request; answers nothing itself."""
        self._choose(request)

    def https_open(self, request: urllib.request.Request) -> None:
        """Choose the proxy of an https request; answers nothing itself."""
        self._choose(request)

    def _choose(self, request: urllib.request.Request) -> None:
        proxy = self._proxies.get(f"{request.type}_proxy", "")
        if not proxy or self._bypasses(request.host):
            return
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            token = base64.b64encode(login.encode()).decode()
            request.add_unredirected_header("Proxy-Authorization", f"Basic {token}")
        request.set_proxy(parts.netloc.rpartition("@")[2], "http")

    def _bypasses(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "").lower()
        listed = self._proxies.get("no_proxy", "").lower().split(",")
        return any(_covers(entry.strip(), name) for entry in listed if entry.strip())


def _covers(entry: str, name: str) -> bool:
    """Return whether an entry of no_proxy is about a host: *, a name, a suffix, a network."""
    if entry == "*":
        return True
    if "/" in entry:
        with suppress(ValueError):
            return ipaddress.ip_address(name) in ipaddress.ip_network(entry, strict=False)
        return False
    bare = (entry if entry.count(":") > 1 else entry.partition(":")[0]).lstrip(".")
    return name == bare or name.endswith(f".{bare}")


def opener_through(proxies: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone, redirects included.

    Args:
        proxies: `http_proxy`, `https_proxy` and `no_proxy` (names, suffixes, addresses,
            networks such as 10.0.0.0/8), as far as set.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Proxies(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
