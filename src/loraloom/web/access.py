"""Who may ask this server: credentials, and the hosts and origins that requests may name."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import Scope

from loraloom.errors import SettingsError

LOCAL = ("127.0.0.1", "localhost", "::1")
_COOKIES = 16  # of one name that are looked at: browsers send those of longer paths first
_LOGINS = 256  # kept at once; the oldest goes first
_LOGIN_SECONDS = 30 * 24 * 3600
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Access:
    """The rules of one server. Without credentials everybody who reaches it may ask."""

    user: str | None = None
    password: str | None = None
    hosts: frozenset[str] = frozenset(LOCAL)  # names that requests may call this server by
    addresses: bool = False  # any numeric address too: no name, so no foreign page can have it rebound
    origins: frozenset[str] = frozenset()  # of pages elsewhere that may use the API: "https://example.org"

    @classmethod
    def of(
        cls,
        *,
        host: str = LOCAL[0],
        auth: str | None = None,
        insecure: bool = False,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
    ) -> "Access":
        """The rules for a server bound to `host`. Raises SettingsError for one that everybody could use, and for names that are none."""
        local = host in LOCAL
        if not local and auth is None and not insecure:
            raise SettingsError(
                f"refused to listen on {host} without a password: everybody who reaches it could use this computer. Give "
                "--api-auth user:password, or --insecure if something else keeps strangers out"
            )
        user, password = _credentials(auth)
        names = {*LOCAL, *map(_host_name, hosts), *(() if _is_address(host) else (host.lower(),))}
        return cls(user, password, frozenset(names), not local, frozenset(map(_origin, origins)))

    @property
    def closed(self) -> bool:
        """Requests need credentials."""
        return self.user is not None

    def knows(self, user: str, password: str) -> bool:
        """Whether these are the credentials; takes the same time for every wrong answer."""
        if self.user is None or self.password is None:
            return False
        right_user = hmac.compare_digest(_digest(user), _digest(self.user))
        right_password = hmac.compare_digest(_digest(password), _digest(self.password))
        return right_user & right_password

    def allows_host(self, header: str) -> bool:
        """Whether a Host header names this server; anything else is a name that was rebound to its address."""
        found = _HOST.fullmatch(header)
        if not found:
            return False
        name = found["name"].strip("[]").lower().removesuffix(".")
        return name in self.hosts or (self.addresses and _is_address(name))

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may change something: this server's own pages, and those that were named."""
        return origin in self.origins or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


class Logins:
    """Who has logged in: random tokens, forgotten after a month and when the server stops."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def begin(self) -> str:
        token = secrets.token_urlsafe(32)
        self._until[token] = time.monotonic() + _LOGIN_SECONDS
        while len(self._until) > _LOGINS:
            self._until.popitem(last=False)
        return token

    def knows(self, token: str) -> bool:
        return self._until.get(token, 0.0) > time.monotonic()


def cookie_name(scope: Scope) -> str:
    """Of this server's own: browsers keep the cookies of all ports of a host together, and another loraloom may be one of them."""
    port = scope["server"][1] if scope.get("server") else None
    return f"loraloom_session_{port or 0}"


def cookies(headers: Iterable[str], name: str) -> tuple[str, ...]:
    """The values of the cookies of this name. Those of other programs are passed over, whatever they are."""
    pairs = [pair.partition("=") for header in headers for pair in header.split(";")]
    return tuple(value.strip().strip('"') for found, _, value in pairs if found.strip() == name)[:_COOKIES]


def basic(header: str) -> tuple[tuple[str, str], ...]:
    """User and password of an Authorization header, as UTF-8 and as Latin-1, as clients write either; empty for any other header."""
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return ()
    try:
        content = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return ()
    texts = dict.fromkeys(content.decode(encoding, errors="replace") for encoding in ("utf-8", "latin-1"))
    pairs = [text.partition(":") for text in texts]
    return tuple((user, password) for user, colon, password in pairs if colon)


def _credentials(auth: str | None) -> tuple[str | None, str | None]:
    if auth is None:
        return None, None
    user, colon, password = auth.partition(":")
    if not (colon and user and password):
        raise SettingsError("--api-auth: write user:password, both of them not empty")
    return user, password


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(text: str) -> str:
    found = _HOST.fullmatch(text)
    if not found or "*" in text:
        raise SettingsError(f"--allow-host {text}: not a host name; write one such as images.example.org")
    return found["name"].strip("[]").lower()


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
        raise SettingsError(f"--allow-origin {text}: not an origin; write scheme and host, such as https://example.org")
    return f"{parts.scheme}://{parts.netloc}".lower()
