"""The temporal shift, written once for every form a model is run in.

A shift block replaces the first 1/8 of its input channels by the same channels of the frame before
(arXiv 1811.08383, section 4.3). All that a form must answer is "what did these channels hold one
frame ago?", so that is the whole interface, :class:`Form`:

* :class:`ClipForm` knows all frames of a clip: it moves them by one along time, zeros first.
* :class:`OnlineForm` knows one frame: it hands out the cached state, and keeps the channels of now
  as the next state. Started from zeros it gives what the clip form gives.
* ``ClipForm(two_way=True)`` takes the first 1/8 from the frame after and the next 1/8 from the
  frame before, as the paper's offline models do (section 4.1; the order is that of the official
  training code, so that its weights give its numbers). No online form exists for those: run one-way
  they would see the past where they learned the future, unless ``past_first`` exchanges the
  two groups of channels.

The modules hold no state and no parameters. The form that is in force is a context variable, so
shifts may sit anywhere inside any module whose ``forward`` knows nothing of them, and two threads
may run two forms of one model.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor, nn

FOLD_DIV = 8
"""One channel in eight is shifted (paper, section 3.2: the best trade of accuracy and movement)."""


class Form(abc.ABC):
    """How the frames of a running model relate in time."""

    two_way: bool = False

    @abc.abstractmethod
    def earlier(self, x: Tensor) -> Tensor:
        """What ``x`` (N, C, H, W) held one frame before; zeros before the first frame."""

    @abc.abstractmethod
    def later(self, x: Tensor) -> Tensor:
        """What ``x`` will hold one frame after; zeros after the last frame."""


class ClipForm(Form):
    """N clips of ``frames`` frames each, folded into the batch as (N * frames, C, H, W)."""

    def __init__(self, frames: int, *, two_way: bool = False) -> None:
        self.frames = frames
        self.two_way = two_way

    def _unfold(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.frames, *x.shape[1:])

    def earlier(self, x: Tensor) -> Tensor:
        clip = self._unfold(x)
        return torch.cat((torch.zeros_like(clip[:, :1]), clip[:, :-1]), dim=1).flatten(0, 1)

    def later(self, x: Tensor) -> Tensor:
        clip = self._unfold(x)
        return torch.cat((clip[:, 1:], torch.zeros_like(clip[:, :1])), dim=1).flatten(0, 1)


class OnlineForm(Form):
    """One frame with the states of the frame before it, in the order the shifts are met.

    ``states=None`` starts a stream: each state is zeros of whatever shape its shift asks for.
    After the forward pass ``next_states`` holds the states for the next frame.
    """

    def __init__(self, states: Sequence[Tensor] | None = None) -> None:
        self._states = states
        self.next_states: list[Tensor] = []

    def earlier(self, x: Tensor) -> Tensor:
        position = len(self.next_states)
        self.next_states.append(x)
        if self._states is None:
            return torch.zeros_like(x)
        if position >= len(self._states):
            raise ValueError(f"the model has more shifts than the {len(self._states)} states given")
        state = self._states[position]
        if state.shape != x.shape:
            raise ValueError(
                f"state_{position} has shape {tuple(state.shape)}; expected {tuple(x.shape)}"
            )
        return state

    def later(self, x: Tensor) -> Tensor:
        raise ValueError("a two-way shift needs the next frame, which is not there online")


_running: ContextVar[Form] = ContextVar("form")


@contextlib.contextmanager
def running(form: Form) -> Iterator[Form]:
    """Run every shift inside the block in ``form``."""
    token = _running.set(form)
    try:
        yield form
    finally:
        _running.reset(token)


def _form() -> Form:
    try:
        return _running.get()
    except LookupError:
        raise RuntimeError(
            "a temporal shift was called outside a form: wrap the network in StreamingModel "
            "and call its clip() or step()"
        ) from None


class TemporalShift(nn.Module):
    """Replaces the first ``C // fold_div`` channels of its input by those of the frame before.

    In a two-way form the first ``C // fold_div`` come from the frame after, and the next as many
    from the frame before; where ``past_first`` is set, the other way about.

    Args:
        net: a module to run on the shifted input, such as the first convolution of a residual
            branch. The official training code wraps convolutions in this way, hence the attribute's
            name ``net`` in its checkpoints. None: the shift alone.
    """

    def __init__(self, net: nn.Module | None = None, *, fold_div: int = FOLD_DIV) -> None:
        super().__init__()
        if not isinstance(fold_div, int) or fold_div < 2:
            raise ValueError(f"fold_div is {fold_div!r}; expected a whole number of at least 2")
        self.fold_div = fold_div
        self.past_first = False
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Shift ``x`` (N, C, H, W), and run ``net`` on it if there is one."""
        form = _form()
        fold = x.shape[1] // self.fold_div
        if fold and form.two_way:
            first, second = x[:, :fold], x[:, fold : 2 * fold]
            if self.past_first:
                first, second = form.earlier(first), form.later(second)
            else:
                first, second = form.later(first), form.earlier(second)
            x = torch.cat((first, second, x[:, 2 * fold :]), dim=1)
        elif fold:
            x = torch.cat((form.earlier(x[:, :fold]), x[:, fold:]), dim=1)
        return x if self.net is None else self.net(x)

    def extra_repr(self) -> str:
        return f"fold_div={self.fold_div}"


