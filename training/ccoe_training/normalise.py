"""When two SQL texts count as the same."""

import re


def normalise_sql(text: str) -> str:
    """Case, quotes, blanks and a closing semicolon do not matter."""
    text = text.strip().rstrip(";").lower().replace('"', "'")
    text = re.sub(r"\s*([(),=<>])\s*", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()
