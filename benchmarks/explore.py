"""How long the explorer takes to answer a slider, from the key press to the new picture.

In a headless Chromium on the same machine, after everything is compiled. Needs the `dev` extra, and
Chromium on the PATH. Writes explore_PLATFORM.json.
"""

import dataclasses
import shutil
import socket
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import tyro
from playwright.sync_api import sync_playwright

from equilibrax._files import write_json
from equilibrax.commands.benchmark import hardware

PRESS = """async () => {
    // Until the picture that follows this press is decoded.
    const find = root => {
        for (const node of root.querySelectorAll('*')) {
            if (node.tagName === 'IMG') return node;
            const inner = node.shadowRoot && find(node.shadowRoot);
            if (inner) return inner;
        }
    };
    const image = find(document), before = image.src;
    window.pressed = null;
    window.addEventListener('keydown', () => { window.pressed = performance.now(); },
                            {capture: true, once: true});
    window.answered = new Promise(resolve => {
        const look = async () => {
            const now = find(document);
            if (now.src !== before) {
                await now.decode();
                resolve(performance.now() - window.pressed);
            } else setTimeout(look, 1);
        };
        look();
    });
}"""


@dataclasses.dataclass(frozen=True)
class Main:
    """Press an arrow key on a slider again and again."""

    presses: int = 60
    """How often, with half a second between."""
    out: Path = Path(__file__).parent / "results"
    """Folder to write to."""

    def run(self) -> None:
        """Serve the page, open it, press."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "equilibrax.commands.cli", "explore", "--no-show"]
        with subprocess.Popen([*command, "--port", str(port)]) as server:
            while server.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            try:
                times = self.press(f"http://127.0.0.1:{port}")
            finally:
                server.terminate()
        report = {
            "hardware": hardware(),
            "date": date.today().isoformat(),
            "presses": len(times),
            "median_ms": round(statistics.median(times), 1),
            "p90_ms": round(statistics.quantiles(times, n=10)[-1], 1),
            "worst_ms": round(max(times), 1),
        }
        write_json(self.out / f"explore_{report['hardware']['platform']}.json", report)
        print(report)

    def press(self, address: str) -> list[float]:
        """Milliseconds from each press to the picture."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        times = []
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1280, "height": 1000})
            tab.goto(address)
            tab.get_by_text("in one pass").wait_for(timeout=120_000)
            for k in range(self.presses):
                # Weights and inputs in turn, up and down.
                tab.locator(".noUi-handle").nth(4 if k % 2 else 0).focus()
                tab.evaluate(PRESS)
                tab.keyboard.press("ArrowRight" if k % 4 < 2 else "ArrowLeft")
                times.append(tab.evaluate("window.answered"))
                # Until the approximation has been trained again, too.
                time.sleep(1.5)
            browser.close()
        return times


if __name__ == "__main__":
    tyro.cli(Main).run()
