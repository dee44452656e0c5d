"""Who may do what: bearer tokens with roles, and the rule that nothing listens to the world without one."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from ..errors import ArgumentError

__all__ = ["ENVIRONMENT", "Role", "Tokens", "is_loopback"]

Role = Literal["read", "write"]
#: Where tokens are looked for, besides a file.
ENVIRONMENT: dict[str, Role] = {"KYORI_READ_TOKEN": "read", "KYORI_WRITE_TOKEN": "write"}
_SHORTEST = 16
_LONGEST = 512


class Tokens:
    """The tokens that a server knows; only their digests are kept, and no text of it shows one.

    Args:
        pairs: ``(role, token)``; a token has 16 to 512 printable ASCII characters without spaces. ``write`` includes
            ``read``.

    Raises:
        ArgumentError: A role is unknown, or a token is too short, too long, given twice or holds other characters.

    >>> tokens = Tokens([("read", "only-for-looking-1")])
    >>> tokens.role("only-for-looking-1"), tokens.role("something else")
    ('read', None)
    >>> tokens
    Tokens(1 read, 0 write)
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()):
        self._digests: dict[bytes, Role] = {}
        for number, (role, token) in enumerate(pairs, 1):
            if role not in ("read", "write"):
                raise ArgumentError(f"token {number}: the role must be read or write; got {role[:20]!r}.")
            if not (_SHORTEST <= len(token) <= _LONGEST and token.isascii() and token.isprintable()) or set(
                token
            ) & set(" \"'"):
                raise ArgumentError(
                    f"token {number} must have {_SHORTEST} to {_LONGEST} printable ASCII characters without spaces"
                    f" and quotes; got {len(token)} characters. Make one with: python -c"
                    ' "import secrets; print(secrets.token_urlsafe(32))"'
                )
            digest = _digest(token.encode())
            if digest in self._digests:
                raise ArgumentError(f"token {number} is there twice; each token has one role.")
            self._digests[digest] = "write" if role == "write" else "read"

    @classmethod
    def gather(cls, file: str | Path | None = None, environment: Mapping[str, str] | None = None) -> Tokens:
        """Read tokens from a file of lines ``read TOKEN`` or ``write TOKEN``, and from the variables KYORI_READ_TOKEN
        and KYORI_WRITE_TOKEN. A line that begins with ``#`` is a comment.

        Raises:
            ArgumentError: The file cannot be read, or a line or token is wrong; the message never shows the token.
        """
        environment = os.environ if environment is None else environment
        pairs = [(role, environment[name]) for name, role in ENVIRONMENT.items() if environment.get(name)]
        return cls(pairs + ([] if file is None else _lines(Path(file))))

    def __len__(self) -> int:
        return len(self._digests)

    def __repr__(self) -> str:
        roles = list(self._digests.values())
        return f"Tokens({roles.count('read')} read, {roles.count('write')} write)"

    def role(self, token: str | bytes) -> Role | None:
        """Return what a token allows, in a time that does not depend on which characters of it are right."""
        asked = _digest(token.encode(errors="surrogateescape") if isinstance(token, str) else token)
        found: Role | None = None
        for digest, role in self._digests.items():  # all of them, wherever the right one stands
            if hmac.compare_digest(digest, asked):
                found = role
        return found


def _digest(token: bytes) -> bytes:
    # Tokens are long and random, so that a plain hash is enough; it makes all lengths equal for the comparison.
    return hashlib.sha256(token).digest()


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ArgumentError(f"the file of tokens {path} cannot be read: {reason}.") from None
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        words = [] if line.lstrip().startswith("#") else line.split()
        if not words:
            continue
        if len(words) != 2:
            raise ArgumentError(
                f"{path}, line {number}: expected 'read TOKEN' or 'write TOKEN'; got {len(words)} words."
            )
        pairs.append((words[0], words[1]))
    return pairs


def is_loopback(host: str) -> bool:
    """Return whether a host name or address reaches this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    name = host.strip("[]")
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
