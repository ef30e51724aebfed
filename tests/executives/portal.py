"""The shapes that the portal reads, as JSON schemas, and what compares an answer with one.

What it reads is required; what else an answer has is ours to name, so that nothing is sent by accident.
"""

from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
UUID: Schema = {"type": "string", "pattern": r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}


def shape(**members: Schema) -> Schema:
    """Return the schema of an object that has just these members."""
    return {"type": "object", "properties": members, "required": [*members], "additionalProperties": False}


def listed(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


EXECUTIVES = shape(
    executives=listed(
        shape(id=TEXT, name=TEXT, role=TEXT, status=TEXT, department=TEXT, capabilities=listed(TEXT)),
    ),
    total=COUNT,
)
ACTIVITY = shape(
    activities=listed(
        shape(id=TEXT, executiveId=TEXT, executiveName=TEXT, action=TEXT, timestamp=TIME, metadata={"type": "object"}),
    ),
    total=COUNT,
    hasMore={"type": "boolean"},
)
_APPROVAL = {
    "id": UUID,
    "executiveId": TEXT,
    "executiveName": TEXT,
    "action": TEXT,
    "type": TEXT,
    "value": {"type": ["string", "null"], "pattern": r"^\d+(\.\d+)?$"},
    "currency": {"type": ["string", "null"], "pattern": "^[A-Z]{3}$"},
    "risk": {"enum": ["low", "medium", "high"]},
    "createdAt": TIME,
    "expiresAt": TIME,
}
PENDING = shape(approvals=listed(shape(**_APPROVAL)), total=COUNT, hasMore={"type": "boolean"})
DECIDED = shape(
    **_APPROVAL,
    decision={"enum": ["approve", "reject"]},
    decidedBy=TEXT,
    decidedAt=TIME,
    reason={"type": ["string", "null"]},
)


def check(told: object, schema: Schema) -> None:
    """Compare an answer with a schema; AssertionError names each difference."""
    Draft202012Validator.check_schema(schema)
    faults = [f"{fault.json_path}: {fault.message}" for fault in Draft202012Validator(schema).iter_errors(told)]
    assert faults == []
