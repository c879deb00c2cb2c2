"""The rules by which spaCy splits English into words, as data: classes of characters, units, exceptions.

They are those of spaCy 3.8's ``spacy.blank("en")`` (MIT licence, Explosion AI; lang/punctuation.py, char_classes.py,
tokenizer_exceptions.py), which datatrove uses, with the sets of characters that datatrove 0.10.1's filters ask
(Apache-2.0). tests/text/test_english_words.py compares every table with the installed spaCy. Building the tables takes
some 60 ms, on first use.
"""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

from redone_data.text.buffers import Bytes, Int64, frozen
from redone_data.text.kernel import lean

Int32 = npt.NDArray[np.int32]
UInt16 = npt.NDArray[np.uint16]
Bools = npt.NDArray[np.bool_]

TABLE_END = 0x20000
(ALPHA, LOWER, UPPER, QUOTE, ICON, PREFIX, SUFFIX, BEFORE_STOP) = (1 << bit for bit in range(8))
(SYMBOL, LINE_END, SENTENCE_END, SPACE, LETTER, PUNCT, CURRENCY, BREAK) = (1 << bit for bit in range(8, 16))
ALL_CASES = ALPHA | LOWER | UPPER

PIECE, BECOMES = "¦", "→"  # in the tables of exceptions: don't gives do and n't; w / o becomes w/o
MAX_TOKENS_MERGED = 11
WORD_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)  # of the polynomial hash of words: joins without a separator
SLOT_FACTOR = np.uint64(0xD6E8FEB86659FD93)
HASH_FACTOR, HASH_SEED = np.uint64(0xD6E8FEB86659FD93), np.uint64(0x9E3779B97F4A7C15)  # of word_hash

