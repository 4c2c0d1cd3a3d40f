"""Answers of every kind: the kernel's ping answered by us, and ours by hosts that behave badly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rawproto import lab
from tests.live.pinging import say
from tests.live.responder import Request, Responder, Script

H2, H2_V6 = "10.99.1.2", "fd99:1::2"


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture(scope="module")
def h2(network: lab.Network) -> lab.LiveHost:
    return network.host("h2")


@pytest.mark.parametrize("address", [H2, H2_V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("frames", "size"),
    [(False, 56), (False, 1400), (False, 3000), (True, 56), (True, 1400)],
    ids=["raw", "raw-large", "raw-fragments", "frames", "frames-large"],
)
def test_the_kernels_ping_is_answered_by_us(
    frames: bool, size: int, address: str, h1: lab.LiveHost, h2: lab.LiveHost
) -> None:
    with Responder(h2, frames=frames):
        done = h1.run(["ping", "-n", "-c3", "-w10", "-i0.01", f"-s{size}", address], timeout=20)
    assert done.returncode == 0, done
    # More than it waits for may come at once, where we are slow and it has asked again.
    assert done.stdout.count(f"{size + 8} bytes from {address}: icmp_seq=") >= 3
    assert ", 0 received, " not in done.stdout
    assert "wrong data" not in done.stdout
    assert "DUP" not in done.stdout


def test_without_the_responder_its_kernel_keeps_silent(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    with Responder(h2, lambda request: []):
        said = say(h1, "-c1", "-W0.1", H2, H2_V6)
    assert said.out.count("100% packet loss") == 2
    assert say(h1, "-c1", H2, H2_V6).code == 0


def ping_of(script: Script, h1: lab.LiveHost, h2: lab.LiveHost, *words: str) -> list[dict]:
    """The JSON records of a ping to both addresses of a host that answers by a script."""
    with Responder(h2, script):
        return say(h1, "--json", *words, H2, H2_V6).records()


def told_of(address: str, records: list[dict]) -> tuple[list[dict], dict]:
    """(replies, summary) of one target."""
    mine = [record for record in records if record["target"] == address]
    return [record for record in mine if record["type"] == "reply"], mine[-1]


def counts_of(summary: dict) -> dict:
    """What in a summary is not as in a ping without incident."""
    names = ("received", "duplicates", "late", "reordered", "corrupted", "errors")
    return {name: summary[name] for name in names if summary[name]}


def test_second_answers_are_duplicates(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    records = ping_of(lambda request: [request.reply()] * 2, h1, h2, "-c3", "-i0.02", "-W5")
    for address in (H2, H2_V6):
        replies, summary = told_of(address, records)
        # Whether the last one's second answer is still heard is left open.
        assert [reply["duplicate"] for reply in replies][:5] == [False, True, False, True, False]
        assert counts_of(summary)["received"] == 3
        assert counts_of(summary)["duplicates"] in (2, 3)
        assert summary["loss_pct"] == 0


def holding_back(first: dict[str, Request]) -> Script:
    """Answers the first request of each sender behind (or before) its second."""

    def script(request: Request) -> list[bytes]:
        sender = request.datagram.src_addr
        if request.sequence_number == 1:
            first[sender] = request
            return []
        if request.sequence_number == 2:
            return [request.reply(), first[sender].reply()]
        return [request.reply()]

    return script


def test_overtaken_answers_are_reordered(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    records = ping_of(holding_back({}), h1, h2, "-c3", "-i0.05", "-W5")
    for address in (H2, H2_V6):
        replies, summary = told_of(address, records)
        assert [(one["sequence_number"], one["reordered"]) for one in replies] == [
            (2, False),
            (1, True),
            (3, False),
        ]
        assert counts_of(summary) == {"received": 3, "reordered": 1}
        # It was asked for earlier and came later.
        assert replies[1]["rtt_ms"] > replies[0]["rtt_ms"]


def test_answers_after_the_timeout_are_late_and_no_loss(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    records = ping_of(holding_back({}), h1, h2, "-c3", "-i1.5", "-W1")
    for address in (H2, H2_V6):
        replies, summary = told_of(address, records)
        assert [one["sequence_number"] for one in replies if one["late"]] == [1]
        lost = [one for one in records if one["type"] == "lost" and one["target"] == address]
        assert [one["sequence_number"] for one in lost] == [1]
        assert counts_of(summary) == {"received": 3, "late": 1, "reordered": 1}
        assert summary["loss_pct"] == 0


def test_a_flipped_byte_is_found_and_shown(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    def script(request: Request) -> list[bytes]:
        payload = bytearray(request.payload)
        payload[20] ^= 0xFF
        return [request.reply(bytes(payload))]

    with Responder(h2, script):
        said = say(h1, "-n", "-c1", H2, H2_V6)
    assert said.out.count("wrong data byte #20 should be 0x14 but was 0xeb\n") == 2
    assert said.out.count("1 received, +1 corrupted, 0% packet loss") == 2


def test_an_answer_cut_short_or_drawn_out_is_told(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    def script(request: Request) -> list[bytes]:
        payload = request.payload
        return [request.reply(payload[:9] if request.sequence_number == 1 else payload + b"more")]

    with Responder(h2, script):
        said = say(h1, "-n", "-c2", "-i0.01", "-W5", H2, H2_V6)
    for address in (H2, H2_V6):
        first, second = (line for line in said.lines if f" from {address}: " in line)
        assert first.startswith("17 bytes from ")
        assert first.endswith(" (truncated)")
        assert second.startswith("68 bytes from ")
        assert second.endswith(" (4 bytes too many)")


def test_an_answer_with_a_bad_checksum_is_none(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    def script(request: Request) -> list[bytes]:
        return [request.reply(checksum=0xBAD)]

    records = ping_of(script, h1, h2, "-c1", "-W1.5")
    replies, summary = told_of(H2, records)
    assert [reply["corrupted"] for reply in replies] == [True]
    assert counts_of(summary) == {"corrupted": 1}
    assert summary["loss_pct"] == 100
    # For IPv6 the kernel keeps such packets from everybody (RFC 3542 section 3.1).
    replies, summary = told_of(H2_V6, records)
    assert (replies, counts_of(summary)) == ([], {})


def test_answers_to_questions_that_were_not_asked_count_for_nothing(
    h1: lab.LiveHost, h2: lab.LiveHost
) -> None:
    def script(request: Request) -> list[bytes]:
        return [
            request.reply(sequence_number=request.sequence_number + 1000),
            request.reply(identifier=request.identifier ^ 1),
            request.reply(b"", code=9),
        ]

    records = ping_of(script, h1, h2, "-c1", "-W5")
    for address in (H2, H2_V6):
        replies, _ = told_of(address, records)
        assert [reply["bytes"] for reply in replies] == [8], "the code of a reply says nothing"


def test_packets_doubled_in_the_network_are_duplicates_too(
    h1: lab.LiveHost, h2: lab.LiveHost
) -> None:
    rules = """
        table ip doubling {
            chain out {
                type filter hook output priority 0;
                icmp type echo-reply dup to 10.99.1.1 device "eth0"
            }
        }
        """
    h2.run(["nft", "-f", "-"], input=rules, check=True)
    try:
        said = say(h1, "--json", "-c2", "-i0.02", "-W5", H2)
    finally:
        h2.run(["nft", "flush", "ruleset"], check=True)
    replies, summary = told_of(H2, said.records())
    assert [reply["duplicate"] for reply in replies][:3] == [False, True, False]
    assert summary["duplicates"] >= 1
