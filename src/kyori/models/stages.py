"""The parts of a network from its input to its output: what is frozen first, and learns slowest."""

import re

from torch import nn

__all__ = ["stages_of"]

_NUMBERED = re.compile(r"^(\d+|.*?\.\d+)\.")


def stages_of(backbone: nn.Module, *, fine: bool = False) -> list[list[str]]:
    """Return the names of the weights of each stage, from the input on.

    timm says of its models which weights belong together; coarse stages of a ``resnet18`` are its stem and its four
    layers, fine ones its blocks. Elsewhere a stage is a numbered part (``layers.3``), or what has no number between
    two of them, in the order in which the network registers them.

    Args:
        backbone: The network.
        fine: Blocks rather than stages, where timm tells them apart.

    Returns:
        One list of names for each stage; each weight is in one of them.

    >>> stages_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    [['0.weight', '0.bias'], ['2.weight', '2.bias']]
    """
    names = [name for name, _ in backbone.named_parameters()]
    matcher = getattr(backbone, "group_matcher", None)
    if callable(matcher):
        from timm.models import group_parameters

        groups = group_parameters(backbone, matcher(coarse=not fine))
        found = [list(groups[key]) for key in sorted(groups) if groups[key]]
        if sorted(name for stage in found for name in stage) == sorted(names):
            return found
    stages: list[list[str]] = []
    last: str | None = None
    for name in names:
        place = _place(name)
        if place != last:
            stages.append([])
        stages[-1].append(name)
        last = place
    return stages


def _place(name: str) -> str:
    """The part that a weight belongs to: up to the first number in its name, else its first word."""
    found = _NUMBERED.match(name)
    return found[1] if found else name.partition(".")[0]
