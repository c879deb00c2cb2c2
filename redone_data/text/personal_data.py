"""What personal data look like in Chinese and English posts: patterns, check digits, and what they are mistaken for.

Python's ``re`` throughout, over half-width text: it has the look-around that Rust's regexes lack, and ``\\b`` beside a
Chinese character misfires. A pattern must not match what personal_scan.py passes over: change both together. Check
digits: GB 11643-1999 for identity numbers, ISO/IEC 7812-1 (Luhn) for cards. North American numbers: https://nanpa.com.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of personal data: where it is, and what stands in for it."""

    placeholder: str
    pattern: re.Pattern[str]  # over half-width text; the group `data` is what goes, else all
    accepts: Callable[[str, re.Match[str]], bool]


NOT_A_NUMBER_OF_A_PERSON = re.compile(
    r"(?:订单|单号|编号|流水|运单|快递|货号|型号|条码|序列|批号|工单|案号|(?<![a-z])(?:order|tracking|invoice|ticket|serial"
    r"|model|sku|isbn|barcode|uid|id|no))[号码是为:=#.\s]*(?:(?:is|number|no|id|code)[:=#.\s]*)*\Z",
    re.IGNORECASE,
)
VERSION = re.compile(
    r"(?:(?<![a-z])(?:v|ver|version|versions|release|firmware|build|driver|update[sd]?|upgrade[sd]?|chrome|android|ios"
    r"|sections?|chapter|clause|rule|step|item|releases\\|§)"
    r"|版本号?|固件|内核|系统|驱动|更新[到至]?|更新内容|升级[到至]?|章节?|条款?|第)[号:.\s]*(?:(?:is|to|为|是|v)[:.\s]*)*\Z",
    re.IGNORECASE,
)
VERSION_AFTER = re.compile(r"\s?(?:版本|\(?(?:free )?version|release)", re.IGNORECASE)
PHONE_WORD = re.compile(
    r"(?:(?<![a-z])(?:call|text|phone|tel|telephone|cell|mobile|fax|dial|ring|reach|whatsapp|sms)|电话|手机|致电|拨打|联系)",
    re.IGNORECASE,
)
# A parameter of a link that says what its value is.
PERSONAL_PARAMETER = re.compile(
    r"[?&;](?:phone|mobile|tel|telephone|cell|msisdn|whatsapp|qq|wechat|weixin|wx|idcard|id_card|card|bankcard)=\Z",
    re.IGNORECASE,
)
DATE = re.compile(r"(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ]\d|\d[-./ ][01]?\d[-./ ](?:19|20)\d\d(?!\d)")
CONTEXT = 24
IMAGE_NAMES = {"png", "jpg", "jpeg", "gif", "webp", "svg", "bmp", "heic", "mp4", "avif"}
# What is counted or paid: no number to dial stands before it, no account before that of QUANTITY.
SUM = re.compile("[元块万亿人次]|[美欧日港]元")
NAME_SERVERS = {(8, 8, 4, 4), (1, 0, 0, 1)}
QUANTITY = "人元块个万亿千年月日次名位粉条张天版"


def data_span(match: re.Match[str]) -> tuple[int, int]:
    """What of a match is personal: its group ``data`` where there is one, else all."""
    told = "data" in match.re.groupindex and match["data"] is not None
    return match.span("data") if told else match.span()


def before(text: str, match: re.Match[str]) -> str:
    """The text just before the personal part of a match."""
    start, _ = data_span(match)
    return text[max(0, start - CONTEXT) : start]


def in_link(text: str, position: int) -> bool:
    """Whether ``position`` lies in a web address, whose digits are names of pages."""
    start = position
    while start > 0 and "!" <= text[start - 1] <= "~" and position - start < 2048:
        start -= 1
    return re.search(r"https?://|www\.|\w\.(?:com|cn|net|org|io)/", text[start:position], re.IGNORECASE) is not None


def digits_of(text: str) -> str:
    return re.sub(r"\D", "", text)


def is_personal_number(text: str, match: re.Match[str]) -> bool:
    """Whether the digits are neither in a link nor introduced as the number of an order or a thing."""
    context = before(text, match)
    if NOT_A_NUMBER_OF_A_PERSON.search(context):
        return False
    return not in_link(text, data_span(match)[0]) or PERSONAL_PARAMETER.search(context) is not None


def is_email(text: str, match: re.Match[str]) -> bool:
    # git@host:path is an address of code.
    code = match["name"].lower() == "git" and text[match.end() : match.end() + 1] in (":", "/")
    return match["tld"].lower() not in IMAGE_NAMES and not code


