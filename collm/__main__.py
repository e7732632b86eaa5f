"""`python -m collm`, which is also how a launcher starts several processes of it."""

from collm.cli.main import main

if __name__ == "__main__":
    main()
