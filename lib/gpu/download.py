"""Fetches one small file, bounded in time and size, through the model's proxies."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections.abc import Mapping
from urllib.error import HTTPError, URLError

from gpu.errors import GpuError
from proxies import opener_through

_LIMIT = 60.0
_STEP_LIMIT = 20.0
_LARGEST = 256 * 1024


def fetch(url: str, proxies: Mapping[str, str]) -> bytes:
    """Return what lies at an address; at most 256 KiB, within a minute.

    Args:
        url: an http, https or file address.
        proxies: http_proxy, https_proxy, no_proxy.

    Raises:
        GpuError: it can't be had in time, or is too large.
    """
    deadline = time.monotonic() + _LIMIT
    opener = opener_through(proxies)
    opener.add_handler(urllib.request.FileHandler())  # an air-gapped site's mirror on disk
    data = b""
    try:
        with opener.open(url, timeout=_STEP_LIMIT) as answer:
            while chunk := answer.read1(16384):
                data += chunk
                if len(data) > _LARGEST:
                    raise GpuError(f"{url} is larger than any key", retry=True)
                if time.monotonic() > deadline:
                    raise GpuError(f"{url} did not arrive within {_LIMIT:g} s", retry=True)
    except HTTPError as error:
        raise _unreachable(url, error) from None
    except URLError as error:
        raise _unreachable(url, error.reason) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, error) from None
    return data


def _unreachable(url: str, why: object) -> GpuError:
    remedy = "check the network and the model's proxies, or set nvidia-repository-key"
    return GpuError(f"{url} can't be had ({why})", retry=True, remedy=remedy)
