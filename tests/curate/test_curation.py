"""Whole curations: nothing is lost, nothing is said twice, and the same posts always give the same corpus."""

import copy
import itertools
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation import WORDS, Curated, curate, domain, posts, run_recipe, sentence, write_jsonl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redone_data.corpus import CURATED_SCHEMA
from redone_data.curate.ledger import LEDGER_SCHEMA
from redone_data.errors import RedoneError
from redone_data.text.minhash import jaccard, shingles

MIN_RULE = re.compile("too_few_")
ALL_DROPS = {"identity", "language", "rules", "exact", "near"}


def check(run: Curated, num_read: int) -> None:
    """What holds of every curation."""
    corpus, ledger = run.table("corpus"), run.table("ledger")
    assert corpus.height + ledger.height == num_read
    assert len({*corpus["id"], *ledger["id"]}) == num_read, "an id is in both, or twice"
    assert set(ledger["step"]) <= ALL_DROPS
    assert corpus.null_count().select("id", "text", "domain", "source", "lang", "split").sum_horizontal().sum() == 0
    everything = {**run.kept, **run.dropped}
    for row in ledger.iter_rows(named=True):
        if row["step"] in ("exact", "near"):
            assert row["rule"] == f"{row['step']}_duplicate"
            assert row["duplicate_of"] in run.kept, row
            assert row["value"] >= row["bound"] - 1e-9
        elif row["step"] == "identity":
            assert row["rule"] == "repeated_id"
            assert row["duplicate_of"] in everything
            assert row["value"] > row["bound"] == 0
        else:
            assert row["duplicate_of"] is None
            if row["step"] == "language":
                assert row["rule"] == "other_language"
                assert row["value"] >= row["bound"]
            elif MIN_RULE.match(row["rule"]):
                assert row["value"] < row["bound"]
            else:
                assert row["value"] > row["bound"]
    for text, row in ((row["text"], row) for row in corpus.iter_rows(named=True)):
        assert text == text.strip(), row
    assert corpus["text"].n_unique() == corpus.height, "an exact duplicate was kept"


# --- Conservation ----------------------------------------------------------------------------------------------------

CHINESE = ["今天天气真好，我们一起去公园散步吧", "这家店的咖啡很好喝，下次还会再来", "周末打算去爬山，有人一起吗？"]
SHORT = ["ok", "😂😂😂", "#tag #tag #tag", "@you", "", "http://t.cn/abc http://t.cn/def", "好"]


@st.composite
def corpora(draw):
    """Three domains of posts, planted with everything that curation meets."""
    number = itertools.count()
    found = {}
    for name in ("notes", "comments", "wiki"):
        kinds = draw(st.lists(st.sampled_from(["new", "zh", "short", "copy", "near", "id"]), min_size=5, max_size=40))
        records = [{"id": f"{name}-{i}", "text": sentence(next(number)), "likes": i} for i in range(8)]
        for kind in kinds:
            other = draw(st.sampled_from([record for group in [records, *found.values()] for record in group]))
            likes = draw(st.sampled_from([None, -1, 0, 3, 3, 10**9]))
            text = {
                "new": sentence(next(number)),
                "zh": draw(st.sampled_from(CHINESE)),
                "short": draw(st.sampled_from(SHORT)),
                "copy": other["text"],
                "near": other["text"] + draw(st.sampled_from(["!", " 😂", " ok", "  #tag"])),
                "id": sentence(next(number)),
            }[kind]
            identity = other["id"] if kind == "id" else f"{name}-{next(number)}"
            records.append({"id": identity, "text": text, "likes": likes})
        found[name] = records
    return found


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(corpora(), st.integers(0, 2), st.booleans(), st.sampled_from(["sns", "none"]), st.integers(1, 3))
def test_every_document_is_kept_or_has_one_line_in_the_ledger(
    tmp_path_factory, found, priority, chinese_only, preset, num_files
):
    folder = tmp_path_factory.mktemp("conservation")
    domains = {}
    for name, records in found.items():
        for i in range(num_files):
            write_jsonl(folder / name / f"{i}.jsonl", records[i::num_files])
        domains[name] = domain(f"{name}/*.jsonl", rules={"preset": preset})
    domains["notes"]["priority"] = priority
    domains["wiki"]["languages"] = ["zh", "en"] if chinese_only else []
    run = run_recipe(folder, {"domains": domains, "read": {"part_bytes": 1}})
    assert run.run.curation.corpus is not None
    assert len(run.run.curation.corpus.parts) == 3 * num_files
    check(run, sum(map(len, found.values())))


