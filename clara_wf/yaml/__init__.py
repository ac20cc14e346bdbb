"""A YAML file becomes nodes with their places; checks of it return findings with line, column and advice."""
