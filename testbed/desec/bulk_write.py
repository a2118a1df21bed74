"""A write of several record sets of a domain: all of them, or none if one has an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testbed.desec.exchange import REQUIRED, RejectionError
from testbed.desec.fields import (
    PartError,
    canonical_records,
    errors_of_records,
    errors_of_subname,
    errors_of_ttl,
    errors_of_type,
)
from testbed.desec.record_sets import Key, RecordSets
from testbed.desec.tokens import Token


@dataclass(frozen=True)
class BulkWrite:
    """A write, as it was sent.

    Args:
        record_sets: What is written to.
        token: What authorizes it.
        domain: The domain.
        document: The parts; not a list if the request is wrong.
        is_partial: Whether a set that exists keeps the fields that a part leaves out.
    """

    record_sets: RecordSets
    token: Token
    domain: str
    document: Any
    is_partial: bool

    def make(self) -> list[dict[str, object]]:
        """Make the write, and return the sets that it leaves, as the API shows them.

        Raises:
            RejectionError: A part has an error, or the token may not write it; nothing was written.
        """
        checked = self._checked_parts()
        for key, fields in checked.items():
            self.record_sets.write(key, fields)
        return [self.record_sets.shown(key) for key in checked if key in self.record_sets.stored]

    def _checked_parts(self) -> dict[Key, dict[str, Any]]:
        if not isinstance(self.document, list):
            message = f"Expected a list of items but got {type(self.document).__name__}."
            raise RejectionError(400, {"non_field_errors": [message]})
        checked: dict[Key, dict[str, Any]] = {}
        errors: list[dict[str, object]] = []
        for item in self.document:
            try:
                key, fields = self._checked(item)
            except PartError as error:
                errors.append(error.errors)
            else:
                errors.append({})
                checked[key] = fields
        if any(errors):
            raise RejectionError(400, errors)
        return checked

    def _checked(self, item: Any) -> tuple[Key, dict[str, Any]]:
        """Return the key of one part of a write, and its fields; a PartError holds what is wrong with it."""
        if not isinstance(item, dict):
            raise PartError({"non_field_errors": f"Expected a dictionary, but got {type(item).__name__}."})
        for name in ("subname", "type"):
            if not isinstance(item.get(name), str | None):
                raise PartError({name: f"Expected a string, but got {type(item[name]).__name__}."})
        twins = [
            index
            for index, other in enumerate(self.document)
            if isinstance(other, dict)
            and other is not item
            and all(other.get(name) == item.get(name) for name in ("subname", "type"))
        ]
        if twins:
            positions = ", ".join(map(str, twins))
            message = f"Same subname and type as in position(s) {positions}, but must be unique."
            raise PartError({"non_field_errors": [message]})
        key = (self.domain, item.get("subname"), item.get("type"))
        is_alias = key[2] == "CNAME"
        conflicts = [
            other[2] for other in self.record_sets.stored if other[:2] == key[:2] and (other[2] == "CNAME") != is_alias
        ]
        if item.get("records") != [] and conflicts:
            message = (
                f"RRset with conflicting type present at same subname: database ({', '.join(conflicts)})."
                " (No other RRsets are allowed alongside CNAME.)"
            )
            raise PartError({"non_field_errors": [message]})
        required = {"subname", "type"}
        if not self.is_partial or (key not in self.record_sets.stored and item.get("records") != []):
            required |= {"ttl", "records"}
        self._check_fields(item, required)
        if not self.token.may_write((self.domain, item["subname"], item["type"])):
            # Of the whole request, not of a part of it.
            raise RejectionError(403, {"detail": "Insufficient token permissions."})
        fields = dict(item)
        if "records" in item:
            fields["records"] = canonical_records(item["type"], item["records"])
        return (self.domain, item["subname"], item["type"]), fields

    def _check_fields(self, item: Mapping[str, Any], required: set[str]) -> None:
        errors: dict[str, object] = {name: REQUIRED for name in required if item.get(name) is None}
        if errors:
            raise PartError(errors)
        errors |= errors_of_subname(item["subname"])
        errors |= errors_of_type(item["type"])
        if "ttl" in item:
            errors |= errors_of_ttl(item["ttl"], self.record_sets.minimum_ttls[self.domain])
        if "records" in item:
            errors |= errors_of_records(item["records"])
        if errors:
            raise PartError(errors)
