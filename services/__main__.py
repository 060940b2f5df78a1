"""`python -m services` is the command `atlhyper`."""

from services.cli.main import main

main()
