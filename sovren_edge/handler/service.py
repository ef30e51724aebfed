"""Owns the type of settings that name a service.

Must not know what services there are: the configuration tells, where it is read.
"""

from typing import Annotated

from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError


def _known(name: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get("services")
    if known is not None and name not in known:
        text = "the name of a listener that is served, or of one of [services]"
        raise PydanticCustomError("unknown_service", text, {"known": sorted(known)})
    return name


Service = Annotated[str, AfterValidator(_known)]
"""A setting's type: a name for `Edge.url`, which the configuration must know; a default may be absent there."""
