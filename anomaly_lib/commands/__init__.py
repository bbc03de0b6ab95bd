"""The command line: one file a subcommand. Parse, call, print; no logic."""
