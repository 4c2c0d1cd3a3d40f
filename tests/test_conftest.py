"""A live test that does not run must be heard of, and under CI it must fail."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SKIPPING = "import pytest\ndef test_skipped():\n    pytest.skip('no such tool')\n"
MUST_NOT_RUN = "def test_that_must_not_run():\n    raise AssertionError\n"


def run(
    pytester: pytest.Pytester, live_test: str, missing: tuple[str, ...] = ()
) -> pytest.RunResult:
    """Runs a tree of two modules under our conftest, one of them live."""
    source = Path(__file__).with_name("conftest.py").read_text()
    source += f"\ndef missing_capabilities(): return {missing!r}\n"
    pytester.makeconftest(source)
    pytester.makeini("[pytest]\nmarkers = live: opens real sockets\n")
    pytester.makepyfile(test_other=SKIPPING)
    (pytester.mkdir("live") / "test_live.py").write_text(live_test)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")


@pytest.mark.parametrize(("ci", "failed", "skipped"), [("true", 1, 1), ("", 0, 2)])
def test_skip_inside_a_live_test_fails_under_ci_only(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, failed: int, skipped: int
) -> None:
    monkeypatch.setenv("CI", ci)
    run(pytester, SKIPPING).assert_outcomes(failed=failed, skipped=skipped)


def test_live_test_without_privilege_is_skipped_loudly(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    result = run(pytester, MUST_NOT_RUN, missing=("CAP_NET_ADMIN",))
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*1 LIVE TESTS DID NOT RUN*", "*needs CAP_NET_ADMIN*make live*"])


def test_live_test_without_privilege_fails_under_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(pytester, MUST_NOT_RUN, missing=("CAP_NET_ADMIN",))
    result.stdout.fnmatch_lines(["*may not be skipped under CI: *CAP_NET_ADMIN*"])
    result.assert_outcomes(errors=1, skipped=1)


def test_live_module_that_skips_itself_fails_under_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(pytester, "import pytest\npytest.importorskip('no_such_module')\n")
    result.assert_outcomes(errors=1)
    assert result.ret != 0
