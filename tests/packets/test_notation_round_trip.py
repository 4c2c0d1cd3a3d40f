"""Every field of every layer, written in the notation, is what its class is given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawproto.errors import EmitError
from rawproto.packets.catalogue import LAYERS, layer_entry
from rawproto.packets.notation import NotationError, craft
from rawproto.packets.python import python_code
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Packet
from tests.packets.writing import layers

FORMS = [
    pytest.param(name, number, id=f"{name}-{form.make.__name__}")
    for name in LAYERS
    for number, form in enumerate(layer_entry(name).forms)
]


def emitted(packet: Packet) -> bytes | str:
    """The bytes, or why there are none."""
    try:
        return packet.emit()
    except EmitError as error:
        return str(error)


def runs(code: str) -> Packet:
    names: dict[str, Any] = {}
    exec(code, names)
    return names["packet"]


@pytest.mark.parametrize(("name", "number"), FORMS)
@settings(max_examples=15, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_fields_written_are_the_fields_of_the_class(
    name: str, number: int, data: st.DataObject
) -> None:
    entry = layer_entry(name)
    text, layer = data.draw(layers(entry, entry.forms[number]))
    v6 = name.startswith(("ipv6", "icmpv6"))
    outer = IPv6Header() if v6 else IPv4Header()
    meant = Packet((outer, layer, b"data"))
    try:
        (packet,) = craft(f"{outer.layer} / {text} / text:data")
    except NotationError:
        # Only what can't be put on the wire is refused; the class refuses it too.
        with pytest.raises(EmitError):
            meant.emit()
        return
    assert packet == meant
    assert emitted(packet) == emitted(meant)
    assert emitted(runs(python_code([packet]))) == emitted(meant)
