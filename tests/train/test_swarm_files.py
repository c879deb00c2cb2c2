"""Each mistake in a swarm folder is refused with one line that names the file and the remedy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from redone_data.errors import RedoneError
from redone_train.swarm import train_swarm
from redone_train.swarm_files import Swarm


def spoil(key: str, value: object) -> Callable[[object], None]:
    def change(folder: object) -> None:
        values = folder.config  # type: ignore[attr-defined]
        *path, last = key.split(".")
        for part in path:
            values = values[part]
        values[last] = value

    return change


def rows(*lines: list[object]) -> Callable[[object], None]:
    return lambda folder: setattr(folder, "rows", [list(line) for line in lines])


def header(*names: str) -> Callable[[object], None]:
    return lambda folder: setattr(folder, "header", list(names))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("schema_version", 2), r"swarm\.json: schema_version is 2, this redone-train reads 1"),
        (spoil("proxy.size", "0.3"), r"swarm\.json: proxy: unknown proxy size '0\.3'; did you mean '0\.3m'"),
        (spoil("proxy.tokns", 5), r"swarm\.json: proxy\.tokns: unknown key; did you mean 'tokens'"),
        (spoil("proxy.batch_tokens", 8), "batch_tokens is 8; it must be at least context"),
        (spoil("proxy.learning_rate", -1.0), "learning_rate is -1.0; give a number above 0"),
        (spoil("token_bytes", 3), "token_bytes is 3; allowed are 2 and 4"),
        (spoil("eos_token_id", 64), "eos_token_id is 64"),
        (spoil("domains", {}), "domains: empty"),
        (spoil("domains.notes.validation", []), "domain 'notes' has 0 validation tokens"),
        (spoil("domains.notes.validation_bytes", 0), "of 0 bytes"),
        (spoil("domains.notes.train_limit_tokens", 0), "train_limit_tokens of domain 'notes' is 0"),
        (spoil("domains.notes.train", []), "domain 'notes' has no train tokens, but run 'a' gives it a weight of 0.5"),
        (spoil("domains.notes.train", ["nowhere.ds"]), r"nowhere\.ds: cannot be read: No such file"),
        (rows(["a", 0, 0.5, 0.2, 0.2]), r"runs\.csv row 2 \(run 'a'\): the weights sum to 0\.9, not to 1"),
        (rows(["a", 0, 1.5, -0.5, 0]), r"is -0\.5; weights lie in \[0, 1\]"),
        (rows(["a", 0, "nan", 0.5, 0.5]), "the weight of 'notes' is nan"),
        (rows(["a", "x", 1, 0, 0]), r"runs\.csv row 2 \(run 'a'\): .*'x'; the seed is a whole number"),
        (rows(["a", 0, 1, 0, 0], ["a", 1, 1, 0, 0]), "row 3: run_id 'a' is given twice"),
        (rows(["a/b", 0, 1, 0, 0]), "run_id 'a/b' names files; use letters"),
        (rows(["a", 0, 1, 0]), "4 values under 5 columns"),
        (rows(), r"runs\.csv: has no runs"),
        (header("run_id", "seed", "nots", 'chat, "live"/..', "中文"), "'nots' is no domain .*did you mean 'notes'"),
        (header("run_id", "seed", "notes", "notes", "中文"), "column 'notes' is given twice"),
    ],
)
def test_a_mistake_is_refused_with_its_remedy(folder, change, message: str) -> None:  # type: ignore[no-untyped-def]
    folder.add_run("a", {"notes": 0.5, "中文": 0.5})
    change(folder)
    folder.write()
    with pytest.raises(RedoneError, match=message):
        Swarm(folder.directory)


def test_a_missing_domain_column_is_refused(folder) -> None:  # type: ignore[no-untyped-def]
    folder.header = ["run_id", "seed", "notes"]
    folder.rows = [["a", 0, 1]]
    folder.write()
    with pytest.raises(RedoneError, match=r"runs\.csv: column '.*' is missing"):
        Swarm(folder.directory)


def test_missing_files_of_the_folder_are_named(tmp_path: Path, folder) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RedoneError, match=r"swarm\.json: not found"):
        Swarm(tmp_path)
    (folder.directory / "runs.csv").unlink()
    with pytest.raises(RedoneError, match=r"runs\.csv: not found"):
        Swarm(folder.directory)


def test_a_truncated_pool_is_refused(folder) -> None:  # type: ignore[no-untyped-def]
    folder.add_run("a", {"notes": 1.0})
    pool = folder.directory / "pool0-a.ds"
    content = pool.read_bytes()
    pool.write_bytes(content[:-1])
    with pytest.raises(RedoneError, match=r"pool0-a\.ds: cut short"):
        Swarm(folder.directory)
    pool.write_bytes(content[:-2])
    with pytest.raises(RedoneError, match=r"pool0-a\.ds: holds 3332 tokens but its index ends at 3333"):
        Swarm(folder.directory)
    (folder.directory / "pool0-a.ds.index").unlink()
    with pytest.raises(RedoneError, match=r"pool0-a\.ds\.index: cannot be read"):
        Swarm(folder.directory)


def test_a_token_outside_the_vocabulary_is_refused_before_training(folder) -> None:  # type: ignore[no-untyped-def]
    folder.add_run("a", {"notes": 1.0})
    pool = folder.directory / "pool2-v.ds"
    tokens = np.fromfile(pool, dtype="<u2")
    tokens[100] = 64
    tokens.tofile(pool)
    with pytest.raises(RedoneError, match=r"pool2-v\.ds: token id 64 is outside the vocabulary of 64"):
        train_swarm(folder.directory)


def test_weights_a_thousandth_off_are_scaled_and_more_is_refused(folder) -> None:  # type: ignore[no-untyped-def]
    folder.add_run("a", {"notes": 0.5, "中文": 0.4995})
    mixture = Swarm(folder.directory).runs["a"].mixture
    assert sum(mixture.values()) == pytest.approx(1)


def test_another_weight_seed_or_proxy_is_another_run(folder) -> None:  # type: ignore[no-untyped-def]
    def fingerprint() -> str:
        folder.write()
        swarm = Swarm(folder.directory)
        return swarm.fingerprint(swarm.runs["a"])

    folder.add_run("a", {"notes": 0.5, "中文": 0.5})
    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    folder.rows[0][2:] = [0.4, 0.1, 0.5]
    seen.append(fingerprint())
    folder.rows[0][1] = 9
    seen.append(fingerprint())
    folder.config["proxy"]["learning_rate"] = 0.01
    seen.append(fingerprint())
    folder.config["domains"]["notes"]["train_limit_tokens"] = 500
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)
