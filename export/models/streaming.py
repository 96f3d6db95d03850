"""One network, its clip form and its online form side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from shiftedge.export.models.shift import ClipForm, OnlineForm, running


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


class StreamingModel(nn.Module):
    """Runs a network with temporal shifts in it, over clips or frame by frame.

    ``net`` maps (N, 3, H, W) to (N, classes) and contains shifts. Its parameters keep their names:
    ``model.net.state_dict()`` is the checkpoint.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def clip(self, frames: Tensor, *, two_way: bool = False) -> Tensor:
        """Logits of every frame of each clip.

        Args:
            frames: float (N, T, 3, H, W), RGB, normalised.
            two_way: also shift from the future, as the paper's offline models.

        Returns:
            float (N, T, classes). One-way, frame t depends on frames 0..t alone.
        """
        clips, length = frames.shape[:2]
        with running(ClipForm(length, two_way=two_way)):
            logits: Tensor = self.net(frames.flatten(0, 1))
        return logits.reshape(clips, length, -1)

    def step(
        self, frame: Tensor, states: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """One frame online.

        Args:
            frame: float (N, 3, H, W), RGB, normalised.
            states: as returned for the frame before; None at the start of a stream.

        Returns:
            Logits (N, classes) and the states for the next frame, copies of their own.

        Raises:
            ValueError: the states do not fit the network.
        """
        form = OnlineForm(states)
        with running(form):
            logits: Tensor = self.net(frame)
        if states is not None and len(form.next_states) != len(states):
            raise ValueError(
                f"{len(states)} states were given; the model has {len(form.next_states)}"
            )
        # Copies, since a state is a slice of features that a later layer may change in place.
        return logits, [state.clone() for state in form.next_states]

    def forward(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The online step with its states spread out, as it is exported: (logits, *next_states)."""
        logits, next_states = self.step(frame, states)
        return (logits, *next_states)

    @torch.no_grad()
    def initial_states(self, height: int, width: int) -> list[Tensor]:
        """Zero states of a fresh stream for frames of height x width pixels."""
        with evaluating(self.net):  # a dry run must not move the batch norm statistics
            parameter = next(self.net.parameters(), torch.empty(0))
            _, states = self.step(parameter.new_zeros((1, 3, height, width)))
        return [torch.zeros_like(state) for state in states]
