"""What a session keeps from one job to the next; every kind of job is a function over it."""

from dataclasses import dataclass

from loraloom.session.bases import Bases
from loraloom.session.library import Library
from loraloom.session.networks import Networks


@dataclass(frozen=True)
class Kept:
    library: Library
    bases: Bases
    networks: Networks