CLASS_RANGES: dict[str, str] = {
    "ALPHA": """
41-5a 61-7a c0-d6 d8-f6 f8-1bf 1c4-2af 386 388-38a 38c 38e-38f 391-3a9 3ac-3af 3b1-3c9 3cc-3ce 400-401 403-40a
40c-40d 410-451 453-45a 45c-45d 490-491 496-497 4a2-4a3 4ae-4af 4ba-4bb 4d8-4d9 4e8-4e9 591-5f4 620-64a 66e-6d5
6e5-6ff 750-77f 8a0-8bd 900-9ff b80-cff d80-dff 1100-137f 1d00-1d25 1d6b-1d77 1d79-1d9a 1e00-1eff 2c60-2c7b
2c7e-2c7f 2e80-2fdf 2ff0-30ff 31c0-31ef 3200-4dbf 4e00-9fff a722-a76f a771-a787 a78b-a78e a790-a7b9 a7fa ab30-ab5a
ab60-ab64 ac00-d7af f900-faff fb1d-fbb1 fbd3-fd3d fd50-fdc7 fdf0-fdfb fe30-fe4f fe70-fefc ff21-ff3a ff41-ff5a
1ee00-1eebb 1f200-1f2ff 20000-2a6df 2a700-2ebef 2f800-2fa1f
""",
    "UNCASED": """
591-5f4 620-64a 66e-6d5 6e5-6ff 750-77f 8a0-8bd 900-9ff b80-cff d80-dff 1100-137f 2e80-2fdf 2ff0-30ff 31c0-31ef
3200-4dbf 4e00-9fff ac00-d7af f900-faff fb1d-fbb1 fbd3-fd3d fd50-fdc7 fdf0-fdfb fe30-fe4f fe70-fefc 1ee00-1eebb
1f200-1f2ff 20000-2a6df 2a700-2ebef 2f800-2fa1f
""",
    "QUOTE": """
22 27 2c 60 ab b4 bb 2018-201a 201c-201e 2329-232a 27e6-27e7 3008-3011 3014-3015 ff08-ff09
""",
    "PUNCTUATION": """
21 23 26 28-2a 2c 3a-3c 3e-3f 5b 5d 5f 7b 7d a1 b7 bf 60c 61b 61f 66a 6d4 964 2026 3001-3002 ff01 ff0c ff1a-ff1b
ff1f ff5e
""",
    "CURRENCY": """
24 a3 a5 e3f 20a0-20bf fdfc
""",
    "ICON": """
a6 a9 ae b0 482 58d-58e 60e-60f 6de 6e9 6fd-6fe 7f6 9fa b70 bf3-bf8 bfa c7f d4f d79 f01-f03 f13 f15-f17 f1a-f1f f34
f36 f38 fbe-fc5 fc7-fcc fce-fcf fd5-fd8 109e-109f 1390-1399 1940 19de-19ff 1b61-1b6a 1b74-1b7c 2100-2101 2103-2106
2108-2109 2114 2116-2117 211e-2123 2125 2127 2129 212e 213a-213b 214a 214c-214d 214f 218a-218b 2195-2199 219c-219f
21a1-21a2 21a4-21a5 21a7-21ad 21af-21cd 21d0-21d1 21d3 21d5-21f3 2300-2307 230c-231f 2322-2328 232b-237b 237d-239a
23b4-23db 23e2-2426 2440-244a 249c-24e9 2500-25b6 25b8-25c0 25c2-25f7 2600-266e 2670-2767 2794-27bf 2800-28ff
2b00-2b2f 2b45-2b46 2b4d-2b73 2b76-2b95 2b98-2bc8 2bca-2bfe 2ce5-2cea 2e80-2e99 2e9b-2ef3 2f00-2fd5 2ff0-2ffb 3004
3012-3013 3020 3036-3037 303e-303f 3190-3191 3196-319f 31c0-31e3 3200-321e 322a-3247 3250 3260-327f 328a-32b0
32c0-32fe 3300-33ff 4dc0-4dff a490-a4c6 a828-a82b a836-a837 a839 aa77-aa79 fdfd ffe4 ffe8 ffed-ffee fffc-fffd
10137-1013f 10179-10189 1018c-1018e 10190-1019b 101a0 101d0-101fc 10877-10878 10ac8 1173f 16b3c-16b3f 16b45 1bc9c
1d000-1d0f5 1d100-1d126 1d129-1d164 1d16a-1d16c 1d183-1d184 1d18c-1d1a9 1d1ae-1d1e8 1d200-1d241 1d245 1d300-1d356
1d800-1d9ff 1da37-1da3a 1da6d-1da74 1da76-1da83 1da85-1da86 1ecac 1f000-1f02b 1f030-1f093 1f0a0-1f0ae 1f0b1-1f0bf
1f0c1-1f0cf 1f0d1-1f0f5 1f110-1f16b 1f170-1f1ac 1f1e6-1f202 1f210-1f23b 1f240-1f248 1f250-1f251 1f260-1f265
1f300-1f3fa 1f400-1f6d4 1f6e0-1f6ec 1f6f0-1f6f9 1f700-1f773 1f780-1f7d8 1f800-1f80b 1f810-1f847 1f850-1f859
1f860-1f887 1f890-1f8ad 1f900-1f90b 1f910-1f93e 1f940-1f970 1f973-1f976 1f97a 1f97c-1f9a2 1f9b0-1f9b9 1f9c0-1f9c2
1f9d0-1f9ff 1fa60-1fa6d
""",
    "LINE_END": """
21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736 17d4-17d6
17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e
2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52
fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143 111c5-111c6
111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944
11946 11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f
1da88
""",
    "SYMBOL": """
0-8 b-1f 22-2d 2f 3a-3e 40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001 3008-300d
3010-3011 ff05 ff08-ff09 ff0c ff11 ff1a-ff1b ff5e
""",
    "SENTENCE_END": """
21 2e 3f 589 61f 6d4 700-702 7f9 964-965 104a-104b 1362 1367-1368 166e 1735-1736 1803 1809 1944-1945 1aa8-1aab
1b5a-1b5b 1b5e-1b5f 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e 2e3c 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877
a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 11047-11048
110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3
115c9-115d7 11641-11642 1173c-1173e 11a42-11a43 11a9b-11a9c 11c41-11c42 16a6e-16a6f 16af5 16b37-16b38 16b44 1bc9f
1da88
""",
}

UNITS = r"""
km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa
mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа
Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب
"""

