"""Who publishes a data set, under which licence, as what."""

from dataclasses import dataclass, field
from datetime import date

from cnnzoo.core.errors import CnnzooError


@dataclass(frozen=True)
class Release:
    """Who publishes, under which licence, as what."""

    creators: tuple[str, ...]
    licence: str = "CC-BY-4.0"
    """An identifier of the SPDX list."""
    version: str = "1.0.0"
    url: str = ""
    """Where the data set will be found; may be empty."""
    day: date = field(default_factory=date.today)

    def __post_init__(self) -> None:
        """Raise `CnnzooError` if nobody is named as a creator, or for an empty licence."""
        if not self.creators or not all(name.strip() for name in self.creators):
            raise CnnzooError("a data set that can be cited has creators: name at least one")
        if not self.licence.strip() or any(sign.isspace() or sign == "/" for sign in self.licence):
            raise CnnzooError(f"the licence must be an SPDX identifier such as CC-BY-4.0, got {self.licence!r}")

    @property
    def licence_url(self) -> str:
        """The page of the licence in the SPDX list."""
        return f"https://spdx.org/licenses/{self.licence}"
