"""What devices this machine has, which of them are healthy, and why the others are not."""
