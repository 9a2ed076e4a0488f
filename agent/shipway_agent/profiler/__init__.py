"""What the hardware of a task does while it runs, as series of numbers for the master."""
