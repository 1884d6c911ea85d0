"""Output on the terminal: plain text, tables that fit, and JSON.

Names of files and text of FINRA's rows reach the terminal through here and are shown as they are: no brackets are
taken for markup, no control character is sent. What to show is decided in ``cli`` and ``reports``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from otc_assets.text import is_unsafe, printable

#: Between columns.
_GAP = 2

#: Of notes below a row.
_INDENT = 4

#: A longer word may be broken where a table would not fit otherwise: a digest, a file's name.
_LONGEST_WORD = 24

#: Where a line may end: after a space, an underscore, a slash, the dots of a range, and a dot that is not a number's.
_WORDS = re.compile(r"\s+|(?:[^\s/_.]|\.(?=\d))*(?:[/_]|\.\.|\.(?![.\d]))?|.", re.DOTALL)


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """``value`` as JSON, dates and numbers of other types as strings; unsafe characters are escaped as JSON does."""
    text = json.dumps(value, default=str, indent=indent, ensure_ascii=False)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c == "\n" or not is_unsafe(c) else f"\\u{ord(c):04x}" for c in text)


class Terminal(Console):
    """A console that takes text for text. Style is given as ``rich.text.Text``, or with ``note``."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints as rich does; strings are made printable, and lines are left to the terminal to wrap."""
        texts = all(isinstance(one, str | Text) for one in objects)
        options.setdefault("soft_wrap", texts)
        super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **options)

    def note(self, label: str, style: str, text: str) -> None:
        """Prints ``text`` after a label in ``style``; without a label all of it is in ``style``."""
        shown = Text.assemble((label, style), " ", printable(text)) if label else Text(printable(text), style)
        self.print(shown)

    def print_as_json(self, value: Any, *, indent: int | None = 2) -> None:
        """Prints JSON, coloured on a terminal."""
        written = json_text(value, indent=indent)
        if not self.is_terminal:
            self.file.write(f"{written}\n")  # looking for colours takes a quarter of a minute for a full-size capture
            self.file.flush()  # who follows reads each line at once
            return
        text = Text(written)
        JSONHighlighter().highlight(text)
        self.print(text)

    def print_table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        right: Sequence[str] = (),
        *,
        header: bool = True,
        at_least: Mapping[str, int] | None = None,
        notes: bool = False,
    ) -> None:
        """Prints a table that is no wider than the terminal. Lines are broken between words.

        With ``notes``, and where only the other columns fit, the text of the last one is below each row. Where even
        the longest words side by side are too wide, every row becomes a list of its fields.

        Args:
            columns: the headings.
            rows: their values; integers are grouped by thousands, and None is left empty.
            right: the columns that are aligned to the right.
            header: whether the headings are printed.
            at_least: widths of columns that must not depend on the rows.
            notes: whether the last column has sentences.
        """
        cells = [[_cell(value) for value in row] for row in rows]
        every = [list(columns), *cells] if header else cells
        by_column = list(zip(*every, strict=True)) if every else [(name,) for name in columns]
        fixed = [(at_least or {}).get(name, 0) for name in columns]
        natural = [max(least, *map(cell_len, texts)) for least, texts in zip(fixed, by_column, strict=True)]
        if notes and _width(natural) > self.width >= _width(natural[:-1]):
            for number, row in enumerate(every):
                style = "bold" if header and not number else ""
                self.print(Text(_line(row, natural[:-1], right, columns), style))
                for line in filter(None, _wrapped(row[-1], self.width - _INDENT)):
                    self.print(Text(" " * _INDENT + line, style))
            return
        narrowest = [max(least, *map(_narrowest, texts)) for least, texts in zip(fixed, by_column, strict=True)]
        widths = _fit(natural, narrowest, self.width - _GAP * (len(columns) - 1))
        if widths is None:
            self._print_records(columns, cells)
            return
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold", show_header=header)
        for column, width in zip(columns, widths, strict=True):
            justify: Any = "right" if column in right else "left"
            heading = "\n".join(_wrapped(column, width)) if header else ""
            table.add_column(heading, justify=justify, width=width, no_wrap=True, overflow="fold")
        for row in cells:
            wrapped = ("\n".join(_wrapped(text, width)) for text, width in zip(row, widths, strict=True))
            table.add_row(*map(Text, wrapped))
        self.print(table)

    def _print_records(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        indent = max(map(cell_len, columns)) + _GAP
        for number, row in enumerate(cells):
            if number:
                self.print("")
            for column, text in zip(columns, row, strict=True):
                lines = _wrapped(text, max(self.width - indent, _LONGEST_WORD))
                self.print(column.ljust(indent) + f"\n{' ' * indent}".join(lines))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else printable(str(value), keep="")


def _width(widths: Sequence[int]) -> int:
    """The width of columns side by side."""
    return sum(widths) + _GAP * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[str], columns: Sequence[str]) -> str:
    """The cells that have a width, side by side."""
    padded = []
    for text, width, column in zip(cells, widths, columns, strict=False):
        space = " " * (width - cell_len(text))
        padded.append(space + text if column in right else text + space)
    return (" " * _GAP).join(padded).rstrip()


def _words(text: str) -> list[str]:
    return [word for word in _WORDS.findall(text) if word]


def _narrowest(text: str) -> int:
    """The width below which a word would have to be broken."""
    return max((min(cell_len(word.rstrip()), _LONGEST_WORD) for word in _words(text)), default=0)


def _fit(natural: Sequence[int], narrowest: Sequence[int], available: int) -> list[int] | None:
    """Widths of columns that take ``available`` at most, the widest narrowed first; None where nothing fits."""
    widths = list(natural)
    while sum(widths) > available:
        over, column = max(
            (width - least, number) for number, (width, least) in enumerate(zip(widths, narrowest, strict=True))
        )
        if over <= 0:
            return None
        widths[column] -= 1
    return widths


def _wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width``, broken between words, and within one only if it is longer."""
    lines, line = [], ""
    for word in _words(text):
        if cell_len((line + word).rstrip()) > width and line:
            lines.append(line.rstrip())
            line = ""
        if not line:
            word = word.lstrip()
        while cell_len(word) > width and len(word) > 1:
            part = word
            while cell_len(part) > width and len(part) > 1:
                part = part[:-1]
            lines.append(part)
            word = word[len(part) :]
        line += word
    return [*lines, line.rstrip()]
