"""One local page on which a network of two neurons is moved by hand: `equilibrax explore`.

Sliders hold weights, input and start; the phase plane, the verdict with its certificate and the
approximation's answer follow. The page is Panel's, served to this machine alone.
"""

import asyncio
import dataclasses
import gc
import html
import io
import socket
import time
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import panel as pn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from .. import figures
from ..approximation import FeedForward, cosine_adam, train
from ..figures._plane import draw
from ..figures._portrait import Portrait, portrait
from ..fixed_points import FixedPoints, Outcome
from ..networks import RateNetwork
from ..networks._network import Convention
from ..sampling import UniformCube, sample_fixed_points

COMPILED: set[str] = set()
"""Conventions that this process has drawn already."""
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

    @property
    def wiring(self) -> tuple:
        """What the network depends on."""
        return self.weights, self.bias, self.tau, self.convention

    def network(self) -> RateNetwork:
        """The network; `ValueError` where an entry makes none."""
        weights = np.asarray(self.weights, float).reshape(2, 2)
        bias, tau = pair("thresholds", self.bias), pair("time constants", self.tau)
        return RateNetwork(weights, bias, tau, convention=self.convention)  # pyright: ignore[reportArgumentType]


class Slider(pn.widgets.FloatSlider):
    """A slider whose every move is answered: Panel would wait 50 ms for the next one."""

    _debounce = 1


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
    # The same number of pairs, however many are stable, so that one program serves.
    names = ("inputs", "rates", "state", "outcome")
    pairs = {name: jax.device_get(getattr(samples, name)) for name in names}
    repeated = {n: jnp.asarray(np.resize(a, (PAIRS, *a.shape[1:]))) for n, a in pairs.items()}
    samples = dataclasses.replace(samples, **repeated)
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


LEGEND = """<small>Black: x₁ at rest (solid), x₂ at rest (dashed). Dotted: borders of the chambers,
blue where their flow is stable. Points: filled where stable, open where unstable. From inside an
ellipse convergence is proven. Coloured line: the trajectory from the start.</small>"""


class Plane:
    """A phase plane that is drawn again and again.

    Only what is inside the axes is drawn anew: frame, ticks and labels, which take longer than all
    the rest, are kept for as long as the view is the same.
    """

    def __init__(self):
        self.figure = Figure(figsize=(5.4, 4.8), dpi=100)
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0.1, 0.1, 0.88, 0.88))
        self.view, self.frame = None, None

    def picture(self, shown: Portrait, view: float) -> bytes:
        """The picture, as the bytes of a file."""
        axes = self.axes
        for artist in (*axes.lines, *axes.patches, *axes.collections):
            artist.remove()
        if view != self.view:
            axes.set(xlim=(-view, view), ylim=(-view, view), xlabel="x₁", ylabel="x₂")
            self.canvas.draw()
            self.view, self.frame = view, self.canvas.copy_from_bbox(self.figure.bbox)
        draw(shown, axes)
        self.canvas.restore_region(self.frame)
        inside = (*axes.collections, *axes.patches, *axes.lines)
        for artist in (*sorted(inside, key=lambda artist: artist.zorder), *axes.spines.values()):
            axes.draw_artist(artist)
        # A JPEG of full colour resolution: a third of the time that PNG takes to be packed.
        image = Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3])
        file = io.BytesIO()
        image.save(file, "jpeg", quality=88, subsampling=0)
        return file.getvalue()


