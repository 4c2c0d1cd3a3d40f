"""The catalogue knows every layer and option of wire/, and what each of their fields takes."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import pytest

import rawproto
from rawproto import wire
from rawproto.packets.catalogue import LAYERS, layer_entry
from rawproto.packets.shapes import REQUIRED, Form, Items, Scalar, Struct
from rawproto.wire.dns_rdata import RecordData
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import ICMPObject
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import IPv4Option
from rawproto.wire.ipv6_ext import ExtensionHeader
from rawproto.wire.ipv6_options import IPv6Option
from rawproto.wire.layer import Layer
from rawproto.wire.ndp_options import NDPOption
from rawproto.wire.rpt import RPTLong
from rawproto.wire.tcp_options import TCPOption

for module in pkgutil.iter_modules(wire.__path__):
    importlib.import_module(f"rawproto.wire.{module.name}")

FORMS = [(name, form) for name in LAYERS for form in layer_entry(name).forms]


def subclasses(kind: type) -> set[type]:
    """All the classes below one that can be made, generated twins of slots=True left out."""
    below = {each for direct in kind.__subclasses__() for each in ({direct} | subclasses(direct))}
    modules = {each: importlib.import_module(each.__module__) for each in below}
    return {each for each in below if getattr(modules[each], each.__name__, None) is each}


def structures(form: Form) -> set[object]:
    """The classes of a form's options, objects and records, however deep."""
    found: set[object] = set()
    for field in form.fields.values():
        shape = field.shape.item if isinstance(field.shape, Items) else field.shape
        if isinstance(shape, Struct):
            for inner in shape.forms.values():
                found |= {inner.make} | structures(inner)
    return found


def test_every_layer_of_the_wire_is_there() -> None:
    bases = {ExtensionHeader, RPTLong, ICMPExtensions}
    known = {form.make for _, form in FORMS}
    whole = {
        each
        for each in subclasses(Layer)
        if dataclasses.is_dataclass(each) and "__init__" in vars(each) and each not in bases
    }
    assert {each.__name__ for each in whole} == {each.__name__ for each in known}


@pytest.mark.parametrize("base", [IPv4Option, IPv6Option, TCPOption, NDPOption, ICMPObject])
def test_every_option_is_there(base: type) -> None:
    known = set().union(*(structures(form) for _, form in FORMS))
    assert subclasses(base) <= known


def test_every_kind_of_dns_record_is_there() -> None:
    answers = layer_entry("dns").forms[0].fields["answers"].shape
    assert isinstance(answers, Items)
    assert isinstance(answers.item, Struct)
    kinds = {
        "unknown" if k.__name__ == "UnknownData" else k.__name__ for k in subclasses(RecordData)
    }
    assert set(answers.item.forms) == kinds | {"OPT"}


def test_layers_of_the_catalogue_are_in_the_shop_window() -> None:
    names = {form.make.__name__ for name, form in FORMS if not name.startswith("rpt")}
    assert names <= set(rawproto.__all__)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_fields_are_those_of_the_class_with_its_widths_and_defaults(name: str, form: Form) -> None:
    kind = form.make
    assert tuple(form.fields) == tuple(field.name for field in dataclasses.fields(kind))
    layout = dict(kind.layout)
    for field in dataclasses.fields(kind):
        known = form.fields[field.name]
        assert known.default == field.default or known.default is REQUIRED
        assert known.computed == (field.name in kind.computed)
        if isinstance(known.shape, Scalar):
            assert known.shape.bits == layout.get(field.name)
            if field.name != "dscp":  # it has names that no reader of packets shows
                assert known.shape.names == kind.value_names.get(field.name, {})
            assert known.shape.flags == kind.flag_names.get(field.name)


def test_every_field_of_a_layer_says_what_it_means() -> None:
    silent = [f"{n}.{f.name}" for n, form in FORMS for f in form.fields.values() if not f.meaning]
    assert silent == []


def test_numbers_pick_the_form_and_any_other_the_unknown_one() -> None:
    icmp = layer_entry("icmp")
    assert icmp.form_for(11).make.__name__ == "ICMPTimeExceeded"
    assert icmp.form_for(8) is icmp.form_for(0) is icmp.forms[0]
    assert icmp.form_for(200).make.__name__ == "ICMPUnknown"
    assert icmp.selector_names[42] == "extended-echo-request"
    assert 160 not in icmp.selector_names, "that is ICMPv6's"


def test_meanings_come_from_the_docstrings() -> None:
    fields = layer_entry("ipv4").forms[0].fields
    assert fields["dscp"].meaning == "6 bits (RFC 2474)"
    assert layer_entry("ipv4").forms[0].title == "An IPv4 header (RFC 791)"
    assert IPv4Header.__doc__
