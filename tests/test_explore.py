"""The explorer's page, in a real headless browser, and what it answers."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest
from browser import DESKTOP, PHONE, browser, clipped_pictures, needs_browser, overflow

import equilibrax as eqb
from equilibrax.commands import explore

COMMAND = "equilibrax.commands.cli"


def test_a_setting_is_its_network():
    setting = explore.Setting(bias="0.5", tau="1, 2", convention="activity")
    network = setting.network()
    assert network.weights.tolist() == [[0.5, -1.0], [-1.0, 0.5]]
    assert network.bias.tolist() == [0.5, 0.5]
    assert network.tau.tolist() == [1.0, 2.0]
    assert network.convention == "activity"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": "1, -1"}, "Argument `tau` must be positive"),
        ({"tau": ""}, "The time constants must be two numbers"),
        ({"bias": "a"}, "The thresholds must be two numbers such as 1, 2, but are 'a'"),
        ({"bias": "1 2 3"}, "The thresholds must be two numbers"),
        ({"weights": (float("nan"), 0.0, 0.0, 0.0)}, "Argument `weights` must be finite"),
    ],
)
def test_wrong_entries_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        explore.Setting(**change).network()


@pytest.fixture(scope="module")
def page():
    """The address of a page that another process serves, and that process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", COMMAND, "explore", "--no-show", "--port", str(port)]
    environment = os.environ | {"JAX_ENABLE_X64": "0"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            deadline = time.monotonic() + 300
            while True:
                assert server.poll() is None, server.stderr and server.stderr.read()
                assert time.monotonic() < deadline, "the page is not served"
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}", server
        finally:
            server.kill()


@pytest.fixture(scope="module")
def opened(page):
    """The page in a browser, with its first answer, and what went wrong there."""
    with browser() as chromium:
        tab = chromium.new_page(viewport=DESKTOP)
        asked, wrong = [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(page[0])
        tab.get_by_text("Certified").wait_for(timeout=120_000)
        yield tab, asked, wrong


def test_a_port_in_use_is_named(page):
    port = page[0].rsplit(":", 1)[1]
    command = [sys.executable, "-m", COMMAND, "explore", "--no-show", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"port {port} is in use; choose another with --port" in done.stderr


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens, as Linux writes them."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        found = re.match(r"socket:\[(\d+)\]", os.readlink(entry))
        sockets |= {found[1]} if found else set()
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                addresses.add(words[1].split(":")[0])
    return addresses


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of sockets")
def test_only_this_machine_is_listened_to(page):
    assert listening(page[1].pid) == {"0100007F"}  # 127.0.0.1


@needs_browser
def test_a_slider_is_answered_in_the_page(opened):
    tab, asked, wrong = opened
    network = eqb.two_neuron(0.5, -1.0)
    first = tab.get_by_text("state x =").inner_text()
    expected = eqb.find_fixed_points(network, jnp.asarray([1.0, 1.2])).rates
    assert f"rates r = ({', '.join(f'{float(r):.4g}' for r in expected)})" in first
    picture = tab.locator("img").first.get_attribute("src")
    # Input 1 is raised until it wins.
    handle = tab.locator(".noUi-handle").nth(4)
    handle.focus()
    for _ in range(6):
        tab.keyboard.press("ArrowRight")
    tab.get_by_text("rates r = (2.6, 0)").wait_for(timeout=20_000)
    assert tab.locator("img").first.get_attribute("src") != picture
    tab.get_by_text("in one pass: r =").wait_for(timeout=60_000)
    assert wrong == []
    # Nothing is fetched from elsewhere.
    assert all(re.match(r"(https?|wss?)://127\.0\.0\.1|data:|blob:", url) for url in asked)


@needs_browser
def test_wrong_entries_show_a_message_and_lose_nothing(opened):
    tab, _, wrong = opened
    before = tab.get_by_text("state x =").inner_text()
    entry = tab.get_by_label("time constants")
    entry.fill("1, -1")
    entry.press("Enter")
    tab.get_by_text("must be positive").wait_for(timeout=20_000)
    entry.fill("soon")
    entry.press("Enter")
    tab.get_by_text("The time constants must be two numbers").wait_for(timeout=20_000)
    assert tab.get_by_text("state x =").inner_text() == before
    entry.fill("1, 1")
    entry.press("Enter")
    tab.get_by_text("The time constants must be").wait_for(state="hidden", timeout=60_000)
    assert wrong == []


@needs_browser
def test_the_page_fits_a_phone(opened):
    tab, _, _ = opened
    tab.set_viewport_size(PHONE)
    # The layout follows within moments.
    tab.wait_for_function("document.scrollingElement.scrollWidth <= window.innerWidth")
    assert overflow(tab) <= 0
    assert clipped_pictures(tab) == []
