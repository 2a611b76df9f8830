#!/usr/bin/python3
"""Stands in for `concourse` in tests of the worker's service.

It does what the service sees of a real worker: keeps a connection to its gateway,
logs as Concourse does, starts containerd from its own PATH, answers on the health
port, lands on SIGUSR1 once /run/build is gone, retires on SIGUSR2, ends on SIGTERM;
with /run/refused it can't retire, and ends with an error.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def log(message):
    print(
        json.dumps({"level": "info", "source": "worker", "message": f"worker.{message}"}),
        flush=True,
    )


class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def worker():
    if Path("/run/broken").exists():
        sys.exit(1)
    signals = []
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, lambda got, frame: signals.append(got))
    here = Path(__file__).resolve().parent
    os.environ["PATH"] = f"{here}:{os.environ['PATH']}"
    Path("/run/worker-environ").write_text(json.dumps(dict(os.environ)))
    if os.environ.get("CONCOURSE_CONTAINERD_CONFIG"):
        subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "containerd"),
                "--address=/run/containerd/containerd.sock",
                f"--root={os.environ['CONCOURSE_WORK_DIR']}/containerd",
                f"--config={os.environ['CONCOURSE_CONTAINERD_CONFIG']}",
            ]
        )
    server = HTTPServer((os.environ["CONCOURSE_HEALTHCHECK_BIND_IP"], 8888), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, port = os.environ["CONCOURSE_TSA_HOST"].rsplit(":", 1)
    gateway = socket.create_connection((host, int(port)))
    log("beacon-runner.beacon.registered")
    while True:
        if signal.SIGTERM in signals:
            Path("/run/terminated").write_text("")
            if Path("/run/refused").exists():
                sys.exit(1)
            break
        if signal.SIGUSR2 in signals and not Path("/run/refused").exists():
            Path("/run/retired").write_text("")
            break
        if signal.SIGUSR1 in signals and not Path("/run/build").exists():
            Path("/run/landed").write_text("")
            break
        time.sleep(0.05)
    gateway.close()
    log("beacon-runner.exiting")


if sys.argv[1:] == ["--version"]:
    print("8.3.0")
elif sys.argv[1:] == ["worker"]:
    worker()
else:
    sys.exit(2)
