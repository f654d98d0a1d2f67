"""Tests of the campaign: its command, its report, its proxy, and the attacks that need no server."""

import http.client
import http.server
import threading
import urllib.request

import pytest
from click.testing import CliRunner

from campaign import __main__ as command
from campaign import report
from campaign.attack import Attack, NotRunError, Outcome
from campaign.place import ROOT, Place
from campaign.proxy import ERROR_AS_200, MODES, Proxy, Request
from campaign.registry import ATTACKS
from conf.errors import TinyTagsError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTAGS_CAMPAIGN_DIR", str(tmp_path))
    with Place(1, lambda line: None) as place:
        yield place


def test_every_module_is_in_the_registry_and_the_other_way_round():
    modules = {path.stem for path in (ROOT / "campaign" / "attacks").glob("*.py")}
    assert {attack.name for attack in ATTACKS} == modules - {"__init__", "leases"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dumps", "leases_local"])
def test_an_attack_that_needs_no_server_counts_its_tries(place, name):
    outcome = command.perform(Attack(name, "", 1), place, 14)
    assert outcome.tried >= 14 and outcome.losses == []


def test_a_loss_is_exit_code_1_and_an_attack_that_fails_itself_is_a_loss(monkeypatch):
    outcomes = {
        "flips": [],
        "dumps": ["x"],
        "faults": TinyTagsError("no jars"),
        "load": NotRunError("no root"),
    }

    class Module:
        def __init__(self, name):
            self.outcome = outcomes[name.rpartition(".")[2]]

        def attack(self, place, tries):
            if isinstance(self.outcome, Exception):
                raise self.outcome
            return Outcome(tried=tries, losses=self.outcome)

    monkeypatch.setattr(command.importlib, "import_module", Module)
    codes = {name: CliRunner().invoke(command.main, ["-n", "2", "--only", name]) for name in outcomes}
    assert {name: done.exit_code for name, done in codes.items()} == {
        "flips": 0,
        "dumps": 1,
        "faults": 1,
        "load": 0,
    }
    assert "not run" in codes["load"].stdout
    flips = next(attack for attack in ATTACKS if attack.name == "flips")
    assert f"{flips.tries(2)} " in codes["flips"].stdout


def test_the_rows_of_the_table_are_replaced_between_its_markers_and_others_stay(tmp_path):
    document = tmp_path / "reliability.md"
    kept, measured = ATTACKS[0], ATTACKS[1]
    rows = f"| {kept.figure} | 7 | 0 |  |  | then |\n| {measured.figure} | 8 | 0 |  |  | then |"
    document.write_text(f"before\n{report.BEGIN}\n{rows}\n{report.END}\nafter\n")
    report.write_section(
        document, 100, 1, [(measured, Outcome(tried=300)), (ATTACKS[2], Outcome(tried=2, losses=["a: b"]))]
    )
    text = document.read_text()
    assert f"| {kept.figure} | 7 | 0 |  |  | then |" in text
    assert f"| {measured.figure} | 300 | 0 | 1.00% |" in text and "| 8 |" not in text
    assert f"| {ATTACKS[2].figure} | 2 | 1 |  | 1 a |" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    document.write_text("none")
    with pytest.raises(TinyTagsError, match="markers"):
        report.write_section(document, 1, 1, [])


@pytest.fixture
def server():
    """A server that answers with the body that it gets, and counts its requests."""
    bodies = []

    class Echo(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(bodies[-1])))
            self.end_headers()
            self.wfile.write(bodies[-1])

        def log_message(self, *_):
            pass

    started = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=started.serve_forever, args=(0.02,), daemon=True).start()
    yield started.server_port, bodies
    started.shutdown()
    started.server_close()


def post(proxy, body=b"0123456789" * 10):
    with urllib.request.urlopen(f"{proxy.address}/update", body, timeout=60) as answer:
        return answer.read()


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("stall", "delay", "refuse")])
def test_a_fault_is_as_its_name_states_and_the_next_request_passes(server, mode, monkeypatch):
    port, bodies = server
    with Proxy(port, mode, faults=1) as proxy:
        monkeypatch.setattr(proxy, "fails", lambda request: proxy.faults and not setattr(proxy, "faults", 0))
        if mode == "duplicate":
            assert post(proxy) and len(bodies) == 2
        elif mode in ("garbage", "error as 200"):
            assert (post(proxy) == ERROR_AS_200) == (mode == "error as 200")
        else:
            with pytest.raises((OSError, http.client.HTTPException)):
                post(proxy)
        assert post(proxy) == b"0123456789" * 10


def test_what_is_held_is_delivered_later_and_its_repetition_passes(server):
    port, bodies = server
    with Proxy(port, hold=b"delete") as proxy:
        with pytest.raises((OSError, http.client.HTTPException)):
            post(proxy, b"delete me")
        assert bodies == []
        assert post(proxy, b"delete me") == b"delete me"
        assert isinstance(proxy.held[0], Request) and proxy.deliver() == 1
    assert bodies == [b"delete me"] * 2
