"""Histories with one planted fault, each under the invariant that must find it; and fair ones, without any."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.history import History

PLANTED: list[Any] = []


def planted(invariant: str, *variants: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function that makes a history with one fault of this invariant; with ``variants``, one for each of them."""

    def keep(plant: Callable[..., History]) -> Callable[..., History]:
        name = f"{invariant} {plant.__name__.replace('_', ' ')}"
        for variant in variants or (None,):
            of = (variant,) if variants else ()
            PLANTED.append(pytest.param(invariant, plant, of, id=f"{name} {variant}" if variants else name))
        return plant

    return keep


FAIR: list[Any] = []


def fair(*variants: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function that makes a history without a broken promise."""

    def keep(make: Callable[..., Any]) -> Callable[..., Any]:
        for variant in variants or (None,):
            of = (variant,) if variants else ()
            FAIR.append(pytest.param(make, of, id=f"{make.__name__.replace('_', ' ')} {variant if variants else ''}"))
        return make

    return keep