EXCEPTIONS = r"""
' -_- -__- 0.0 0.o 0_0 0_o 10¦am 10¦pm 11¦am 11¦pm 12¦am 12¦pm 1¦am 1¦pm 2¦am 2¦pm 3¦am 3¦pm 4¦am 4¦pm 5¦am 5¦pm
6¦am 6¦pm 7¦am 7¦pm 8D 8¦am 8¦pm 9¦am 9¦pm @_@ Ai¦n't Ai¦nt Are¦n't Are¦nt C'm¦on C++ Can¦not Ca¦n't Ca¦n't¦'ve
Ca¦nt Ca¦nt¦ve Could¦'ve Could¦n't Could¦n't¦'ve Could¦nt Could¦nt¦ve Could¦ve D.C. Dare¦n't Dare¦nt Did¦n't
Did¦n't¦'ve Did¦nt Did¦nt¦ve Does¦n't Does¦n't¦'ve Does¦nt Does¦nt¦ve Doin Do¦n't Do¦n't¦'ve Do¦nt Do¦nt¦ve E.G.
Goin Gon¦na Got¦ta Had¦n't Had¦n't¦'ve Had¦nt Had¦nt¦ve Has¦n't Has¦nt Have¦n't Have¦nt Havin He¦'d He¦'d¦'ve He¦'ll
He¦'ll¦'ve He¦d He¦d¦ve He¦ll¦ve He¦s How¦'d How¦'d¦'ve How¦'d¦'y How¦'ll How¦'ll¦'ve How¦'re How¦'ve How¦d How¦d¦ve
How¦ll How¦ll¦ve How¦re How¦s How¦ve I.E. Is¦n't Is¦nt It¦'d It¦'d¦'ve It¦'ll It¦'ll¦'ve It¦d It¦d¦ve It¦ll It¦ll¦ve
I¦'d I¦'d¦'ve I¦'ll I¦'ll¦'ve I¦'m I¦'m¦a I¦'ve I¦d I¦d¦ve I¦ll¦ve I¦m I¦m¦a I¦ve Lovin Ma'am May¦n't May¦n't¦'ve
May¦nt May¦nt¦ve Might¦'ve Might¦n't Might¦n't¦'ve Might¦nt Might¦nt¦ve Might¦ve Must¦'ve Must¦n't Must¦n't¦'ve
Must¦nt Must¦nt¦ve Must¦ve N.C. N.D. N.H. N.J. N.M. N.Y. Need¦n't Need¦n't¦'ve Need¦nt Need¦nt¦ve Nothin Not¦'ve
Not¦ve Nuthin O'clock O.O O.o O_O O_o Ol Ought¦n't Ought¦n't¦'ve Ought¦nt Ought¦nt¦ve S.C. Sha¦n't Sha¦n't¦'ve
Sha¦nt Sha¦nt¦ve She¦'d She¦'d¦'ve She¦'ll She¦'ll¦'ve She¦d¦ve She¦ll¦ve She¦s Should¦'ve Should¦n't Should¦n't¦'ve
Should¦nt Should¦nt¦ve Should¦ve Somethin That¦'d That¦'d¦'ve That¦'ll That¦'ll¦'ve That¦d That¦d¦ve That¦ll
That¦ll¦ve That¦s There¦'d There¦'d¦'ve There¦'ll There¦'ll¦'ve There¦'re There¦'ve There¦d There¦d¦ve There¦ll
There¦ll¦ve There¦re There¦s There¦ve These¦'d These¦'d¦'ve These¦'ll These¦'ll¦'ve These¦'re These¦'ve These¦d
These¦d¦ve These¦ll These¦ll¦ve These¦re These¦ve They¦'d They¦'d¦'ve They¦'ll They¦'ll¦'ve They¦'re They¦'ve They¦d
They¦d¦ve They¦ll They¦ll¦ve They¦re They¦ve This¦'d This¦'d¦'ve This¦'ll This¦'ll¦'ve This¦d This¦d¦ve This¦ll
This¦ll¦ve This¦s Those¦'d Those¦'d¦'ve Those¦'ll Those¦'ll¦'ve Those¦'re Those¦'ve Those¦d Those¦d¦ve Those¦ll
Those¦ll¦ve Those¦re Those¦ve V.V V_V Was¦n't Was¦nt Were¦n't Were¦nt We¦'d We¦'d¦'ve We¦'ll We¦'ll¦'ve We¦'re
We¦'ve We¦d We¦d¦ve We¦ll¦ve We¦ve What¦'d What¦'d¦'ve What¦'ll What¦'ll¦'ve What¦'re What¦'ve What¦d What¦d¦ve
What¦ll What¦ll¦ve What¦re What¦s What¦ve When¦'d When¦'d¦'ve When¦'ll When¦'ll¦'ve When¦'re When¦'ve When¦d
When¦d¦ve When¦ll When¦ll¦ve When¦re When¦s When¦ve Where¦'d Where¦'d¦'ve Where¦'ll Where¦'ll¦'ve Where¦'re
Where¦'ve Where¦d Where¦d¦ve Where¦ll Where¦ll¦ve Where¦re Where¦s Where¦ve Who¦'d Who¦'d¦'ve Who¦'ll Who¦'ll¦'ve
Who¦'re Who¦'ve Who¦d Who¦d¦ve Who¦ll Who¦ll¦ve Who¦s Who¦ve Why¦'d Why¦'d¦'ve Why¦'ll Why¦'ll¦'ve Why¦'re Why¦'ve
Why¦d Why¦d¦ve Why¦ll Why¦ll¦ve Why¦re Why¦s Why¦ve Would¦'ve Would¦n't Would¦n't¦'ve Would¦nt Would¦nt¦ve Would¦ve
Wo¦n't Wo¦n't¦'ve Wo¦nt Wo¦nt¦ve XD XDD You¦'d You¦'d¦'ve You¦'ll You¦'ll¦'ve You¦'re You¦'ve You¦d You¦d¦ve You¦ll
You¦ll¦ve You¦re You¦ve \n \t ^_^ ^__^ ^___^ ai¦n't ai¦nt are¦n't are¦nt c'm¦on can¦not ca¦n't ca¦n't¦'ve ca¦nt
ca¦nt¦ve could¦'ve could¦n't could¦n't¦'ve could¦nt could¦nt¦ve could¦ve dare¦n't dare¦nt did¦n't did¦n't¦'ve did¦nt
did¦nt¦ve does¦n't does¦n't¦'ve does¦nt does¦nt¦ve doin do¦n't do¦n't¦'ve do¦nt do¦nt¦ve em goin gon¦na got¦ta
had¦n't had¦n't¦'ve had¦nt had¦nt¦ve has¦n't has¦nt have¦n't have¦nt havin he¦'d he¦'d¦'ve he¦'ll he¦'ll¦'ve he¦d
he¦d¦ve he¦ll¦ve he¦s how¦'d how¦'d¦'ve how¦'d¦'y how¦'ll how¦'ll¦'ve how¦'re how¦'ve how¦d how¦d¦ve how¦ll
how¦ll¦ve how¦re how¦s how¦ve is¦n't is¦nt it¦'d it¦'d¦'ve it¦'ll it¦'ll¦'ve it¦d it¦d¦ve it¦ll it¦ll¦ve i¦'d
i¦'d¦'ve i¦'ll i¦'ll¦'ve i¦'m i¦'m¦a i¦'ve i¦d i¦d¦ve i¦ll¦ve i¦m i¦m¦a i¦ve ll lovin ma'am may¦n't may¦n't¦'ve
may¦nt may¦nt¦ve might¦'ve might¦n't might¦n't¦'ve might¦nt might¦nt¦ve might¦ve must¦'ve must¦n't must¦n't¦'ve
must¦nt must¦nt¦ve must¦ve need¦n't need¦n't¦'ve need¦nt need¦nt¦ve nothin not¦'ve not¦ve nuff nuthin o'clock o.0
o.o o_0 o_O o_o ol ought¦n't ought¦n't¦'ve ought¦nt ought¦nt¦ve sha¦n't sha¦n't¦'ve sha¦nt sha¦nt¦ve she¦'d
she¦'d¦'ve she¦'ll she¦'ll¦'ve she¦d¦ve she¦ll¦ve she¦s should¦'ve should¦n't should¦n't¦'ve should¦nt should¦nt¦ve
should¦ve somethin that¦'d that¦'d¦'ve that¦'ll that¦'ll¦'ve that¦d that¦d¦ve that¦ll that¦ll¦ve that¦s there¦'d
there¦'d¦'ve there¦'ll there¦'ll¦'ve there¦'re there¦'ve there¦d there¦d¦ve there¦ll there¦ll¦ve there¦re there¦s
there¦ve these¦'d these¦'d¦'ve these¦'ll these¦'ll¦'ve these¦'re these¦'ve these¦d these¦d¦ve these¦ll these¦ll¦ve
these¦re these¦ve they¦'d they¦'d¦'ve they¦'ll they¦'ll¦'ve they¦'re they¦'ve they¦d they¦d¦ve they¦ll they¦ll¦ve
they¦re they¦ve this¦'d this¦'d¦'ve this¦'ll this¦'ll¦'ve this¦d this¦d¦ve this¦ll this¦ll¦ve this¦s those¦'d
those¦'d¦'ve those¦'ll those¦'ll¦'ve those¦'re those¦'ve those¦d those¦d¦ve those¦ll those¦ll¦ve those¦re those¦ve
v.v v_v was¦n't was¦nt were¦n't were¦nt we¦'d we¦'d¦'ve we¦'ll we¦'ll¦'ve we¦'re we¦'ve we¦d we¦d¦ve we¦ll¦ve we¦ve
what¦'d what¦'d¦'ve what¦'ll what¦'ll¦'ve what¦'re what¦'ve what¦d what¦d¦ve what¦ll what¦ll¦ve what¦re what¦s
what¦ve when¦'d when¦'d¦'ve when¦'ll when¦'ll¦'ve when¦'re when¦'ve when¦d when¦d¦ve when¦ll when¦ll¦ve when¦re
when¦s when¦ve where¦'d where¦'d¦'ve where¦'ll where¦'ll¦'ve where¦'re where¦'ve where¦d where¦d¦ve where¦ll
where¦ll¦ve where¦re where¦s where¦ve who¦'d who¦'d¦'ve who¦'ll who¦'ll¦'ve who¦'re who¦'ve who¦d who¦d¦ve who¦ll
who¦ll¦ve who¦s who¦ve why¦'d why¦'d¦'ve why¦'ll why¦'ll¦'ve why¦'re why¦'ve why¦d why¦d¦ve why¦ll why¦ll¦ve why¦re
why¦s why¦ve would¦'ve would¦n't would¦n't¦'ve would¦nt would¦nt¦ve would¦ve wo¦n't wo¦n't¦'ve wo¦nt wo¦nt¦ve xD xDD
y'¦all you¦'d you¦'d¦'ve you¦'ll you¦'ll¦'ve you¦'re you¦'ve you¦d you¦d¦ve you¦ll you¦ll¦ve you¦re you¦ve y¦all
¯\(ツ)/¯ ಠ_ಠ ಠ︵ಠ —
"""

