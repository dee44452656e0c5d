"""``python -m kyori``: the same as the command ``kyori``."""

from .cli.main import main

if __name__ == "__main__":
    main()
