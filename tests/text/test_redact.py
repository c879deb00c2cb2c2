import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from posts import EDGES, SNS, real_posts, texts
from redact_cases import CASES, GAPS, MENTIONS, URLS

from redone_data.config import read_config
from redone_data.curate.read import ReadConfig
from redone_data.errors import RedoneError
from redone_data.text.personal_data import ALL, KINDS
from redone_data.text.personal_scan import kinds_possible
from redone_data.text.plain_text import BLOCK_READ
from redone_data.text.redact import mask_once, redact

LABELLED = [(kind, text, text if expected is None else expected) for kind in CASES for text, expected in CASES[kind]]
MISSED = [(kind, text, text if expected is None else expected) for kind in GAPS for text, expected in GAPS[kind]]
KIND_OF = {kind.placeholder: name for name, kind in KINDS.items()}
PLACEHOLDER = re.compile("|".join(KIND_OF))
EVERY = (1 << len(ALL)) - 1


def redacted(text, **options):
    array, counts = redact(pa.array([text]), **options)
    array.validate(full=True)
    return array[0].as_py(), {name: int(found[0]) for name, found in counts.items() if found[0]}


def unfiltered(text):
    """The text as it is redacted when no row is passed over and no kind."""
    while (masked := mask_once(text, EVERY, EVERY)[0]) != text:
        text = masked
    return text


@pytest.mark.parametrize(("kind", "text", "expected"), LABELLED)
def test_personal_data_go_and_look_alikes_stay(kind, text, expected):
    counts = {name: expected.count(KINDS[name].placeholder) for name in ALL if KINDS[name].placeholder in expected}
    assert redacted(text) == (expected, counts)


@pytest.mark.parametrize(("kind", "text", "expected"), MISSED)
def test_a_known_gap_that_is_closed_moves_to_the_cases(kind, text, expected):
    assert redacted(text)[0] != expected


def spans(text, masked):
    """(kind, start, end) in `text` of what each placeholder of `masked` stands for."""
    parts = re.split(f"({PLACEHOLDER.pattern})", masked)
    pattern = "".join("(.+?)" if part in KIND_OF else re.escape(part) for part in parts)
    match = re.fullmatch(pattern, text, re.DOTALL)
    assert match, (text, masked)
    names = [KIND_OF[part] for part in parts if part in KIND_OF]
    return {(name, *match.span(group)) for group, name in enumerate(names, 1)}


def scores():
    """Of each kind, over cases and known gaps: found and right, found, in the text."""
    table = {name: np.zeros(3, np.int64) for name in ALL}
    for _, text, expected in LABELLED + MISSED:
        truth, found = spans(text, expected), spans(text, redacted(text)[0])
        for name in ALL:
            right, said, there = ({span for span in some if span[0] == name} for some in (truth & found, found, truth))
            table[name] += len(right), len(said), len(there)
    return table


def test_precision_and_recall_on_the_labelled_cases_hold():
    table = scores()
    lines = ["kind        precision  recall  in the cases"]
    for name, (right, said, there) in {**table, "all": sum(table.values())}.items():
        precision, recall = right / said, right / there
        lines.append(f"{name:12}{precision:9.3f}{recall:8.3f}{there:14}")
        floor = 0.97 if name == "all" else 0.9
        assert there >= 20, "\n".join(lines)
        assert min(precision, recall) >= floor, "\n".join(lines)


def test_the_cases_are_at_least_three_hundred_and_differ():
    every = [text for _, text, _ in LABELLED + MISSED]
    assert len(every) >= 300
    assert len(set(every)) == len(every)
    assert sum(text == expected for _, text, expected in LABELLED) >= 100


