"""Copies of frozen values with some fields changed: `dataclasses.replace`, but quicker: each fact makes several."""

from typing import TYPE_CHECKING

__all__ = ["replace"]

if TYPE_CHECKING:  # the checker knows the standard one, and checks every field that is changed
    from dataclasses import replace
else:
    import dataclasses
    from functools import cache

    _set = object.__setattr__

    def replace(value, /, **changes):
        """The value with those fields changed; TypeError for a field that there is not."""
        kind = type(value)
        names = _names(kind)
        if not names or not names.keys() >= changes.keys():
            return dataclasses.replace(value, **changes)
        copy = object.__new__(kind)
        for name in names:
            _set(copy, name, changes[name] if name in changes else getattr(value, name))
        return copy

    @cache
    def _names(kind):
        """The fields of a class whose values are nothing but their fields; none of one that does more at its making."""
        fields = dataclasses.fields(kind)
        simple = not hasattr(kind, "__post_init__") and all(each.init for each in fields)
        return {each.name: None for each in fields} if simple else {}