class PreviousFrame(nn.Module):
    """Gives its input with the same input of the frame before in front: (N, 2C, H, W).

    Put before the first convolution it lets the filters see motion at full resolution; the state
    is the whole previous frame. It looks back only, in every form.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Join the previous and the current ``x`` (N, C, H, W) along the channels."""
        return torch.cat((_form().earlier(x), x), dim=1)


class ShiftedBlock(nn.Module):
    """A residual block: ``shift`` stands before the first convolution of its branch, ``whole``
    before all of it, skip connection included; each is an identity where there is no shift."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: nn.Module = nn.Identity()
        self.shift: nn.Module = nn.Identity()


def place_shifts(
    blocks: Mapping[str, ShiftedBlock], shifts: Collection[str], branch: str, fold_div: int
) -> tuple[str, ...]:
    """Put the shifts into a network's blocks; ``shifts`` as they are kept.

    Args:
        shifts: names of the modules that shifts stand before.
        branch: what the first convolution of a block's branch adds to the block's name.

    Raises:
        ValueError: a shift that stands neither before a block nor before its branch.
    """
    for name in shifts:
        if name in blocks:
            blocks[name].whole = TemporalShift(fold_div=fold_div)
        elif name.removesuffix(branch) in blocks:
            blocks[name.removesuffix(branch)].shift = TemporalShift(fold_div=fold_div)
        else:
            raise ValueError(
                f"a shift stands before {name!r}; it can stand before a block (such as "
                f"{min(blocks)}) or before the first convolution of one ({min(blocks)}{branch})"
            )
    return tuple(shifts)


def insert_shift(
    module: nn.Module, blocks: Sequence[str], *, fold_div: int = FOLD_DIV
) -> nn.Module:
    """Wrap the named submodules of any torch module in :class:`TemporalShift`, in place.

    Args:
        module: a network over single frames (N, C, H, W).
        blocks: dotted names as in ``named_modules()``; each must take (N, C, H, W) and have at
            least ``fold_div`` input channels. For a residual shift, as the paper advises (section
            3.2), name the first layer of each residual branch rather than the whole block.
            Weights that were trained two-way do not fit as they are: ``channel_order`` says why.

    Returns:
        ``module`` itself. Its parameters below a wrapped block gain ``.net`` in their names, as in
        the official checkpoints.

    Raises:
        ValueError: a name is unknown, given twice, or already inside a shifted block; or an
            argument is of another kind.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"the module is a {type(module).__name__}; expected a torch.nn.Module")
    if isinstance(blocks, str):
        raise ValueError(f"blocks is the text {blocks!r}; expected a list of names, [{blocks!r}]")
    known = dict(module.named_modules())
    for position, name in enumerate(blocks):
        if name not in known or not name:
            raise ValueError(f"no submodule is called {name!r}; see named_modules() for the names")
        if name in blocks[:position]:
            raise ValueError(f"the block {name!r} was named twice")
        if isinstance(known[name], TemporalShift):
            raise ValueError(f"the block {name!r} is shifted already")
        nested = [other for other in blocks if other != name and name.startswith(other + ".")]
        if nested:
            raise ValueError(f"the block {name!r} lies inside {nested[0]!r}, which is shifted too")
    for name in blocks:
        parent_name, _, child = name.rpartition(".")
        parent = known[parent_name]
        setattr(parent, child, TemporalShift(known[name], fold_div=fold_div))
    return module
