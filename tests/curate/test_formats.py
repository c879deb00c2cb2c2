"""Readers: what is in a file comes out, and what cannot be read is named by its place and reason."""

import csv
import datetime
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation import batches, inputs, read, run_recipe, sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from redone_data.curate.column_formats import MAX_PIECES_OF_ROW_GROUP, _row_numbers
from redone_data.curate.formats import read_file, spans_of
from redone_data.curate.records import BLOCK_BYTES
from redone_data.curate.sources import SourceConfig
from redone_data.errors import RedoneError

UTC = datetime.UTC
NO_ID = "field 'id' (id) is missing, empty, or neither text nor an exact whole number"


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def texts(path: Path, **source: object) -> list[str]:
    rows, bad = read(path, **source)
    assert bad == []
    return [row["text"] for row in rows]


def table(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# --- JSON lines ------------------------------------------------------------------------------------------------------

LINES = '{"text": "one"}\n\n  \n{"text": "two"}\r\n{"text": "three"}'


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl", bytes),
        ("a.ndjson", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.jsonl.gz", lambda data: gzip.compress(data[:30]) + gzip.compress(data[30:])),
        ("a.jsonl.zst", zstd),
        ("a.jsonl.zst", lambda data: zstd(data[:30]) + zstd(data[30:])),
    ],
)
def test_every_line_is_read_whatever_its_end_and_packing(tmp_path, name, pack):
    assert texts(write(tmp_path / name, pack(LINES.encode()))) == ["one", "two", "three"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\\r", "\\n", "\x0b", "\x1c"])
def test_a_line_separator_inside_a_post_does_not_split_it(tmp_path, separator):
    line = (
        f'{{"text": "a{separator}b"}}\n'
        if separator.startswith("\\")
        else json.dumps({"text": f"a{separator}b"}) + "\n"
    )
    raw = f'{{"text": "a{separator}b"}}\n' if separator in "\u2028\u2029\x85" else line
    assert len(texts(write(tmp_path / "a.jsonl", raw * 3))) == 3


def test_a_byte_order_mark_does_not_cost_the_first_post(tmp_path):
    assert texts(write(tmp_path / "a.jsonl", "\ufeff" + LINES)) == ["one", "two", "three"]
    assert texts(write(tmp_path / "a.json", '\ufeff[{"text": "one"}]')) == ["one"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "\xff"}', "not valid UTF-8"),
        (b'{"text": "cut off', "not valid JSON"),
        (b'{"text": "lone \\ud83d surrogate"}', "not valid JSON"),
        (b'{"text": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'["text"]', "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"body": "b", "title": "t"}', "field 'text' is missing (has: body, title)"),
        (b'{"text": null}', "field 'text' is missing (has: text)"),
        (b'{"text": 5}', "field 'text' is not text"),
        (b'{"text": ["a"]}', "field 'text' is not text"),
        (b'{"text": "' + b"x" * 3000 + b'"}', "longer than read.max_record_bytes (2000)"),
    ],
)
def test_a_bad_line_is_named_by_number_and_reason_and_its_neighbours_stay(tmp_path, line, reason):
    path = write(tmp_path / "a.jsonl", b'{"text": "one"}\n\n' + line + b'\n{"text": "two"}\n' + line)
    rows, bad = read(path, max_record_bytes=2000)
    assert [row["text"] for row in rows] == ["one", "two"]
    assert bad == [(3, reason), (5, reason)]


def test_nul_characters_reach_the_normaliser_and_do_not_stop_reading(tmp_path):
    assert texts(write(tmp_path / "a.jsonl", '{"text": "a\\u0000b"}\n')) == ["a\x00b"]


@pytest.mark.parametrize(
    ("value", "native"),
    [("007", "007"), (7, "7"), (7.0, "7"), (-3, "-3"), (2**63, str(2**63)), ("a/b", "a/b")],
)
def test_ids_are_the_same_text_as_number_as_float_and_as_text(tmp_path, value, native):
    rows, _ = read(write(tmp_path / "a.jsonl", json.dumps({"text": "x", "id": value})), fields={"id": "id"})
    assert rows[0]["native_id"] == native


@pytest.mark.parametrize("value", [None, "", True, {}, [], 1.5, 2.0**53, 10**30])
def test_what_cannot_tell_posts_apart_is_not_taken_for_an_id(tmp_path, value):
    rows, bad = read(write(tmp_path / "a.jsonl", json.dumps({"text": "x", "id": value})), fields={"id": "id"})
    assert (rows, bad) == ([], [(1, NO_ID)])


