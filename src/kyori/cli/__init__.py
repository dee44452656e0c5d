"""The command line: one thin command a file, heavy imports inside the functions."""
