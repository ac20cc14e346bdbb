"""The subcommands of clara-wf, a module for each group: parse, call one function, print."""