# --- One rich corpus -------------------------------------------------------------------------------------------------


def rich() -> dict[str, list[dict]]:
    """Two domains with copies and near copies in and between them, short posts and repeated ids."""
    notes = posts(200, prefix="n")
    comments = posts(150, seed=1, prefix="c")
    comments += [{"id": f"x{i}", "text": notes[i]["text"], "likes": i} for i in range(20)]
    comments += [{"id": f"y{i}", "text": notes[i]["text"] + " 😂", "likes": i} for i in range(20, 40)]
    comments += [
        {"id": f"z{i}", "text": text, "likes": i}
        for i, text in enumerate(["ok", "what a day #a #b #c #d", "what a day @a @b @c @d"] * 3)
    ]
    comments += [{**comments[i], "likes": 100} for i in range(5)]
    return {"notes": notes, "comments": comments}


RULES = {"domains": {"notes": {"priority": 1}, "comments": {"rules": {"preset": "sns"}}}}


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    return curate(tmp_path_factory.mktemp("rich"), rich(), **RULES)


def test_drops_are_what_was_planted(curated):
    check(curated, sum(map(len, rich().values())))
    duplicates = {"repeated_id": 5, "exact_duplicate": 20, "near_duplicate": 20}
    assert curated.rules() == {**duplicates, "too_few_words": 3, "too_many_hashtags": 3, "too_many_mentions": 3}


def test_the_tables_have_the_documented_columns(curated):
    for kind, schema in (("corpus", CURATED_SCHEMA), ("ledger", LEDGER_SCHEMA)):
        for path in curated.folder(kind).rglob("*.parquet"):
            assert pq.read_schema(path).equals(schema)


def test_statistics_add_up(curated):
    for name, counts in curated.run.curation.ledger.statistics["domains"].items():
        assert counts["read"] == len(rich()[name])
        assert counts["train"] + counts["validation"] + sum(counts["drops"].values()) == counts["read"]
        kept = [row["text"] for row in curated.kept.values() if row["domain"] == name]
        assert counts["kept_bytes"] == sum(len(text.encode()) for text in kept)


def test_the_same_recipe_gives_the_same_bytes_with_any_number_of_workers(curated, tmp_path):
    again = curate(tmp_path, rich(), executor={"workers": 2}, **RULES)
    assert again.files("corpus") == curated.files("corpus")
    assert again.files("ledger") == curated.files("ledger")


def test_running_again_computes_nothing(curated):
    assert run_again(curated).run.engine.ran == []


def run_again(run: Curated, **changes) -> Curated:
    """The same recipe, changed, in the same folder; ``a__b`` is the key a.b."""
    recipe = copy.deepcopy(run.recipe)
    for path, value in changes.items():
        *keys, last = path.split("__")
        inner = recipe
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return run_recipe(run.root.parent, recipe, out=run.root.name)


def test_a_changed_rule_or_priority_recomputes_no_metrics_and_no_near_duplicates(curated):
    for change in (
        {"domains__comments__rules": {"preset": "sns", "bounds": {"num_words": {"min": 2}}}},
        {"domains__comments__languages": ["en"]},
        {"curate__language": {"min_confidence": 0.9}},
    ):
        ran = {name.rpartition("-")[0] for name in run_again(curated, **change).run.engine.ran}
        assert ran == {"judge", "resolve", "ledger", "keep"}
    assert {n.rpartition("-")[0] for n in run_again(curated, curate__validation={"fraction": 0.1}).run.engine.ran} == {
        "ledger",
        "keep",
    }
    ran = run_again(curated, domains__notes__priority=0).run.engine.ran
    assert {name.rpartition("-")[0] for name in ran} == {"resolve", "ledger", "keep"}


