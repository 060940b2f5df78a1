"""Label and field selectors, in Kubernetes' grammar.

What is accepted, and what it selects, is what the API server accepts and selects. Only the limits are ours.
"""

from schemas.selectors.errors import MAX_BYTES, MAX_REQUIREMENTS, SelectorError
from schemas.selectors.fields import FieldSelector, FieldTerm, parse_field_selector
from schemas.selectors.grammar import MAX_VALUES, parse_label_selector
from schemas.selectors.labels import (
    MAX_INTEGER,
    LabelSelector,
    Operator,
    Requirement,
    integer,
    label_selector_of,
)

__all__ = [
    "MAX_BYTES",
    "MAX_INTEGER",
    "MAX_REQUIREMENTS",
    "MAX_VALUES",
    "FieldSelector",
    "FieldTerm",
    "LabelSelector",
    "Operator",
    "Requirement",
    "SelectorError",
    "integer",
    "label_selector_of",
    "parse_field_selector",
    "parse_label_selector",
]
