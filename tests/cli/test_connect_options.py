"""What options of `connect` lead to before it sends anything."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from rawproto.cli.main import main
from rawproto.cli.rpt_options import capture_of


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e30"])
def test_a_wait_is_a_number_of_seconds_that_ends(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["connect", f"-w={seconds}", "rpt+udp://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err == (
        f"rawproto connect: -w: {float(seconds):g} seconds; more than 0, and no more than 86400\n"
    )


def test_a_capture_that_holds_the_secrets_is_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "sealed.pcapng"
    with capture_of(argparse.Namespace(pcap=path)):
        assert path.stat().st_mode & 0o777 == 0o600