def test_curating_what_was_kept_drops_nothing_more(curated, tmp_path):
    kept = {
        name: [
            {"id": row["id"], "text": row["text"], "likes": row["engagement"]}
            for row in curated.kept.values()
            if row["domain"] == name
        ]
        for name in ("notes", "comments")
    }
    again = curate(tmp_path, kept, **RULES)
    assert again.rules() == {}
    assert again.texts == curated.texts


def test_validation_documents_have_no_twin_in_training(curated):
    corpus = curated.table("corpus")
    split = {name: corpus.filter(pl.col("split") == name)["text"].to_list() for name in ("train", "validation")}
    assert 10 < len(split["validation"]) < 0.3 * corpus.height
    grams = shingles(pa.array(split["validation"] + split["train"], pa.large_string()), ngram=3)
    left, right = np.meshgrid(
        np.arange(len(split["validation"])), len(split["validation"]) + np.arange(len(split["train"]))
    )
    assert jaccard(grams, left.ravel(), right.ravel()).max() < 0.5


def test_validation_is_drawn_by_id_so_that_a_larger_corpus_keeps_it(tmp_path):
    shares = {"curate": {"validation": {"fraction": 0.2, "min_documents": 0}}}
    small = curate(tmp_path, {"d": posts(100)}, out="small", **shares)
    large = curate(tmp_path, {"d": [*posts(100, seed=5, prefix="q"), *posts(100)]}, out="large", **shares)
    held_out = {identity for identity, row in small.kept.items() if row["split"] == "validation"}
    assert len(held_out) > 5
    assert held_out == {i for i, row in large.kept.items() if row["split"] == "validation" and i in small.kept}


# --- Who stays -------------------------------------------------------------------------------------------------------


def test_priority_then_engagement_then_id_decides_and_never_the_order_of_files(tmp_path):
    text = {key: sentence(i) for i, key in enumerate(["priority", "likes", "id", "none"], 900)}
    low = [
        {"id": "1", "text": text["priority"], "likes": 1_000},
        {"id": "2", "text": text["likes"], "likes": 2},
        {"id": "3", "text": text["likes"], "likes": 7},
        {"id": "4", "text": text["id"], "likes": 5},
        {"id": "5", "text": text["id"], "likes": 5},
        {"id": "6", "text": text["none"]},
        {"id": "7", "text": text["none"], "likes": -2},
        *posts(10),
    ]
    high = [{"id": "8", "text": text["priority"], "likes": -1}, *posts(10, seed=3, prefix="h")]
    found = []
    for names, turn in ((("a", "z"), 1), (("z", "a"), -1)):
        corpora = {names[0]: low[::turn], names[1]: high[::turn]}
        # A source's name is part of an id, and so must be the same in both.
        recipe: dict = {"domains": {}}
        for name, source, priority in ((names[0], "low", 0), (names[1], "high", 1)):
            write_jsonl(tmp_path / f"{name}{turn}.jsonl", corpora[name])
            recipe["domains"][name] = domain(f"{name}{turn}.jsonl", priority=priority)
            recipe["domains"][name]["sources"][0]["name"] = source
        run = run_recipe(tmp_path, recipe, out=f"run{turn}")
        kept = {row["text"]: (identity, row["source"], row["engagement"]) for identity, row in run.kept.items()}
        assert kept[text["priority"]][1:] == ("high", -1)
        assert kept[text["likes"]][2] == 7
        assert kept[text["none"]][2] == -2
        rivals = [row["id"] for row in run.dropped.values() if row["duplicate_of"] == kept[text["id"]][0]]
        assert len(rivals) == 1
        assert kept[text["id"]][0] < rivals[0]
        found.append((kept, {(row["id"], row["duplicate_of"]) for row in run.dropped.values()}))
    assert found[0] == found[1]


