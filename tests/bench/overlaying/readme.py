"""Puts results into the README, between two comments that no reader sees."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def put(path: Path, section: str, text: str) -> None:
    """Replace a section of a Markdown file. Raises ValueError if it has none of this name."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    old = path.read_text()
    if begin not in old or end not in old:
        raise ValueError(f"{path} has no section {section}")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    path.write_text(pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", old, count=1))
