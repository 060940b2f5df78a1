"""`python -m services` is the command `atlhyper`."""

from services.cli.entry import main

main()