ZH = "今天我们去了城市中心的那家新开的咖啡店，店里的装修非常漂亮，咖啡也很好喝，价格还算合理，下次还想带朋友一起来。"


def test_near_copies_are_found_and_unrelated_posts_are_not(tmp_path):
    originals = [sentence(i) for i in range(40)] + [ZH]
    variants = {
        "emoji": lambda text: text + " 😂👍",
        "case": str.upper,
        "word": lambda text: " ".join(["changed", *text.split()[1:]]) if " " in text else text.replace("漂亮", "好看"),
        "punctuation": lambda text: text.replace(" ", ", ", 3) + "!!!",
        "mention": lambda text: "@someone " + text,
    }
    records = [{"id": f"o{i}", "text": text, "likes": 10} for i, text in enumerate(originals)]
    records += [
        {"id": f"{n}{i}", "text": v(text), "likes": 1} for n, v in variants.items() for i, text in enumerate(originals)
    ]
    unrelated = posts(300, seed=7, prefix="u")
    run = curate(tmp_path, {"d": [*records, *unrelated]})
    kept = {row["text"] for row in run.kept.values()}
    assert {post["text"] for post in unrelated} <= kept
    assert set(originals) <= kept
    assert len(kept) <= 300 + len(originals) + 0.05 * len(originals) * len(variants)


@pytest.mark.parametrize("best_fails", [False, True])
def test_of_a_crowd_of_near_copies_one_stays_whoever_is_best_and_whichever_domain_wins(tmp_path, best_fails):
    base = sentence(1)
    low = [{"id": f"l{i}", "text": f"{base} {WORDS[i % 60]} {i}", "likes": (i * 37) % 97} for i in range(90)]
    high = [{"id": f"h{i}", "text": f"{base} {WORDS[i % 60]} number {i}", "likes": 0} for i in range(30)]
    for record in sorted(low, key=lambda record: -record["likes"])[: 3 if best_fails else 0]:
        record["text"] += " #a #b #c #d #e #f #g #h"
    rules = {"rules": {"preset": "none", "bounds": {"hashtag_fraction": {"max": 0.05}}}}
    domains = {"high": {"priority": 1, **rules}, "low": rules}
    corpora = {"low": [*low, *posts(10)], "high": [*high, *posts(10, seed=3)]}
    run = curate(tmp_path, corpora, domains=domains)
    crowd = [row for row in run.kept.values() if row["text"].startswith(base)]
    assert [row["domain"] for row in crowd] == ["high"]


def test_no_document_falls_to_one_that_is_itself_dropped(tmp_path):
    foreign, shouting = sentence(50), sentence(51)
    corpora = {
        "strict": [
            {"id": "1", "text": foreign, "likes": 99},
            {"id": "2", "text": shouting + " #a #b #c", "likes": 99},
            *({"id": f"zh{i}", "text": text * 2} for i, text in enumerate(CHINESE)),
        ],
        "lenient": [{"id": "3", "text": foreign}, {"id": "4", "text": shouting}, *posts(10)],
    }
    domains = {
        "strict": {"priority": 5, "languages": ["zh"], "rules": {"bounds": {"hashtag_fraction": {"max": 0}}}},
        "lenient": {},
    }
    run = curate(tmp_path, corpora, domains=domains)
    assert {foreign, shouting} <= {row["text"] for row in run.kept.values() if row["domain"] == "lenient"}
    assert run.rules() == {"other_language": 2} or run.rules() == {"other_language": 1, "too_many_hashtags": 1}


def test_without_near_duplicates_only_equal_texts_are_dropped(tmp_path):
    records = posts(30)
    records += [{"id": "n", "text": records[0]["text"] + " 😂"}, {"id": "e", "text": records[1]["text"]}]
    run = curate(tmp_path, {"d": records}, curate={"near": {"enabled": False}})
    assert run.rules() == {"exact_duplicate": 1}


# --- Rules and language ----------------------------------------------------------------------------------------------


