"""The address that sorts a list by another column."""

from __future__ import annotations

from django import template

from drive.listing import Order

register = template.Library()


@register.filter
def query_for(order: Order, column: str) -> str:
    """`?sort=…&dir=…` for a column's heading."""
    return order.query(column)
