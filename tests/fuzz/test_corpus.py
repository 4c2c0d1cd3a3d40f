"""What fuzzing begins from and what it has found, replayed without a fuzzer."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_keep_the_promises(name: str) -> None:
    replayed = 0
    for seed, data in seeds(name):
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"seed {seed} of {name}: {data.hex()}") from error
        replayed += 1
    assert replayed, "a target needs seeds"


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds_keep_the_promises(name: str) -> None:
    rng = random.Random(name)
    whole = [data for _, data in seeds(name) if data]
    for _ in range(400):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(1, 5)):
            if not data:
                break
            match rng.randrange(3):
                case 0:
                    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xC0, 0xFF))
                case 1:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                case _:
                    del data[rng.randrange(len(data)) :]
        try:
            TARGETS[name](bytes(data))
        except Exception as error:
            raise AssertionError(f"{name}: {data.hex()}") from error


def test_corpus_belongs_to_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