MERGED_EXCEPTIONS = r"""
'¦'→'' '¦Cause→'Cause '¦Cos→'Cos '¦Coz→'Coz '¦Cuz→'Cuz '¦S→'S '¦bout→'bout '¦cause→'cause '¦cos→'cos '¦coz→'coz
'¦cuz→'cuz '¦d→'d '¦em→'em '¦ll→'ll '¦nuff→'nuff '¦re→'re '¦s→'s (¦*¦_¦*¦)→(*_*) (¦-8→(-8 (¦-_-¦)→(-_-) (¦-¦:→(-:
(¦-¦;→(-; (¦.¦_¦.¦)→(._.) (¦:→(: (¦;→(; (¦=→(= (¦>¦_¦<¦)→(>_<) (¦^_^¦)→(^_^) (¦o¦:→(o: (¦¬_¬¦)→(¬_¬) (¦ಠ_ಠ¦)→(ಠ_ಠ)
(¦╯¦°¦□¦°¦）¦╯¦︵¦┻¦━¦┻→(╯°□°）╯︵┻━┻ )¦-¦:→)-: )¦:→): .¦_¦.→._. 10a.m¦.→10¦a.m. 10p.m¦.→10¦p.m. 11a.m¦.→11¦a.m.
11p.m¦.→11¦p.m. 12a.m¦.→12¦a.m. 12p.m¦.→12¦p.m. 1a.m¦.→1¦a.m. 1p.m¦.→1¦p.m. 2a.m¦.→2¦a.m. 2p.m¦.→2¦p.m.
3a.m¦.→3¦a.m. 3p.m¦.→3¦p.m. 4a.m¦.→4¦a.m. 4p.m¦.→4¦p.m. 5a.m¦.→5¦a.m. 5p.m¦.→5¦p.m. 6a.m¦.→6¦a.m. 6p.m¦.→6¦p.m.
7a.m¦.→7¦a.m. 7p.m¦.→7¦p.m. 8-¦)→8-) 8a.m¦.→8¦a.m. 8p.m¦.→8¦p.m. 8¦)→8) 8¦-¦D→8-D 9a.m¦.→9¦a.m. 9p.m¦.→9¦p.m.
:¦'¦(→:'( :¦'¦)→:') :¦'¦-¦(→:'-( :¦'¦-¦)→:'-) :¦(¦(¦(→:((( :¦(¦(→:(( :¦(¦)→:() :¦(→:( :¦)¦)¦)→:))) :¦)¦)→:)) :¦)→:)
:¦*→:* :¦-/→:-/ :¦-0→:-0 :¦-3→:-3 :¦-D→:-D :¦-O→:-O :¦-P→:-P :¦-X→:-X :¦-o→:-o :¦-p→:-p :¦-x→:-x :¦-|→:-|
:¦-¦(¦(¦(→:-((( :¦-¦(¦(→:-(( :¦-¦(→:-( :¦-¦)¦)¦)→:-))) :¦-¦)¦)→:-)) :¦-¦)→:-) :¦-¦*→:-* :¦-¦>→:-> :¦-¦]→:-]
:¦-¦}→:-} :¦/→:/ :¦0→:0 :¦1→:1 :¦3→:3 :¦>→:> :¦D→:D :¦O→:O :¦P→:P :¦X→:X :¦]→:] :¦o¦)→:o) :¦o→:o :¦p→:p :¦x→:x
:¦|→:| :¦}→:} ;¦)→;) ;¦-D→;-D ;¦-¦)→;-) ;¦D→;D ;¦_¦;→;_; <¦.¦<→<.< <¦/3→</3 <¦333→<333 <¦33→<33 <¦3→<3
<¦space¦>→<space> =¦(→=( =¦)→=) =¦/→=/ =¦3→=3 =¦D→=D =¦[→=[ =¦]→=] =¦|→=| >¦.¦<→>.< >¦.¦>→>.> >¦:¦(→>:( >¦:¦o→>:o
>¦<¦(¦(¦(¦*¦>→><(((*> Adm¦.→Adm. Ak¦.→Ak. Ala¦.→Ala. Apr¦.→Apr. Ariz¦.→Ariz. Ark¦.→Ark. Aug¦.→Aug. Bros¦.→Bros.
Calif¦.→Calif. Colo¦.→Colo. Conn¦.→Conn. Corp¦.→Corp. Co¦.→Co. Dec¦.→Dec. Del¦.→Del. Doin¦'→Doin' Dr¦.→Dr.
E.g¦.→E.g. Feb¦.→Feb. Fla¦.→Fla. Ga¦.→Ga. Gen¦.→Gen. Goin¦'→Goin' Gov¦.→Gov. Havin¦'→Havin' He¦'s→He¦'s
How¦'s→How¦'s I.e¦.→I.e. Ia¦.→Ia. Id¦.→Id. Ill¦.→Ill. Inc¦.→Inc. Ind¦.→Ind. It¦'s→It¦'s Jan¦.→Jan. Jr¦.→Jr.
Jul¦.→Jul. Jun¦.→Jun. Kans¦.→Kans. Kan¦.→Kan. Ky¦.→Ky. La¦.→La. Let¦'s→Let¦'s Lovin¦'→Lovin' Ltd¦.→Ltd. Mar¦.→Mar.
Mass¦.→Mass. Md¦.→Md. Messrs¦.→Messrs. Mich¦.→Mich. Minn¦.→Minn. Miss¦.→Miss. Mont¦.→Mont. Mo¦.→Mo. Mrs¦.→Mrs.
Mr¦.→Mr. Ms¦.→Ms. Mt¦.→Mt. Nebr¦.→Nebr. Neb¦.→Neb. Nev¦.→Nev. Nothin¦'→Nothin' Nov¦.→Nov. Nuthin¦'→Nuthin'
Oct¦.→Oct. Okla¦.→Okla. Ol¦'→Ol' Ore¦.→Ore. Pa¦.→Pa. Ph¦.¦D.→Ph.D. Prof¦.→Prof. Rep¦.→Rep. Rev¦.→Rev. Sen¦.→Sen.
Sept¦.→Sept. Sep¦.→Sep. She¦'s→She¦'s Somethin¦'→Somethin' St¦.→St. Tenn¦.→Tenn. That¦'s→That¦'s There¦'s→There¦'s
This¦'s→This¦'s Va¦.→Va. Wash¦.→Wash. What¦'s→What¦'s When¦'s→When¦'s Where¦'s→Where¦'s Who¦'s→Who¦'s Why¦'s→Why¦'s
Wis¦.→Wis. [¦-¦:→[-: [¦:→[: [¦=→[= \¦"¦)→\") ]¦=→]= a.m¦.→a.m. and¦/¦or→and/or a¦.→a. b¦.→b. co¦.→co. c¦.→c.
doin¦'→doin' d¦.→d. e.g¦.→e.g. e¦.→e. f¦.→f. goin¦'→goin' g¦.→g. havin¦'→havin' he¦'s→he¦'s how¦'s→how¦'s h¦.→h.
i.e¦.→i.e. it¦'s→it¦'s i¦.→i. j¦.→j. k¦.→k. let¦'s→let¦'s lovin¦'→lovin' l¦.→l. m¦.→m. nothin¦'→nothin'
nuthin¦'→nuthin' n¦.→n. ol¦'→ol' o¦.¦O→o.O o¦.→o. p.m¦.→p.m. p¦.→p. q¦.→q. r¦.→r. she¦'s→she¦'s somethin¦'→somethin'
s¦.→s. that¦'s→that¦'s there¦'s→there¦'s this¦'s→this¦'s t¦.→t. u¦.→u. v.s¦.→v.s. vs¦.→vs. v¦.→v. what¦'s→what¦'s
when¦'s→when¦'s where¦'s→where¦'s who¦'s→who¦'s why¦'s→why¦'s w¦.→w. w¦/¦o→w/o x¦.→x. y¦.→y. z¦.→z. °¦C.→°¦C¦.
°¦F.→°¦F¦. °¦K.→°¦K¦. °¦c¦.→°¦c¦. °¦f¦.→°¦f¦. °¦k¦.→°¦k¦. ä¦.→ä. ö¦.→ö. ü¦.→ü. ‘¦S→‘S ‘¦s→‘s
"""


