"""What a program says of keys, where it must not fail: amid packets of others."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from rawproto.errors import HandshakeError, RawprotoError

__all__ = ["careful_authorize", "careful_trust"]


def careful_trust(
    trust: Callable[[bytes], RawprotoError | None],
) -> Callable[[bytes], RawprotoError | None]:
    """A judgement that fails is a refusal: it must not end in whatever thread pumps."""

    def judge(key: bytes) -> RawprotoError | None:
        try:
            return trust(key)
        except RawprotoError as error:
            return error
        except Exception as error:
            refused = HandshakeError(f"trust failed: {error}")
            refused.__cause__ = error
            return refused

    return judge


def careful_authorize(authorize: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    """Likewise."""

    def judge(key: bytes) -> bool:
        try:
            return authorize(key)
        except Exception as error:
            warnings.warn(f"authorize failed: {error!r}", RuntimeWarning, stacklevel=2)
            return False

    return judge
