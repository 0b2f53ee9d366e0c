"""`python -m cnnzoo` is the command `cnnzoo`."""

from cnnzoo.cli import main

main()
