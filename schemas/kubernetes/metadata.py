"""The metadata of objects and patches that people send: what is looked into must be of its type."""

from typing import Any

_OBJECTS = ("annotations", "labels")
_TEXTS = ("name", "namespace", "generateName")


def with_metadata(body: Any) -> Any:
    """The same body. Raises ValueError naming the place that is not as metav1.ObjectMeta has it.

    Null is as not there, and in a patch takes away; what is no object, a JSON patch, has no metadata.
    """
    if not isinstance(body, dict):
        return body
    metadata = body.get("metadata")
    if metadata is None:
        return body
    if not isinstance(metadata, dict):
        raise ValueError("metadata is not an object")  # noqa: TRY004 (what pydantic makes an error of)
    for type_, members, what in ((dict, _OBJECTS, "an object"), (str, _TEXTS, "a text")):
        for member in members:
            if not isinstance(metadata.get(member), type_ | None):
                raise ValueError(f"metadata.{member} is not {what}")  # noqa: TRY004 (as above)
    return body
