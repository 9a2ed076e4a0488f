"""What `shipway-agent check` looks at."""
