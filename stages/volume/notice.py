"""The words that say on every page, picture and document what a result is, and what it is not."""

NOTICE = "Research only, not a medical device; made by software, not verified by a physician"
"""One line of ASCII, so that it can stand in any font and any character set."""
