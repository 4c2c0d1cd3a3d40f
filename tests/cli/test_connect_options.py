"""What `connect` says of options that make no sense, before it sends anything."""

from __future__ import annotations

import pytest

from rawproto.cli.main import main


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e30"])
def test_a_wait_is_a_number_of_seconds_that_ends(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["connect", f"-w={seconds}", "rpt+udp://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err == (
        f"rawproto connect: -w: {float(seconds):g} seconds; more than 0, and no more than 86400\n"
    )
