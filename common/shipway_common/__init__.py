"""What two or more parts of Shipway really share; small, and without state."""
