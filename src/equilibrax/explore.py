"""One local page on which a network of two neurons is moved by hand: `equilibrax explore`.

Sliders hold weights, input and start; the phase plane, the verdict with its certificate and the
approximation's answer follow. The page is Panel's, served to this machine alone.
"""

import asyncio
import dataclasses
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import panel as pn
from matplotlib.figure import Figure

from . import figures
from .approximation import FeedForward, cosine_adam, train
from .figures._plane import draw
from .figures._portrait import Portrait, portrait
from .fixed_points import FixedPoints, Outcome
from .networks import RateNetwork
from .sampling import UniformCube, sample_fixed_points

CONVENTIONS = ("voltage", "activity", "recurrent")
HIDDEN, PAIRS, STEPS = 32, 16_384, 4000
"""Of the approximation that is trained whenever the network has changed."""
OPTIMIZER = cosine_adam(STEPS)(0.01)
PAUSE = 0.3
"""Seconds without a change of the network before it is trained."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the sliders and entries say."""

    weights: tuple[float, float, float, float] = (0.5, -1.0, -1.0, 0.5)
    bias: str = "0, 0"
    tau: str = "1, 1"
    convention: str = "voltage"
    input: tuple[float, float] = (1.0, 1.2)
    start: tuple[float, float] = (0.0, 0.0)
    view: float = 4.0

    def network(self) -> RateNetwork:
        """The network; `ValueError` where an entry makes none."""
        weights = np.asarray(self.weights, float).reshape(2, 2)
        bias, tau = pair("thresholds", self.bias), pair("time constants", self.tau)
        return RateNetwork(weights, bias, tau, convention=self.convention)  # pyright: ignore[reportArgumentType]


def pair(name: str, text: str) -> np.ndarray:
    """Two numbers, or one for both, from an entry such as "1, 2"."""
    try:
        numbers = np.asarray([float(word) for word in text.replace(",", " ").split()])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) not in (1, 2):
        raise ValueError(f"The {name} must be two numbers such as 1, 2, but are {text!r}.")
    return np.broadcast_to(numbers, 2)


def seen(setting: Setting) -> Portrait:
    """The phase plane of a setting, with the one trajectory from its start."""
    box = (-setting.view, setting.view)
    return portrait(
        setting.network(), jnp.asarray(setting.input), x0=jnp.asarray([setting.start]),
        limits=(box, box), components=(0, 1), at=None, ellipsoids=True, method=None,
    )  # fmt: skip


def learnt(network: RateNetwork, reach: float = 2.0) -> FeedForward | None:
    """A small approximation for inputs up to `reach`; None where nothing is stable."""
    cube = UniformCube(-reach, reach)
    samples = sample_fixed_points(network, cube, PAIRS, key=jax.random.key(0))
    if samples.counts[Outcome.STABLE] < 2:
        return None
    model = FeedForward(2, HIDDEN, 2, key=jax.random.key(1))
    key = jax.random.key(2)
    return train(model, samples, optimizer=OPTIMIZER, steps=STEPS, key=key).model


def in_words(found: FixedPoints) -> str:
    """The verdict on one trajectory, and what it rests on, as HTML."""
    kind = Outcome(int(found.outcome))
    x, r = (", ".join(f"{float(v):.4g}" for v in values) for values in (found.state, found.rates))
    lines = [
        f"<b style='color:{figures.OUTCOMES[kind]};font-size:1.3em'>{kind.name}</b>",
        kind.message,
    ]
    if bool(found.certified):
        lines.append(
            f"<b>Certified</b> at t = {float(found.time):.3g}: from there on the trajectory is "
            "proven to converge to this very point."
            if kind == Outcome.STABLE
            else f"<b>Proven</b> at t = {float(found.time):.3g}."
        )
    else:
        lines.append(f"Not certified; followed until t = {float(found.time):.3g}.")
    lines.append(f"state x = ({x}), rates r = ({r})")
    evidence = [f"abscissa {float(found.abscissa):.3g}", f"residual {float(found.residual):.1g}"]
    if not np.isnan(float(found.period)):
        evidence.append(f"period {float(found.period):.3g}")
    evidence.append(f"{int(found.num_steps)} steps")
    lines.append(", ".join(evidence))
    return "<br>".join(lines)


