"""A packet as one JSON object: what `decode --json` and `craft --json` write a line of.

::

    {"number": 1, "time_ns": 1700000000123456789, "captured_length": 47, "original_length": 47,
     "layers": [{"layer": "ipv4", "class": "IPv4Header", "version": 4, ...,
                 "src_addr": "10.0.0.1", "dst_addr": "10.0.0.2", "checksum_valid": true}, ...],
     "undecoded_bytes": "68656c6c6f", "trailer": "", "damage": null}

Layers are `wire.show.fields`: named after their modules in `wire/`, their fields after
the classes'. Bytes are hexadecimal. It knows no stream: `type` and `schema` in front are
the writer's.
"""

from __future__ import annotations

from typing import Any

from rawproto.capture.packet import CapturedPacket
from rawproto.packets.reassembly import FragmentTrouble, Reassembled
from rawproto.wire.dissect import RAW, Dissection, checksums, dissect
from rawproto.wire.show import fields
from rawproto.wire.words import field_names

__all__ = ["packet_fields", "trouble_fields"]


def packet_fields(
    number: int,
    captured: CapturedPacket,
    found: Dissection,
    *,
    interface: str = "",
    whole: Reassembled | None = None,
) -> dict[str, Any]:
    """One packet as JSON can carry it.

    A layer that has a checksum says beside it in `checksum_valid` whether it is right;
    None is where none is carried or not all that it covers is there. `undecoded_bytes` is
    what is left inside the innermost layer, `trailer` what stands behind all that the
    layers' lengths cover. The offset of `damage` counts from the beginning of its layer.

    Args:
        number: of the packet in its file or run, from 1 on.
        captured: when it was seen, and how long it was; a made one will do.
        found: what `dissect` made of its data.
        interface: name of where it was seen; "" leaves the key out, as it is with the
            direction and the comment that few captures tell.
        whole: the packet of fragments that this one completed, told under `reassembled`.
    """
    packet: dict[str, Any] = {
        "number": number,
        "time_ns": captured.time_ns,
        "captured_length": len(captured.data),
        "original_length": captured.original_length,
        **_inside(found),
    }
    for name, value in (
        ("interface", interface),
        ("direction", captured.direction),
        ("comment", captured.comment),
    ):
        if value:
            packet[name] = value
    if whole is not None:
        inside = _inside(dissect(whole.packet, RAW))
        packet["reassembled"] = {"fragments": whole.fragments, **inside}
    return packet


def trouble_fields(trouble: FragmentTrouble) -> dict[str, Any]:
    """Why fragments could not be put together, as JSON can carry it; `words` says it all."""
    return {
        **{name: getattr(trouble, name) for name in field_names(trouble)},
        "words": str(trouble),
    }


def _inside(found: Dissection) -> dict[str, Any]:
    layers = [fields(layer) for layer in found.layers]
    for index, valid in checksums(found):
        layers[index]["checksum_valid"] = valid
    damage = found.damage
    return {
        "layers": layers,
        "undecoded_bytes": found.payload.hex(),
        "trailer": found.trailer.hex(),
        "damage": damage
        and {"layer": damage.layer, "offset": damage.offset, "reason": damage.reason},
    }
