"""Input files: what a recipe names is found, known by its content, and never by its name."""

import gzip
import json
import sysconfig
from pathlib import Path

import polars as pl
import pytest
from curation import Curated, batches, curate, domain, inputs, posts, run_recipe, write_jsonl

from redone_data.curate.read import ReadConfig, ReadStep
from redone_data.curate.sources import DigestCache, SourceConfig, resolve_inputs
from redone_data.errors import RedoneError
from redone_data.manifest import file_digest


def names(folder: Path, *paths: str, **source: object) -> list[str]:
    return [file.label for file in inputs(SourceConfig(paths, **source), folder)]


def test_globs_folders_and_two_patterns_for_one_file_name_each_file_once(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    write_jsonl(tmp_path / "deep" / "er" / "b.jsonl", [{"text": "b"}])
    (tmp_path / "folder.jsonl").mkdir()
    assert sorted(names(tmp_path, "**/*.jsonl", "a.jsonl", str(tmp_path / "a.jsonl"))) == sorted(
        [str(tmp_path / "a.jsonl"), "deep/er/b.jsonl"]
    )


def test_a_folder_whose_name_looks_like_a_pattern_is_taken_literally(tmp_path):
    write_jsonl(tmp_path / "run [1]*" / "a.jsonl", [{"text": "a"}])
    assert names(tmp_path / "run [1]*", "*.jsonl") == ["a.jsonl"]


def test_packages_and_the_standard_library_are_reached_without_their_code(tmp_path):
    assert names(tmp_path, "stdlib:json/*.py")
    assert "stdlib:json/__init__.py" in names(tmp_path, "stdlib:json/*.py")
    assert "package:datatrove/__init__.py" in names(tmp_path, "package:datatrove/*.py")
    texts = [
        row["text"]
        for records in batches(SourceConfig(("stdlib:json/__init__.py",), unit="file"), tmp_path)
        for row in records.table.to_pylist()
    ]
    assert texts == [(Path(sysconfig.get_path("stdlib")) / "json" / "__init__.py").read_text()]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing-*.jsonl", r"no files matched 'nothing-\*\.jsonl' \(looked in .*\); give a path or a glob"),
        ("data.xyz", r"format of data\.xyz cannot be told from its name; set format \(csv, .*warc\)"),
        ("data.xyz.gz", r"format of data\.xyz\.gz cannot be told"),
        ("package:no_such_package/a.txt", "package 'no_such_package' is not installed; pip install it"),
        ("package:../etc/passwd", r"package '\.\.' is not installed"),
        ("package:json/nothing.txt", "no files matched"),
    ],
)
def test_a_path_that_cannot_be_used_says_where_why_and_what_to_do(tmp_path, path, message):
    for name in ("data.xyz", "data.xyz.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"x"))
    with pytest.raises(RedoneError, match=rf"recipe\.yaml: domains\.d\.sources\[0\]\.paths: .*{message}"):
        names(tmp_path, path)


def test_a_file_of_any_name_is_read_when_the_format_is_given(tmp_path):
    (tmp_path / "data.xyz").write_text('{"text": "a"}')
    assert names(tmp_path, "data.xyz", format="jsonl") == ["data.xyz"]


def test_a_changed_file_is_known_by_its_new_content_and_an_unchanged_one_is_not_read_again(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    cache, config = DigestCache(), SourceConfig(("a.jsonl",))
    first = resolve_inputs(config, tmp_path, "here", cache)
    cache.known[str(path)][2] = "remembered"
    assert resolve_inputs(config, tmp_path, "here", cache)[0].sha256 == "remembered"
    write_jsonl(path, [{"text": "bb"}])
    assert resolve_inputs(config, tmp_path, "here", cache)[0].sha256 not in ("remembered", first[0].sha256)


def test_a_pattern_that_rust_cannot_read_is_refused_when_the_recipe_is(tmp_path):
    with pytest.raises(RedoneError, match=r"replace: '\(\?<=a\)b' is not a regular expression of Rust's regex"):
        SourceConfig(("a.txt",), replace={"(?<=a)b": ""})
    with pytest.raises(RedoneError, match="delimiter: '；'; one ASCII character"):
        SourceConfig(("a.csv",), delimiter="；")


# --- Order -----------------------------------------------------------------------------------------------------------


def read_run(folder: Path, *paths: str, **source: object) -> Curated:
    given = domain(*paths)
    given["sources"][0].update(source)
    return run_recipe(folder, {"domains": {"d": given}}, until="read")


def parts(run: Curated) -> dict[str, bytes]:
    steps = run.root / "steps"
    return {path.name: path.read_bytes() for path in steps.rglob("part-*") if "quarantine" not in path.name}


def test_replaced_text_is_what_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("迈向/v  充满/v 希望/n\n")
    run = read_run(tmp_path, "a.txt", fields={}, replace={r"/[a-z]+\s*": "", "希": "期"})
    assert pl.read_parquet(run.root / "steps/*/part-*.parquet")["text"].to_list() == ["迈向充满期望"]


def test_renaming_and_reordering_files_changes_no_byte(tmp_path):
    groups = [posts(20, prefix="a"), posts(30, seed=2, prefix="b"), posts(10, seed=3, prefix="c")]
    for number, group in enumerate(groups):
        write_jsonl(tmp_path / "one" / f"{number}.jsonl", group)
        write_jsonl(tmp_path / "two" / f"{9 - number} other.jsonl", group)
    one = read_run(tmp_path / "one", "*.jsonl")
    two = read_run(tmp_path / "two", "9*.jsonl", "7*.jsonl", "8*.jsonl")
    assert parts(one) == parts(two)
    assert len(parts(one)) == 3


def test_shuffled_lines_and_split_files_give_the_same_ids_and_texts(tmp_path):
    records = posts(60)
    records += [{**records[3], "likes": 9}, records[5], {**records[7], "id": "other"}]
    for fields in ({"id": "id", "engagement": ["likes"]}, {"engagement": ["likes"]}):
        write_jsonl(tmp_path / "one.jsonl", records)
        write_jsonl(tmp_path / "two.jsonl", records[::-1][:40])
        write_jsonl(tmp_path / "three.jsonl", records[::-1][40:])
        found = []
        for out, paths in (("x", ["one.jsonl"]), ("y", ["two.jsonl", "three.jsonl"])):
            run = run_recipe(tmp_path, {"domains": {"d": domain(*paths, fields=fields)}}, out=out + str(len(fields)))
            dropped = {(row["id"], row["rule"], row["duplicate_of"]) for row in run.dropped.values()}
            found.append(({(row["id"], row["text"]) for row in run.kept.values()}, dropped))
        assert found[0] == found[1]
        assert len(found[0][0]) + len(found[0][1]) == len(records)


def test_a_dump_that_was_copied_twice_is_dropped_once_by_text_or_by_id(tmp_path):
    for name in ("a.jsonl", "copy of a.jsonl"):
        write_jsonl(tmp_path / name, posts(30))
    by_id = run_recipe(tmp_path, {"domains": {"d": domain("*.jsonl")}}, out="by-id")
    assert (len(by_id.kept), by_id.rules()) == (30, {"repeated_id": 30})
    by_text = run_recipe(tmp_path, {"domains": {"d": domain("*.jsonl", fields={})}}, out="by-text")
    assert (len(by_text.kept), by_text.rules()) == (30, {"exact_duplicate": 30})


def test_of_records_with_one_id_the_most_engaging_stays(tmp_path):
    versions = [
        {"id": "x", "text": "an early version of this post", "likes": 1},
        {"id": "x", "text": "the version that everybody has liked", "likes": 50},
        {"id": "x", "text": "a version without any count at all"},
        {"id": "x", "text": "a version of which people fell out of love", "likes": -3},
    ]
    for name, order in (("one", versions), ("two", versions[::-1])):
        run = curate(tmp_path, {"d": [*order, *posts(10)]}, out=name)
        kept = {row["text"]: identity for identity, row in run.kept.items()}
        assert versions[1]["text"] in kept
        assert len(run.kept) == 11
        assert run.rules() == {"repeated_id": 3}
        assert {row["duplicate_of"] for row in run.dropped.values()} == {kept[versions[1]["text"]]}
        assert sorted((row["value"], row["bound"]) for row in run.dropped.values()) == [(1, 0), (2, 0), (3, 0)]


def test_the_same_id_in_two_sources_is_two_documents_but_not_under_one_name(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", posts(20))
    write_jsonl(tmp_path / "b.jsonl", posts(20, seed=1))
    sources = [{**domain(name)["sources"][0], "name": name} for name in ("a.jsonl", "b.jsonl")]
    two = run_recipe(tmp_path, {"domains": {"d": {"sources": sources, "rules": {"preset": "none"}}}}, out="two")
    assert (len(two.kept), two.rules()) == (40, {})
    sources = [{**source, "name": "one"} for source in sources]
    one = run_recipe(tmp_path, {"domains": {"d": {"sources": sources, "rules": {"preset": "none"}}}}, out="one")
    assert (len(one.kept), one.rules()) == (20, {"repeated_id": 20})


# --- Quarantine ------------------------------------------------------------------------------------------------------


def test_quarantined_records_are_listed_with_file_line_and_reason_but_without_text(tmp_path):
    lines = [json.dumps(post) for post in posts(300)]
    lines[99:99] = ["broken secret@example.com", '{"id": 5, "bob@example.com": "private"}']
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "posts.jsonl").write_text("\n".join(lines))
    run = read_run(tmp_path, "raw/*.jsonl")
    found = pl.read_parquet(run.root / "steps/*/*.quarantine.parquet")
    assert found.rows() == [
        ("d", "raw/posts.jsonl", 100, "not valid JSON"),
        ("d", "raw/posts.jsonl", 101, "field 'text' is missing (has: <EMAIL>, id)"),
    ]
    assert run.run.reads[0].statistics["quarantined"] == 2
    assert run.run.reads[0].statistics["first_bad"] == "raw/posts.jsonl line 100: not valid JSON"


def test_too_many_bad_records_stop_the_run_with_the_first_and_the_keys_to_change(tmp_path):
    records = [*posts(20), {"id": "z", "body": "b"}]
    write_jsonl(tmp_path / "a.jsonl", records)
    message = (
        r"domain 'd': 1 of 21 records cannot be read \(4\.76%, allowed are 1\.00%\); the first is a\.jsonl line 21: "
        r"field 'text' is missing \(has: body, id\).*domains\.d\.sources, or raise read\.max_bad_fraction"
    )
    with pytest.raises(RedoneError, match=message):
        read_run(tmp_path, "a.jsonl")


def test_a_wrong_field_name_stops_early_with_file_line_fields_and_key(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ({"body": "b", "id": i} for i in range(2000)))
    message = r"a\.jsonl line 1: field 'text' is missing \(has: body, id\); so are .*domains\.d\.sources: fields\.text"
    with pytest.raises(RedoneError, match=message):
        read_run(tmp_path, "a.jsonl")


def test_a_source_without_a_good_record_is_no_trouble_beside_another(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", posts(30))
    (tmp_path / "empty.jsonl").write_text("")
    sources = [{**domain(name)["sources"][0], "name": name} for name in ("a.jsonl", "empty.jsonl")]
    run = run_recipe(tmp_path, {"domains": {"d": {"sources": sources, "rules": {"preset": "none"}}}})
    assert len(run.kept) == 30


def test_a_domain_without_a_record_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(RedoneError, match="domain 'd' has no documents"):
        read_run(tmp_path, "a.jsonl")


# --- Large files in pieces -------------------------------------------------------------------------------------------


def documents(run: Curated) -> set[tuple[str, str]]:
    read = pl.concat(pl.read_parquet(path) for path in run.root.rglob("part-*-*.parquet"))
    return set(read.select(pl.col("key_hi").cast(pl.String), "text").rows())


def quarantined(run: Curated) -> list[tuple[str, str, int, str]]:
    return sorted(pl.read_parquet(run.root / "steps/*/*.quarantine.parquet").rows())


def test_a_file_read_in_many_pieces_gives_the_documents_and_the_line_numbers_of_one(tmp_path, monkeypatch):
    lines = [json.dumps(post) for post in posts(300)]
    for place in (2, 150, 151, 290):
        lines[place] = "broken"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(post) for post in posts(5, prefix="b")))
    domains = {"domains": {"d": domain("*.jsonl")}, "read": {"max_bad_fraction": 1}}
    whole = run_recipe(tmp_path, domains, out="whole", until="read")
    monkeypatch.setattr("redone_data.curate.read.TASK_BYTES", 2000)
    cut = run_recipe(tmp_path, domains, out="cut", until="read")
    assert len(cut.run.reads[0].tasks) > 20 > len(whole.run.reads[0].tasks)
    assert documents(cut) == documents(whole)
    assert quarantined(cut) == quarantined(whole)
    assert [place for _, _, place, _ in quarantined(cut)] == [3, 151, 152, 291]
    assert cut.run.reads[0].statistics == whole.run.reads[0].statistics
    again = run_recipe(tmp_path, {**domains, "executor": {"workers": 2}}, out="again", until="read")
    assert parts(again) == parts(cut)
    assert again.run.reads[0].manifest == cut.run.reads[0].manifest


def test_line_numbers_stay_right_when_a_run_is_killed_after_they_are_put_right(tmp_path, monkeypatch):
    lines = [json.dumps(post) for post in posts(100)]
    lines[70] = "broken"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr("redone_data.curate.read.TASK_BYTES", 2000)
    config = SourceConfig(("a.jsonl",))
    step = ReadStep("d", config, ReadConfig(), tuple(inputs(config, tmp_path)))
    results = [step.run(task, index, tmp_path) for index, task in enumerate(step.tasks())]
    for _ in range(2):
        assert step.finish(tmp_path, results)["first_bad"] == "a.jsonl line 71: not valid JSON"
        assert pl.read_parquet(tmp_path / "*.quarantine.parquet")["position"].to_list() == [71]


def test_a_run_of_bad_lines_amid_a_large_file_stops_it_no_more_than_in_a_small_one(tmp_path, monkeypatch):
    good = [json.dumps(post) for post in posts(100)]
    (tmp_path / "a.jsonl").write_text("\n".join([*good, *["broken"] * 1500, *good]))
    recipe = {"domains": {"d": domain("a.jsonl")}, "read": {"max_bad_fraction": 1}}
    monkeypatch.setattr("redone_data.curate.read.TASK_BYTES", 9000)
    run = run_recipe(tmp_path, recipe, until="read")
    assert run.run.reads[0].statistics["quarantined"] == 1500


def test_files_are_hashed_side_by_side_and_the_one_that_cannot_be_read_is_named(tmp_path):
    for number in range(20):
        write_jsonl(tmp_path / f"{number}.jsonl", [{"text": str(number)}])
    found = resolve_inputs(SourceConfig(("*.jsonl",)), tmp_path, "here", DigestCache())
    assert {file.label: file.sha256 for file in found} == {
        f"{number}.jsonl": file_digest(tmp_path / f"{number}.jsonl") for number in range(20)
    }
    (tmp_path / "7.jsonl").unlink()
    (tmp_path / "7.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(RedoneError, match=r"7\.jsonl: cannot be read: Input/output error"):
        resolve_inputs(SourceConfig(("*.jsonl",)), tmp_path, "here", DigestCache())
