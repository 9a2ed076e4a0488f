"""What `shipway-master check` looks at: one module per kind of thing."""
