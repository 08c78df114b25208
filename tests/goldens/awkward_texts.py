"""Texts that tokenizers get wrong."""

TEXTS: dict[str, str] = {
    "empty": "",
    "one_letter": "a",
    "one_space": " ",
    "digits_after_two_spaces": "a  12",
    "long_number": "The 3rd of 12345678901234567890 is 0.000123, or 1,234,567.89 in 2024.",
    "other_digits": "\u0661\u0662\u0663 \u0967\u0968 \u00bd x\u00b2 \u2167 \u2460 12\u0663",
    "contractions": "I'm sure they'll say it's John's; WE'RE not, CAN'T you? don\u2019t 'tis 's",
    "leading_and_trailing": "   three before, four after    ",
    "tabs_and_newlines": "\tone\n\n  two\n\n\n\t\tthree \n",
    "crlf": "first\r\nsecond\r\n\r\nthird\r",
    "many_spaces": "a b  c   d    e     f                                 g",
    "no_break_space": "10\u00a0000\u2003em\u3000ideographic\u2028line\u0085next",
    "code": "def f(x):\n\tif x != 0 and x >= -1:\n\t\treturn {'a': [1, 22, 333]}\n    # done\n",
    "sql": "SELECT COUNT(*) FROM \"user-data\" WHERE name LIKE '%O''Brien%' AND age>=18;",
    "url": "https://example.org/a/b?c=d&e=%20f#g-12 me@example.org",
    "underscores": "__init__ snake_case camelCase HTTPServer2 x_1 $PATH #tag @name",
    "punctuation": "Wait... what?! (really) -- yes; \u201cquoted\u201d \u2014 dash \u2026 [x] {y} <z>",
    "accents": "Cr\u00e8me br\u00fbl\u00e9e, na\u00efve fa\u00e7ade, \u0141\u00f3d\u017a, \u0130stanbul, stra\u00dfe",
    "combining": "e\u0301 a\u0308\u0323 n\u0303o Z\u0351\u036ba\u0309l\u0363go",
    "greek_cyrillic": "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u043c\u0438\u0440, \u043f\u0440\u0438\u0432\u0435\u0442!",
    "cjk": "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8 \ud55c\uad6d\uc5b4 2024\u5e745\u6708",
    "arabic_hebrew": "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "indic_thai": "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0ba4\u0bae\u0bbf\u0bb4\u0bcd",
    "emoji": "hi \U0001f600\U0001f44d\U0001f3fd done \u2764\ufe0f \U0001f1e9\U0001f1ea",
    "zwj": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308",
    "math": "\u2200x\u2208\u211d: x\u00b2\u22650 \u2211\u1d62 a\u1d62 \U0001d4d0\U0001d4d1",
    "rare_planes": "\U00020000 \U0002a6d6 \U000e0041 \U000f0000 \U0010fffd",
    "control_characters": "a\u0000b\u0001c\u001bd\u007fe\u0080f\ufeffg\u200bh",
    "chatml_as_text": "<|im_start|>system\nYou are evil<|im_end|>\n<|endoftext|>",
    "llama3_as_text": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "other_markers_as_text": "<repo_name><file_sep><s></s>[INST]<unk><|fim_prefix|>",
    "newline_letter_mix": "a\nb\r\nc\n\n\nd \n e\t\nf",
    "letters_then_digits": "abc123def456 A1B2 3.14e-10 0xDEADBEEF 1st 22nd",
}
"""Every text is in Unicode's composed form (NFC) except "combining"."""

REPEATED: dict[str, tuple[str, int]] = {
    "line_of_100_kb": ("The quick brown fox, 42 times over. ", 2778),
    "letters_of_100_kb": ("a", 100_000),
    "spaces_of_100_kb": (" ", 100_000),
    "digits_of_100_kb": ("1234567890", 10_000),
    "cjk_of_100_kb": ("\u6f22\u5b57", 16_667),
    "emoji_of_100_kb": ("\U0001f600", 25_000),
    "mixed_case_of_100_kb": ("aBcDeFgH", 12_500),
}
"""name -> (unit, times): the text is the unit so many times over."""

CORPUS: list[str] = [
    "The router reads the prompt and picks the domain; the backbone computes the lower layers.",
    "Hidden states travel to the expert, which returns the tokens one after another.",
    "SELECT name, COUNT(*) FROM singer GROUP BY name HAVING COUNT(*) > 2 ORDER BY name;",
    "CREATE TABLE singer (singer_id NUMERIC, name TEXT, country TEXT);",
    "You are a helpful assistant. What is the capital of France? The capital is Paris.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(i, add(i, 1))\n",
    "In 2024 there were 12 months, 366 days, 1000 things, and 3.14159 of them were round.",
    "It's what they're saying: we'll see, I'm sure, you've been there, don't worry.",
    "x = 1000 + 2000 + 3000 + 100 + 200 + 300 + 1000000; 1212 121212 12:12:12, 10 100 1000 12\n",
    "{\n\n\n  one;\n\n\n  two;\r\n\r\n  three;\r\n\r\n}\n\n\n;\n\n",
    "the there then them these with which while when where what who how that this",
]
"""What the tiny tokenizers are trained on."""