def is_phone(text: str, match: re.Match[str]) -> bool:
    if not is_personal_number(text, match) or SUM.match(text, data_span(match)[1]):
        return False
    number = match["international"] or match["data"]
    if number and DATE.search(number):
        return False
    if match["international"]:
        return len(digits_of(number)) >= (8 if re.search(r"\d\D", number) else 10)
    if match["near"]:
        return PHONE_WORD.search(before(text, match)) is not None
    return True


def is_cn_id(text: str, match: re.Match[str]) -> bool:
    characters = match[0].replace(" ", "").upper()
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    check = sum(int(digit) * weight for digit, weight in zip(characters, weights, strict=False)) % 11
    return "10X98765432"[check] == characters[17]


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


# How cards of each length begin: Diners; American Express; Visa, Mastercard, JCB, Discover and UnionPay; UnionPay.
ISSUERS = {14: "30[0-5]|3[689]", 15: "3[47]", 16: "4|5|2(?:2[2-9]|[3-6]|7[01])|35|6", 17: "6", 18: "6", 19: "6"}


def is_bank_card(text: str, match: re.Match[str]) -> bool:
    digits = digits_of(match[0])
    groups = re.split(r"[ -]", match[0])
    return (
        re.match(ISSUERS.get(len(digits), "!"), digits) is not None
        and len(set(digits)) > 1
        and not re.fullmatch("23+", digits)  # laughter
        and all(len(group) >= 4 for group in groups[:-1])
        and len(set(re.findall(r"[ -]", match[0]))) <= 1
        and is_luhn(digits)
        and is_personal_number(text, match)
    )


def is_ip(text: str, match: re.Match[str]) -> bool:
    if match["v4"]:
        octets = [int(octet) for octet in match["v4"].split(".")]
        # Everyone's own machine, no machine, and the masks of networks name nobody.
        if max(octets) > 255 or octets[0] in (0, 127, 255):
            return False
        # Small numbers are versions, chapters and lists; of addresses one in 4,000, name servers apart.
        if max(octets) < 32 and octets[0] != 10 and len(set(octets)) > 1 and tuple(octets) not in NAME_SERVERS:
            return False
        return not VERSION.search(before(text, match)) and not VERSION_AFTER.match(text, match.end())
    groups = [group for group in match[0].split(":") if group]
    try:
        ipaddress.IPv6Address(match[0])
    except ValueError:
        return False
    # Short forms such as a::b are names in C++ more often than addresses.
    return len(groups) >= 3 or (len(groups) == 2 and len(groups[0]) == 4 and not groups[0].isalpha())


def is_contact(text: str, match: re.Match[str]) -> bool:
    name, told = match["data"], ":" in match["between"] or "=" in match["between"] or "号" in match["between"]
    if name.isdigit():
        return text[match.end() : match.end() + 1] not in QUANTITY or match.end() == len(text)
    if not match["between"] and match.start() < match.start("data") and text[match.start("data") - 1].isascii():
        return False  # wxWidgets_app
    return told or any(not character.isalpha() for character in name)