def test_a_rule_that_is_switched_off_drops_nothing_and_one_that_is_added_does(tmp_path):
    records = [{"id": "a", "text": "ok"}, {"id": "b", "text": "#one #two #three"}, {"id": "c", "text": ""}, *posts(20)]
    bounds = {"num_words": {}, "num_chars": {"min": 1}}
    run = curate(tmp_path, {"d": records}, domains={"d": {"rules": {"preset": "sns", "bounds": bounds}}})
    assert "ok" in run.texts
    reasons = {row["rule"]: (row["value"], row["bound"]) for row in run.dropped.values()}
    assert reasons["too_many_hashtags"] == (1, 0.5)
    # Rules are asked in the preset's order, added ones last: an empty post has no letters first of all.
    assert reasons["too_few_letters"] == (0, pytest.approx(0.3))
    assert len(reasons) == 2


LANGUAGES = {
    "zh": CHINESE[0],
    "ja": "今日はとても天気がいいので、友達と公園に行きました。",
    "ko": "오늘 날씨가 정말 좋아서 공원에 갔어요",
    "en": "The weather was lovely today, so we went for a walk in the park with our friends.",
    "fr": "Il faisait très beau aujourd'hui, alors nous sommes allés au parc avec nos amis.",
    "und": "😂😂😂 123",
}


def test_a_post_is_foreign_only_above_the_confidence_and_never_without_letters(tmp_path):
    odd = ["hahaha lol", "ok la", "GG WP", "naruto xD", "hmm 好", "lol 哈哈 nice one"]
    texts = {**LANGUAGES, **{f"odd{i}": text for i, text in enumerate(odd)}}
    records = [{"id": name, "text": text} for name, text in texts.items()]
    foreign = set()
    for confidence in (0.0, 0.6, 1.0):
        run = curate(
            tmp_path,
            {"d": records, "zh": [{"id": "1", "text": CHINESE[1]}, *posts(20)]},
            domains={"d": {"languages": ["zh", "ko"]}},
            curate={"language": {"min_confidence": confidence}},
        )
        part = next(part for part in run.run.curation.corpus.parts if part.domain == "d")
        metrics = pl.from_arrow(run.run.curation.attributes.read(part, ["language", "language_confidence"]))
        read = pl.read_parquet(part.path)["text"].to_list()
        expected = {
            text
            for text, language, sure in zip(read, metrics["language"], metrics["language_confidence"], strict=True)
            if language.split("-")[0] not in ("zh", "ko") and sure >= confidence
        }
        kept = {row["text"]: row["lang"] for row in run.kept.values() if row["domain"] == "d"}
        assert set(read) - set(kept) == expected
        assert {row["bound"] for row in run.dropped.values()} <= {confidence}
        foreign.add(frozenset(expected))
        if confidence == 0.6:
            assert {LANGUAGES["ja"], LANGUAGES["en"], LANGUAGES["fr"]} <= expected
            assert [kept[LANGUAGES[name]] for name in ("zh", "ko", "und")] == ["zh-hans", "ko", "und"]
    assert len(foreign) == 3


# --- Personal data ---------------------------------------------------------------------------------------------------

EMAIL, PHONE = "jane.doe@example.com", "13812345678"


def everything(root: Path) -> str:
    """All that a run's folder says, with tables decoded."""
    said = []
    for path in sorted(root.rglob("*")):
        if path.suffix == ".parquet":
            said.append(str(pq.read_table(path).to_pylist()))
        elif path.suffix == ".arrow":
            said.append(str(pa.ipc.open_file(path.read_bytes()).read_all().to_pylist()))
        elif path.is_file():
            said.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(said)