@pytest.mark.parametrize(
    ("record", "engagement"),
    [
        ({"a": 1, "b": {"c": 2.5}}, 3.5),
        ({"a": "12", "b": {"c": "3e2"}}, 312.0),
        ({"a": -4}, -4.0),
        ({"a": None, "b": {"c": 1}}, 1.0),
        ({"a": True}, None),
        ({"a": "many"}, None),
        ({"a": "-"}, None),
        ({"a": "1_000"}, None),
        ({"a": "1e999"}, None),
        ({"a": 1e308, "b": {"c": 1e308}}, None),
        ({}, None),
    ],
)
def test_engagement_is_the_sum_of_the_numbers_there_are(tmp_path, record, engagement):
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "x", **record}))
    rows, bad = read(path, fields={"engagement": ["a", "b.c"]})
    assert (rows[0]["engagement"], bad) == (engagement, [])


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2024-05-06T07:08:09+08:00", datetime.datetime(2024, 5, 5, 23, 8, 9, tzinfo=UTC)),
        ("2024-05-06", datetime.datetime(2024, 5, 6, tzinfo=UTC)),
        (1_700_000_000, datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1_700_000_000_123, datetime.datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)),
        ("1700000000", datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (-1, datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        (True, None),
        (10**30, None),
        ("0001-01-01T00:00:00+14:00", None),
        ({}, None),
    ],
)
def test_odd_dates_become_none_and_good_ones_utc(tmp_path, value, moment):
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "x", "at": value}))
    rows, bad = read(path, fields={"created_at": "at"})
    assert (rows[0]["created_at"], bad) == (moment, [])


RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1),
            "id": st.integers(0, 2**53 - 1),
        },
        optional={"likes": st.integers(0, 10**6)},
    ),
    min_size=1,
    max_size=8,
)


