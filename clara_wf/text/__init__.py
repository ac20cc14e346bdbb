"""Text of others and typed names on their way to a person: escaped, encodable, and with a suggestion."""
