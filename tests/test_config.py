"""The strict reader of recipes: every mistake is named with its file, key, rule and remedy."""

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.config import load_yaml, parse_yaml, plain, read_config, set_key
from redone_data.errors import RedoneError
from redone_data.recipe import load_recipe
from redone_data.starter import STARTER_RECIPE

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Inner:
    runs: int = 1
    share: float = 0.5
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.runs < 0:
            raise RedoneError(f"runs: {self.runs}; 0 or more")


@dataclass(frozen=True)
class Outer:
    name: str = field(metadata={"help": "what it is called"})
    kind: Literal["local", "slurm"] = "local"
    enabled: bool = False
    inner: Inner = field(default_factory=Inner)
    several: tuple[Inner, ...] = ()
    by_name: dict[str, float] = field(default_factory=dict)
    size: str | Inner = "small"
    limit: int | None = None


def read(text: str) -> Outer:
    return read_config(Outer, parse_yaml(text, where="r.yaml"), where="r.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: a\ninner: {run: 3}",
            "r.yaml: inner.run: unknown key; did you mean 'runs'? (known: labels, runs, share)",
        ),
        (
            "name: a\nzzz: 1",
            "r.yaml: zzz: unknown key; known: by_name, enabled, inner, kind, limit, name, several, size",
        ),
        ("kind: local", "r.yaml: name: missing, and required (what it is called)"),
        ("name: a\nkind: slrum", "r.yaml: kind: 'slrum' is not allowed; did you mean 'slurm'? (known: local, slurm)"),
        ("name: no", "r.yaml: name: expected text, got false (true/false); put it in quotes"),
        ("name: 12:30:00", "r.yaml: name: expected text, got the number 45000; put it in quotes"),
        (
            "name: a\nby_name: {no: 1}",
            "r.yaml: by_name: the name False is read as false (true/false); put it in quotes",
        ),
        ("name: a\nby_name: {10: 1}", "r.yaml: by_name: the name 10 is read as the number 10; put it in quotes"),
        ("name: a\nenabled: 1", "r.yaml: enabled: expected true or false, got the number 1"),
        ("name: a\ninner: {runs: 1.5}", "r.yaml: inner.runs: expected a whole number, got the number 1.5"),
        ("name: a\ninner: {runs: true}", "r.yaml: inner.runs: expected a whole number, got true (true/false)"),
        ("name: a\ninner: {runs: -1}", "r.yaml: inner: runs: -1; 0 or more"),
        ("name: a\ninner: {share: .inf}", "r.yaml: inner.share: expected a number, got the number inf"),
        ("name: a\ninner: {share: nan}", "r.yaml: inner.share: expected a number, got the text 'nan'"),
        ("name: a\ninner: {share: many}", "r.yaml: inner.share: expected a number, got the text 'many'"),
        ("name: a\ninner: {labels: x}", "r.yaml: inner.labels: expected a list, got the text 'x'"),
        (
            "name: a\nseveral: [{runs: 1}, {runs: x}]",
            "r.yaml: several[1].runs: expected a whole number, got the text 'x'",
        ),
        ("name: a\nby_name: {b: x}", "r.yaml: by_name.b: expected a number, got the text 'x'"),
        ("name: a\nsize: {run: 1}", "r.yaml: size.run: unknown key; did you mean 'runs'? (known: labels, runs, share)"),
        ("name: a\nsize: 3", "r.yaml: size: expected text or Inner, got the number 3"),
        ("name: a\ninner: [1]", "r.yaml: inner: expected keys and values, got a list"),
        ("name:", "r.yaml: name: expected text, got nothing"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(RedoneError) as error:
        read(text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "r.yaml line 3: not valid YAML: key 'a' is given twice"),
        ("a: 1\nb: [1,\nc: 2", "r.yaml line 3: not valid YAML"),
        ("a:\n\tb: 1", "r.yaml line 2: not valid YAML"),
        ("a: !!python/object:os.system x", "r.yaml line 1: not valid YAML"),
        ("? [1, 2]\n: 3", "r.yaml line 1: not valid YAML: a key must be plain text"),
    ],
)
def test_broken_yaml_is_one_line_with_its_line_number(text: str, message: str) -> None:
    with pytest.raises(RedoneError) as error:
        parse_yaml(text, where="r.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_what_yaml_reads_as_a_date_stays_text() -> None:
    assert read("name: 2024-01-01").name == "2024-01-01"
    assert not isinstance(parse_yaml("2024-01-01", where=""), datetime.date)


def test_numbers_without_a_dot_and_counts_with_one_are_read() -> None:
    assert read("name: a\ninner: {share: 1e-4, runs: 2.0}").inner == Inner(2, 1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1", "a mapping of keys is expected at the top, not a list"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"", "not nothing"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RedoneError, match=message) as error:
        load_yaml(path)
    assert str(path) in str(error.value)


def test_set_reaches_nested_keys_and_takes_lists_and_mappings() -> None:
    values = {"mix": {"design": {"runs": 1}}, "read": None}
    for assignment in (
        "mix.design.runs=40",
        "mix.targets={a: 2}",
        "read.redact=[email, phone]",
        "seed=3",
        "output=null",
    ):
        set_key(values, assignment)
    assert values == {
        "mix": {"design": {"runs": 40}, "targets": {"a": 2}},
        "read": {"redact": ["email", "phone"]},
        "seed": 3,
        "output": None,
    }


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("mix.runs", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("mix..runs=3", "expected key.path=value"),
        ("seed.x=3", "'seed' is the number 1 and has no keys"),
        ("mix.a=[1", "--set mix.a=.* not valid YAML"),
    ],
)
def test_a_wrong_set_says_what_was_expected(assignment: str, message: str) -> None:
    with pytest.raises(RedoneError, match=message):
        set_key({"seed": 1}, assignment)


numbers = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(Inner, st.integers(0), numbers, st.lists(st.text()).map(tuple))
outers = st.builds(
    Outer,
    st.text(),
    st.sampled_from(["local", "slurm"]),
    st.booleans(),
    inners,
    st.lists(inners, max_size=3).map(tuple),
    st.dictionaries(st.text(), numbers, max_size=3),
    st.text() | inners,
    st.none() | st.integers(),
)


@given(outers)
def test_writing_a_configuration_and_reading_it_gives_the_same(config: Outer) -> None:
    assert read_config(Outer, plain(config), where="r") == config


def test_the_starter_recipe_is_read_strictly(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(STARTER_RECIPE, encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.yaml").recipe
    assert recipe.domain_names == ("notes", "wiki")
    assert recipe.domains["notes"].policy().rules.effective()["num_words"].min == 3


@pytest.mark.parametrize("name", ["quickstart.yaml", "sns.yaml"])
def test_the_recipes_that_come_with_the_project_are_read_strictly(name: str) -> None:
    loaded = load_recipe(RECIPES / name, ["mix.design.runs=40"], seed=7)
    assert (loaded.recipe.mix.design.runs, loaded.recipe.seed) == (40, 7)
    assert set(loaded.recipe.mix.targets) <= set(loaded.recipe.domains)


def test_the_shared_recipe_finds_its_files() -> None:
    from redone_data.pipeline import Run

    if not (RECIPES / "../../shared/data/sns").is_dir():
        pytest.skip("the data beside the project is not here")
    assert Run(load_recipe(RECIPES / "sns.yaml"), Path("unused")).read_steps()