class Page:
    """The page: entries on the left, what follows from them on the right."""

    def __init__(self):
        first = Setting()

        def slider(name, value, end, step=0.05):
            return Slider(name=name, value=value, start=-end, end=end, step=step, width=300)

        places = ("1 from 1", "1 from 2", "2 from 1", "2 from 2")
        self.weights = [
            slider(f"weight of {place}", value, 3.0)
            for place, value in zip(places, first.weights, strict=True)
        ]
        self.input = [slider(f"input {k + 1}", v, 2.0) for k, v in enumerate(first.input)]
        self.start = [slider(f"start {k + 1}", v, 8.0, 0.1) for k, v in enumerate(first.start)]
        self.view = Slider(
            name="half width of the plane", value=first.view, start=1, end=10, step=0.5, width=300
        )
        self.bias = pn.widgets.TextInput(name="thresholds", value=first.bias, width=140)
        self.tau = pn.widgets.TextInput(name="time constants", value=first.tau, width=140)
        self.convention = pn.widgets.Select(
            name="convention", options=list(get_args(Convention)), value=first.convention, width=300
        )
        self.plane = Plane()
        self.picture = pn.pane.JPG(
            None, alt_text="Phase plane", sizing_mode="scale_width", max_width=600, min_width=300
        )
        self.message = pn.pane.Alert("", alert_type="danger", visible=False)
        self.text = pn.pane.HTML("", min_width=300, max_width=760, sizing_mode="stretch_width")
        self.model: FeedForward | None = None
        self.trained: tuple | None = None  # the wiring of what the model approximates
        self.found: FixedPoints | None = None
        self.verdict = ""
        self.changes = 0
        for widget in (*self.weights, *self.input, *self.start, self.view, self.bias, self.tau,
                       self.convention):  # fmt: skip
            widget.param.watch(self.follow, "value")

    def setting(self) -> Setting:
        """What sliders and entries hold now."""
        sliders = (*self.weights, *self.input, *self.start)
        a, b, c, d, i1, i2, x1, x2 = (float(slider.value) for slider in sliders)  # pyright: ignore
        return Setting(
            (a, b, c, d), str(self.bias.value), str(self.tau.value), str(self.convention.value),
            (i1, i2), (x1, x2), float(self.view.value),  # pyright: ignore
        )  # fmt: skip

    async def follow(self, *_events: Any) -> None:
        """Answer a change at once, and learn the network once it has been left alone."""
        self.changes += 1
        mine = self.changes
        if self.convention.value not in COMPILED and self.is_valid():
            self.text.object = "A convention that is new here is compiled, for some seconds ..."
            await asyncio.sleep(0.05)  # for the page to say so
        if not self.answer():
            return
        await asyncio.sleep(PAUSE)
        if mine == self.changes:
            self.learn()

    def is_valid(self) -> bool:
        """Whether the entries make a network."""
        try:
            self.setting().network()
        except (ValueError, TypeError):
            return False
        return True

    def answer(self) -> bool:
        """Draw the plane and state the verdict; or say what is wrong, and leave all as it is."""
        began = time.perf_counter()
        try:
            setting = self.setting()
            # Many small arrays: on the host, each costs next to nothing.
            shown = jax.device_get(seen(setting))
        except (ValueError, TypeError) as error:
            self.message.param.update(object=html.escape(str(error)), visible=True)
            return False
        self.found = found = jax.tree.map(lambda a: a[0], shown.found)
        self.picture.object = self.plane.picture(shown, setting.view)
        took = f"<br><small>answered in {1000 * (time.perf_counter() - began):.0f} ms</small>"
        self.verdict = in_words(found) + took
        self.message.visible = False
        COMPILED.add(setting.convention)
        self.compare(setting)
        return True

    def compare(self, setting: Setting) -> None:
        """Write the verdict, and what the approximation answers if it is this network's."""
        assert self.found is not None
        if setting.wiring != self.trained:
            guess = "waits until the network is left alone ..."
        elif self.model is None:
            guess = "none, as hardly any input has a stable fixed point."
        else:
            rates = np.asarray(self.model(jnp.asarray(setting.input)))
            numbers = ", ".join(f"{float(v):.4g}" for v in rates)
            off = np.max(np.abs(rates - self.found.rates))
            guess = (
                f"2-{HIDDEN}-2, in one pass: r = ({numbers}), off by {off:.2g}. "
                "It knows the fixed points that are reached from 0, for inputs up to 2."
            )
        self.text.object = f"{self.verdict}<br><br><b>Approximation</b>: {guess}"

    def learn(self) -> None:
        """Train the approximation of the network shown, unless it is known already."""
        setting = self.setting()
        if setting.wiring != self.trained:
            self.model, self.trained = learnt(setting.network()), setting.wiring
        self.compare(setting)

    def layout(self) -> pn.viewable.Viewable:
        """All of it, in two columns that wrap on a narrow screen."""
        entries = pn.Column(
            pn.pane.HTML("<h2 style='margin:0'>Two neurons</h2>"),
            *self.weights, *self.input, *self.start,
            pn.Row(self.bias, self.tau), self.convention, self.view,
        )  # fmt: skip
        answers = pn.Column(
            self.message, self.picture, pn.pane.HTML(LEGEND), self.text,
            min_width=320, max_width=780, sizing_mode="stretch_width",
        )  # fmt: skip
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
    address = f"http://127.0.0.1:{port}"
    # Before the wait for the compiler: whether the port can be had.
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(("127.0.0.1", port))
    print("compiling, for half a minute ...", flush=True)
    page()
    # What has been made by now stays: the collector need not look through it at every answer.
    gc.collect()
    gc.freeze()
    print(f"{address} is open to this machine alone; Ctrl-C closes it", flush=True)
    return pn.serve(
        {"/": page}, address="127.0.0.1", port=port, show=show, threaded=threaded,
        title="equilibrax explore", websocket_origin=[f"127.0.0.1:{port}", f"localhost:{port}"],
        verbose=False,
    )  # fmt: skip
