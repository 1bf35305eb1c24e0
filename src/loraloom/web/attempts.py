"""Wrong passwords: how many may be tried, of one client and of all together.

What is tried beyond that is not looked at, so that many guesses at once are no faster than one after the other. Who is logged in by cookie
is not asked for a password, and whoever gave the right one before does not wait for strangers.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

CLIENT = (20, 1.0)  # wrong ones at once, and a second from then on
STRANGERS = (200, 5.0)  # the same of all together who never gave a right one
_CLIENTS = 10_000  # that are remembered; the oldest go first

Value = TypeVar("Value")


@dataclass
class _Bucket:
    """Filled by wrong attempts, emptied by time."""

    room: int
    rate: float  # a second
    level: float = 0.0
    seen: float = 0.0

    def seconds(self, now: float) -> float:
        """Until there is room for one more."""
        self.level, self.seen = max(0.0, self.level - (now - self.seen) * self.rate), now
        return max(0.0, (self.level + 1 - self.room) / self.rate)


class Attempts:
    """For one event loop: what `seconds` allows is tried before anything else is asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, _Bucket] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._strangers = _Bucket(*STRANGERS)

    def seconds(self, client: str) -> float:
        """Until this client may try again; 0 if it may now."""
        now, strangers = self._clock(), 0.0
        if client not in self._known:
            strangers = self._strangers.seconds(now)
        mine = self._clients.get(client)
        return max(strangers, mine.seconds(now) if mine else 0.0)

    def wrong(self, client: str) -> None:
        """What it tried was wrong."""
        now = self._clock()
        counted = [_kept(self._clients, client, _Bucket(*CLIENT))]
        if client not in self._known:
            counted.append(self._strangers)
        for bucket in counted:
            bucket.seconds(now)
            bucket.level += 1

    def right(self, client: str) -> None:
        """What it tried was right."""
        _kept(self._known, client, None)


def client_of(address: str, forwarded: str = "") -> str:
    """Who asks: an address, or the network that one person has of IPv6. Behind a proxy on this computer, the last that it names: only
    programs of this computer can choose that themselves, and all together stay limited."""
    try:
        ip = ipaddress.ip_address(address)
        if ip.is_loopback and forwarded:
            ip = ipaddress.ip_address(forwarded.rpartition(",")[2].strip())
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)


def _kept(kept: OrderedDict[str, Value], client: str, fresh: Value) -> Value:
    found = kept.setdefault(client, fresh)
    kept.move_to_end(client)
    while len(kept) > _CLIENTS:
        kept.popitem(last=False)
    return found
