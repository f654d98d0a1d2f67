"""Strings that attack a search: ideas in several contexts, and documents whose values are these strings."""

import itertools
import json

IDEAS = {
    "query": ["*:*", "tag:frog OR tag:*", "[* TO *]", "frog) OR (*:*", "frog^9", "frog~2", "/.*/", "-frog", "a && !b || c",
              '_query_:"{!lucene}x"', "?*", "frog\\"],
    "local parameters": ["{!func}sum(1,1)", "{!terms f=id}1", "{!join from=id to=id}*:*", "{!v=$q}", "{!bool must=$q}", "}",
                         "{!xmlparser}<MatchAllDocsQuery/>", "{!collapse field=tag}", "' v='*:*"],
    "references": ["$q", "$words", "$$tag", "${jndi:ldap://127.0.0.1/x}", "#{1}", "{{7*7}}", "{% raw %}", "%(tag)s", "%s%n"],
    "facets": ['"}}', '","limit":-1,"x":"', '"},"all":{"type":"terms","field":"id"}', "\\u0022", "]}", "{}", "[]", "null"],
    "parameters": ["&fq=*:*", "&shards=127.0.0.1:1/solr", "&q=*:*#", "%26stream.body%3D%3Cdelete%2F%3E", "+%2B+", ";qt=/update",
                   "=x&=", "&wt=xslt&tr=x", "?"],
    "markup": ["<script>fired()</script>", '"><img src=x onerror=fired()>', "' onmouseover='fired()", "javascript:fired()", "<!--",
               "</title></style></textarea><svg onload=fired()>", "]]>", "&lt;b&gt;&amp;#60;", "<base href=//x>", "<br", "`-fired()-`"],
    "formulas": ["=1+1", "+1", "-1", "@SUM(1)", '=HYPERLINK("http://127.0.0.1/","x")', "=cmd|' /C calc'!A0", "|x", "%x", "＝1+1",
                 "\t=1", "\r=1", "\n=1", ";=1+1"],
    "paths": ["../../etc/passwd", "..%2f..%2f", "/etc/passwd", "..\\..\\x", "file:///etc/passwd", "%2e%2e/", "~root", "C:\\x", "//x/y"],
    "characters": ["\x00", "\x1f", "\x7f", "\x85", "\u200b", "\u202e", "\u2066", "\u2028", "\ufeff", "\u00ad", "\ufffe", "\ud7ff",
                   "e\u0301", "İß", "１２", "\u3000", "\U0001f438", "\U0001f469\u200d\U0001f52c"],
    "long": ["x" * 220, "x" * 221, "é" * 220, "(" * 220, "{!" * 110, "x" * 5_000, "%" * 3_000],
}  # fmt: skip
CONTEXTS = ["{}", "frog{}", "{} frog", "'{}'", '"{}"', "({})"]
STRINGS = sorted(
    {context.replace("{}", idea) for ideas in IDEAS.values() for idea, context in itertools.product(ideas, CONTEXTS)}
)  # fmt: skip

# Each idea once, in one of the contexts.
REPRESENTATIVES = [
    CONTEXTS[number % len(CONTEXTS)].replace("{}", idea)
    for number, idea in enumerate(idea for ideas in IDEAS.values() for idea in ideas)
]

LONGEST = 220
# Strings that can be stored as a tag and asked for again.
TAGS = [text for text in STRINGS if len(text) <= LONGEST and text.isprintable()]
PLAIN = "plain"
# Tags that no search can have, but an index may.
ODD = [text for text in STRINGS if len(text) <= 300 and not text.isprintable() and "\x1f" not in text]


def documents(
    run: str,
    words: list[str],
    corpus: str = "small",
    model: str = "ten",
    label: str | None = None,
    first: int = 0,
) -> list[dict]:
    """Return a document for each word, which is its tag, its runner-up and, without another one, its label."""
    return [
        {
            "id": f"deadbeef:{place // 300}:{place % 300}",
            "corpus": corpus, "partition": place // 300, "row": place % 300, "tag": word, "label": label or word,
            "votes": 6, "trees": 10, "confidence": 0.6, "runner_up": word, "runner_up_votes": 3, "model": model, "run": run,
        }
        for place, word in enumerate(words, first)
    ]  # fmt: skip


def insert(solr, run: str, inserted: list[dict]) -> None:
    """Make a collection of documents as they are, as no job of ours would."""
    solr.create(run)
    solr.update(run, json.dumps(inserted).encode())
    solr.commit(run)
