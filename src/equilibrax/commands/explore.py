"""`equilibrax explore`: an interactive page for networks of two neurons.

Sliders set weights, input and start; the page shows the phase plane, the verdict with its
certificate, and the approximation's output. Panel serves it, to this machine alone.
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
from ..networks import Convention, RateNetwork
from ..sampling import UniformCube, sample_fixed_points

COMPILED: set[str] = set()
"""Conventions whose programs this process has compiled."""
HIDDEN, PAIRS, STEPS = 32, 16_384, 4000
"""Hidden units, training pairs and steps of the approximation of each network."""
OPTIMIZER = cosine_adam(STEPS)(0.01)
PAUSE = 0.3
"""Seconds without a change after which the approximation is trained."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Values of the sliders and entries."""

    weights: tuple[float, float, float, float] = (0.5, -1.0, -1.0, 0.5)
    bias: str = "0, 0"
    tau: str = "1, 1"
    convention: str = "voltage"
    input: tuple[float, float] = (1.0, 1.2)
    start: tuple[float, float] = (0.0, 0.0)
    view: float = 4.0

    @property
    def parameters(self) -> tuple:
        """Parameters of the network."""
        return self.weights, self.bias, self.tau, self.convention

    def network(self) -> RateNetwork:
        """Build the network.

        **Raises:** `ValueError` for an invalid entry.
        """
        weights = np.asarray(self.weights, float).reshape(2, 2)
        bias, tau = pair("thresholds", self.bias), pair("time constants", self.tau)
        return RateNetwork(weights, bias, tau, convention=self.convention)  # pyright: ignore[reportArgumentType]


class Slider(pn.widgets.FloatSlider):
    """A slider that sends every change at once; Panel's default waits 50 ms for the next."""

    _debounce = 1


def pair(name: str, text: str) -> np.ndarray:
    """Parse two numbers, or one for both, from an entry such as "1, 2"."""
    try:
        numbers = np.asarray([float(word) for word in text.replace(",", " ").split()])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) not in (1, 2):
        raise ValueError(f"The {name} must be two numbers such as 1, 2, but are {text!r}.")
    return np.broadcast_to(numbers, 2)


def portrait_of(setting: Setting) -> Portrait:
    """Compute the phase plane of a setting, with the trajectory from its start."""
    box = (-setting.view, setting.view)
    return portrait(
        setting.network(), jnp.asarray(setting.input), x0=jnp.asarray([setting.start]),
        limits=(box, box), components=(0, 1), at=None, ellipsoids=True, method=None,
    )  # fmt: skip


def fit(network: RateNetwork, limit: float = 2.0) -> FeedForward | None:
    """Train a small approximation for inputs up to `limit`; None if hardly any input is stable."""
    cube = UniformCube(-limit, limit)
    samples = sample_fixed_points(network, cube, PAIRS, key=jax.random.key(0))
    if samples.counts[Outcome.STABLE] < 2:
        return None
    # A constant number of pairs, so that one compiled program serves.
    names = ("inputs", "rates", "state", "outcome")
    pairs = {name: jax.device_get(getattr(samples, name)) for name in names}
    repeated = {n: jnp.asarray(np.resize(a, (PAIRS, *a.shape[1:]))) for n, a in pairs.items()}
    samples = dataclasses.replace(samples, **repeated)
    model = FeedForward(2, HIDDEN, 2, key=jax.random.key(1))
    key = jax.random.key(2)
    return train(model, samples, optimizer=OPTIMIZER, steps=STEPS, key=key).model


def verdict_html(found: FixedPoints) -> str:
    """The verdict on one trajectory, with its evidence, as HTML."""
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
    """A phase plane that is drawn repeatedly.

    Frame, ticks and labels take longest to draw, and are drawn again only when the view changes.
    """

    def __init__(self):
        self.figure = Figure(figsize=(5.4, 4.8), dpi=100)
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0.1, 0.1, 0.88, 0.88))
        self.view, self.frame = None, None

    def picture(self, shown: Portrait, view: float) -> bytes:
        """Draw a portrait, and return the bytes of a JPEG file."""
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
        # JPEG with full colour resolution takes a third of the time of PNG.
        image = Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3])
        file = io.BytesIO()
        image.save(file, "jpeg", quality=88, subsampling=0)
        return file.getvalue()


