"""Fuzzes one target with atheris: `python -m tests.fuzz.run TARGET [SECONDS]`.

It begins from the goldens and corpus/TARGET. What it finds that reaches new code
stays in a directory of its own under the temporary one, whose name it prints; a
crash stays there too. Put what is worth keeping into corpus/TARGET, where plain
pytest replays it for ever. Without arguments it lists the targets.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main() -> int:
    if len(sys.argv) < 2:
        from tests.fuzz.targets import TARGETS

        print("\n".join(TARGETS))
        return 0
    try:
        import atheris
    except ImportError:
        print("atheris is not installed; pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["rawproto"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.seeds import seeds

    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "30"
    if name not in TARGETS:
        print(f"no target {name}", file=sys.stderr)
        return 2
    found = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    known = found / "seeds"
    known.mkdir()
    for seed, data in seeds(name):
        (known / seed).write_bytes(data)
    print(f"{name}: {seconds} s, findings in {found}", flush=True)  # the fuzzer ends us by _exit
    arguments = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={found}/",
        "-timeout=5",
        "-rss_limit_mb=1024",
        "-max_len=4096",
        "-len_control=0",  # or it tries nothing longer than its seeds for minutes
        "-print_final_stats=1",
    ]
    new = found / "new"
    new.mkdir()
    atheris.Setup([sys.argv[0], *arguments, str(new), str(known)], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