@lean
def text_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """Polynomial of the bytes: the hash of two strings joined follows from theirs."""
    value = np.uint64(0)
    for position in range(start, end):
        value = value * WORD_BASE + np.uint64(data[position])
    return value


@lean
def find_string(
    slots: Int32, offsets: Int64, strings: Bytes, data: Bytes, start: int, end: int, value: np.uint64
) -> int:
    """The index of ``data[start:end]``, whose hash is ``value``, or -1."""
    mask = len(slots) - 1
    slot = np.int64((value * SLOT_FACTOR) >> np.uint64(40)) & mask
    while slots[slot] >= 0:
        index = slots[slot]
        first = offsets[index]
        if offsets[index + 1] - first == end - start:
            same = True
            for k in range(end - start):
                if strings[first + k] != data[start + k]:
                    same = False
                    break
            if same:
                return int(index)
        slot = (slot + 1) & mask
    return -1


@lean
def may_be_exception(value: np.uint64) -> bool:
    """Whether some exception's hash falls on this bit; one in fifty others does too."""
    bit = np.int64((value * SLOT_FACTOR) >> np.uint64(48))
    return bool((EXCEPTION_BITS[bit >> 3] >> (bit & 7)) & 1)


def read_exceptions() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(exception -> its tokens without it, exception -> its tokens), each also with curly apostrophes."""
    pieces = {entry.replace(PIECE, ""): entry.split(PIECE) for entry in EXCEPTIONS.split()}
    plain = {}
    for entry in MERGED_EXCEPTIONS.split():
        before, after = entry.split(BECOMES)
        name = after.replace(PIECE, "")
        plain[name], pieces[name] = before.split(PIECE), after.split(PIECE)
    for table in (plain, pieces):
        curly = {name.replace("'", "’"): [t.replace("'", "’") for t in tokens] for name, tokens in table.items()}
        table.update(curly)
    return plain, pieces


@functools.cache
def character_classes() -> UInt16:
    """The class bits of each code point below ``TABLE_END``: uint16[TABLE_END], built once a process."""
    table = np.zeros(TABLE_END, np.uint16)
    for name, ranges in CLASS_RANGES.items():
        for span in ranges.split():
            first, _, last = span.partition("-")
            table[int(first, 16) : int(last or first, 16) + 1] |= BITS_OF[name]
    for code in range(TABLE_END):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] == "L":
            table[code] |= LETTER
        elif category[0] == "P":
            table[code] |= PUNCT
        elif character.isspace():
            table[code] |= SPACE
        if table[code] & ALPHA and not table[code] & LOWER:
            # Two letters of spaCy's ranges that Unicode does not call lower and upper case.
            table[code] |= LOWER * (character.islower() or code == 0x294) | UPPER * (
                character.isupper() or code == 0x3A2
            )
    table[[ord(character) for character in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"]] |= BREAK
    lower_or_joined = (table & LOWER) > 0
    for character in "0123456789%²-+|(?:)":
        lower_or_joined[ord(character)] = True
    table[lower_or_joined | ((table & QUOTE) > 0) | ((table & BEFORE_STOP) > 0)] |= BEFORE_STOP
    for character in "§%=—–…":
        table[ord(character)] |= PREFIX
    for character in "—–…":
        table[ord(character)] |= SUFFIX
    return frozen(table)


BITS_OF = {
    "ALPHA": ALPHA,
    "UNCASED": ALL_CASES,
    "QUOTE": QUOTE | PREFIX | SUFFIX,
    "PUNCTUATION": PREFIX | SUFFIX | BEFORE_STOP,
    "CURRENCY": CURRENCY | PREFIX,
    "ICON": ICON | PREFIX | SUFFIX,
    "LINE_END": LINE_END | SYMBOL,
    "SYMBOL": SYMBOL,
    "SENTENCE_END": SENTENCE_END,
}


def hash_of(text: str) -> int:
    value = 0
    for byte in text.encode():
        value = (value * int(WORD_BASE) + byte) & 0xFFFFFFFFFFFFFFFF
    return value


def word_hash_of(text: str) -> int:
    """english_words.word_hash."""
    encoded, value = text.encode(), 0
    for place in range(0, len(encoded), 8):
        value += int.from_bytes(encoded[place : place + 8], "little") + (place == 0) * len(encoded) * int(HASH_SEED)
        value = value * int(HASH_FACTOR) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 32
    return value


def string_set(strings: list[str]) -> tuple[Int32, Int64, Bytes]:
    """A hash set: (slot -> index or -1, offsets, bytes); string ``i`` is ``bytes[offsets[i]:offsets[i + 1]]``."""
    encoded = [text.encode() for text in strings]
    slots = np.full(1 << (4 * len(strings) - 1).bit_length(), -1, np.int32)
    for index, text in enumerate(strings):
        slot = ((hash_of(text) * int(SLOT_FACTOR) & 0xFFFFFFFFFFFFFFFF) >> 40) & (len(slots) - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = index
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return slots, offsets, np.frombuffer(b"".join(encoded), np.uint8)


def lengths(rows: list[list[str]]) -> tuple[Int64, Int64]:
    """(offsets, lengths in characters) of rows of strings."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return frozen(offsets), frozen(np.array([len(text) for row in rows for text in row], np.int64))


