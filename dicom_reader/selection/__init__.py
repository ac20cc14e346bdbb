"""From all series to the chosen ones: rules and preferences, and what became of each series in words."""
