"""values.yaml in, checked stages and workflows out; every rule for it is applied by `lint`."""
