"""decode and RPT: what a key log opens, over both carriers, in each form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rawproto.wire.rpt_frames import StreamFrame, parse_frames
from tests.cli.decoding import Decoder
from tests.rpt_talk import CARRIERS, QUESTION, Talk, save, talk


@pytest.fixture
def decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Decoder:
    return Decoder(tmp_path, capsys)


@pytest.fixture(scope="module")
def said() -> Talk:
    return talk()


@pytest.fixture
def key_log(tmp_path: Path, said: Talk) -> Path:
    path = tmp_path / "keys"
    path.write_text(said.key_log)
    return path


@pytest.mark.parametrize("carrier", CARRIERS)
def test_lines_show_the_frames_with_a_key_log_and_none_without(
    carrier: str, decode: Decoder, said: Talk, key_log: Path
) -> None:
    path = save(decode.directory, said, carrier)
    sealed = decode("-t", path)
    opened = decode("-t", "--keylog", key_log, path)
    assert (sealed.code, opened.code, opened.err) == (0, 0, "")
    assert len(sealed.lines) == len(said.packets)
    for sent, before, after in zip(said.packets, sealed.lines, opened.lines, strict=True):
        assert " RPT " in before
        assert after.split(" | ")[0] == before
        assert (" | " in after) == bool(sent.meant)
    question = next(
        line
        for sent, line in zip(said.packets, opened.lines, strict=True)
        if QUESTION in sent.meant
    )
    assert f" | STREAM 0 0:{len(QUESTION)}" in question


@pytest.mark.parametrize("carrier", CARRIERS)
def test_secrets_inside_a_capture_open_it_and_no_other(
    carrier: str, decode: Decoder, said: Talk
) -> None:
    keyed = save(decode.directory, said, carrier, keys=said.key_log)
    plain = save(decode.directory, said, carrier, name="plain.pcapng")
    shorts = sum(bool(sent.meant) for sent in said.packets)
    assert decode(keyed).out.count(" | ") == shorts
    assert decode(plain).out.count(" | ") == 0
    assert decode(keyed, plain).out.count(" | ") == shorts


@pytest.mark.parametrize("carrier", CARRIERS)
def test_json_has_every_frame_as_its_sender_meant_it(
    carrier: str, decode: Decoder, said: Talk, key_log: Path
) -> None:
    run = decode("--json", "--keylog", key_log, save(decode.directory, said, carrier))
    for sent, line in zip(said.packets, run.lines, strict=True):
        record = json.loads(line)
        assert record["layers"][-1]["layer"] == "rpt"
        told = record["rpt"]
        assert told["sender"] == ("client" if sent.from_client else "listener")
        if not sent.meant:
            assert (told["opened"], told["sealed"]) == (None, None)
            continue
        assert told["sealed"] is None
        opened = told["opened"]
        assert opened["plaintext_bytes"] == len(sent.meant)
        assert opened["packet_number"] == record["layers"][-1]["packet_number"]
        meant = parse_frames(sent.meant)
        assert [frame["class"] for frame in opened["frames"]] == [type(f).__name__ for f in meant]
        for frame, told_frame in zip(meant, opened["frames"], strict=True):
            if isinstance(frame, StreamFrame):
                assert told_frame["data"] == frame.data.hex()
                assert told_frame["offset"] == frame.offset


def test_values_and_bytes_show_what_was_sealed_or_why_it_still_is(
    decode: Decoder, said: Talk, key_log: Path
) -> None:
    path = save(decode.directory, said, "udp")
    run = decode("-v", "-x", "--keylog", key_log, path)
    assert "    StreamFrame: stream_id 0, offset 0," in run.lines
    assert f"data {len(QUESTION)} bytes {QUESTION[:16].hex(' ')} ..." in run.out
    assert "an anybody read " in run.out, "the dump of what was opened shows its text"
    assert "an anybody read " not in decode("-x", path).out
    assert "    sealed: no secret of it is known" in decode("-v", path).lines


def test_udp_without_handshake_or_key_is_no_rpt(decode: Decoder, said: Talk, key_log: Path) -> None:
    late = Talk(packets=[sent for sent in said.packets if sent.meant], key_log=said.key_log)
    path = save(decode.directory, late, "udp")
    assert " RPT " not in decode(path).out
    assert " RPT " in decode("--keylog", key_log, path).out


def test_key_log_that_is_none_is_refused_in_one_line(decode: Decoder, said: Talk) -> None:
    path = save(decode.directory, said, "rpt4")
    empty = decode.directory / "empty"
    empty.write_text("CLIENT_RANDOM aa bb\n")
    run = decode("--keylog", empty, path)
    assert (run.code, run.out) == (2, "")
    assert "no RPT_CLIENT_SECRET or RPT_SERVER_SECRET line in it" in run.err
    assert run.err.count("\n") == 1
    run = decode("--keylog", decode.directory / "missing", path)
    assert run.code == 2
    assert "No such file" in run.err
