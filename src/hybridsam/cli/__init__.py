"""The command line: one subcommand for each kind of rule. No result depends on this room; it may import all."""
