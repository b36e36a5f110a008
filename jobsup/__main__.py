"""`python -m jobsup`, and what the `jobsup` command calls."""

from jobsup.cli.main import main

if __name__ == "__main__":
    main()
