"""`python -m lensctl`, the same as the `lensctl` command."""

from lensctl.cli import main

if __name__ == "__main__":
    main()
