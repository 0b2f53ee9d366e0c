"""Makes the fixture of the loopback server known to the tests of this folder."""

from image_server import server

__all__ = ["server"]
