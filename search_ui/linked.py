"""The parameters that other sites add to links, which mean nothing here."""

import re

from flask import Request
from werkzeug.datastructures import ImmutableMultiDict, MultiDict
from werkzeug.utils import cached_property

# Google Analytics' utm_source and so on; the click ids of Google, Facebook, Microsoft and others; Mailchimp's.
_ADDED = re.compile(
    r"utm_\w+|\w*cl(?:id|sid)|srsltid|[gw]braid|mc_[ce]id|_g[al]|_hs(?:enc|mi)|igsh(?:id)?", re.ASCII
)
# A browser is redirected to a page without any unknown parameter instead (`search_ui.errors`).
_FILES = (".csv", ".jsonl", ".txt")


def for_programs(path: str) -> bool:
    """Return whether what a path gives is for programs: data or a file of it."""
    return path.startswith("/api/") or path.endswith(_FILES)


class RequestWithoutAdded(Request):
    """A request of the API, or for a file, in which ``args`` doesn't have these parameters."""

    @cached_property
    def args(self) -> MultiDict[str, str]:
        args = super().args
        if not for_programs(self.path):
            return args
        return ImmutableMultiDict(pair for pair in args.items(multi=True) if not _ADDED.fullmatch(pair[0]))
