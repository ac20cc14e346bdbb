"""The screen: text of others goes through here on its way to a person."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from clara_wf.text.untrusted import printable_lines


class Terminal(Console):
    """A console that shows text as it is: without markup, without emoji codes, escaped.

    Parameters
    ----------
    options
        What `rich` takes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text for the screen.

        Parameters
        ----------
        text, options
            The text and what `rich` takes.
        """
        return super().render_str(printable_lines(text), **options)
