"""What a generated text answers, and whether that is right. Pure functions."""

import ast
import re

from ccoe_training.normalise import normalise_sql

from .options import Option

NUMBER = re.compile(r"(?:(?<![\w)])-)?\$?(?:\d[\d,]*(?:\.\d+)?|(?<!\d)\.\d+)")
FENCE = re.compile(r"```[\w+-]*\n(.*?)(?:```|\Z)", re.DOTALL)
LEAD = re.compile(
    r"\b(?i:answer|option|choice)\b(?i:\s+(?:is|would be))?\s*:?\s*(?i:option\s+)?[*(\"'\s]*"
    r"([A-J])(?![\w'])"
)


def fenced(text: str) -> str:
    """The first fenced block of `text`, or all of it."""
    block = FENCE.search(text)
    return block[1] if block else text


def sql_right(text: str, answer: str) -> bool:
    """Exact match after normalising, fences aside."""
    return normalise_sql(fenced(text)) == normalise_sql(answer)


def code_of(text: str) -> str:
    """The program in a generated text: the first fenced block, or the longest run of its first
    lines that is Python."""
    lines = fenced(text).splitlines()
    for end in range(len(lines), 0, -1):
        candidate = "\n".join(lines[:end])
        try:
            ast.parse(candidate)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return candidate
    return "\n".join(lines)


def number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("$", "").strip())
    except ValueError:
        return None


def final_number(text: str) -> float | None:
    """The number after the last `####`, else the last number."""
    _, mark, after = text.rpartition("####")
    found = NUMBER.findall(after if mark else text)
    return number(found[0] if mark else found[-1]) if found else None


def number_right(text: str, answer: str) -> bool:
    """The final number equals `answer`, a number."""
    return final_number(text) == number(answer)


def exact_right(text: str, answer: str) -> bool:
    """The answer is `answer` but for case, blanks and a closing point: the whole text, its last
    line, or what follows its last `####`, "is", "=" or colon. Where `answer` is a number, the final
    number counts."""
    if number(answer) is not None:
        return number_right(text, answer)
    last = text.strip().splitlines()[-1] if text.strip() else ""
    tails = [re.split(mark, last)[-1] for mark in ("####", r"\bis\b", "=", r":(?!\d)")]
    return _plain(answer) in {_plain(part) for part in [text, last, *tails]}


def _plain(text: str) -> str:
    return re.sub(r"\s+", "", text).lower().rstrip(".").strip("*$`")


def chosen_letter(text: str, options: list[Option]) -> str | None:
    """The letter that a text gives first: at its start, after "answer" or "option", or by repeating
    the words of exactly one option."""
    allowed = {option.label for option in options}
    start = re.match(r"[\s*(\"']*([A-J])(?=[.):,*\s]|$)", text)
    # "A" may begin a sentence: alone it counts, before words it needs a mark.
    if start and start[1] in allowed and not re.match(r"\s*A\s+[a-z]", text):
        return start[1]
    lead = LEAD.search(text)
    if lead and lead[1] in allowed:
        return lead[1]
    said = [o.label for o in options if _words(o.words) and _words(o.words) in _words(text)]
    return said[0] if len(said) == 1 else None


def chosen_label(text: str, options: list[Option]) -> str | None:
    """The label that a text names first; the longest where several begin at one place."""
    found = []
    words = _words(text)
    for option in options:
        for spelling in option.spellings:
            place = words.find(_words(spelling))
            if place >= 0:
                found.append((place, -len(spelling), option.label))
    return min(found)[2] if found else None


def _words(text: str) -> str:
    """Lower-case words between single blanks, closed by blanks, so that `in` finds whole words."""
    words = re.findall(r"\w+", text.lower())
    return f" {' '.join(words)} " if words else ""


def named_right(text: str, accepted: str) -> bool:
    """One of the answers joined by " ||| " occurs in the text, by whole words."""
    words = _words(text)
    return any(_words(answer) in words for answer in accepted.split(" ||| ") if _words(answer))