class Page:
    """The page, with entries on the left and results on the right."""

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
        self.trained: tuple | None = None  # parameters of the network that `model` approximates
        self.found: FixedPoints | None = None
        self.verdict = ""
        self.changes = 0
        for widget in (*self.weights, *self.input, *self.start, self.view, self.bias, self.tau,
                       self.convention):  # fmt: skip
            widget.param.watch(self.on_change, "value")

    def setting(self) -> Setting:
        """The current values of sliders and entries."""
        sliders = (*self.weights, *self.input, *self.start)
        a, b, c, d, i1, i2, x1, x2 = (float(slider.value) for slider in sliders)  # pyright: ignore
        return Setting(
            (a, b, c, d), str(self.bias.value), str(self.tau.value), str(self.convention.value),
            (i1, i2), (x1, x2), float(self.view.value),  # pyright: ignore
        )  # fmt: skip

    async def on_change(self, *_events: Any) -> None:
        """Respond to a change at once, and train the approximation after a pause."""
        self.changes += 1
        mine = self.changes
        if self.convention.value not in COMPILED and self.is_valid():
            self.text.object = "A convention that is new here is compiled, for some seconds ..."
            await asyncio.sleep(0.05)  # let the page show the message
        if not self.update():
            return
        await asyncio.sleep(PAUSE)
        if mine == self.changes:
            self.fit_model()

    def is_valid(self) -> bool:
        """Whether the entries make a network."""
        try:
            self.setting().network()
        except (ValueError, TypeError):
            return False
        return True

    def update(self) -> bool:
        """Draw the plane and the verdict. For invalid entries show a message, keep the rest, and
        return false."""
        began = time.perf_counter()
        try:
            setting = self.setting()
            # The portrait is many small arrays, which are faster to use on the host.
            shown = jax.device_get(portrait_of(setting))
        except (ValueError, TypeError) as error:
            self.message.param.update(object=html.escape(str(error)), visible=True)
            return False
        self.found = found = jax.tree.map(lambda a: a[0], shown.found)
        self.picture.object = self.plane.picture(shown, setting.view)
        took = f"<br><small>answered in {1000 * (time.perf_counter() - began):.0f} ms</small>"
        self.verdict = verdict_html(found) + took
        self.message.visible = False
        COMPILED.add(setting.convention)
        self.show_text(setting)
        return True

    def show_text(self, setting: Setting) -> None:
        """Show the verdict, and the approximation's output if it belongs to this network."""
        assert self.found is not None
        if setting.parameters != self.trained:
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

    def fit_model(self) -> None:
        """Train the approximation of the network shown, unless it is trained already."""
        setting = self.setting()
        if setting.parameters != self.trained:
            self.model, self.trained = fit(setting.network()), setting.parameters
        self.show_text(setting)

    def layout(self) -> pn.viewable.Viewable:
        """The page's layout: two columns that wrap on a narrow screen."""
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
    """Create a page, with its first results."""
    new = Page()
    new.update()
    new.fit_model()
    return new.layout()


def serve(port: int = 5006, *, show: bool = True, threaded: bool = False) -> Any:
    """Serve the page at http://127.0.0.1:PORT, to this machine alone, until interrupted.

    All programs are compiled before the address is printed.
    """
    pn.extension(notifications=False)
    address = f"http://127.0.0.1:{port}"
    # Check the port before compilation, which takes half a minute.
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(("127.0.0.1", port))
    print("compiling, for half a minute ...", flush=True)
    page()
    # Exclude the objects created so far from garbage collection, which would slow each response.
    gc.collect()
    gc.freeze()
    print(f"{address} is open to this machine alone; Ctrl-C closes it", flush=True)
    return pn.serve(
        {"/": page}, address="127.0.0.1", port=port, show=show, threaded=threaded,
        title="equilibrax explore", websocket_origin=[f"127.0.0.1:{port}", f"localhost:{port}"],
        verbose=False,
    )  # fmt: skip
