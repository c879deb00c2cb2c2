"""Calls to get in touch and offers of goods or work, counted: what posts that sell have, in Chinese and English.

A post that does both, names a way to reach the seller and something on offer, is an advertisement whatever else it
says: ``solicitation_ratio`` is the lesser of the two counts per word, so that a long text may name both in passing;
words are here runs of ASCII letters and digits, and CJK characters. Phrases are data below; a Latin one must stand
between word boundaries, case does not matter. What redaction put in place of a contact (``<CONTACT>``, ``<PHONE>``)
counts as one. One pass over the bytes with a look at a table by three of them: some 250 MB/s a core.
"""

import functools
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, frozen, string_buffers
from redone_data.text.kernel import lean

PROMOTION_METRICS: dict[str, str] = {
    "contact_phrase_count": "calls to get in touch: WeChat and QQ names, 'DM to order', 'link in bio', masked contacts",
    "promotion_phrase_count": "offers: goods, discounts, side jobs, followers, draws",
    "solicitation_ratio": "the lesser of the two counts before, per word",
}

CONTACT = """
<contact> <phone> 加微信 加薇 加我微 加vx 加wx 加我v 加我vx 加q 加我q 加扣 加我好友 加好友咨询 微信号 微信: 微信：
微信同号 微信联系 微信咨询 薇信 徽信 威信号 vx: vx： v信 wx: wx： q群 qq: qq： qq群 qq号 联系qq 扣扣 扣群 私信我
私信了解 私信咨询 私信领取 私聊我 私我 滴滴我 小窗我 咨询热线 咨询电话 订购热线 订购电话 扫码加 扫码领 扫码进
扫码咨询 点击链接 点击下方 戳链接 主页链接 看我主页 进群
"""
CONTACT_PHRASES = """
dm me|dm us|dm to|dm for|dms open|inbox me|inbox us|pm me|text me at|call now|call or text|contact us|email us
whatsapp|telegram|wechat|link in bio|link in my bio|link in profile|link in the bio|link in the my bio
click the link|click link|click here|click on the link|visit our|message us|hmu for|hit me up for|add me on|<phone>
<email>
"""
OFFER = """
代购 招代理 招募代理 诚招 兼职 刷单 刷钻 返利 返现 包邮 优惠券 优惠劵 清仓 日赚 日入 月入 日结 在家赚 轻松赚 零投资
无需投资 免费加盟 正品保证 假一赔 假一罚 秒杀 特价 限时抢 抢购 批发 一手货源 货源 厂家直销 接单 团购 淘宝店 微店
网店 代发 代写 代办 贷款 办证 代开 刷粉 买粉 涨粉 互粉 加粉 刷赞 推广 粉丝抽奖 减肥药 瘦身 丰胸 祛斑 祛痘 增高 壮阳
包夜 上门服务 约炮 时时彩 六合彩 博彩 荐股 牛股 免费领 免费送 红包群 网赚
"""
OFFER_PHRASES = """
buy now|order now|order yours|shop now|free shipping|limited time|discount code|promo code|coupon code|use code
% off|giveaway|earn money|make money|extra cash|extra income|work from home|be your own boss|for sale|on sale
best price|lowest price|wholesale|restock|pre-order|sign up now|free trial|gain followers|more followers
get followers|follow back|followback|follow for follow|f4f|l4l|subscribe to my|check out my|enter to win
chance to win|weight loss|lose weight fast|payday loan|casino|forex|hookup|escort|onlyfans
"""
CONTACTS, OFFERS, WORDS = range(3)
SLOT_BITS = 16
SLOT_MULTIPLIER = np.uint32(0x9E3779B1)


