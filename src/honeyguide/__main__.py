"""`python -m honeyguide` is `honeyguide`."""

from honeyguide.cli import main

if __name__ == "__main__":
    main()