@given(RECORDS)
def test_every_format_gives_the_same_records(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("formats")
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, ["text", "id", "likes"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(records)
    files = [
        write(folder / "a.jsonl", "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)),
        write(folder / "a.json", json.dumps(records)),
        write(folder / "b.json", json.dumps({str(i): record for i, record in enumerate(records)})),
        write(folder / "a.csv", buffer.getvalue()),
        table(folder / "a.parquet", **{key: [r.get(key) for r in records] for key in ("text", "id", "likes")}),
    ]
    fields = {"id": "id", "engagement": ["likes"]}
    expected, _ = read(files[0], fields=fields)
    assert [row["text"] for row in expected] == [record["text"] for record in records]
    for path in files[1:]:
        assert read(path, fields=fields) == (expected, []), path.name


# --- Memory ----------------------------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
from redone_data.curate.formats import read_file
from redone_data.curate.sources import DigestCache, SourceConfig, resolve_inputs
path = Path(sys.argv[1])
config = SourceConfig((path.name,))
rows, bad = 0, []
for file in resolve_inputs(config, path.parent, "here", DigestCache()):
    for records in read_file(file, config, 1 << 20):
        rows, bad = rows + records.table.num_rows, bad + records.bad
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(rows, bad, int(peak.split()[1]) >> 10)
"""


@pytest.mark.parametrize("name", ["long.jsonl", "long.jsonl.zst"])
def test_a_line_of_200_mb_is_quarantined_and_never_held(tmp_path, name):
    data = b'{"text": "one"}\n{"text": "' + b"x" * 200_000_000 + b'"}\n{"text": "two"}\n'
    path = write(tmp_path / name, zstd(data) if name.endswith("zst") else data)
    del data
    result = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    found, megabytes = result.stdout.rsplit(maxsplit=1)
    assert found == "2 [(2, 'longer than read.max_record_bytes (1048576)')]"
    assert int(megabytes) < 450


def test_a_long_line_at_the_end_of_a_file_or_over_a_block_border_is_counted_once(tmp_path):
    long = "x" * (BLOCK_BYTES + 5)
    path = write(tmp_path / "a.txt", f"one\n{long}\ntwo\n{long}")
    rows, bad = read(path, max_record_bytes=1000)
    assert [row["text"] for row in rows] == ["one", "two"]
    assert [place for place, _ in bad] == [2, 4]


def test_records_are_numbered_through_block_borders(tmp_path):
    filler = json.dumps({"text": "y" * 999_000}) + "\n"
    path = write(tmp_path / "a.jsonl", filler * 10 + "broken\n" + filler * 10 + "broken\n")
    rows, bad = read(path)
    assert (len(rows), bad) == (20, [(11, "not valid JSON"), (22, "not valid JSON")])


# --- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_reaches_into_structs_and_keeps_number_ids(tmp_path):
    posts = [{"body": "a", "stats": {"likes": 3}}, None, {"body": "b", "stats": None}]
    path = table(tmp_path / "a.parquet", post=posts, id=[1, 2, 3], at=pa.array([0, 1, 2], pa.timestamp("ms")))
    fields = {"text": "post.body", "id": "id", "engagement": ["post.stats.likes"], "created_at": "at", "meta": ["id"]}
    rows, bad = read(path, fields=fields)
    assert [(row["text"], row["native_id"], row["engagement"], row["meta"]) for row in rows] == [
        ("a", "1", 3.0, '{"id": 1}'),
        ("b", "3", None, '{"id": 3}'),
    ]
    assert rows[1]["created_at"] == datetime.datetime(1970, 1, 1, 0, 0, 0, 2000, tzinfo=UTC)
    assert bad == [(2, "field 'post.body' is missing")]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array(["a", None, "b"], pa.large_string()),
        pa.array([b"a", None, b"b"], pa.binary()),
        pa.array(["a", None, "b"], pa.string_view()),
    ],
)
def test_text_is_text_however_the_column_is_encoded(tmp_path, column):
    rows, bad = read(table(tmp_path / "a.parquet", text=column, id=column), fields={"id": "id"})
    assert [(row["text"], row["native_id"]) for row in rows] == [("a", "a"), ("b", "b")]
    assert bad == [(2, "field 'text' is missing")]


def test_invalid_utf8_in_any_column_costs_its_row_at_most_and_not_the_file(tmp_path):
    odd = pa.array([b"a", b"\xff", b"c"])
    good = ["a", "b", "c"]
    _, bad = read(table(tmp_path / "text.parquet", text=odd))
    assert bad == [(2, "not valid UTF-8")]
    _, bad = read(table(tmp_path / "id.parquet", text=good, id=odd), fields={"id": "id"})
    assert bad == [(2, NO_ID)]
    fields = {"engagement": ["odd"], "created_at": "odd", "meta": ["odd"]}
    rows, bad = read(table(tmp_path / "rest.parquet", text=good, odd=odd), fields=fields)
    assert bad == []
    assert [row["meta"] for row in rows] == ['{"odd": "a"}', '{"odd": "\ufffd"}', '{"odd": "c"}']


def test_float_ids_of_a_column_with_gaps_are_whole_numbers_again(tmp_path):
    ids = pa.array([1.0, float("nan"), 2e15, None, 1.5, 2.0**60, float("inf")])
    rows, bad = read(table(tmp_path / "a.parquet", text=list("abcdefg"), id=ids), fields={"id": "id"})
    assert [row["native_id"] for row in rows] == ["1", "2000000000000000"]
    assert bad == [(row, NO_ID) for row in (2, 4, 5, 6, 7)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([float("nan"), float("inf"), -1.0]), [None, None, -1.0]),
        (["3", "-", "1.2.3"], [3.0, None, None]),
        (["4\n", "1e2", ""], [None, 100.0, None]),
        (pa.array([1, None, 3]).dictionary_encode(), [1.0, None, 3.0]),
        (pa.array([1, 2, 3], pa.decimal128(5, 2)), [1.0, 2.0, 3.0]),
        ([True, False, True], [None] * 3),
        ([{"a": 1}] * 3, [None] * 3),
        ([datetime.date(2020, 1, 1)] * 3, [None] * 3),
    ],
)
def test_engagement_columns_of_any_type_give_numbers_or_nothing(tmp_path, column, expected):
    rows, bad = read(table(tmp_path / "a.parquet", text=list("abc"), n=column), fields={"engagement": ["n", "absent"]})
    assert ([row["engagement"] for row in rows], bad) == (expected, [])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_577_836_800_000_000_001, None], pa.timestamp("ns")),
        pa.array([1_577_836_800, None], pa.timestamp("s", "Asia/Shanghai")),
        pa.array([datetime.date(2020, 1, 1), None]),
        pa.array(["2020-01-01", None]).dictionary_encode(),
        pa.array([1_577_836_800_000, None]),
        pa.array([1_577_836_800.0, float("nan")]),
    ],
)
def test_moments_of_any_column_type_are_the_same_moment(tmp_path, column):
    rows, _ = read(table(tmp_path / "a.parquet", text=["a", "b"], at=column), fields={"created_at": "at"})
    assert [row["created_at"] for row in rows] == [datetime.datetime(2020, 1, 1, tzinfo=UTC), None]


# --- Large files in pieces -------------------------------------------------------------------------------------------


def read_in_pieces(
    path: Path, piece_bytes: int, *, max_record_bytes: int = 1 << 24, **source: object
) -> tuple[list[dict[str, object]], list[tuple[int, str]], int]:
    """What :func:`read` gives, put together from the pieces of the file, and how many there were."""
    config = SourceConfig((path.name,), **source)
    rows, bad, before = [], [], 0
    (file,) = inputs(config, path.parent)
    spans = spans_of(file, config, piece_bytes)
    for span in spans:
        num_lines = 0
        for records in read_file(file, config, max_record_bytes, span):
            rows += records.table.to_pylist()
            bad += [(before + place, reason) for place, reason in records.bad]
            num_lines += records.num_lines
        before += num_lines
    return rows, bad, len(spans)


ODD_LINES = [
    b"",
    b"\r",
    b"  ",
    b'{"text": "a"}',
    b'{"text": "a"}\r',
    '{"text": "一\u2028二\x85三"}'.encode(),
    b'{"text": "cut off',
    b'{"body": 1}',
    b'{"text": "\xff"}',
    b"\xef\xbb\xbf",
    b'\xef\xbb\xbf{"text": "mark"}',
    b'{"text": "' + b"x" * 60 + b'"}',
    b'{"text": "' + b"y" * 150 + b'"}',
]


@given(
    st.lists(st.sampled_from(ODD_LINES), max_size=12),
    st.booleans(),
    st.integers(1, 200),
    st.integers(4, 60),
    st.sampled_from(["a.jsonl", "a.txt"]),
)
def test_a_file_of_lines_is_read_the_same_whole_and_in_pieces_wherever_they_are_cut(
    tmp_path_factory, lines, ends, piece_bytes, block_bytes, name
):
    path = tmp_path_factory.getbasetemp() / name
    write(path, b"\n".join(lines) + b"\n" * ends)
    whole = read(path, max_record_bytes=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redone_data.curate.record_formats.BLOCK_BYTES", block_bytes)
        rows, bad, num_pieces = read_in_pieces(path, piece_bytes, max_record_bytes=100)
    assert (rows, bad) == whole
    assert num_pieces == max(1, -(-path.stat().st_size // piece_bytes))


@settings(max_examples=30)  # a tenth of a second each
@given(st.integers(0, 300), st.integers(1, 100), st.integers(1, 20_000), st.integers(1, 400))
def test_parquet_is_read_the_same_whole_and_in_pieces_of_row_groups_or_of_their_rows(
    tmp_path_factory, num_rows, group_rows, piece_bytes, max_record_bytes
):
    path = tmp_path_factory.getbasetemp() / "a.parquet"
    texts = [None if i % 11 == 3 else sentence(i, i % 40) for i in range(num_rows)]
    columns = {"text": pa.array(texts, pa.string()), "n": pa.array(range(num_rows), pa.int64())}
    pq.write_table(pa.table({**columns, "unwanted": [b"x" * 500] * num_rows}), path, row_group_size=group_rows)
    rows, bad, num_pieces = read_in_pieces(path, piece_bytes, max_record_bytes=max_record_bytes)
    assert (rows, bad) == read(path, max_record_bytes=max_record_bytes)
    num_groups = -(-num_rows // group_rows)
    assert num_pieces <= max(1, num_groups * MAX_PIECES_OF_ROW_GROUP)


def test_a_large_row_group_is_cut_and_small_ones_are_read_together(tmp_path):
    noise = [np.random.default_rng(i).bytes(500).hex() for i in range(100)]
    one = table(tmp_path / "one.parquet", text=noise)
    pq.write_table(pa.table({"text": noise}), tmp_path / "many.parquet", row_group_size=5)
    assert read_in_pieces(one, 20_000)[2] == one.stat().st_size // 20_000
    # Below twice the size a cut would cost more, in rows decoded twice, than it brings.
    assert read_in_pieces(one, one.stat().st_size // 2 + 1_000)[2] == 1
    assert 5 <= read_in_pieces(tmp_path / "many.parquet", 20_000)[2] <= 10
    assert read_in_pieces(one, 1)[2] == MAX_PIECES_OF_ROW_GROUP


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.json", "a.warc", "a.tsv"])
def test_what_cannot_be_cut_safely_stays_whole(tmp_path, name):
    path = write(tmp_path / name, b"text\n" * 100)
    config = SourceConfig((name,))
    assert spans_of(*inputs(config, tmp_path), config, 10) == [None]
    for unit in ("paragraph", "file"):
        config = SourceConfig((name,), format="text", unit=unit)
        assert spans_of(*inputs(config, tmp_path), config, 10) == [None]
    assert path.stat().st_size > 10


def test_a_large_file_that_is_no_parquet_is_named_before_it_is_cut(tmp_path):
    write(tmp_path / "a.parquet", LINES * 100)
    config = SourceConfig(("a.parquet",))
    with pytest.raises(RedoneError, match=r"^a\.parquet: cannot be read as parquet"):
        spans_of(*inputs(config, tmp_path), config, 10)


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_csv_keeps_leading_zeros_and_quoted_line_breaks(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\n007,"two\nlines, ""quoted"""\n8,plain\n')
    rows, bad = read(path, fields={"id": "id"})
    assert [(row["native_id"], row["text"]) for row in rows] == [("007", 'two\nlines, "quoted"'), ("8", "plain")]
    assert bad == []


def test_tabs_separate_a_tsv_and_a_delimiter_can_be_given(tmp_path):
    assert texts(write(tmp_path / "a.tsv", "id\ttext\n1\ta,b\n")) == ["a,b"]
    assert texts(write(tmp_path / "a.tsv.gz", gzip.compress(b"id\ttext\n1\ta,b\n"))) == ["a,b"]
    assert texts(write(tmp_path / "a.csv", "id;text\n1;a,b\n"), delimiter=";") == ["a,b"]


def test_bad_rows_of_a_csv_are_named_by_the_row_a_spreadsheet_shows(tmp_path):
    data = b"id,text\n1,one\n2,two,three\n3,\n4,\xff\n5,five\n6\n,no id\n7,seven\n"
    rows, bad = read(write(tmp_path / "a.csv", data), fields={"id": "id"})
    assert [row["text"] for row in rows] == ["one", "five", "seven"]
    assert bad == [
        (3, "3 columns where the header has 2"),
        (4, "field 'text' is missing"),
        (5, "not valid UTF-8"),
        (7, "1 columns where the header has 2"),
        (8, NO_ID),
    ]


def test_bad_rows_are_counted_where_no_good_row_follows_and_over_blocks(tmp_path):
    _, bad = read(write(tmp_path / "a.csv", "id,text\n1,2,3\n"))
    assert bad == [(2, "3 columns where the header has 2")]
    row = "1," + "x" * 99_998 + "\n"
    rows, bad = read(
        write(tmp_path / "b.csv", "id,text\n" + "a,b,c\n" + row * 100 + "a,b,c\n4,\n" + row * 100 + "a,b,c\n")
    )
    assert len(rows) == 200
    assert [place for place, _ in bad] == [2, 103, 104, 205]


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 10))
def test_row_numbers_skip_what_was_skipped(is_good, first):
    numbers = [number for number, good in enumerate(is_good, 2) if good]
    skipped = [number for number, good in enumerate(is_good, 2) if not good]
    expected = numbers[first:]
    assert _row_numbers(first, len(expected), skipped).tolist() == expected


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_a_csv_in_another_encoding_is_refused_with_the_way_to_convert_it(tmp_path, encoding):
    path = write(tmp_path / "a.csv", "编号,内容\n1,好\n".encode(encoding))
    with pytest.raises(RedoneError, match=r"a\.csv: .*not UTF-8; convert it: iconv"):
        read(path, fields={"text": "内容"})


def test_a_csv_with_an_endless_quote_says_so(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\n1,"never closed\n' + "2,x\n" * (BLOCK_BYTES // 2))
    with pytest.raises(RedoneError, match="a quote is never closed"):
        read(path)


# --- JSON, text ------------------------------------------------------------------------------------------------------


def test_json_takes_an_array_or_an_object_of_records_and_counts_bad_ones(tmp_path):
    rows, bad = read(write(tmp_path / "a.json", '[{"text": "a"}, 5, {"text": "b"}]'))
    assert ([row["text"] for row in rows], bad) == (["a", "b"], [(2, "not a JSON object")])
    assert texts(write(tmp_path / "b.json", '{"x": {"text": "a"}, "y": {"text": "b"}}')) == ["a", "b"]
    _, bad = read(write(tmp_path / "c.json", json.dumps([{"text": "好" * 50}])), max_record_bytes=100)
    assert bad == [(1, "longer than read.max_record_bytes (100)")]


def test_json_lines_in_a_json_file_say_which_format_to_set(tmp_path):
    with pytest.raises(RedoneError, match=r"a\.json: not valid JSON.*format: jsonl"):
        read(write(tmp_path / "a.json", '{"text": "a"}\n{"text": "b"}\n'))


def test_text_is_read_by_line_by_paragraph_and_by_file(tmp_path):
    path = write(tmp_path / "a.txt", "one\r\ntwo\n\n \t\nthree\n\xa0x\n\n\nfour")
    assert texts(path) == ["one\r", "two", "three", "\xa0x", "four"]
    assert texts(path, unit="paragraph") == ["one\r\ntwo", "three\n\xa0x", "four"]
    assert texts(path, unit="file") == [path.read_bytes().decode()]


def test_text_that_is_not_utf8_or_too_long_is_counted_by_its_unit(tmp_path):
    path = write(tmp_path / "a.txt", b"one\n\xff\n\n" + b"x" * 50 + b"\n" + b"y" * 60 + b"\n\nlast\n")
    assert read(path, max_record_bytes=100)[1] == [(2, "not valid UTF-8")]
    rows, bad = read(path, max_record_bytes=100, unit="paragraph")
    assert [row["text"] for row in rows] == ["last"]
    assert bad == [(1, "not valid UTF-8"), (2, "longer than read.max_record_bytes (100)")]
    assert read(path, max_record_bytes=1000, unit="file")[1] == [(1, "not valid UTF-8")]
    assert read(path, max_record_bytes=10, unit="file")[1] == [(1, "longer than read.max_record_bytes (10)")]


# --- Web -------------------------------------------------------------------------------------------------------------

PAGE = "<!DOCTYPE html><html><head><title>t</title></head><body><article>{}</article></body></html>"


def warc(path: Path, records: list[tuple[str, str, str]]) -> Path:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=path.suffix == ".gz")
        for number, (kind, mime, content) in enumerate(records):
            http = StatusAndHeaders("200 OK", [("Content-Type", mime)], protocol="HTTP/1.0")
            record = writer.create_warc_record(
                f"http://example.com/{number}",
                kind,
                payload=io.BytesIO(content.encode()),
                length=len(content.encode()),
                warc_content_type="" if kind == "response" else mime,
                http_headers=http if kind == "response" else None,
                warc_headers_dict={"WARC-Identified-Payload-Type": mime},
            )
            writer.write_record(record)
            record.raw_stream.close()
    return path


def test_warc_pages_become_their_main_text_and_wet_text_stays(tmp_path):
    body = "<p>" + "</p><p>".join(sentence(i, 30) for i in range(3)) + "</p>"
    page = ("response", "text/html", PAGE.format(body))
    empty = ("response", "text/html", PAGE.format(""))
    plain = ("conversion", "text/plain", "I <3 this text, which is no page")
    fields = {"id": "id", "created_at": "date", "meta": ["url"]}
    rows, bad = read(warc(tmp_path / "a.warc.gz", [page, empty, ("response", "image/png", "x"), plain]), fields=fields)
    assert bad == []
    assert rows[0]["text"].split() == " ".join(sentence(i, 30) for i in range(3)).split()
    assert [row["text"] for row in rows[1:]] == ["", plain[2]]
    assert json.loads(rows[0]["meta"]) == {"url": "http://example.com/0"}
    assert all(row["native_id"].startswith("<urn:uuid:") and row["created_at"] for row in rows)


def test_a_warc_gets_the_same_ids_whether_its_format_is_given_or_told_by_its_name(tmp_path):
    warc(tmp_path / "a.warc", [("conversion", "text/plain", sentence(i)) for i in range(3)])
    found = []
    for out, chosen in (("told", {}), ("given", {"format": "warc"})):
        sources = [{"paths": ["a.warc"], **chosen}]
        run = run_recipe(tmp_path, {"domains": {"d": {"sources": sources}}}, out=out, until="read")
        found += [path.read_bytes() for path in run.root.rglob("part-*.parquet")]
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_file_that_is_no_warc_is_refused(tmp_path):
    with pytest.raises(RedoneError, match=r"a\.warc: cannot be read as warc"):
        read(write(tmp_path / "a.warc", "nothing of the kind\n" * 50))


def test_a_local_hugging_face_dataset_is_read_through_datatrove(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "lines").mkdir()
    write(tmp_path / "lines" / "train.jsonl", '{"text": "a", "n": 1}\n{"text": "", "n": 2}\n{"text": null, "n": 3}\n')
    (tmp_path / "columns").mkdir()
    table(tmp_path / "columns" / "train.parquet", text=["a", "", None], n=[1, 2, 3])
    for name in ("lines", "columns"):
        rows, bad = read(tmp_path / name, format="huggingface", fields={"engagement": ["n"]})
        assert [(row["text"], row["engagement"]) for row in rows] == [("a", 1.0), ("", 2.0)]
        assert bad == [(3, "field 'text' is missing (has: n, text)")]
    with pytest.raises(RedoneError, match="cannot be loaded as a Hugging Face dataset"):
        read(tmp_path / "lines", format="huggingface", options={"split": "absent"})


# --- Files that stop the run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "cause"),
    [
        ("a.jsonl.gz", gzip.compress(LINES.encode() * 1000)[:-9], "Truncated"),
        ("a.jsonl.zst", zstd(np.random.default_rng(1).bytes(50_000))[:-9], "Truncated"),
        ("a.jsonl.zst", LINES, "ZSTD"),
        ("a.txt.gz", LINES, "zlib"),
        ("a.parquet", LINES, "not a parquet file"),
        ("a.parquet", b"PAR1" + b"\x00" * 20 + b"PAR1", "parquet"),
        ("a.parquet", b"", "0 bytes"),
        ("a.json", b"", "not valid JSON"),
    ],
)
def test_a_broken_file_is_named_with_cause_and_remedy(tmp_path, name, data, cause):
    with pytest.raises(RedoneError, match=rf"^{name}: .*(?i:{cause})"):
        read(write(tmp_path / name, data))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b"\n\n  \n"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("a.csv", b""),
        ("a.csv.gz", gzip.compress(b"", mtime=0)),
        ("a.csv", b"id,text\n"),
        ("a.txt", b""),
        ("a.json", b"[]"),
    ],
)
def test_an_empty_file_holds_no_records_and_is_no_error(tmp_path, name, data):
    path = write(tmp_path / name, data)
    assert read(path) == ([], [])
    if name == "a.txt":
        assert read(path, unit="file") == read(path, unit="paragraph") == ([], [])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("a.csv", {"text": "txet"}, r"no column 'txet'.*fields\.text.*did you mean 'text'"),
        ("a.parquet", {"text": "txet"}, r"no column 'txet'.*fields\.text.*did you mean 'text'"),
        ("a.parquet", {"id": "idd"}, r"no column 'idd'.*fields\.id.*did you mean 'id'"),
        ("a.parquet", {"text": "s.absent"}, r"no column 's\.absent'; .*fields\.text"),
        ("a.parquet", {"text": "id"}, r"column 'id' holds int64, which cannot be the text; .*fields\.text"),
        ("a.parquet", {"id": "s"}, r"column 's' holds struct<a: string>, which cannot be the id; .*fields\.id"),
        ("twice.csv", {}, "2 columns are named 'text'"),
    ],
)
def test_a_wrong_field_name_stops_with_file_field_and_recipe_key(tmp_path, name, fields, message):
    write(tmp_path / "a.csv", "id,text\n1,a\n")
    write(tmp_path / "twice.csv", "text,text\n1,a\n")
    table(tmp_path / "a.parquet", id=[1], text=["a"], s=[{"a": "b"}])
    with pytest.raises(RedoneError, match=rf"^{name}: .*{message}"):
        read(tmp_path / name, fields=fields)


def test_batches_of_long_records_stay_small(tmp_path):
    path = write(tmp_path / "a.json", json.dumps([{"text": "x" * 1_000_000}] * 30))
    sizes = [records.table.nbytes for records in batches(SourceConfig((path.name,)), tmp_path)]
    assert sum(sizes) > 30_000_000
    assert max(sizes) < BLOCK_BYTES + 2_000_000