def promotion_metrics(array: pa.Array | pa.ChunkedArray) -> pl.DataFrame:
    """One row a text, one column a metric of ``PROMOTION_METRICS``: counts int64, the ratio float64.

    Raises :class:`RedoneError` for nulls.
    """
    offsets, data = string_buffers(array)
    counts = np.zeros((len(offsets) - 1, 3), np.int64)
    _count_rows(offsets, data, *phrases(), counts)
    lesser = np.minimum(counts[:, CONTACTS], counts[:, OFFERS])
    columns = [counts[:, CONTACTS], counts[:, OFFERS], lesser / np.maximum(counts[:, WORDS], 1)]
    return pl.DataFrame([pl.Series(name, column) for name, column in zip(PROMOTION_METRICS, columns, strict=True)])


def phrase_list() -> dict[str, int]:
    """Phrase in small letters -> CONTACTS or OFFERS."""
    contacts = [*CONTACT.split(), *CONTACT_PHRASES.replace("\n", "|").split("|")]
    offers = [*OFFER.split(), *OFFER_PHRASES.replace("\n", "|").split("|")]
    return {**dict.fromkeys(filter(None, contacts), CONTACTS), **dict.fromkeys(filter(None, offers), OFFERS)}


@functools.cache
def phrases() -> tuple[Int64, Int64, Bytes, Bytes]:
    """(where the phrases of each slot begin, offsets, bytes, kinds); of those in one slot the longest comes first."""
    listed = phrase_list().items()
    ordered = sorted((slot_of_head(text.encode()), -len(text.encode()), text, kind) for text, kind in listed)
    texts = [text.encode() for _, _, text, _ in ordered]
    slots = [slot for slot, *_ in ordered]
    return (
        frozen(np.searchsorted(slots, np.arange((1 << SLOT_BITS) + 1)).astype(np.int64)),
        frozen(np.cumsum([0, *map(len, texts)], dtype=np.int64)),
        frozen(np.frombuffer(b"".join(texts), np.uint8).copy()),
        frozen(np.array([kind for *_, kind in ordered], np.uint8)),
    )


def slot_of_head(text: bytes) -> int:
    """The slot of a phrase; three bytes (a CJK character, f4f) are enough to find it."""
    head = sum((byte | 0x20) << (8 * index) for index, byte in enumerate(text[:3]))
    return (head * int(SLOT_MULTIPLIER) & 0xFFFFFFFF) >> (32 - SLOT_BITS)


@lean
def _count_rows(
    offsets: Int64, data: Bytes, first: Int64, starts: Int64, letters: Bytes, kinds: Bytes, counts: Int64
) -> None:
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        position = begin
        inside = False
        while position < end:
            # A word begins; other three-byte characters (a third of them marks, as …) count as CJK.
            latin = is_latin(data[position])
            counts[row, WORDS] += (latin and not inside) or 0xE2 <= data[position] < 0xF0
            inside = latin
            after = position + 1
            if position + 3 <= end:
                head = (np.int64(data[position]) | 0x20) | (np.int64(data[position + 1]) | 0x20) << 8
                head |= (np.int64(data[position + 2]) | 0x20) << 16
                slot = np.int64(np.uint32(np.uint32(head) * SLOT_MULTIPLIER) >> np.uint32(32 - SLOT_BITS))
                for index in range(first[slot], first[slot + 1]):
                    size = starts[index + 1] - starts[index]
                    if matches(data, begin, position, end, letters, starts[index], size):
                        counts[row, kinds[index]] += 1
                        after = position + size
                        break
            position = after


@lean
def matches(data: Bytes, begin: int, position: int, end: int, letters: Bytes, start: int, size: int) -> bool:
    """Whether the phrase stands at ``position``, no Latin letter or digit running on beyond its own."""
    if position + size > end:
        return False
    for index in range(size):
        byte: Any = data[position + index]
        if 65 <= byte <= 90:
            byte |= 0x20
        if byte != letters[start + index]:
            return False
    if is_latin(letters[start]) and position > begin and is_latin(data[position - 1]):
        return False
    return not (is_latin(letters[start + size - 1]) and position + size < end and is_latin(data[position + size]))


@lean
def is_latin(byte: int) -> bool:
    """An ASCII letter or digit."""
    return 97 <= (byte | 0x20) <= 122 or 48 <= byte <= 57
