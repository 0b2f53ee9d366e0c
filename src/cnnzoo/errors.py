"""The one exception whose message is meant for a person.

Everything that a user can get wrong (a parameter, a file, a disk) raises `CnnzooError`. Its message names the
thing, says what was found and what is allowed, and how to mend it. The command line prints it without a traceback.
"""


class CnnzooError(Exception):
    """A fault that its message explains: what is wrong, where, what is allowed, how to mend it."""
