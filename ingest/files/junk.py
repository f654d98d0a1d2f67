"""What systems leave beside people's files: thumbnails, settings of folders, marks of downloads. It is no part of any dump."""

import re

# Names of files and folders, in any case.
_JUNK = re.compile(
    r"""
    \._.* | \.ds_store | \.appledouble | \.spotlight-v100 | \.trashes | \.fseventsd | __macosx | icon\r   # macOS
    | thumbs\.db | ehthumbs(_vista)?\.db | desktop\.ini | \$recycle\.bin | system\ volume\ information   # Windows
    | .*:zone\.identifier                                             # copies from Windows to Linux
    | @eadir | \#recycle | \#snapshot | @recycle | \.@__thumb | @tmp   # NAS systems
    | lost\+found | \.directory | \.thumbnails | \.nomedia
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_junk(name: str) -> bool:
    """Return whether a file or folder of this name, without its path, is no part of what people keep in a folder."""
    return _JUNK.fullmatch(name) is not None