_PLAIN, _PIECES = read_exceptions()
EXCEPTION_SLOTS, EXCEPTION_OFFSETS, EXCEPTION_DATA = string_set(list(_PIECES))
UNIT_SLOTS, UNIT_OFFSETS, UNIT_DATA = string_set(UNITS.split())
# Token lengths in characters of each exception; of those that spaCy finds across tokens, also without it.
PIECE_OFFSETS, PIECE_LENGTHS = lengths(list(_PIECES.values()))
PLAIN_OFFSETS, PLAIN_LENGTHS = lengths([_PLAIN.get(name, []) for name in _PIECES])
EXCEPTION_BITS = np.zeros(1 << 13, np.uint8)
OPENINGS = np.zeros(1 << 12, np.bool_)  # pairs of first bytes (6 low bits each) of two tokens that may begin one
for _name in _PIECES:
    _bit = (hash_of(_name) * int(SLOT_FACTOR) & 0xFFFFFFFFFFFFFFFF) >> 48
    EXCEPTION_BITS[_bit >> 3] |= 1 << (_bit & 7)
CHUNK_BITS = np.zeros(1 << 13, np.uint8)  # exceptions that begin with a Latin letter and have at most one other sign
for _name in _PIECES:
    if _name[:-1].isascii() and _name.isascii() and (_name[:-1].isalpha() or len(_name) == 1):
        _bit = (word_hash_of(_name) * int(HASH_FACTOR) & 0xFFFFFFFFFFFFFFFF) >> 48
        CHUNK_BITS[_bit >> 3] |= 1 << (_bit & 7)
for _tokens in _PLAIN.values():
    OPENINGS[(_tokens[0].encode()[0] & 63) << 6 | _tokens[1].encode()[0] & 63] = True
