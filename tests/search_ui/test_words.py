"""Tests that pages use plain English and one name a thing."""

import re
from pathlib import Path

import pytest

import search_ui
import tagging

FILES = sorted(
    path
    for package in (search_ui, tagging)
    for folder in ("templates", "static")
    for path in (Path(package.__file__).parent / folder).rglob("*")
    if path.suffix in (".html", ".js")
)
# What a reader of plain English should not need to think about; on the right what pages have instead.
NOT = {
    r"told|said|tells?": "report, message, error",
    r"laments?|mourns?|overheard|chatter": "error output",
    r"foretells?|settles?|bring in|brings? back": "dry run, restore",
    r"flying|away|astray": "in progress, unavailable, orphaned",
    r"what is taken for what|where it looks": "confusion matrix, pixel importance",
    r"(?:the )?price of|is worth": "precision and coverage by threshold, reliability",
    r"that is no search|nothing is here": "isn't valid, not found",
    r"this as json|all \d+ as csv|take back|all agrees": "View JSON, Download, Undo, no differences",
    r"learnt|saw|surest|whoever|nobody": "trained on, classified, most confident",
}


def words(path: Path) -> str:
    """Return the text of a template or script, without tags, expressions and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}|<[^>]*>", " ", text, flags=re.DOTALL)
    return " ".join(re.findall(r"\"[^\"\n]* [^\"\n]*\"|`[^`]* [^`]*`", text))


@pytest.mark.parametrize(("pattern", "instead"), NOT.items())
def test_no_page_has_a_word_that_plain_english_has_another_for(pattern, instead):
    wrong = {
        path.name: match[0]
        for path in FILES
        if (match := re.search(rf"\b(?:{pattern})\b", words(path), re.IGNORECASE))
    }
    assert len(FILES) > 30 and wrong == {}, f"use: {instead}"