TOLD_ENGLISH = (
    "(?<![a-z])(?:call|text|phone|telephone|tel|cell|mobile|whatsapp|wa|fax|dial|sms)(?: (?:me|us|him|her|them))?"
    "(?: ?(?:number|no))?(?: (?:is|at|on|was))?"
)
TOLD_CHINESE = "(?:电话|热线|致电|拨打|传真|座机|手机号)(?:号?码)?[是为]?"
# An area or an exchange of the North American plan: no 0, 1 or 911 to begin with, no round area but the service codes.
AREA = "(?:[2-9](?!11|00)[0-8][0-9]|800|900)"
EXCHANGE = "[2-9](?!11)[0-9]{2}"
KINDS: dict[str, Kind] = {
    "email": Kind(
        "<EMAIL>",
        re.compile(
            r"(?<![A-Za-z0-9])(?P<name>[A-Za-z0-9][A-Za-z0-9._+\-]{0,63}(?:%[A-Za-z0-9._+%\-]{0,20})?)"
            r"(?:@|(?<!%)%40|#(?=(?:qq|163|126|139|sina|foxmail|gmail|outlook|hotmail)\.))"
            r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}(?P<tld>[A-Za-z]{2,24})(?![A-Za-z0-9])"
        ),
        is_email,
    ),
    "ip": Kind(
        "<IP>",
        re.compile(
            r"(?<![0-9A-Za-z_.\-])(?P<v4>[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?![0-9A-Za-z_\-]|\.[0-9])"
            r"|(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:]|\.[0-9])"
        ),
        is_ip,
    ),
    "cn_id": Kind(
        "<CN_ID>",
        re.compile(
            r"(?<![0-9A-Za-z_])[1-9][0-9]{5} ?(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
            r" ?[0-9]{3}[0-9Xx]"
            r"(?![0-9A-Za-z_])"
        ),
        is_cn_id,
    ),
    "bank_card": Kind(
        "<BANK_CARD>",
        re.compile(r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][.,\-])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z_]|[.,\-][0-9])"),
        is_bank_card,
    ),
    "phone": Kind(
        "<PHONE>",
        re.compile(
            # First what each branch begins with: most characters of a text are passed over for that.
            r"(?:(?=[0-9+(])(?:(?<![0-9A-Za-z_])|(?<=tel)|(?<=mob)|(?<=phone))(?<![0-9][.,\-])(?:"
            r"(?:(?:\+|00)?86[ \-]?)?1[3-9][0-9](?:[ \-.]?[0-9]{4}[ \-.]?[0-9]{4}|[ \-][0-9]{3}[ \-][0-9]{5}"
            r"|[0-9][ \-][0-9]{3}[ \-][0-9]{4}|[0-9]{2}[ \-][0-9]{6})"
            r"|(?:\(0(?:10|2[0-9]|[3-9][0-9]{2})\) ?|0(?:10|2[0-9]|[3-9][0-9]{2})[ \-]?)[2-8][0-9]{2,3}[ \-]?[0-9]{4}"
            r"|(?P<international>\+[1-9](?:[ \-.()]{0,2}[0-9]){7,14}|\(\+[1-9][0-9]{0,2}\)(?:[ \-.()]{0,2}[0-9]){6,13})"
            rf"|(?<![$€£¥#])(?:1[ \-.])?(?:\({AREA}\)[ \-.]?{EXCHANGE}[ \-.]|{AREA}(?P<same>[\-.]){EXCHANGE}(?P=same))"
            r"[0-9]{4}(?!-)"
            rf"|(?P<near>(?:1 )?{AREA} {EXCHANGE} [0-9]{{4}}|{EXCHANGE}-[0-9]{{4}}(?!-))"
            r"|[48]00-(?:[0-9]{3}-?[0-9]{4}|[0-9]{4}-[0-9]{3})(?!-)"
            # Of any form where the words just before it say so.
            rf")|(?=[ctpmwfds电热致拨传座手])(?:{TOLD_ENGLISH}|{TOLD_CHINESE})[ \t\n:.,!(#]{{0,3}}?"
            r"(?P<data>(?:\([0-9]{2,4}\)[ \-.]?)?[0-9](?:[ \-.()]{0,2}[0-9]){6,13})(?!-)"
            r")(?![0-9A-Za-z_]|[.,][0-9])",
            re.IGNORECASE | re.ASCII,
        ),
        is_phone,
    ),
    "wechat_qq": Kind(
        "<CONTACT>",
        re.compile(
            r"(?=[微威薇维徽卫扣企群wvq])"
            r"(?:微信|[威薇维徽]信|卫星号|扣扣|企鹅号|(?<![a-z0-9_])(?=wxid_[a-z0-9]{5})"
            r"|(?<![a-z])(?:v信|we ?chat|weixin|wx|vx|qq)|(?:(?<=[加+➕])|(?<=[加+➕] ))v(?=[\s:0-9])"
            r"|(?:扣|企鹅|(?<![a-z])q)(?=\s?[:,]?\s?[1-9][0-9]{6,10}(?![0-9元分块万只]))"
            r"|群(?=号?码?\s?:?\s?[1-9][0-9]{7,9}(?![0-9元人])))"
            r"(?P<between>\s{0,3}(?:(?:账?号码?|群|联系|咨询|客服|account|number|id|is|是|为|加)\s{0,2}){0,3}"
            r"[:=\-,【『「\[(]{0,2}\s{0,2}@?)"
            r"(?P<data>wxid_[a-z0-9]{5,24}|[a-z](?=[a-z0-9_\-]{5,19}(?![a-z0-9_\-]))[a-z0-9_\-]+|[0-9]{5,11})"
            r"(?![a-z0-9_\-]|@[a-z0-9]|\.[a-z0-9])",
            re.IGNORECASE | re.ASCII,
        ),
        is_contact,
    ),
}
ALL = tuple(KINDS)
