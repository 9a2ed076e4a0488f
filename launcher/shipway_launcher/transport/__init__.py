"""Ways to run a command and to move a file as some user on some machine."""
