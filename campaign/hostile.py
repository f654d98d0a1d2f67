"""Values that attack a search, and ways to make more of them."""

from urllib.parse import quote

from campaign.place import Place

# What each is aimed at: Solr's query languages, its parameters, JSON, HTML, spreadsheets, paths, characters, lengths.
VALUES = (
    "*:*", "tag:frog OR tag:*", "[* TO *]", "frog) OR (*:*", "frog~2", "/.*/", '_query_:"{!lucene}x"', "frog\\",
    "{!func}sum(1,1)", "{!terms f=id}1", "{!join from=id to=id}*:*", "{!v=$q}", "{!xmlparser}<MatchAllDocsQuery/>", "' v='*:*",
    "$q", "${jndi:ldap://127.0.0.1/x}", "#{1}", "{{7*7}}", "{% raw %}", "%(tag)s", "%s%n",
    '"}}', '","limit":-1,"x":"', '"},"all":{"type":"terms","field":"id"}', "\\u0022", "]}", "null",
    "&fq=*:*", "&shards=127.0.0.1:1/solr", "%26stream.body%3D%3Cdelete%2F%3E", ";qt=/update", "=x&=", "&wt=xslt&tr=x",
    "<script>fired()</script>", '"><img src=x onerror=fired()>', "' onmouseover='fired()", "javascript:fired()",
    "</title></style></textarea><svg onload=fired()>", "&lt;b&gt;", "<base href=//x>",
    "=1+1", "@SUM(1)", "=cmd|' /C calc'!A0", "\t=1", "\n=1", "\r\nSet-Cookie: x=1",
    "../../etc/passwd", "..%2f..%2f", "/etc/passwd", "file:///etc/passwd", "//x/y", "%2e%2e/",
    "\x00", "\x1f", "\x7f", "\u202e", "\u2028", "\ufeff", "\ud7ff", "İß", "１２", "\U0001f438",
    "-1", "0", "1e9", "99999999999999999999", "0x10", "NaN", "1.5", "50-", "-50", "100-0",
    "x" * 221, "{!" * 110, "x" * 5_000, "%" * 300,
)  # fmt: skip
PARAMETERS = (
    "tag", "runner_up", "label", "corpus", "model", "run", "confidence", "answer", "sort", "seed", "page", "per_page", "size",
    "after", "min", "max", "at", "with", "v", "scale", "q", "fq", "shards", "json.facet", "stream.body", "qt", "wt",
)  # fmt: skip


def value(place: Place) -> str:
    """Return a hostile value: one of the list, two of them, or one with a character changed."""
    one = place.random.choice(VALUES)
    how = place.random.randrange(4)
    if how == 0:
        return one + place.random.choice(VALUES)
    if how == 1 and one:
        at = place.random.randrange(len(one))
        return one[:at] + chr(place.random.randrange(1, 0x300)) + one[at + 1 :]
    return f"frog{one}" if how == 2 else one


def target(place: Place, paths: list[str]) -> str:
    """Return a path with hostile parameters, or with a hostile part in it; quoted but for one in ten."""
    path = place.random.choice(paths)
    if place.random.random() < 0.2:
        parts = path.split("/")
        parts[place.random.randrange(1, len(parts))] = quote(value(place), safe="")
        return "/".join(parts)
    pairs = (
        (place.random.choice(PARAMETERS), value(place)) for _ in range(place.random.choice((1, 1, 2, 5)))
    )
    if place.random.random() < 0.1:
        raw = "&".join(f"{name}={one}" for name, one in pairs)
        return f"{path}?{''.join(letter if '!' <= letter <= '~' else '%' for letter in raw)}"
    return f"{path}?{'&'.join(f'{name}={quote(one, safe=str())}' for name, one in pairs)}"