class Page:
    """The page: entries on the left, what follows from them on the right."""

    def __init__(self):
        first = Setting()

        def slider(name, value, end, step=0.05):
            return pn.widgets.EditableFloatSlider(
                name=name, value=value, start=-end, end=end, step=step, width=300
            )

        places = ("1 from 1", "1 from 2", "2 from 1", "2 from 2")
        self.weights = [
            slider(f"weight of {place}", value, 3.0)
            for place, value in zip(places, first.weights, strict=True)
        ]
        self.input = [slider(f"input {k + 1}", v, 2.0) for k, v in enumerate(first.input)]
        self.start = [slider(f"start {k + 1}", v, 8.0, 0.1) for k, v in enumerate(first.start)]
        self.view = pn.widgets.FloatSlider(
            name="half width of the plane", value=first.view, start=1, end=10, step=0.5, width=300
        )
        self.bias = pn.widgets.TextInput(name="thresholds", value=first.bias, width=140)
        self.tau = pn.widgets.TextInput(name="time constants", value=first.tau, width=140)
        self.convention = pn.widgets.Select(
            name="convention", options=list(CONVENTIONS), value=first.convention, width=300
        )
        self.figure = Figure(figsize=(6.6, 4.6), dpi=100)
        self.axes = self.figure.add_axes((0.09, 0.11, 0.62, 0.86))
        self.picture = pn.pane.Matplotlib(
            self.figure, tight=False, format="png", dpi=100, sizing_mode="scale_width",
            max_width=760, min_width=300,
        )  # fmt: skip
        self.message = pn.pane.Alert("", alert_type="danger", visible=False)
        self.verdict = pn.pane.HTML("", min_width=300, max_width=760, sizing_mode="stretch_width")
        self.guess = pn.pane.HTML("", min_width=300, max_width=760, sizing_mode="stretch_width")
        self.model: FeedForward | None = None
        self.trained: RateNetwork | None = None
        self.found: FixedPoints | None = None
        self.changes = 0
        for widget in (*self.weights, *self.input, *self.start, self.view, self.bias, self.tau,
                       self.convention):  # fmt: skip
            widget.param.watch(self.follow, "value")

    def setting(self) -> Setting:
        """What the entries hold now; `ValueError` where one holds nothing."""

        def values(sliders):
            for widget in sliders:
                if widget.value is None:
                    raise ValueError(f"The {widget.name} must be a number, but is empty.")
            return tuple(float(widget.value) for widget in sliders)

        return Setting(
            values(self.weights), self.bias.value, self.tau.value, str(self.convention.value),
            values(self.input), values(self.start), self.view.value,
        )  # fmt: skip

    async def follow(self, *_events: Any) -> None:
        """Answer a change at once, and learn the network once it has been left alone."""
        if not self.answer():
            return
        self.changes += 1
        mine = self.changes
        await asyncio.sleep(PAUSE)
        if mine == self.changes:
            self.learn()

    def answer(self) -> bool:
        """Draw the plane and state the verdict; or say what is wrong, and leave all as it is."""
        began = time.perf_counter()
        try:
            setting = self.setting()
            shown = seen(setting)
        except (ValueError, TypeError) as error:
            self.message.param.update(object=str(error), visible=True)
            return False
        # Clearing the axes would cost more than all that is drawn into them.
        for artist in (*self.axes.lines, *self.axes.patches, *self.axes.collections,
                       *self.axes.images):  # fmt: skip
            artist.remove()
        draw(shown, (0, 1), self.axes)
        self.found = jax.tree.map(lambda a: a[0], shown.found)
        self.picture.param.trigger("object")
        took = 1000 * (time.perf_counter() - began)
        text = in_words(self.found) + f"<br><small>answered in {took:.0f} ms</small>"
        self.verdict.object = text
        self.message.visible = False
        self.compare(setting)
        return True

    def compare(self, setting: Setting) -> None:
        """What the approximation answers to the same input, if it is this network's."""
        assert self.found is not None
        same = self.trained is not None and eqx.tree_equal(setting.network(), self.trained)
        if not same:
            self.guess.object = "<b>Approximation</b>: waits until the network is left alone ..."
        elif self.model is None:
            self.guess.object = "<b>Approximation</b>: none, no input has a stable fixed point."
        else:
            rates = self.model(jnp.asarray(setting.input))
            numbers = ", ".join(f"{float(v):.4g}" for v in rates)
            off = float(jnp.max(jnp.abs(rates - self.found.rates)))
            self.guess.object = (
                f"<b>Approximation</b>, 2-{HIDDEN}-2, in one pass: r = ({numbers}), "
                f"off by {off:.2g}. It knows the fixed points reached from 0, for inputs up to 2."
            )

    def learn(self) -> None:
        """Train the approximation of the network shown, unless it is known already."""
        setting = self.setting()
        network = setting.network()
        if self.trained is None or not eqx.tree_equal(network, self.trained):
            self.model, self.trained = learnt(network), network
        self.compare(setting)

    def layout(self) -> pn.viewable.Viewable:
        """All of it, in two columns that wrap on a narrow screen."""
        entries = pn.Column(
            pn.pane.HTML("<h2 style='margin:0'>Two neurons</h2>"),
            *self.weights, *self.input, *self.start,
            pn.Row(self.bias, self.tau), self.convention, self.view,
        )  # fmt: skip
        answers = pn.Column(
            self.message,
            self.picture,
            self.verdict,
            self.guess,
            min_width=320,
            max_width=780,
            sizing_mode="stretch_width",
        )
        return pn.FlexBox(entries, answers, flex_wrap="wrap", sizing_mode="stretch_width")


def page() -> pn.viewable.Viewable:
    """A new page, with its first answer."""
    new = Page()
    new.answer()
    new.learn()
    return new.layout()


def serve(port: int = 5006, *, show: bool = True, threaded: bool = False) -> Any:
    """Serve the page to this machine alone, http://127.0.0.1:PORT; until interrupted.

    Everything is compiled before the address is given out.
    """
    pn.extension(notifications=False)
    page()
    return pn.serve(
        {"/": page}, address="127.0.0.1", port=port, show=show, threaded=threaded,
        title="equilibrax explore", websocket_origin=[f"127.0.0.1:{port}", f"localhost:{port}"],
        verbose=True,
    )  # fmt: skip