def test_no_address_or_number_is_left_anywhere_in_the_runs_folder(tmp_path):
    def full(name: str) -> object:
        return {
            "plain": f"mail {EMAIL}, call {PHONE}.",
            "lines": f"电话\n{PHONE}\t{PHONE}\r\n{EMAIL}\u2028x",
            "number": int(PHONE),
            "float": float(PHONE),
            "list": [EMAIL, {"deep": PHONE, EMAIL: 1}],
            "wide": "１３８１２３４５６７８",
        }[name]

    names = ["plain", "lines", "number", "float", "list", "wide"]
    records = [{"id": EMAIL, "text": f"{sentence(1)} {EMAIL}，电话{PHONE}", "bio": EMAIL, "likes": 1}]
    records += [
        {"id": f"{PHONE}{name}", "text": sentence(i) + f" 手机：{PHONE}", "bio": full(name)}
        for i, name in enumerate(names, 2)
    ]
    lines = [json.dumps(record) for record in [*records, *posts(200, seed=3)]]
    bad = [f'{{"text": "{EMAIL}', f'{{"id": 1, "{EMAIL}": {PHONE}}}']
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, *bad]))
    run = run_recipe(tmp_path, {"domains": {"d": domain("a.jsonl")}})
    said = everything(run.root)
    assert "<EMAIL>" in said
    assert "<PHONE>" in said
    for secret in (EMAIL, "example.com", PHONE, full("wide")):
        assert secret not in said
    assert run.run.reads[0].statistics["redacted"] == {"email": 1, "phone": 7}
    meta = [json.loads(row["meta"]) for row in run.kept.values() if row["meta"]]
    assert {"bio": "电话\n<PHONE>\t<PHONE>\n<EMAIL>\nx"} in meta
    assert {"bio": ["<EMAIL>", {"deep": "<PHONE>", "<EMAIL>": 1}]} in meta


def test_redaction_of_one_kind_leaves_the_others(tmp_path):
    records = [{"id": "1", "text": f"{sentence(1)} {EMAIL} {PHONE}", "bio": f"{EMAIL} {PHONE}"}, *posts(10, seed=3)]
    run = curate(tmp_path, {"d": records}, read={"redact": ["email"]})
    row = next(row for row in run.kept.values() if row["meta"])
    assert row["text"].endswith(f"<EMAIL> {PHONE}")
    assert json.loads(row["meta"]) == {"bio": f"<EMAIL> {PHONE}"}


# --- Odd shapes ------------------------------------------------------------------------------------------------------


def test_odd_domain_names_tiny_files_and_parts_without_survivors(tmp_path):
    names = ["tweet/hate", "tweet%2Fhate", "小红书 笔记", "[bold]x[/]", "a'b;c"]
    domains = {}
    for number, name in enumerate(names):
        for i, post in enumerate(posts(4, seed=number)):
            write_jsonl(tmp_path / str(number) / f"{i}.jsonl", [{**post, "id": f"{number}-{i}"}])
        write_jsonl(tmp_path / str(number) / "short.jsonl", [{"id": f"{number}-{i}s", "text": "ok"} for i in range(3)])
        (tmp_path / str(number) / "empty.jsonl").write_text("")
        domains[name] = domain(f"{number}/*.jsonl", rules={"preset": "sns"})
    run = run_recipe(tmp_path, {"domains": domains, "read": {"part_bytes": 1}})
    assert len(run.run.curation.corpus.parts) == 5 * len(names)
    check(run, 7 * len(names))
    assert run.rules() == {"too_few_words": 3 * len(names)}
    assert {row["domain"] for row in run.kept.values()} == set(names)
    assert all(path.is_relative_to(run.root) for path in run.root.rglob("*"))
    empty = [task for task in run.run.kept.tasks if not task["rows"]]
    assert len(empty) == len(names)
    assert all(pq.read_table(run.run.kept.folder / task["file"]).num_rows == 0 for task in empty)


def test_a_domain_of_which_nothing_is_left_is_named_with_the_rule_that_took_most(tmp_path):
    corpora = {"d": posts(5), "short": [{"id": str(i), "text": f"ok {i}"} for i in range(5)]}
    message = r"domain 'short' has no training documents.*rules/too_few_words \(5\); loosen domains\.short\.rules"
    with pytest.raises(RedoneError, match=message):
        curate(tmp_path, corpora, domains={"short": {"rules": {"preset": "sns"}}}).run.execute("tokenize")
