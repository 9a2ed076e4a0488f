"""The subcommands of shipway-launcher."""
