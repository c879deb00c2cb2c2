"""The names and meanings of what web_metrics.py measures, and where kernels write each."""

WEB_COUNTS = {
    "gopher_num_words": "words that are more than symbols",
    "gopher_stop_word_count": "how many of the, be, to, of, and, that, have, with occur, in lower case",
    "c4_num_sentences": "sentences in the lines that C4 keeps",
    "c4_lorem_ipsum_count": "lines that C4 would keep but for 'lorem ipsum'",
    "c4_curly_bracket_count": "lines with a curly bracket, not counting those that C4 cuts before it looks",
    "fineweb_num_lines": "lines that are not blank",
}
WEB_SHARES = {
    "gopher_mean_word_length": "mean characters of a word that is more than symbols",
    "gopher_hash_word_ratio": "# signs per word, punctuation marks being words",
    "gopher_ellipsis_word_ratio": "ellipses per word",
    "gopher_bullet_line_fraction": "lines that begin with a bullet or -, of all lines",
    "gopher_ellipsis_line_fraction": "lines that end in an ellipsis, of all lines",
    "gopher_alpha_word_fraction": "words with a letter, of words",
    "gopher_duplicate_paragraph_fraction": "paragraphs that repeat an earlier one",
    "gopher_duplicate_paragraph_char_fraction": "characters in paragraphs that repeat an earlier one, of all",
    "gopher_duplicate_line_fraction": "lines that repeat an earlier one",
    "gopher_duplicate_line_char_fraction": "characters in lines that repeat an earlier one, of all",
    "gopher_top_2gram_fraction": "the most frequent pair of words, even if it occurs once, of characters",
    "gopher_top_3gram_fraction": "the most frequent run of 3 words, of characters",
    "gopher_top_4gram_fraction": "the most frequent run of 4 words, of characters",
    "gopher_duplicate_5gram_fraction": "runs of 5 words that occurred before, of characters",
    "gopher_duplicate_6gram_fraction": "runs of 6 words that occurred before, of characters",
    "gopher_duplicate_7gram_fraction": "runs of 7 words that occurred before, of characters",
    "gopher_duplicate_8gram_fraction": "runs of 8 words that occurred before, of characters",
    "gopher_duplicate_9gram_fraction": "runs of 9 words that occurred before, of characters",
    "gopher_duplicate_10gram_fraction": "runs of 10 words that occurred before, of characters",
    "c4_removed_line_fraction": "lines that C4 would cut out of the text, of lines that are not blank",
    "fineweb_line_end_punctuation_fraction": "lines that end in a full stop, ! or ? of any script",
    "fineweb_short_line_fraction": "lines of at most 30 characters",
    "fineweb_duplicate_line_char_fraction": "characters in lines that repeat an earlier one, without line feeds",
    "fineweb_newline_word_ratio": "line feeds per word",
}
WEB_METRICS: dict[str, str] = {**WEB_COUNTS, **WEB_SHARES}

NUM_WORDS, STOP_WORD_COUNT, SENTENCES, LOREM_IPSUM, CURLY_BRACKETS, NUM_LINES = range(len(WEB_COUNTS))
(MEAN_LENGTH, HASH_RATIO, ELLIPSIS_RATIO, BULLET_LINES, ELLIPSIS_LINES, ALPHA_WORDS) = range(6)
(PARAGRAPHS, PARAGRAPH_CHARS, LINES, LINE_CHARS, TOP_PAIR) = range(6, 11)
REPEATED_RUNS, AFTER_RUNS = 13, 19
(REMOVED_LINES, LINE_ENDS, SHORT_LINES, DUPLICATE_CHARS, FEED_RATIO) = range(19, 24)