PIECES = [
    *[*"0123456789 -.:：@+xX/()，。我第%&=?#\n\u3000", "13", "86", "0571", "415", "２", "（", "－", "＠", "．", "ａ"],
    *[
        "微信",
        "QQ",
        "vx",
        "ＶＸ",
        "加v",
        "V信",
        "we chat ",
        "wxid_",
        "wxid_8",
        "号",
        "是",
        "id is ",
        "abc_12",
        "hello",
        "call ",
    ],
    *["a@b.com", "jane.doe%40example.com", "13812345678", "010-62345678", "(415) 555-2671", "415-555-2671", "1"],
    *["10.0.0.1", "1.2.", "fe80::1", "2001:db8::", "::", "<PHONE>", "4111111111111111", "11010519491231002X"],
    *[
        "#qq.com",
        "555-0132",
        "扣",
        "Q",
        "群",
        "【",
        "phone number is ",
        "tel",
        "电话",
        "2012-12-12",
        "06 74 80 69 72",
        "http://",
        "https://t.cn/a?phone=",
        "订单号",
        "v",
        "é",
        "信",
        "400-820-8820",
        "😀",
    ],
]


def pieces():
    return st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@given(text=pieces() | texts())
@example("加　v abc_12")
@example("phone number is   (415) 555-26710")
@example("a%４０b.com")
@example("ſms 1234567")
@example("wxid_8")
def test_no_row_and_no_kind_that_is_passed_over_holds_personal_data(text):
    assert redacted(text)[0] == unfiltered(text)
    assert_no_kind_is_passed_over([text])


@given(text=pieces() | texts(), before=st.integers(0, BLOCK_READ))
def test_personal_data_are_found_wherever_they_lie_in_a_batch(text, before):
    # Bytes are passed over in blocks, but not at the end of the data.
    rows = ["." * before + text, "b" * BLOCK_READ]
    masked, _ = redact(pa.array(rows))
    assert masked.to_pylist() == [unfiltered(rows[0]), rows[1]]
    assert_no_kind_is_passed_over(rows)


def assert_no_kind_is_passed_over(rows):
    possible = int(kinds_possible(pa.array(rows, pa.large_string()))[0])
    for bit, name in enumerate(ALL):
        if mask_once(rows[0], 1 << bit, 1 << bit)[1]:
            assert possible >> bit & 1, name


@pytest.mark.parametrize(("kind", "text", "expected"), LABELLED + MISSED)
def test_no_labelled_case_depends_on_what_is_passed_over(kind, text, expected):
    for around in ("{}", "。{}。", "a {} b", "12 {} 34", "(+{})"):
        surrounded = around.format(text)
        assert redacted(surrounded)[0] == unfiltered(surrounded)
        assert redact(pa.array([surrounded, "b" * BLOCK_READ]))[0][0].as_py() == unfiltered(surrounded)


@given(
    text=pieces() | texts(),
    mentions=st.sampled_from(["keep", "mask", "drop"]),
    urls=st.sampled_from(["keep", "mask", "drop"]),
)
@example("http:/@b /a.b", "drop", "drop")
@example("138@小红 00138000", "drop", "keep")
def test_redacting_twice_changes_nothing_more(text, mentions, urls):
    once, _ = redacted(text, mentions=mentions, urls=urls)
    assert redacted(once, mentions=mentions, urls=urls) == (once, {})


@given(text=pieces() | texts())
def test_all_that_is_no_personal_data_stays_as_it_was(text):
    masked, counts = redacted(text)
    parts = re.split(PLACEHOLDER.pattern, masked)
    assert re.fullmatch("(?:.+?)".join(map(re.escape, parts)), text, re.DOTALL)
    placeholders = len(parts) - 1 - len(PLACEHOLDER.findall(text))
    assert placeholders <= sum(counts.values())
    assert (placeholders > 0) == (masked != text)


@pytest.mark.parametrize(("text", "masked", "dropped"), MENTIONS)
def test_mentions_are_kept_masked_or_dropped(text, masked, dropped):
    assert redacted(text) == (text, {})
    assert redacted(text, mentions="mask")[0] == masked
    assert redacted(text, mentions="drop")[0] == dropped
    assert bool(redacted(text, mentions="drop")[1]) == (dropped != text)


@pytest.mark.parametrize(("text", "masked", "dropped"), URLS)
def test_links_are_kept_masked_or_dropped(text, masked, dropped):
    assert redacted(text) == (text, {})
    assert redacted(text, urls="mask")[0] == masked
    assert redacted(text, urls="drop")[0] == dropped
    assert redacted(text, urls="mask")[1] == ({"url": masked.count("<URL>")} if masked != text else {})


