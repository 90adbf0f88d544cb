"""How recurrent layers are written in the file: the choice behind `lowering=`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FLOAT32", "Form"]

# docs/lowering.md explains the rule; benchmarks/profile.py shows both costs.
_TURN = (
    768 * 1024
)  # bytes of weights that the steps of one turn may pack; most second-level caches keep so much
_UNROLLED = 512 * 1024  # bytes of weights that all steps may pack where there is no loop at all
_MOST_UNROLLED = 32  # steps: each adds a dozen operators, 1.5 KB, to the file
_MOST_STEPS = 4  # a turn; more gain little and double what is packed


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form of every recurrent layer of a file.

    Every copy of the product h·R in a graph gets its own packed weights. A turn of a WHILE loop costs some
    microseconds, so small layers gain from several steps a turn, or from no loop; large ones lose, as soon as their
    copies no longer fit into the second-level cache together.

    Attributes:
        kind: "auto" chooses by the size of R; "loop", "unroll" and "fused" are what they say.
        steps: Steps a turn of the loop; None chooses by the size of R.
        weight_bytes: Bytes of one weight as the products read it: 4, or 1 where it is quantized to 8 bits.
    """

    kind: str = "auto"
    steps: int | None = None
    weight_bytes: int = 4

    def unrolls(self, time: int | None, weights: int) -> bool:
        """Whether a layer with so many recurrent weights runs `time` steps without a loop."""
        if time is None or self.kind == "loop":
            return False
        small = time <= _MOST_UNROLLED and time * weights * self.weight_bytes <= _UNROLLED
        return small or self.kind == "unroll" or time == 1

    def steps_per_turn(self, time: int | None, weights: int) -> int:
        """How many steps a turn of the loop runs for a layer with so many recurrent weights."""
        fitting = self.steps or min(_MOST_STEPS, _TURN // (weights * self.weight_bytes))
        fitting = fitting if time is None else min(fitting, time)
        # A whole number of turns spares the loop that runs the odd steps one by one.
        divides = [n for n in range(1, fitting + 1) if time is not None and time % n == 0]
        return divides[-1] if divides and 2 * divides[-1] > fitting else max(1, fitting)


FLOAT32 = Form()
