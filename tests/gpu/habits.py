"""Stage `habits` of check.py: what a training asks of the operator besides right numbers once.

Parts of a wider projection, half offsets, sums that repeat, streams, CUDA graphs, torch.compile;
each against the same work done plainly, with the implementation that the device takes by itself.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from check import LIMITS, Problem, Shape, distance, note, said
from torch import Tensor

from mtlcli.ops import choice, reference

SHAPE = Shape(name="habits", maps=((27, 35),) * 3, queries=945, points=5, channels=17)
MOST = LIMITS["fp32"]


@dataclass(frozen=True)
class Habit:
    """One problem, what it comes to in float64, and the operator."""

    problem: Problem
    wanted: list[Tensor]
    operator: choice.Operator

    def is_right(self, operator: choice.Operator) -> bool:
        """Whether output and gradients are those of float64."""
        found = self.problem.run(operator, "clamp")
        return all(distance(*pair) <= MOST for pair in zip(found, self.wanted))

    def forward(self) -> Tensor:
        """The output alone."""
        its = self.problem
        told = (list(its.shape.maps), its.points, its.offsets, its.logits, "clamp")
        with torch.no_grad():
            return self.operator(its.value, *told)


def run_habits(options: argparse.Namespace) -> None:
    """A line for each; those of a GPU only there."""
    device = torch.device(options.device)
    problem = Problem(SHAPE, torch.float32, device)
    wanted = problem.run(reference.deformable_attention, "clamp", exact=True)
    habit = Habit(problem, wanted, choice.load(choice.FUSED[device.type][0]))
    on_gpu = ON_GPU if device.type == "cuda" else {}
    for name, check in (HABITS | on_gpu).items():
        try:
            note(options, stage="habits", habit=name, ok=check(habit))
        except Exception as error:
            note(options, stage="habits", habit=name, ok=False, failed=said(error))


def reads_parts(habit: Habit) -> bool:
    """Offsets and logits of one projection, at an address that nothing divides."""

    def operator(value: Tensor, maps: list, points: Tensor, *rest: object) -> Tensor:
        offsets, logits, border = rest
        assert isinstance(offsets, Tensor)
        assert isinstance(logits, Tensor)
        odd = offsets.new_zeros(*offsets.shape[:2], 1)
        projected = torch.cat((odd, offsets.flatten(2), logits.flatten(2)), 2)
        _, first, second = projected.split((1, *(t[0, 0].numel() for t in (offsets, logits))), 2)
        parts = first.view(offsets.shape), second.view(logits.shape)
        return habit.operator(value, maps, points, *parts, border)

    return habit.is_right(operator)


def takes_points_in_any_order(habit: Habit) -> bool:
    """Reference points whose coordinates do not stand side by side."""

    def operator(value: Tensor, maps: list, points: Tensor, *rest: object) -> Tensor:
        return habit.operator(value, maps, points.T.contiguous().T, *rest)

    return habit.is_right(operator)


def takes_half_offsets(habit: Habit) -> bool:
    """Offsets and logits in half precision, of the same rounded numbers."""
    its = habit.problem
    halves = [tensor.half() for tensor in (its.offsets, its.logits)]
    told = (list(its.shape.maps), its.points)
    with torch.no_grad():
        found = habit.operator(its.value, *told, *halves, "clamp")
        exact = [tensor.double() for tensor in (its.value, its.points, *halves)]
        value, points, *rest = exact
        wanted = reference.deformable_attention(value, told[0], points, *rest, "clamp")
    return distance(found, wanted) <= MOST


def repeats(habit: Habit) -> bool:
    """Under deterministic algorithms two runs are equal to the bit, and right."""
    torch.use_deterministic_algorithms(True)
    try:
        runs = [habit.problem.run(habit.operator, "clamp") for _ in range(2)]
        return all(map(torch.equal, *runs)) and habit.is_right(habit.operator)
    finally:
        torch.use_deterministic_algorithms(False)


def works_on_a_stream(habit: Habit) -> bool:
    """Of its own, while the default one is busy with what must not be waited for."""
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        right = habit.is_right(habit.operator)
    torch.cuda.synchronize()
    return right


def is_recorded(habit: Habit) -> bool:
    """Into a CUDA graph, and replayed with another value in the same place."""
    habit.forward()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = habit.forward()
    habit.problem.value.mul_(2)
    graph.replay()
    torch.cuda.synchronize()
    habit.problem.value.div_(2)
    return distance(out, 2 * habit.wanted[0]) <= MOST


def is_compiled(habit: Habit) -> bool:
    """By torch.compile, whole, with its backward pass."""
    return habit.is_right(torch.compile(habit.operator, fullgraph=True))


HABITS: dict[str, Callable[[Habit], bool]] = {
    "parts of a projection": reads_parts,
    "points in any order": takes_points_in_any_order,
    "half offsets": takes_half_offsets,
    "repeats": repeats,
}
ON_GPU: dict[str, Callable[[Habit], bool]] = {
    "a stream of its own": works_on_a_stream,
    "a CUDA graph": is_recorded,
    "torch.compile": is_compiled,
}
