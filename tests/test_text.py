"""Text from outside is escaped where a terminal or a database could not take it, and only there."""

from __future__ import annotations

import os

from otc_assets.text import printable, printable_name

HOSTILE = "T1 [/bold][red]:warning: \x1b[31m\x9b2J\u202egpj.csv"


def test_control_characters_surrogates_and_turned_text_are_escaped_and_letters_are_not() -> None:
    assert printable(HOSTILE) == r"T1 [/bold][red]:warning: \x1b[31m\x9b2J\u202egpj.csv"
    assert printable("Zürich 株式 – €\n\tnext") == "Zürich 株式 – €\n\tnext"
    assert printable("a\nb", keep="") == r"a\nb"
    assert printable(os.fsdecode(b"T1 \xfc.csv")) == r"T1 \udcfc.csv"


def test_bytes_of_a_file_name_that_are_not_utf_8_are_shown_as_bytes() -> None:
    assert printable_name(os.fsdecode(b"\xfc\n\x1b[31m.csv")) == r"\xfc\n\x1b[31m.csv"
    assert printable_name("Übersicht.csv") == "Übersicht.csv"