def test_a_mention_with_its_host_is_one_mention_and_an_address_when_mentions_are_kept():
    text = "see @jane@example.social, now"
    assert redacted(text, mentions="mask") == ("see @user, now", {"mention": 1})
    assert redacted(text, mentions="drop") == ("see , now", {"mention": 1})
    assert redacted(text) == ("see @<EMAIL>, now", {"email": 1})


def test_a_link_goes_whole_before_the_data_in_it():
    text = "see http://10.0.0.1/?mail=a@b.com or mail a@b.com"
    assert redacted(text, urls="mask") == ("see <URL> or mail <EMAIL>", {"url": 1, "email": 1})


def test_rows_keep_their_places_and_their_counts():
    rows = ["none", "a@b.com c@d.com", "", "电话13800138000 @小红"]
    array, counts = redact(pa.chunked_array([["skip"], rows]).slice(1), mentions="mask")
    assert array.to_pylist() == ["none", "<EMAIL> <EMAIL>", "", "电话<PHONE> @user"]
    assert counts["email"].tolist() == [0, 2, 0, 0]
    assert counts["phone"].tolist() == [0, 0, 0, 1]
    assert counts["mention"].tolist() == [0, 0, 0, 1]
    assert {found.dtype for found in counts.values()} == {np.dtype(np.uint32)}


def test_only_the_kinds_asked_for_go():
    array, counts = redact(pa.array(["a@b.com 13800138000"]), ["phone"])
    assert array.to_pylist() == ["a@b.com <PHONE>"]
    assert list(counts) == ["phone"]


@pytest.mark.parametrize(
    "text",
    [
        *["1" * 200_000, "1 " * 100_000, "a." * 100_000, "a@" * 100_000, "::" * 100_000, "a:" * 100_000],
        *["wx" * 100_000, "微信" * 60_000, "@a" * 100_000, "www." * 50_000, "138 0013 " * 20_000, "http://" * 30_000],
    ],
)
def test_a_text_made_to_be_slow_is_not(text):
    assert len(redact(pa.array([text]), mentions="mask", urls="mask")[0]) == 1


def test_edge_cases_in_one_batch_are_as_they_are_alone():
    rows = [*EDGES, *[text for _, text, _ in LABELLED]]
    assert redact(pa.array(rows))[0].to_pylist() == [redacted(row)[0] for row in rows]


def test_no_rows_give_no_rows():
    assert redact(pa.array([], pa.string()))[0].to_pylist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["emial"]}, "did you mean 'email'"),
        ({"mentions": "hide"}, "mentions is 'hide'; allowed: keep, mask, drop"),
        ({"urls": True}, "urls is True; allowed: keep, mask, drop"),
    ],
)
def test_an_unknown_kind_or_option_is_refused_with_what_is_allowed(options, message):
    with pytest.raises(RedoneError, match=message):
        redact(pa.array(["a"]), **options)


def test_a_recipe_sets_every_option_and_its_plain_list_of_kinds_still_reads():
    values = {"redact": ["email"], "mentions": "drop", "urls": "mask", "markup": "strip", "whitespace": "keep"}
    text = pa.array(["@a  hi  a@b.com 13800138000 http://t.cn/a [笑哭]"])
    plain = read_config(ReadConfig, {}, where="recipe.yaml").clean(text)
    assert plain[0].to_pylist() == ["@a hi <EMAIL> <PHONE> http://t.cn/a [笑哭]"]
    cleaned, counts = read_config(ReadConfig, values, where="recipe.yaml").clean(text)
    assert cleaned.to_pylist() == ["hi  <EMAIL> 13800138000 <URL>"]
    assert {name: found.tolist() for name, found in counts.items()} == {"email": [1], "mention": [1], "url": [1]}
    with pytest.raises(RedoneError, match=r"recipe.yaml: mentions: 'hide' is not allowed; .*keep, mask"):
        read_config(ReadConfig, {"mentions": "hide"}, where="recipe.yaml")


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
@pytest.mark.parametrize(
    "name", ["weibo_comments.jsonl.zst", "reddit_posts.jsonl.zst", "multilingual_social.jsonl.zst"]
)
def test_real_posts_are_redacted_as_without_the_scan(name):
    rows = real_posts(name, 1500)
    assert redact(pa.array(rows))[0].to_pylist() == list(map(unfiltered, rows))
