"""What the tests of the packages share: a machine without the toolkit, a key, a mirror."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from gpu.inventory import GpuInventory
from gpu.orders import Order, fulfil
from gpu.toolkit import ToolkitWish, order_driver_tools, order_toolkit
from host import Layout

VERSIONS = ["1.20.1-1", "1.20.0-1", "1.18.2-1", "1.17.0-1"]
URL = "https://mirror.example/libnvidia-container/stable/deb"


def armoured(seed: bytes = b"1") -> str:
    body = b"\x04\0\0\0\0\x01" + hashlib.sha512(seed).digest() * 4
    packet = b"\x99" + len(body).to_bytes(2, "big") + body
    lines = base64.encodebytes(packet).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{lines}-----END PGP PUBLIC KEY BLOCK-----\n"


KEY = armoured()


def tree(layout: Layout) -> dict[str, tuple[int, int]]:
    """Every file but the fake's own: its inode and time of change."""
    mine = ("usr/bin", "memory.json", "calls.jsonl")
    return {
        str(path.relative_to(layout.root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in layout.root.rglob("*")
        if path.is_file() and not str(path.relative_to(layout.root)).startswith(mine)
    }


def write(layout: Layout, path: str, text: str | bytes) -> Path:
    file = layout.at(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def ensure_toolkit(layout: Layout, wish: ToolkitWish, progress: Callable[[str], None]) -> bool:
    """Order the toolkit and have it installed; True if it was."""
    return had(layout, order_toolkit(layout, wish, progress), wish.proxies)


def ensure_driver_tools(
    layout: Layout, seen: GpuInventory, progress: Callable[[str], None]
) -> bool:
    """Order nvidia-utils and have them installed; True if they were."""
    return had(layout, order_driver_tools(layout, seen, {}, progress), {})


def had(layout: Layout, order: Order | None, proxies: Mapping[str, str]) -> bool:
    """Have an order installed; False if there is none."""
    if order:
        fulfil(layout, order, proxies)
    return order is not None
